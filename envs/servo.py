"""A Cartesian velocity servo for an arm: what a robot's own controller does with a velocity of its tip."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.kinematics import Chain, damped, pose_error

GAIN_PER_S = 4.0  # of the position and orientation error
LEASH_M = 0.05  # a position error counts as no more
FINGER_WALL_PER_S = 2.5  # a finger is no faster than this times what is left to its end: 1 / the filter's 0.4 s ahead
GRIP_LEASH_M = 0.012  # a finger's reference leads it by no more, commanded or not: what holds it back is gripped
GRIP_GAIN_PER_S = 4.0  # of a finger's position error
POSTURE_PER_S = 1.0  # pull of the redundant joint towards the posture at rest
DAMPING = 0.02


@dataclass(frozen=True)
class CartesianVelocity:
    """Commands are velocities of the tip along some axes of the base frame, m/s.

    Along those axes nothing but the velocity counts (resolved-rate control: Whitney 1969, IEEE Trans. Man-Machine
    Systems 10:47): a position loop here would be closed through the motors' latency, and overshoot. The other axes and
    the orientation are held where they were at reset. The tip slows down towards the ends of the workspace [low, high]
    (m), whatever is commanded. Joints beyond those of the chain are fingers, each with a column of the command: its
    velocity in m/s. They slow down before `finger_ends`.

    A safety filter that looks ahead slows a robot down before its borders, and all joints of an arm with the one that
    is near. Simulation lacks it, so where a border is close behind the workspace's end, the servo is to be the slower
    one (`wall_per_s`).
    """

    chain: Chain
    joints: tuple[str, ...]  # of the chain, then fingers
    axes: tuple[int, ...]  # 0, 1, 2 for x, y, z: the columns of a command
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    posture: tuple[float, ...]  # joint positions preferred where the tip leaves a choice, rad
    max_effort: tuple[float, ...]  # N m, N
    max_velocity: tuple[float, ...]  # rad/s, m/s
    max_acceleration: tuple[float, ...]  # rad/s^2, m/s^2
    wall_per_s: float = 5.0  # the tip nears the ends of its workspace no faster than this times what is left
    stroke: tuple[float, float] = (0.0, 0.0)  # m, what the references of fingers stay within
    finger_ends: tuple[float, float] = (-np.inf, np.inf)  # m, where their speed would be zero: beyond the stroke

    @property
    def fingers(self) -> tuple[str, ...]:
        """The joints that move independently of the tip."""
        return self.joints[self.chain.size :]


class CartesianServo:
    """Turns tip velocities of n worlds into joint velocities, once a control period, from joint encoders."""

    def __init__(self, spec: CartesianVelocity, n: int, period_s: float) -> None:
        self._spec, self._period_s, self._arm = spec, period_s, spec.chain.size
        self._axes = np.array(spec.axes)
        self._low, self._high = np.array(spec.low)[self._axes], np.array(spec.high)[self._axes]
        self._wall_per_s = spec.wall_per_s
        self._posture, self._limit = np.array(spec.posture), np.array(spec.max_velocity)
        self._change = np.array(spec.max_acceleration) * period_s
        self._velocity = np.zeros((n, len(spec.joints)))  # as last commanded
        self._reference = np.tile(np.eye(4), (n, 1, 1))
        self._grip = np.zeros((n, len(spec.fingers)))  # reference of the fingers, m

    def reset(self, rows: np.ndarray, q: np.ndarray) -> None:
        """Hold the worlds `rows` (k,) where joint positions `q` (k, j) put their tips and fingers, at rest."""
        self._velocity[rows] = 0.0
        self._reference[rows] = self._spec.chain.forward(q[:, : self._arm])
        self._grip[rows] = q[:, self._arm :]

    def resume(self, rows: np.ndarray, velocity: np.ndarray, held: np.ndarray) -> None:
        """After `reset`: the worlds `rows` (k,) are in mid-motion.

        `velocity` (k, j) was commanded last; orientation and axes that are not commanded are those of joint positions
        `held` (k, j).
        """
        self._velocity[rows], self._reference[rows] = velocity, self._spec.chain.forward(held[:, : self._arm])

    def velocities(self, command: np.ndarray, q: np.ndarray) -> np.ndarray:
        """(n, j) joint velocities, rad/s or m/s, for commands (n, axes and fingers) at joint positions (n, j)."""
        if not self._spec.fingers:
            return self._tip(command, q).copy()
        arm, axes = self._arm, len(self._axes)
        self._tip(command[:, :axes], q[:, :arm])
        self._velocity[:, arm:] = self._fingers(command[:, axes:], q[:, arm:])
        return self._velocity.copy()

    def _tip(self, command: np.ndarray, q: np.ndarray) -> np.ndarray:
        arm = slice(self._arm)
        tip, jacobian = self._spec.chain.jacobian(q)
        twist = pose_error(self._reference, tip)
        np.minimum(np.maximum(twist[:, :3], -LEASH_M), LEASH_M, out=twist[:, :3])
        twist *= GAIN_PER_S
        where = tip[:, self._axes, 3]
        slowest, fastest = (self._low - where) * self._wall_per_s, (self._high - where) * self._wall_per_s
        twist[:, self._axes] = np.minimum(np.maximum(command, slowest), fastest)
        rest = (self._posture - q) * POSTURE_PER_S
        twist -= (jacobian @ rest[:, :, None])[:, :, 0]
        velocity = damped(jacobian, twist, DAMPING)
        velocity += rest
        velocity /= np.maximum(np.abs(velocity / self._limit[arm]).max(axis=1, keepdims=True), 1.0)
        velocity -= self._velocity[:, arm]
        velocity /= np.maximum(np.abs(velocity / self._change[arm]).max(axis=1, keepdims=True), 1.0)
        self._velocity[:, arm] += velocity
        return self._velocity

    def _fingers(self, command: np.ndarray, q: np.ndarray) -> np.ndarray:
        """Each follows its reference, and presses on what holds it back."""
        before, limit, change = self._grip, self._limit[self._arm :], self._change[self._arm :]
        wanted = before + command * self._period_s
        wanted = np.minimum(np.maximum(wanted, q - GRIP_LEASH_M), q + GRIP_LEASH_M)
        self._grip = np.minimum(np.maximum(wanted, self._spec.stroke[0]), self._spec.stroke[1])
        velocity = GRIP_GAIN_PER_S * (before - q) + (self._grip - before) / self._period_s
        closing, opening = ((end - q) * FINGER_WALL_PER_S for end in self._spec.finger_ends)
        velocity = np.minimum(np.maximum(velocity, np.maximum(closing, -limit)), np.minimum(opening, limit))
        last = self._velocity[:, self._arm :]
        return np.minimum(np.maximum(velocity, last - change), last + change)
