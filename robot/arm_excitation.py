"""Motions that make an arm with velocity motors show its parameters."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass

import numpy as np

from envs.task import State, Task
from robot.interface import RobotError

FOLLOW_PER_S = 1.0  # velocity for each rad of difference from the reference
POLLED_HZ = 100.0


@dataclass(frozen=True)
class FourierMotion:
    """Joint velocities that are sums of sines, from rest at a centre, with a pull back to where they should have led.

    q'_i(t) = sum_k sine_ik sin(2 pi f_k t) + cosine_ik cos(2 pi f_k t) (Swevers et al. 1997, IEEE Trans. Robotics and
    Automation 13:730), from zero velocity where the cosines add up to nothing.
    """

    frequency_hz: np.ndarray  # (k,)
    sine: np.ndarray  # (u, k) rad/s
    cosine: np.ndarray  # (u, k) rad/s
    rows: np.ndarray  # (u,) which joint each motor drives
    centre: np.ndarray  # (u,) rad
    period_s: float = 1.0 / POLLED_HZ  # how long a command is held

    def command(self, time_s: float, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        middle = np.array([time_s + self.period_s / 2])
        off = self.at(np.array([time_s]))[0][0] - position[self.rows]
        return self.at(middle)[1][0] + FOLLOW_PER_S * off

    def at(self, time_s: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(t, u) positions, velocities and accelerations at times (t,)."""
        w = 2 * np.pi * self.frequency_hz
        s, c = np.sin(w * time_s[:, None]), np.cos(w * time_s[:, None])
        position = self.centre + ((1 - c) / w) @ self.sine.T + (s / w) @ self.cosine.T
        return position, s @ self.sine.T + c @ self.cosine.T, (c * w) @ self.sine.T - (s * w) @ self.cosine.T


def polled(task: Task, control_hz: float = POLLED_HZ) -> Task:
    """The same task commanded and measured more often, for motions that no policy makes; never slower."""
    quick = copy(task)
    quick.control_hz = max(control_hz, task.control_hz)
    return quick


def centre_of(task: Task) -> State:
    """The middle one of the task's starting states: where an arm is put to be excited."""
    if task.scene.motors_take != "velocity":
        raise RobotError(f"{task.name}: its motors take no velocities; accepted is a task with an arm that does")
    start = task.initial(np.full((1, task.initial_size), 0.5))
    return State(start.joint_position, np.zeros_like(start.joint_velocity), start.body_pose, start.body_twist)
