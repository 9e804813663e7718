"""Whoever brings the robot into its starting state: never over the robot's own bus."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from envs.task import State
from robot.line import JsonLine


class Technician(Protocol):
    def reset(self, state: State, noise_seed: int) -> None:
        """Bring the robot into `state` (n = 1) and re-arm it; `noise_seed` means something to a twin only.

        Raises RobotFault with `link` set when there is no answer.
        """
        ...

    def close(self) -> None: ...


class SocketTechnician:
    """The lab technician of a twin: a unix socket that speaks one JSON object a line."""

    def __init__(self, path: Path | str, timeout_s: float = 10.0) -> None:
        self._line = JsonLine(path, "robot.technician", "a running twin", timeout_s)

    def reset(self, state: State, noise_seed: int) -> None:
        self._line.ask(
            do="reset",
            joint_position=state.joint_position[0].tolist(),
            joint_velocity=state.joint_velocity[0].tolist(),
            body_pose=state.body_pose[0].tolist() if len(state.body_pose) else [],
            noise_seed=noise_seed,
        )

    def ping(self) -> dict[str, Any]:
        return self._line.ask(do="ping")

    def record(self, since_s: float = 0.0) -> dict[str, Any]:
        """What the twin itself recorded: events of the motors and the true state, for tests and demos.

        `since_s`: only events from then on, of the monotonic clock.
        """
        return self._line.ask(do="record", since_s=since_s)

    def close(self) -> None:
        self._line.close()
