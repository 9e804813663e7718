"""No fresh command in time: the motors go off, whatever the control loop is doing."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from robot.clock import urgent


class Watchdog:
    """A thread in the driver's process that calls `on_expire` once when nothing fed it for `timeout_s`.

    It needs the process to be alive; when the process dies, the servos' own bus watchdog or the hang-up of
    the line does the same. Real time only: in lockstep time passes by commands alone.
    """

    def __init__(self, timeout_s: float, on_expire: Callable[[], None]) -> None:
        self._timeout_s, self._on_expire = timeout_s, on_expire
        self._fed_s: float | None = None  # None: not watching
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self._thread.start()

    def arm(self) -> None:
        """Start watching now."""
        with self._changed:
            self._fed_s = time.monotonic()
            self._changed.notify()

    def feed(self) -> None:
        """A fresh command went out. Does not bring an expired watchdog back: only `arm` does."""
        with self._changed:
            if self._fed_s is not None:
                self._fed_s = time.monotonic()

    def disarm(self) -> None:
        with self._changed:
            self._fed_s = None

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        with urgent(True):
            self._watch()

    def _watch(self) -> None:
        while True:
            with self._changed:
                while not self._closed and self._fed_s is None:
                    self._changed.wait()
                if self._closed:
                    return
                assert self._fed_s is not None
                left = self._fed_s + self._timeout_s - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                    continue
                self._fed_s = None
            self._on_expire()
