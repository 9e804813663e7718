"""What of a campaign goes into a training result."""

from __future__ import annotations

from typing import Any

from pipeline.campaign import Campaign


def tell(campaign: Campaign, updates: int) -> dict[str, Any]:
    """Stage, measurements, ranges, robot and what was found out about it, as plain values."""
    board = campaign.board
    stage, status = campaign.machine.stage, campaign.robot.status
    return {
        "stage": {
            "index": campaign.machine.index,
            "count": len(campaign.machine.stages),
            "name": stage.name,
            "sim_ratio": stage.sim_ratio,
            "dr_strength": campaign.dr_strength,
            "updates_in_stage": campaign.machine.updates_in_stage(updates),
            "updates_planned": stage.updates,
            "training": campaign.training,
            "waiting": campaign.waiting,
        },
        **{name: dict(block) for name, block in board.blocks.items()},
        "gap": board.gap,
        "adr": campaign.book.result(active=stage.adr and campaign.training),
        "identification": campaign.knowledge.result(),
        "robot": {
            "state": status["state"],
            "reason": status["reason"],
            "ledger": status.get("ledger", {}),
            "budgets_spent": campaign.refused,
            "collection_s": campaign.schedule.spent_s["collection"],
            "evaluation_s": campaign.schedule.spent_s["evaluation"],
            "identification_s": campaign.schedule.spent_s["identification"],
            "episodes": campaign.episodes,
            "rounds_open": campaign.robot.pending,
            "episodes_open": sum(f.request.episodes for f in campaign.flights.values()),
            "episodes_flown": sum(len(f.episodes) for f in campaign.flights.values()),
            "link_errors": campaign.robot.errors,
        },
        "stages": [row.summary() for row in board.rows],
        "final": {"stage": board.final.name, **board.final.summary()} if board.final is not None else {},
    }
