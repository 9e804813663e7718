"""Effects: what the simulator does not model, placed between the policy and the simulated world.

An effect is vectorised over n worlds, each with its own parameter values and its own memory. A world whose
values are the effect's identity passes through bit by bit unchanged. Effects are never applied to a real
robot.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np

from envs.task import State


class Effect:
    """What command and sensor effects share: per-world values, and which worlds are at the identity."""

    parameters: tuple[str, ...]  # names of the task's parameters it reads
    identity: tuple[float, ...]  # their values at which the effect does nothing
    noisy: bool = False  # whether `apply` wants standard normals

    noise_columns: int  # how many standard normals a step, known once bound
    values: np.ndarray  # (n, len(parameters)) current values, in the parameters' units
    active: bool = False  # whether any world is away from the identity

    def reset(self, mask: np.ndarray, values: Mapping[str, np.ndarray]) -> None:
        """Begin an episode in the worlds of `mask` (n,), with their entries of `values[name]` (n,)."""
        for k, name in enumerate(self.parameters):
            np.copyto(self.values[:, k], values[name], where=mask)
        present = (self.values != self._identity).any(axis=1)
        self.begin(mask, present, int(np.count_nonzero(present)))

    def begin(self, mask: np.ndarray, present: np.ndarray, count: int) -> None:
        """What `reset` does once `values` are there; in `present` (n,), `count` worlds, they are off the identity."""
        self.active = count > 0
        self._absent = ~present if count < len(present) else None
        if self.active:
            self._prepare(mask)

    def _bind_worlds(self, n: int) -> None:
        self._identity = np.asarray(self.identity, np.float64)
        self.values = np.tile(self._identity, (n, 1))
        self._absent: np.ndarray | None = np.ones(n, bool)

    def _prepare(self, mask: np.ndarray) -> None:
        """Derive per-world constants from `values`, and forget the past of the worlds in `mask`."""


class CommandEffect(Effect, ABC):
    """Acts on the effort between command and simulated motor, resolved over the physics substeps of a control
    step.

    A profile is (n, substeps, u): entry s is the mean effort over substep s, N or N m.
    """

    def bind(self, n: int, width: int, substeps: int, period_s: float) -> None:
        """Prepare for n worlds, `width` actuated joints and `substeps` substeps in a control period."""
        self.n, self.width, self.substeps = n, width, substeps
        self.substep_s = period_s / substeps
        self.noise_columns = width
        self._bind_worlds(n)

    def apply(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """The profile after this effect; `noise` is (n, u) standard normals if the effect is noisy."""
        if not self.active:
            return profile
        changed = self._transform(profile, noise)
        if self._absent is not None:
            changed[self._absent] = profile[self._absent]
        return changed

    @abstractmethod
    def _transform(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        """A new profile; rows of worlds at the identity may hold anything."""


class SensorEffect(Effect, ABC):
    """Acts on the true state on its way to becoming the measured one."""

    def bind(self, n: int, joints: int, bodies: int = 0, period_s: float = 0.0) -> None:
        """Prepare for n worlds with `joints` measured joints and `bodies` tracked bodies, read every period."""
        self.n, self.joints, self.bodies, self.period_s = n, joints, bodies, period_s
        self.noise_columns = 2 * joints
        self._bind_worlds(n)

    def apply(self, state: State, noise: np.ndarray | None, rows: np.ndarray | slice = slice(None)) -> State:
        """The state after this effect; `state` and `noise` (k, 2 joints) hold the worlds `rows` (all)."""
        if not self.active:
            return state
        position, velocity = self._transform(state, noise, rows)
        if self._absent is not None:
            absent = self._absent[rows]
            position[absent] = state.joint_position[absent]
            velocity[absent] = state.joint_velocity[absent]
        return State(position, velocity, state.body_pose, state.body_twist, state.goal)

    @abstractmethod
    def _transform(
        self, state: State, noise: np.ndarray | None, rows: np.ndarray | slice
    ) -> tuple[np.ndarray, np.ndarray]:
        """New float32 joint positions and velocities; rows at the identity may hold anything."""
