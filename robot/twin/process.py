"""Starting, watching and ending a twin's process."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Literal

from robot.twin.child import Child


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
        control_hz: float | None = None,  # how often it will be commanded; None: as often as the task
    ) -> None:
        self._hidden, self._mode, self._task = hidden, mode, task
        self._control_hz = control_hz
        self._own_directory = directory is None
        self._directory = Path(tempfile.mkdtemp(prefix="twin-")) if directory is None else Path(directory)
        self._process: Child | None = None

    @property
    def port(self) -> str:
        """Where a driver reaches the robot."""
        return self.bus

    @property
    def bus(self) -> str:
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
        return self._process is not None and self._process.alive()

    def start(self) -> None:
        """Start it, or start it anew if it died; raises RobotError with the twin's own sentence."""
        if self.alive():
            return
        self._reap()
        hidden = () if self._hidden is None else ("--hidden", str(self._hidden))
        rate = () if self._control_hz is None else ("--control-hz", repr(self._control_hz))
        where = ("--mode", self._mode, "--task", self._task, "--directory", str(self._directory))
        self._process = Child("robot.twin", "--lifeline", *where, *hidden, *rate)

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

    def _reap(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.end()


def check_hidden(path: Path | str | None, task: str = "cartpole") -> None:
    """Raise RobotError unless the task's twin would accept this file of hidden values. Nothing of it is returned."""
    from robot.twin.hidden import load

    load(path, task)
