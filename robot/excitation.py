"""Motions that make a robot show its parameters: commands as functions of time and of what is measured."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

from envs.task import State, Task
from robot.interface import Observation, RobotError
from robot.logs import Log, clean
from robot.settings import Mode

if TYPE_CHECKING:
    from robot.session import RobotSession


class Excitation(Protocol):
    """What to ask of the motors. The safety filter has the last word."""

    def command(self, time_s: float, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """(u,) efforts, N or N m, given (j,) joint positions and velocities."""
        ...


@dataclass(frozen=True)
class Multisine:
    """A sum of sines for each motor, and a soft spring that keeps the driven joints around a centre.

    u_i(t) = sum_k amplitude_ik sin(2 pi frequency_k t + phase_ik) - stiffness_i (q_i - centre_i) - damping_i q'_i
    (Swevers et al. 1997, IEEE Trans. Robotics and Automation 13:730, with efforts in place of trajectories).
    """

    frequency_hz: np.ndarray  # (k,)
    amplitude: np.ndarray  # (u, k) N or N m
    phase_rad: np.ndarray  # (u, k)
    rows: np.ndarray  # (u,) which joint each motor drives
    centre: np.ndarray  # (u,) m or rad
    stiffness: np.ndarray  # (u,) N/m or N m/rad
    damping: np.ndarray  # (u,) N s/m or N m s/rad

    def command(self, time_s: float, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        waves = self.amplitude * np.sin(2 * np.pi * self.frequency_hz * time_s + self.phase_rad)
        off = position[self.rows] - self.centre
        return waves.sum(1) - self.stiffness * off - self.damping * velocity[self.rows]


class Recorder:
    """What an excitation made of a robot, row by row: usable whenever it ends."""

    def __init__(self, task: Task, source: str) -> None:
        self._task, self._source = task, source
        self._rows: list[tuple[float, np.ndarray, np.ndarray, np.ndarray]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def run(
        self,
        session: RobotSession,
        excitation: Excitation,
        seconds: float,
        number: int,
        told: Callable[[float], None] = lambda share: None,
        mode: Mode | None = None,
    ) -> None:
        """Excite the robot of a session from where it rests; booked as identification.

        `number` names the recording, and seeds a twin's noise. With a `mode` a person may be asked first.
        Raises RobotError when the robot is stopped or stops on the way; rows heard until then are kept.
        """
        task = self._task
        steps = max(2, round(seconds / task.control_period_s))
        rest = np.array([task.rest or (0.0,) * len(task.joints)], np.float32)

        def command(k: int, seen: Observation) -> np.ndarray:
            return excitation.command(k * task.control_period_s, seen.joint_position, seen.joint_velocity)

        def heard(k: int, at_s: float, seen: Observation, sent: np.ndarray) -> None:
            self._rows.append((at_s, seen.joint_position.copy(), seen.joint_velocity.copy(), sent.copy()))
            told((k + 1) / steps)

        start = State(rest, np.zeros_like(rest))
        session.excite(command, heard, steps, start, number, f"identification {number}", "identification", mode)

    def log(self) -> Log:
        """The recording so far; raises RobotError before its third row."""
        if len(self._rows) < 3:
            raise RobotError(f"{self._source}: {len(self._rows)} rows were recorded; at least 3 are needed")
        times, position, velocity, sent = (np.array(column) for column in zip(*self._rows, strict=True))
        return clean(
            Log(
                time_s=times[:-1],
                position=position[:-1].astype(float),
                velocity=velocity[:-1].astype(float),
                effort=sent[1:].astype(float),  # what was sent on seeing a row acts until the next
                joints=self._task.joints,
                motors=self._task.actuated,
                units={"effort": "SI"},
                source=self._source,
            )
        )
