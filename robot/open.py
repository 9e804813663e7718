"""From settings to a connected session: the one call a program needs."""

from __future__ import annotations

import os
from pathlib import Path

from envs.task import Task
from robot.drivers import make_robot
from robot.episodes import EpisodeStore
from robot.interface import Robot, RobotError
from robot.ledger import Ledger
from robot.session import RobotSession
from robot.settings import RobotSettings
from robot.technician import SocketTechnician
from robot.tracker import TrackedRobot, Tracker
from robot.twin.process import TwinProcess
from robot.twin.rigs import find_rig
from robot.twin.rosbridge import RosbridgeTwin


def state_directory(settings: RobotSettings, directory: Path | str) -> Path:
    """Where the robot's stop latch lives. A twin is its run's own; a robot's stops outlast every run."""
    if settings.state_dir is not None:
        return settings.state_dir
    if settings.boundary is not None:
        return Path(directory)
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "sim2real" / settings.name


def open_session(settings: RobotSettings, task: Task, directory: Path | str) -> RobotSession:
    """A connected session that keeps episodes and ledger in `directory`; on a new twin without a port.

    Raises RobotError with a sentence, and leaves no process behind, when anything cannot be had.
    """
    directory = Path(directory)
    state_dir = state_directory(settings, directory)
    twin = None
    if settings.boundary is not None:
        assert settings.twin is not None
        find_rig(task.name)
        kind = RosbridgeTwin if settings.boundary == "rosbridge" else TwinProcess
        twin = kind(settings.twin.hidden, settings.mode, task=task.name, control_hz=task.control_hz)
        reach = {"port": twin.port, "technician": twin.technician, "tracker": settings.tracker or twin.tracker}
        settings = settings.model_copy(update=reach)
    try:
        if twin:
            twin.start()
        robot = make_robot(settings, task)
        session = RobotSession(
            _tracked(robot, settings, task) if task.bodies else robot,
            task,
            settings,
            EpisodeStore(directory / "episodes"),
            SocketTechnician(settings.technician) if settings.technician else None,
            Ledger(directory / "ledger.jsonl", settings.cost_per_hour_usd, settings.budget_s, settings.budget_usd),
            state_dir,
            twin,
        )
        session.connect()
    except BaseException:
        if twin:
            twin.close()
        raise
    return session


def _tracked(robot: Robot, settings: RobotSettings, task: Task) -> TrackedRobot:
    if settings.tracker is None:
        raise RobotError(
            f"robot.tracker: none given, and {task.name} has to know where {', '.join(task.bodies)} is; accepted is "
            "the socket of a program that tracks it (docs/drivers.md)"
        )
    return TrackedRobot(robot, Tracker(settings.tracker, task.bodies, robot.spec.realtime))
