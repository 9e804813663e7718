"""What tracks the bodies of a task, beside the robot's own sensors: a camera over a table, a motion capture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from robot.interface import Held, Observation, Robot, RobotFault, Sent, Status
from robot.line import JsonLine

REALTIME_PATIENCE_S = 0.25
LOCKSTEP_PATIENCE_S = 20.0  # a twin that waits for us may itself have to wait for the processor
LOST_S = 0.5  # a body that nobody saw for so long may be anywhere


class Tracker:
    """A program that knows where bodies are, behind a unix socket that speaks one JSON object a line.

    Asked {"do": "look"} it answers {"poses": {name: [x, y, z, qx, qy, qz, qw], ...}, "age_s": of the picture},
    m in the task's frame.
    """

    def __init__(self, path: Path | str, bodies: Sequence[str], realtime: bool) -> None:
        self._bodies = tuple(bodies)
        patience_s = REALTIME_PATIENCE_S if realtime else LOCKSTEP_PATIENCE_S
        self._line = JsonLine(path, "robot.tracker", "a running tracker", patience_s)

    def look(self) -> tuple[np.ndarray, float]:
        """(b, 7) newest poses and their age in s; raises RobotFault when a body is lost or nobody answers."""
        answer = self._line.ask(do="look")
        try:
            poses = [answer["poses"][name] for name in self._bodies]
            found = np.array(poses, np.float32).reshape(len(self._bodies), 7)
            age_s = float(answer["age_s"])
        except (KeyError, TypeError, ValueError) as error:
            raise RobotFault(
                f"robot.tracker: {answer} was answered; accepted are 7 numbers for each of {', '.join(self._bodies)}"
            ) from error
        if not np.isfinite(found).all() or not 0.0 <= age_s <= LOST_S:
            raise RobotFault(f"robot.tracker: no pose of {', '.join(self._bodies)} within the last {LOST_S:g} s")
        return found, age_s

    def close(self) -> None:
        self._line.close()


class TrackedRobot:
    """Satisfies `robot.interface.Robot`: the robot inside, whose observations also tell where the bodies are."""

    def __init__(self, robot: Robot, tracker: Tracker) -> None:
        self.inner, self.spec = robot, robot.spec
        self._tracker = tracker

    def connect(self) -> None:
        self._tracker.look()
        self.inner.connect()

    def arm(self) -> None:
        self.inner.arm()

    def observe(self) -> Observation:
        """Bodies first: what is measured of the robot itself should be the newest."""
        poses, _ = self._tracker.look()
        return replace(self.inner.observe(), body_pose=poses)

    def command(self, command: np.ndarray) -> Sent:
        return self.inner.command(command)

    def hold(self) -> Held:
        return self.inner.hold()

    def status(self) -> Status:
        return self.inner.status()

    def recover(self, operator: str) -> None:
        self._tracker.look()
        self.inner.recover(operator)

    def disconnect(self) -> None:
        self._tracker.close()
        self.inner.disconnect()
