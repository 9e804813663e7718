"""Effects on what is measured, in SI units."""

from __future__ import annotations

import numpy as np

from envs.effects.base import SensorEffect
from envs.task import State


class SensorNoise(SensorEffect):
    """Gaussian noise on every joint position and velocity; the parameter is its sd in SI units."""

    identity = (0.0,)
    noisy = True

    def __init__(self, parameter: str) -> None:
        self.parameters = (parameter,)

    def _transform(self, state: State, noise: np.ndarray | None, rows: np.ndarray | slice):
        assert noise is not None
        error = noise * self.values[rows]
        position = state.joint_position + error[:, : self.joints]
        velocity = state.joint_velocity + error[:, self.joints :]
        return position.astype(np.float32), velocity.astype(np.float32)


class Bias(SensorEffect):
    """One joint's position reads too high by a constant, m or rad."""

    identity = (0.0,)

    def __init__(self, parameter: str, joint: int) -> None:
        self.parameters = (parameter,)
        self.joint = joint

    def _transform(self, state: State, noise: np.ndarray | None, rows: np.ndarray | slice):
        position = state.joint_position.copy()
        position[:, self.joint] += self.values[rows, 0]
        return position, state.joint_velocity.copy()


class Quantization(SensorEffect):
    """One joint's position is rounded to a multiple of the parameter, m or rad."""

    identity = (0.0,)

    def __init__(self, parameter: str, joint: int) -> None:
        self.parameters = (parameter,)
        self.joint = joint

    def _transform(self, state: State, noise: np.ndarray | None, rows: np.ndarray | slice):
        quantum = self.values[rows, 0]
        quantum = np.where(quantum > 0, quantum, 1.0)
        position = state.joint_position.copy()
        position[:, self.joint] = np.round(position[:, self.joint] / quantum) * quantum
        return position, state.joint_velocity.copy()
