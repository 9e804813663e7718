"""Single keys from a terminal, or characters from any other input; and what happens when it is closed."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import tty
from types import FrameType, TracebackType


class Keys:
    """While open, keys arrive without Enter and are not shown; the terminal is as before afterwards."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdin.fileno() if descriptor is None else descriptor
        self._before: list | None = None

    def __enter__(self) -> Keys:
        if os.isatty(self._descriptor):
            self._before = termios.tcgetattr(self._descriptor)
            tty.setcbreak(self._descriptor)  # Ctrl-C still interrupts
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            try:
                termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._before)
            except termios.error:
                return  # the terminal is gone

    def read(self, timeout_s: float) -> str:
        """One key, or empty when none came in time; line ends are skipped. Raises EOFError at the end of the input."""
        if not select.select([self._descriptor], [], [], timeout_s)[0]:
            return ""
        data = os.read(self._descriptor, 1)
        if not data:
            raise EOFError("the input has ended")
        return "" if data in b"\r\n" else data.decode("latin-1")


def closing_the_terminal_is_ctrl_c() -> None:
    """A terminal that is closed ends a command as Ctrl-C does: with the robot held. `nohup` still works."""
    try:
        if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
            signal.signal(signal.SIGHUP, _interrupt)
    except (ValueError, AttributeError):  # not the main thread, or no such signal on this system
        return


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
