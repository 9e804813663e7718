"""Recordings of a robot for a training run: kept on disk before anyone uses them, and found again by their round."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.task import Task
from pipeline.robot_link import RobotRound
from robot.excitation import Recorder
from robot.log_files import read_log, write_log
from robot.session import RobotSession


@dataclass(frozen=True)
class Recorded:
    """One recording that is durable."""

    path: Path
    seconds: float  # of the robot's own time

    def digest(self) -> dict[str, Any]:
        """As a round reports it: `meta` as of an episode, and the log."""
        return {"meta": {"robot_s": self.seconds, "recording": self.path.stem}, "log": read_log(self.path)}


class Recordings:
    """Files in `folder`, one for each recording of each round; a recording that was broken off is beside them."""

    def __init__(self, folder: Path, task: Task) -> None:
        self._folder, self._task = folder, task

    def of(self, order: RobotRound) -> list[Recorded]:
        """What an earlier life of the actor recorded for a round already."""
        paths = (self._path(order, number) for number in range(order.episodes))
        return [Recorded(path, order.seconds) for path in paths if path.exists()]

    def make(self, session: RobotSession, order: RobotRound, number: int) -> Recorded:
        """Excite the robot as the round says; raises as `RobotSession.excite` does, with what was heard kept."""
        recorder = Recorder(self._task, f"{session.settings.name} recording {number + 1}")
        path = self._path(order, number)
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            recorder.run(session, order.motions[number], order.seconds, 1000 * order.seed + number, mode=order.mode)
        except BaseException:
            if len(recorder) >= 3:
                write_log(recorder.log(), path.with_suffix(".broken-off.parquet"))
            raise
        write_log(recorder.log(), path)
        return Recorded(path, order.seconds)

    def _path(self, order: RobotRound, number: int) -> Path:
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', order.round_id)}-{number + 1}.parquet"
