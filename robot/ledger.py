"""Where every robot second went, what it cost, and how much may still be spent."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from robot import durable
from robot.interface import RobotError

PURPOSES = ("collection", "evaluation", "identification", "reset", "idle", "stopped")


@dataclass(frozen=True)
class Budget:
    """What may be spent on a robot; infinite where nothing is said."""

    seconds: Mapping[str, float] = field(default_factory=dict)  # by purpose, of the robot's own time
    total_s: float = math.inf  # over all purposes
    cost: float = math.inf  # in the currency of the price of an hour

    def __post_init__(self) -> None:
        for purpose, seconds in {**self.seconds, "total_s": self.total_s, "cost": self.cost}.items():
            if purpose not in (*PURPOSES, "total_s", "cost"):
                raise RobotError(f"budget: {purpose!r} is no purpose; accepted are {', '.join(PURPOSES)}")
            if not seconds >= 0:
                raise RobotError(f"budget.{purpose}: {seconds} is given; accepted is a number from 0 on")


class Ledger:
    """An append-only file of JSON lines, one for each booking, durable on return."""

    def __init__(self, path: Path | str, cost_per_hour: float, budget: Budget | None = None) -> None:
        self._path, self._cost_per_hour = Path(path), cost_per_hour
        self.budget = budget or Budget()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._totals: dict[str, float] = {}
        self._cost = 0.0
        for purpose, seconds, cost in entries(self._path):
            self._add(purpose, seconds, cost)

    def book(self, purpose: str, seconds: float, what: str) -> None:
        """Seconds of the robot's own time spent on `purpose`; raises RobotError for what is no purpose or no time."""
        if purpose not in PURPOSES:
            raise RobotError(f"ledger: {purpose!r} is no purpose; accepted are {', '.join(PURPOSES)}")
        if not (math.isfinite(seconds) and seconds >= 0):
            raise RobotError(f"ledger: {seconds} seconds of {purpose}; accepted is a finite number from 0 on")
        cost = seconds / 3600 * self._cost_per_hour
        line = {"at": time.time(), "purpose": purpose, "seconds": seconds, "cost": cost, "what": what}
        durable.append_line(self._path, line)
        self._add(purpose, seconds, cost)

    def totals(self) -> dict[str, float]:
        """Seconds by purpose; collection and evaluation are always there."""
        return {"collection": 0.0, "evaluation": 0.0, **self._totals}

    def cost(self) -> float:
        """What all of it cost, each second at the price of when it was booked."""
        return self._cost

    def metrics(self) -> dict[str, float]:
        """For tracking: `PURPOSE_s` of every purpose, `total_s` and `cost`."""
        seconds = {f"{purpose}_s": self._totals.get(purpose, 0.0) for purpose in PURPOSES}
        return {**seconds, "total_s": sum(self._totals.values()), "cost": self._cost}

    def refusal(self, purpose: str, seconds: float) -> str:
        """Why another `seconds` of `purpose` would overspend the budget, in a sentence; empty: they would not.

        To be asked before an episode with the longest it may take, so that a round ends before it overspends.
        """
        limit, total, cost = self.budget.seconds.get(purpose, math.inf), self.budget.total_s, self.budget.cost
        spent, every = self._totals.get(purpose, 0.0), sum(self._totals.values())
        price = self._cost + seconds / 3600 * self._cost_per_hour
        if spent + seconds > limit:
            return f"{spent:.1f} s of {purpose} are spent, and {seconds:.1f} s more pass the budget of {limit:g} s"
        if every + seconds > total:
            return f"{every:.1f} robot seconds are spent, and {seconds:.1f} s more pass the budget of {total:g} s"
        if price > cost:
            return f"{self._cost:.2f} are spent, and {seconds:.1f} s more pass the budget of {cost:g}"
        return ""

    def _add(self, purpose: str, seconds: float, cost: float) -> None:
        self._totals[purpose] = self._totals.get(purpose, 0.0) + seconds
        self._cost += cost


class Stopwatch:
    """Books the time between episodes, so that no robot second goes missing.

    `now_s` is the robot's own time. Between two marks everything belongs to the purpose of the first.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._purpose, self._since = "", math.nan

    def mark(self, purpose: str, now_s: float, what: str = "") -> None:
        """Book what went before; from `now_s` on time is spent on `purpose` (empty: on nothing)."""
        if self._purpose and now_s > self._since:
            self._ledger.book(self._purpose, now_s - self._since, what)
        self._purpose, self._since = purpose, now_s


def entries(path: Path) -> list[tuple[str, float, float]]:
    """(purpose, seconds, cost) of every whole line; lines of something else are left out."""
    found = []
    for line in durable.read_lines(path):
        seconds, cost = _number(line.get("seconds")), _number(line.get("cost"))
        if isinstance(line.get("purpose"), str):
            found.append((line["purpose"], seconds, cost))
    return found


def _number(value: Any) -> float:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else 0.0
