"""The control loop's clock: absolute deadlines, lateness measured, nothing made up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
        self._latency_s: list[float] = []  # from the measurement to the command it led to
        self._jitter_s: list[float] = []  # of the interval between commands
        self._sent_s: float | None = None
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

    def resume(self) -> None:
        """After a pause that a person asked for: the next tick is a period from now, and the pause is not late."""
        self._origin_s = time.monotonic() - self._tick * self._period_s

    def acted(self, captured_s: float, sent_s: float) -> None:
        """A command went out at `sent_s`, decided from what was measured at `captured_s` (monotonic clock)."""
        if not self._realtime:
            return
        self._latency_s.append(sent_s - captured_s)
        if self._sent_s is not None:
            self._jitter_s.append(abs(sent_s - self._sent_s - self._period_s))
        self._sent_s = sent_s

    @property
    def elapsed_s(self) -> float:
        """Robot time since the start: ticks in lockstep, the wall clock in real time."""
        return time.monotonic() - self._origin_s if self._realtime else self._tick * self._period_s

    @property
    def p99_ms(self) -> float:
        """Lateness, in real time."""
        return float(np.percentile(self._lateness_s, 99) * 1e3) if self._lateness_s else 0.0

    def histogram(self) -> dict[str, int]:
        """How many ticks came at most so many milliseconds late."""
        return _histogram(self._lateness_s)

    def summary(self) -> dict[str, Any]:
        """Lateness of ticks, latency from measurement to command and jitter of commands: figures and histograms."""
        kinds = {"lateness": self._lateness_s, "latency": self._latency_s, "jitter": self._jitter_s}
        return {"overruns": self.overruns, **{name: _summary(values) for name, values in kinds.items()}}


def _histogram(values_s: list[float]) -> dict[str, int]:
    counts = np.searchsorted(EDGES_MS, np.array(values_s) * 1e3)
    names = [f"<= {edge} ms" for edge in EDGES_MS] + [f"> {EDGES_MS[-1]} ms"]
    return {name: int(np.sum(counts == i)) for i, name in enumerate(names)}


def _summary(values_s: list[float]) -> dict[str, Any]:
    values = np.array(values_s) * 1e3
    figures = {f"p{q}_ms": round(float(np.percentile(values, q)), 3) if len(values) else None for q in (50, 99)}
    return {"n": len(values), **figures, "max_ms": round(float(values.max()), 3) if len(values) else None} | {
        "histogram": _histogram(values_s)
    }
