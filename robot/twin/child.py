"""A Python module in a process of its own that says when it is ready, and ends with whoever started it."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from robot.interface import RobotError

START_S = 60.0  # a loaded machine may take long to import the engine
ROOT = Path(__file__).resolve().parents[2]


class Child:
    """`python -m MODULE ARGUMENTS`, whose first line is {"ready": {...}} or {"error": "..."}.

    Its standard input is its lifeline: it ends when that closes, be it by `end` or by our death.
    """

    def __init__(self, module: str, *arguments: str) -> None:
        """Start it and wait until it is ready; raises RobotError with its own sentence."""
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # It draws nothing, and looking for a window system takes MuJoCo a sixth of the start.
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MUJOCO_GL": "disable"},
        )
        self.pid = self._process.pid
        try:
            line = self._first_line()
            message: dict[str, Any] = json.loads(line) if line.startswith(b"{") else {}
            if "ready" not in message:
                said = f"{module} did not start (it said {line!r}, exit code {self._process.poll()})"
                raise RobotError(message.get("error", said))
        except BaseException:
            self.end()
            raise

    def alive(self) -> bool:
        return self._process.poll() is None

    def end(self, patience_s: float = 3.0) -> None:
        """Gently through its lifeline, then for good."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        try:
            process.wait(patience_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def _first_line(self) -> bytes:
        assert self._process.stdout is not None
        stream, text, end = self._process.stdout.fileno(), b"", time.monotonic() + START_S
        poll = select.poll()
        poll.register(stream, select.POLLIN)
        while not text.endswith(b"\n"):
            if not poll.poll(max(0.0, end - time.monotonic()) * 1e3):
                break
            data = os.read(stream, 4096)
            if not data:
                self._process.wait()
                break
            text += data
        return text.strip()
