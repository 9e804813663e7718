"""A made-up but believable run: the results and the summary that reports and tracking are tested on."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.randomization.parameters import ParameterSpace, Ranges
from pipeline.gap import gap, success_block
from pipeline.report import build_summary
from pipeline.stages import resolve_stages

EPISODES = 40
ROBOT_EPISODES = 20


def synthetic_run(space: ParameterSpace, seed: int = 0) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """(results, summary) of a run through the default stages in which the robot is learned last."""
    rng = np.random.default_rng(seed)
    stages = resolve_stages("default")
    ends = np.cumsum([stage.updates for stage in stages])
    ranges = Ranges.default(space)
    low, high = ranges.low.copy(), ranges.high.copy()
    results: list[dict[str, Any]] = []
    rows: list[dict[str, Any]] = []
    real: dict[str, Any] = {}
    measured: dict[str, Any] = {}
    for i, updates in enumerate(range(500, int(ends[-1]) + 1, 500)):
        index = int(np.searchsorted(ends, updates))
        stage = stages[index]
        progress = updates / ends[-1]
        sim = _block(rng, 1 - np.exp(-updates / 1500), EPISODES)
        randomized = _block(rng, 1 - np.exp(-updates / 5000), EPISODES)
        if stage.adr and i % 3 == 0:
            low, high = _move(rng, ranges, low, high)
        if updates in ends or (index >= 2 and updates % 2000 == 0):
            flags = rng.random(ROBOT_EPISODES) < min(1.0, 1.15 * progress**2)
            real = {**success_block(flags, 500 * flags), "version": len(rows) + i, "updates": updates}
            measured = gap(rng.random(EPISODES) < sim["success"], flags, paired=False)
        results.append(
            {
                "training_iteration": i + 1,
                "stage": {
                    "index": index,
                    "name": stage.name,
                    "sim_ratio": stage.sim_ratio,
                    "dr_strength": stage.dr_strength,
                    "updates_in_stage": updates - int(ends[index] - stage.updates),
                },
                "progress": {"updates": updates, "env_steps": 4 * updates, "updates_s": 702.0, "eta_s": None},
                "sim": {**sim, "updates": updates},
                "randomized": {**randomized, "updates": updates},
                "real": real,
                "gap": measured,
                "adr": {
                    "version": i,
                    "entropy": float("-inf") if i == 0 else -1.2,
                    "ranges": {n: [float(a), float(b)] for n, a, b in zip(space.names, low, high, strict=True)},
                    "buffers": {"cart.mass_kg": {"low": [1.0], "high": []}},
                },
                "robot": {
                    "state": "ok",
                    "collection_s": 160 * progress,
                    "evaluation_s": 900.0,
                    "episodes": i,
                },
                "losses": {"critic": float(rng.random()), "actor": float("nan")},
                "stages": rows,
                "done": updates == ends[-1],
            }
        )
        if updates in ends:
            rows.append(stage_row(stage.name, stage.sim_ratio, stage.dr_strength, i, sim, real, measured))
    final_real = rng.random(100) < 0.98
    final_sim = np.ones(100, bool)
    summary = build_summary(
        run="cartpole-0",
        task="cartpole",
        seed=seed,
        wall_s=148.2,
        env_steps=4 * int(ends[-1]),
        updates=int(ends[-1]),
        robot_s={"collection": 158.3, "evaluation": 1720.0},
        robot_episodes=216,
        stages=rows,
        final={
            "sim": success_block(final_sim, 495.0 * final_sim),
            "real": success_block(final_real, 495.0 * final_real),
            "gap": gap(final_sim, final_real),
        },
    )
    return results, summary


def stage_row(name: str, sim_ratio: float, dr_strength: float, ranges_version: int, sim, real, gap) -> dict[str, Any]:
    """A row as a run's results carry it."""
    head = {
        "name": name,
        "sim_ratio": sim_ratio,
        "dr_strength": dr_strength,
        "ranges_version": ranges_version,
    }
    return {**head, "sim": sim, "real": real, "gap": gap}


def _block(rng: np.random.Generator, rate: float, n: int) -> dict[str, Any]:
    flags = rng.random(n) < rate
    return success_block(flags, 500 * flags)


def _move(rng: np.random.Generator, ranges: Ranges, low: np.ndarray, high: np.ndarray):
    step = 0.1 * (ranges.high - ranges.low)
    low = np.maximum(low - step * rng.choice([0, 1, -1], low.size, p=[0.5, 0.4, 0.1]), ranges.space.bounds_low)
    high = np.minimum(high + step * rng.choice([0, 1, -1], low.size, p=[0.4, 0.5, 0.1]), ranges.space.bounds_high)
    return np.minimum(low, ranges.space.nominal), np.maximum(high, ranges.space.nominal)
