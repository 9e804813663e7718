"""Where every robot second went, and what it cost."""

from __future__ import annotations

import time
from pathlib import Path

from robot import durable


class Ledger:
    """An append-only file of JSON lines, one for each booking, durable on return."""

    def __init__(self, path: Path | str, cost_per_hour: float) -> None:
        self._path, self._cost_per_hour = Path(path), cost_per_hour
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._totals: dict[str, float] = {}
        for line in durable.read_lines(self._path):
            self._add(str(line.get("purpose")), float(line.get("seconds", 0.0)))

    def book(self, purpose: str, seconds: float, what: str) -> None:
        """Seconds of the robot's own time spent on `purpose`, for instance collection or evaluation."""
        cost = seconds / 3600 * self._cost_per_hour
        line = {"at": time.time(), "purpose": purpose, "seconds": seconds, "cost": cost, "what": what}
        durable.append_line(self._path, line)
        self._add(purpose, seconds)

    def totals(self) -> dict[str, float]:
        """Seconds by purpose; collection and evaluation are always there."""
        return {"collection": 0.0, "evaluation": 0.0, **self._totals}

    def cost(self) -> float:
        """What all of it cost, at the price of an hour."""
        return sum(self._totals.values()) / 3600 * self._cost_per_hour

    def _add(self, purpose: str, seconds: float) -> None:
        self._totals[purpose] = self._totals.get(purpose, 0.0) + seconds
