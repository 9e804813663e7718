"""Starting, watching and ending a twin's process."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Literal

from robot.interface import RobotError

START_S = 60.0  # a loaded machine may take long to import the engine


class TwinProcess:
    """A twin in a process of its own. Its bus and technician appear under fixed paths that survive a restart.

    The twin ends when this object is closed, or when the process that holds it dies: it watches a pipe.
    """

    def __init__(
        self,
        hidden: Path | str | None = None,
        mode: Literal["lockstep", "realtime"] = "lockstep",
        directory: Path | str | None = None,
        task: str = "cartpole",
    ) -> None:
        self._hidden, self._mode, self._task = hidden, mode, task
        self._own_directory = directory is None
        self._directory = Path(tempfile.mkdtemp(prefix="twin-")) if directory is None else Path(directory)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> str:
        return str(self._directory / "bus")

    @property
    def technician(self) -> Path:
        return self._directory / "technician"

    @property
    def tracker(self) -> Path:
        return self._directory / "tracker"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it, or start it anew if it died; raises RobotError with the twin's own sentence."""
        if self.alive():
            return
        self._reap()
        command = [sys.executable, "-m", "robot.twin", "--lifeline", "--mode", self._mode, "--task", self._task]
        command += ["--directory", str(self._directory)]
        if self._hidden is not None:
            command += ["--hidden", str(self._hidden)]
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        line = self._first_line()
        message = json.loads(line) if line.startswith(b"{") else {}
        if "ready" not in message:
            code = self._process.poll()
            self._reap()
            raise RobotError(message.get("error", f"the twin did not start (it said {line!r}, exit code {code})"))

    def restart(self) -> None:
        """A fresh twin under the same paths, whatever became of the old one."""
        self._reap()
        self.start()

    def close(self) -> None:
        self._reap()
        if self._own_directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> TwinProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _first_line(self) -> bytes:
        assert self._process is not None and self._process.stdout is not None
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

    def _reap(self) -> None:
        """End the process: gently through its lifeline, then for good."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None and process.stdout is not None
        process.stdin.close()
        try:
            process.wait(2.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def check_hidden(path: Path | str | None, task: str = "cartpole") -> None:
    """Raise RobotError unless the task's twin would accept this file of hidden values. Nothing of it is returned."""
    from robot.twin.hidden import load

    load(path, task)
