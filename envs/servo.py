"""A Cartesian velocity servo for an arm: what a robot's own controller does with a velocity of its tip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.kinematics import Chain, damped, pose_error

LEASH_M = 0.05  # how far the reference may run ahead of a tip that is held back
GAIN_PER_S = 4.0  # of the position and orientation error
POSTURE_PER_S = 1.0  # pull of the redundant joint towards the posture at rest
DAMPING = 0.02


@dataclass(frozen=True)
class CartesianVelocity:
    """Commands are velocities of the tip along some axes of the base frame, m/s.

    The other axes and the orientation are held where they were at reset. The reference that the tip follows
    stays within the workspace [low, high] (m), whatever is commanded.
    """

    chain: Chain
    joints: tuple[str, ...]  # of the chain
    axes: tuple[int, ...]  # 0, 1, 2 for x, y, z: the columns of a command
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    posture: tuple[float, ...]  # joint positions preferred where the tip leaves a choice, rad
    max_effort: tuple[float, ...]  # N m
    max_velocity: tuple[float, ...]  # rad/s
    max_acceleration: tuple[float, ...]  # rad/s^2


class CartesianServo:
    """Turns tip velocities of n worlds into joint velocities, once a control period, from joint encoders."""

    def __init__(self, spec: CartesianVelocity, n: int, period_s: float) -> None:
        self._spec, self._period_s = spec, period_s
        self._axes = np.array(spec.axes)
        self._low, self._high = np.array(spec.low), np.array(spec.high)
        self._posture, self._limit = np.array(spec.posture), np.array(spec.max_velocity)
        self._change = np.array(spec.max_acceleration) * period_s
        self._velocity = np.zeros((n, len(spec.joints)))  # as last commanded
        self._reference = np.tile(np.eye(4), (n, 1, 1))
        self.gain = np.ones(n)  # multiplies GAIN_PER_S

    def reset(self, rows: np.ndarray, q: np.ndarray) -> None:
        """Hold the worlds `rows` (k,) where joint positions `q` (k, j) put their tips, at rest."""
        self._velocity[rows] = 0.0
        self._reference[rows] = self._spec.chain.forward(q)

    def resume(self, rows: np.ndarray, velocity: np.ndarray, held: np.ndarray) -> None:
        """After `reset`: the worlds `rows` (k,) are in mid-motion.

        `velocity` (k, j) was commanded last; orientation and axes that are not commanded are those of joint positions
        `held` (k, j).
        """
        frames = self._spec.chain.forward(held).copy()
        frames[:, self._axes, 3] = self._reference[rows][:, self._axes, 3]
        self._velocity[rows], self._reference[rows] = velocity, frames

    def velocities(self, command: np.ndarray, q: np.ndarray) -> np.ndarray:
        """(n, j) joint velocities, rad/s, for commands (n, len(axes)) at joint positions (n, j)."""
        tip, jacobian = self._spec.chain.jacobian(q)
        before = self._reference[:, :3, 3].copy()
        wanted = before.copy()
        wanted[:, self._axes] += command * self._period_s
        where = tip[:, :3, 3]
        np.minimum(np.maximum(wanted, where - LEASH_M), where + LEASH_M, out=wanted)
        np.minimum(np.maximum(wanted, self._low), self._high, out=wanted)
        self._reference[:, :3, 3] = wanted
        twist = pose_error(self._reference, tip)
        twist[:, :3] += before - wanted  # where the reference was; its own motion comes on top
        twist *= (GAIN_PER_S * self.gain)[:, None]
        twist[:, :3] += (wanted - before) / self._period_s
        rest = (self._posture - q) * POSTURE_PER_S
        twist -= (jacobian @ rest[:, :, None])[:, :, 0]
        velocity = damped(jacobian, twist, DAMPING)
        velocity += rest
        velocity /= np.maximum(np.abs(velocity / self._limit).max(axis=1, keepdims=True), 1.0)
        velocity -= self._velocity
        velocity /= np.maximum(np.abs(velocity / self._change).max(axis=1, keepdims=True), 1.0)
        self._velocity += velocity
        return self._velocity.copy()
