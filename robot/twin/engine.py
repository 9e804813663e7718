"""What every reality shares: MuJoCo in steps of 1 ms, a bus that delivers late, sensors read at one instant.

Nothing here is shared with the simulator's effects: another engine and other code are the point of a twin.
"""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import deque

import mujoco
import numpy as np

from robot.twin.rigs import STEP_S, Rig


class Engine(ABC):
    """Satisfies `robot.twin.rigs.Model`, but for what happens in a step and what the sensors make of it.

    A command reaches the motors after a latency of `latency_ms` + |standard normal| `jitter_ms`, in order, and never
    with more than the motor can do, whoever asks. The first joints of the model are those of the rig.
    """

    def __init__(self, rig: Rig, model: mujoco.MjModel, latency_ms: float, jitter_ms: float) -> None:
        self._model, self._data = model, mujoco.MjData(model)
        self._control_steps = rig.control_steps
        self._most = [axis.fastest or axis.most for axis in (*rig.axes, *rig.rotors) if axis.unit]
        self._joints = len(rig.axes)
        self._latency_ms, self._jitter_ms = latency_ms, jitter_ms
        self.reset([0.0] * self._joints, [0.0] * self._joints, 0)

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[: self._joints] = position
        self._data.qvel[: self._joints] = velocity
        streams = np.random.SeedSequence(noise_seed).spawn(3)
        self._bus_noise, self._motor_noise, self._sensor_noise = (np.random.default_rng(one) for one in streams)
        self._arrivals: deque[tuple[int, tuple[float, ...]]] = deque()  # (physics step, goals) on their way
        self._step = 0
        self._measured_at = -1
        self._measured: tuple[float, ...] = ()

    @property
    def step_count(self) -> int:
        """Physics steps of 1 ms since the reset."""
        return self._step

    @property
    def time_s(self) -> float:
        return self._step * STEP_S

    @property
    def state(self) -> tuple[list[float], list[float]]:
        """True joint positions and velocities: for the technician, never for the bus."""
        return self._data.qpos[: self._joints].tolist(), self._data.qvel[: self._joints].tolist()

    def push(self, *goals: float) -> None:
        late_ms = self._latency_ms + abs(self._bus_noise.standard_normal()) * self._jitter_ms
        arrival = self._step + math.ceil(late_ms / (1e3 * STEP_S) - 1e-6)
        bounded = tuple(min(max(goal, -most), most) for goal, most in zip(goals, self._most, strict=True))
        self._arrivals.append((arrival, bounded))

    def cut(self) -> None:
        self._arrivals.clear()
        self._data.ctrl[: len(self._most)] = 0.0  # the actuators after those of the motors are disturbances

    def _arrived(self) -> tuple[float, ...] | None:
        """The goals that reach the motors in this step, if any do."""
        goals = None
        while self._arrivals and self._arrivals[0][0] <= self._step:
            goals = self._arrivals.popleft()[1]
        return goals

    @abstractmethod
    def advance(self, steps: int) -> None: ...

    def measure(self) -> tuple[float, ...]:
        if self._measured_at != self._step:
            self._measured = self._sense(self._sensor_noise.standard_normal(2 * self._joints).tolist())
            self._measured_at = self._step
        return self._measured

    @abstractmethod
    def _sense(self, noise: list[float]) -> tuple[float, ...]:
        """Position and velocity of each joint in turn, with two standard normals for each."""


def quantised(value: float, quantum: float) -> float:
    """To the nearest multiple of the quantum; 0: as it is."""
    return round(value / quantum) * quantum if quantum else value
