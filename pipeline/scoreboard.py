"""Scoreboard: what was measured of a run's policies, in simulation and on the robot, and which of them ships."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.gap import Outcomes
from pipeline.stage_rows import StageRow
from pipeline.worlds import FINAL_WORLD


class Scoreboard:
    """Rows of stages and gates. A row is published once both of its sides are known, or will not come."""

    def __init__(self) -> None:
        self.rows: list[StageRow] = []
        self.final: StageRow | None = None
        self.blocks: dict[str, dict[str, Any]] = {"sim": {}, "randomized": {}, "real": {}}
        self.gap: dict[str, Any] = {}
        self.last_gate: StageRow | None = None
        self.waiting: dict[str, StageRow] = {}  # by tag: what waits for its simulated or its real side

    def heard_sim(self, tag: str, outcomes: Outcomes, updates: int) -> None:
        """An evaluation in simulation: a row's side, or a regular look under its own name."""
        if tag in self.waiting:
            self.waiting[tag].sim = outcomes
            self._publish(tag)
        else:
            self.blocks[tag] = {**outcomes.block(), "updates": updates}

    def heard_real(self, tag: str, episodes: Sequence[Mapping[str, Any]], note: str) -> None:
        """A robot round is over; `episodes` are the meta data of those flown, `note` why they are fewer than asked."""
        row = self.waiting.get(tag)
        if row is None:
            return
        row.note = note
        if episodes:
            column = lambda key: np.array([e[key] for e in episodes])  # noqa: E731
            row.real = Outcomes(column("success"), column("episode_return"), column("steps"), column("world"))
        else:
            row.wants_real = False
        self._publish(tag)

    def give_up(self, why: str) -> None:
        """The robot will not come: what waits for it alone is published without."""
        for tag, row in list(self.waiting.items()):
            if row.wants_real and row.real is None:
                row.wants_real, row.note = False, why
                self._publish(tag)

    def choose(self, note: str) -> StageRow:
        """The policy that did best on the robot ships. Its row, to be measured anew in worlds of its own.

        So the final figure is one that the choice could not flatter.
        """
        flown = [row for row in self.rows if row.real is not None]
        best = max(flown, key=_merit) if flown else self.rows[-1]
        self.final = replace(best, first_world=FINAL_WORLD, sim=None, real=None, gap={}, why="", note=note)
        return self.final

    def _publish(self, tag: str) -> None:
        """Once both sides of a measurement are known, it is the newest word on the robot and on the gap."""
        row = self.waiting[tag]
        if not row.complete:
            return
        del self.waiting[tag]
        row.close()
        if tag.startswith("gate:"):
            self.last_gate = row
        if row.real is not None:
            version = self.blocks["real"].get("version", 0) + 1
            self.blocks["real"] = {**row.real.block(), "updates": row.updates, "version": version}
            self.gap = row.gap

    def get_state(self) -> dict[str, Any]:
        return dict(vars(self))

    def set_state(self, state: Mapping[str, Any]) -> None:
        for name, value in state.items():
            setattr(self, name, value)


def _merit(row: StageRow) -> tuple[float, float]:
    """What one policy is preferred to another for: success on the robot, then the mean return there."""
    block = row.real.block() if row.real is not None else {}
    return block.get("success", 0.0), block.get("mean_return", 0.0)
