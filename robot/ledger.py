"""Where every robot second went, what it cost, and how much may still be spent."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from robot import durable
from robot.interface import RobotError

PURPOSES = ("collection", "evaluation", "identification", "reset", "idle", "stopped")
IN_USE = PURPOSES[:4]  # what a budget of seconds may name, and what its total adds up


class BudgetSpent(RobotError):
    """What was asked for would overspend a budget; nothing has moved."""


class Ledger:
    """An append-only file of JSON lines, one for each booking, durable on return.

    `budget_s` limits the robot's own seconds of a purpose, or of all in use together ("total"); `budget_usd` limits
    what all bookings cost, idle and stopped time among them. What a full disk refuses is kept in memory, counts, and
    is written with the next booking.
    """

    def __init__(
        self,
        path: Path | str,
        cost_per_hour_usd: float,
        budget_s: Mapping[str, float] | None = None,
        budget_usd: float | None = None,
    ) -> None:
        self._path, self._cost_per_hour_usd = Path(path), cost_per_hour_usd
        self._budget_s, self._budget_usd = dict(budget_s or {}), math.inf if budget_usd is None else budget_usd
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = threading.Lock()
        self._unwritten: list[dict[str, Any]] = []
        self._totals: dict[str, float] = {}
        self._cost_usd = 0.0
        for purpose, seconds, cost_usd in entries(self._path):
            self._add(purpose, seconds, cost_usd)

    def book(self, purpose: str, seconds: float, what: str) -> None:
        """Seconds of the robot's own time spent on `purpose`.

        Raises RobotError for what is no purpose or no time, and, with the booking kept, when it could not be written.
        """
        self.book_all([(purpose, seconds, what)])

    def book_all(self, bookings: list[tuple[str, float, str]]) -> None:
        """Several bookings (purpose, seconds, what), written as one."""
        for purpose, seconds, _ in bookings:
            if purpose not in PURPOSES:
                raise RobotError(f"ledger: {purpose!r} is no purpose; accepted are {', '.join(PURPOSES)}")
            if not (math.isfinite(seconds) and seconds >= 0):
                raise RobotError(f"ledger: {seconds} seconds of {purpose}; accepted is a finite number from 0 on")
        with self._lock:
            for purpose, seconds, what in bookings:
                cost_usd = seconds / 3600 * self._cost_per_hour_usd
                line = {"at": time.time(), "purpose": purpose, "seconds": seconds, "cost_usd": cost_usd, "what": what}
                self._unwritten.append(line)
                self._add(purpose, seconds, cost_usd)
            self._write()

    def flush(self) -> None:
        """Write what could not be written before; raises RobotError if it still cannot."""
        with self._lock:
            self._write()

    def totals(self) -> dict[str, float]:
        """Seconds by purpose; collection and evaluation are always there."""
        return {"collection": 0.0, "evaluation": 0.0, **self._totals}

    def cost_usd(self) -> float:
        """What all of it cost, each second at the price of when it was booked."""
        return self._cost_usd

    def left_s(self, purpose: str) -> float:
        """Robot seconds that every budget together still allows for `purpose`; infinite where there is none."""
        own = self._budget_s.get(purpose, math.inf) - self._totals.get(purpose, 0.0)
        total = self._budget_s.get("total", math.inf) - self._in_use_s()
        money = self._budget_usd - self._cost_usd
        paid = money / self._cost_per_hour_usd * 3600 if self._cost_per_hour_usd else math.inf
        return max(0.0, min(own, total if purpose in IN_USE else math.inf, paid))

    def metrics(self) -> dict[str, float]:
        """For tracking: `PURPOSE_s` of every purpose, `total_s`, `cost_usd`, and what is left of each budget."""
        seconds = {f"{purpose}_s": self._totals.get(purpose, 0.0) for purpose in PURPOSES}
        left = {f"left/{name}": left for name, left in self.budget_left().items()}
        return {**seconds, "total_s": sum(self._totals.values()), "cost_usd": self._cost_usd, **left}

    def budget_left(self) -> dict[str, float]:
        """Of each budget there is: seconds by purpose and in "total", and "usd"; never below 0."""
        left = {name: limit - self._spent_s(name) for name, limit in self._budget_s.items()}
        if math.isfinite(self._budget_usd):
            left["usd"] = self._budget_usd - self._cost_usd
        return {name: max(value, 0.0) for name, value in left.items()}

    def refusal(self, wanted_s: Mapping[str, float]) -> str:
        """Why spending so many more seconds of each purpose would overspend a budget; empty: it would not.

        To be asked before an episode with the longest it may take, so that a round ends before it overspends.
        """
        together = sum(wanted_s.values())
        for name, limit in self._budget_s.items():
            spent, more = self._spent_s(name), together if name == "total" else wanted_s.get(name, 0.0)
            if more and spent + more > limit * (1 + 1e-9):
                return (
                    f"robot.budget_s.{name}: {max(limit - spent, 0.0):.1f} s of {limit:g} s are left, and what is "
                    f"asked for may take {more:.1f} s; accepted is a budget of at least {spent + more:.1f} s"
                )
        price_usd = together / 3600 * self._cost_per_hour_usd
        if price_usd and self._cost_usd + price_usd > self._budget_usd * (1 + 1e-9):
            return (
                f"robot.budget_usd: {max(self._budget_usd - self._cost_usd, 0.0):.2f} USD of {self._budget_usd:g} are "
                f"left, and what is asked for may cost {price_usd:.2f}; accepted is a budget of at least "
                f"{self._cost_usd + price_usd:.2f}"
            )
        return ""

    def afford(self, wanted_s: Mapping[str, float]) -> None:
        """Raises BudgetSpent with the sentence of `refusal`."""
        if why := self.refusal(wanted_s):
            raise BudgetSpent(why)

    def _spent_s(self, name: str) -> float:
        return self._in_use_s() if name == "total" else self._totals.get(name, 0.0)

    def _in_use_s(self) -> float:
        return sum(self._totals.get(purpose, 0.0) for purpose in IN_USE)

    def _add(self, purpose: str, seconds: float, cost_usd: float) -> None:
        self._totals[purpose] = self._totals.get(purpose, 0.0) + seconds
        self._cost_usd += cost_usd

    def _write(self) -> None:
        try:
            durable.append_lines(self._path, self._unwritten)
        except OSError as error:
            raise RobotError(
                f"the ledger {self._path} cannot be written ({error.strerror or error}); {len(self._unwritten)} "
                "bookings are kept and will be written with the next one, accepted is a disk with room"
            ) from error
        self._unwritten = []


class Stopwatch:
    """Books the time between episodes, so that no second of a real robot goes missing.

    Between two marks everything belongs to the purpose of the first. A world that waits for commands (`runs` is
    False) has no time of its own between episodes, and marks book nothing.
    """

    def __init__(self, ledger: Ledger, runs: bool) -> None:
        self._ledger, self._runs = ledger, runs
        self._lock = threading.Lock()  # an operator's hold marks from another thread
        self._purpose, self._since_s = "", time.monotonic()

    def mark(self, purpose: str, at_least_s: float = 0.0) -> None:
        """Book what went before, unless it is shorter; from now on time is spent on `purpose` (empty: on nothing)."""
        with self._lock:
            passed = time.monotonic() - self._since_s
            if passed < at_least_s and purpose == self._purpose:
                return
            before = self._before(passed)
            self._turn(purpose)
            if before:
                self._ledger.book_all(before)

    def book(self, purpose: str, seconds: float, what: str, then: str) -> None:
        """Book `seconds` of `purpose` that have just passed, and what went before them; then mark `then`."""
        with self._lock:
            before = self._before(time.monotonic() - self._since_s - seconds)
            self._turn(then)
            self._ledger.book_all([*before, (purpose, seconds, what)])

    def _before(self, seconds: float) -> list[tuple[str, float, str]]:
        return [(self._purpose, seconds, "")] if self._runs and self._purpose and seconds > 0 else []

    def _turn(self, purpose: str) -> None:
        self._purpose, self._since_s = purpose, time.monotonic()


def entries(path: Path) -> list[tuple[str, float, float]]:
    """(purpose, seconds, USD) of every whole line; lines of something else are left out."""
    found = []
    for line in durable.read_lines(path):
        seconds, cost_usd = _number(line.get("seconds")), _number(line.get("cost_usd"))
        if isinstance(line.get("purpose"), str):
            found.append((line["purpose"], seconds, cost_usd))
    return found


def _number(value: Any) -> float:
    usable = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if usable else 0.0
