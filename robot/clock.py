"""The control loop's clock: absolute deadlines, lateness measured, nothing made up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

EDGES_MS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


@contextmanager
def urgent(realtime: bool) -> Iterator[None]:
    """Put this thread before all ordinary ones while in real time; where the user may not, it changes nothing."""
    try:
        before = (os.sched_getscheduler(0), os.sched_getparam(0)) if realtime else None
        if before:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(10))
    except (OSError, AttributeError):  # AttributeError: not on every system
        before = None
    try:
        yield
    finally:
        if before:
            os.sched_setscheduler(0, *before)


class Clock:
    """Ticks of a fixed period on the monotonic clock; a loop a whole period behind skips the missed ticks.

    In lockstep the world waits, so `wait` returns at once and lateness means nothing.
    """

    def __init__(self, period_s: float, realtime: bool) -> None:
        self._period_s, self._realtime = period_s, realtime
        self.start()

    def start(self) -> None:
        """Tick zero is now."""
        self._origin_s = time.monotonic()
        self._tick = 0
        self._lateness_s: list[float] = []
        self.overruns = 0  # ticks that were missed altogether

    def wait(self) -> None:
        """Sleep until the next deadline."""
        self._tick += 1
        if not self._realtime:
            return
        due = self._origin_s + self._tick * self._period_s
        ahead = due - time.monotonic()
        if ahead > 0:
            time.sleep(ahead)
        late = time.monotonic() - due
        self._lateness_s.append(late)
        missed = int(late / self._period_s)
        self.overruns += missed
        self._tick += missed

    @property
    def elapsed_s(self) -> float:
        """Robot time since the start: ticks in lockstep, the wall clock in real time."""
        return time.monotonic() - self._origin_s if self._realtime else self._tick * self._period_s

    @property
    def p99_ms(self) -> float:
        return float(np.percentile(self._lateness_s, 99) * 1e3) if self._lateness_s else 0.0

    def histogram(self) -> dict[str, int]:
        """How many ticks came at most so many milliseconds late."""
        counts = np.searchsorted(EDGES_MS, np.array(self._lateness_s) * 1e3)
        names = [f"<= {edge} ms" for edge in EDGES_MS] + [f"> {EDGES_MS[-1]} ms"]
        return {name: int(np.sum(counts == i)) for i, name in enumerate(names)}
