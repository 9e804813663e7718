"""Which motion of an arm tells most: Fourier series inside every limit, chosen for their information.

D-optimal: the largest determinant of the information of mass, motor inertias, frictions and offsets in measured
torques (Swevers et al. 1997, IEEE Trans. Robotics and Automation 13:730). Nothing is asked that the velocity filter
would have to change.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from envs.inverse_dynamics import ArmDynamics
from envs.task import Task
from pipeline.identify.arm_torques import SLOW_RAD_S
from robot.arm_excitation import FourierMotion, centre_of
from robot.interface import RobotError
from robot.settings import JointLimits, RobotSettings
from robot.velocity_filter import VelocityFilter

CANDIDATES, MUTANTS = 40, 60
FREQUENCIES = 16
HIGHEST_HZ = 2.0
QUICK_HZ = (3.1, 4.3)  # beside it, what tells a lag from a delay,
QUICK_RAD_S, QUICK_SHARE = 0.06, 0.4  # each with this amplitude, and no more than such a share of the acceleration
LOOK_HZ = 14.0  # of the grid on which a motion is looked at
SHARE = 0.85  # of what the limits allow
FARTHEST_RAD = 0.9  # from the centre: the arm should not meet itself
MARGIN_M = 0.015  # of the workspace
NOISE_SHARE = 0.005  # of the greatest torque, assumed noise of its reading


def design(
    task: Task,
    settings: RobotSettings,
    recordings: int,
    seconds: float,
    seed: int = 0,
    told: Callable[[float], None] = lambda share: None,
) -> list[FourierMotion]:
    """A motion of `seconds` for each recording. Raises RobotError where there is no room to move."""
    random = np.random.default_rng(seed)
    space = _Room(task, settings, seconds)
    dynamics = ArmDynamics.from_scene(task.scene)
    motors = task.scene.motors
    noise = np.array([NOISE_SHARE * settings.limits[name].effort for name in motors])
    chosen: list[FourierMotion] = []
    total = np.eye(1 + 4 * len(motors)) * 1e-3
    for k in range(recordings):
        best, value, found = None, -np.inf, total
        for n in range(CANDIDATES + MUTANTS):
            drawn = space.draw(random) if n < CANDIDATES or best is None else space.mutant(best, random)
            motion = space.fitted(drawn)
            if motion is not None:
                more = total + information(dynamics, space.whole(motion), noise, seconds)
                if (worth := float(np.linalg.slogdet(more)[1])) > value:
                    best, value, found = motion, worth, more
            told((k + (n + 1) / (CANDIDATES + MUTANTS)) / recordings)
        if best is None:
            raise RobotError(
                f"robot.workspace: the arm cannot move around {np.round(space.centre, 2).tolist()} inside its limits; "
                "accepted is a workspace that holds the middle of the task's starting states with some room"
            )
        chosen.append(space.whole(best))
        total = found
    return chosen


def information(dynamics: ArmDynamics, motion: FourierMotion, noise: np.ndarray, seconds: float) -> np.ndarray:
    """(1 + 4 u, 1 + 4 u) of mass scale, and each joint's motor inertia, viscous and Coulomb friction and offset."""
    time_s = np.arange(0.0, seconds, 1.0 / LOOK_HZ)
    q, v, a = motion.at(time_s)
    mass = dynamics.torques(q, v, a).sum(0)
    known = np.abs(v) > SLOW_RAD_S  # the fit leaves out the other rows
    size = 1 + 4 * q.shape[1]
    out = np.zeros((size, size))
    for j in range(q.shape[1]):
        own = np.stack([mass[:, j], a[:, j], v[:, j], np.sign(v[:, j]), np.ones(len(q))], 1)[known[:, j]] / noise[j]
        where = np.array([0, *range(1 + 4 * j, 5 + 4 * j)])
        out[np.ix_(where, where)] += own.T @ own
    return out


class _Room:
    """What the limits leave, and motions that keep to it."""

    def __init__(self, task: Task, settings: RobotSettings, seconds: float) -> None:
        self._task, self._seconds = task, seconds
        motors, speed = task.scene.motors, settings.reduced_speed.scale
        limits: Mapping[str, JointLimits] = settings.limits
        bounds = [limits[name] for name in motors]
        self._rows = np.array([task.joints.index(name) for name in motors])
        self._all = centre_of(task).joint_position[0].astype(float)
        self.centre = self._all[self._rows]
        self._low, self._high = np.array([one.position for one in bounds]).T
        self._fastest = SHARE * speed * np.array([one.velocity for one in bounds])
        self._hardest = SHARE * np.array([one.acceleration or 1.0 for one in bounds]) / 2
        self._time = np.arange(0.0, seconds, 1.0 / LOOK_HZ)
        axes = ["xyz".index(axis) for axis in settings.workspace]
        self._axes, box = axes, list(settings.workspace.values())
        self._box = np.array(box).reshape(-1, 2) + MARGIN_M * np.array([1.0, -1.0])
        base = 1.0 / seconds
        steps = np.unique(np.round(np.geomspace(2, max(HIGHEST_HZ / base, 4), FREQUENCIES)))
        self._frequency = steps * base
        self._quick = np.round(np.array(QUICK_HZ) / base) * base
        nothing = np.zeros((len(motors), len(steps)))
        still = FourierMotion(self._frequency, nothing, nothing, self._rows, self.centre)
        most = QUICK_SHARE * self._hardest / (2 * np.pi * self._quick.sum())
        for share in (1.0, 0.5, 0.25, 0.0):  # less where there is no room
            self._beat = np.minimum(QUICK_RAD_S, most) * share
            if self._fits(still, np.ones(len(motors))):
                break

    def draw(self, random: np.random.Generator) -> FourierMotion:
        """As fast as each joint may, some slower than others."""
        shape = (len(self.centre), len(self._frequency))
        fall = 1.0 / np.maximum(self._frequency / random.uniform(0.3, 1.2), 1.0) ** random.uniform(0.5, 1.0)
        sine, cosine = random.normal(size=shape) * fall, random.normal(size=shape) * fall
        return self._from_rest(sine, cosine, np.exp(-random.exponential(0.5, shape[0])))

    def mutant(self, parent: FourierMotion, random: np.random.Generator) -> FourierMotion:
        shape = parent.sine.shape
        size = np.abs(parent.sine).mean(1, keepdims=True)
        sine = parent.sine + random.normal(0, 0.4, shape) * size
        cosine = parent.cosine + random.normal(0, 0.4, shape) * size
        return self._from_rest(sine, cosine, None, np.exp(random.normal(0.1, 0.3, shape[0])))

    def fitted(self, motion: FourierMotion) -> FourierMotion | None:
        """The motion with each joint's amplitude as large as it may be; None where nothing may move."""
        scale = np.ones(len(self.centre))
        for _ in range(12):
            if self._fits(motion, scale):
                break
            scale = scale * 0.75
        else:
            return None
        for j in np.argsort(-self._fastest):
            for _ in range(3):
                more = scale.copy()
                more[j] *= 1.35
                if not self._fits(motion, more):
                    break
                scale = more
        return self._scaled(motion, scale)

    def whole(self, motion: FourierMotion) -> FourierMotion:
        """With the quick lines beside it, from rest as well, one joint against the next."""
        size = self._beat * (-1.0) ** np.arange(len(self.centre))
        cosine = np.concatenate([motion.cosine, np.stack([size, -size], 1)], axis=1)
        sine = np.concatenate([motion.sine, np.zeros((len(size), 2))], axis=1)
        return FourierMotion(np.concatenate([self._frequency, self._quick]), sine, cosine, self._rows, self.centre)

    def _fits(self, motion: FourierMotion, scale: np.ndarray) -> bool:
        q, v, a = self.whole(self._scaled(motion, scale)).at(self._time)
        if (np.abs(v) > self._fastest).any() or (np.abs(a) > self._hardest).any():
            return False
        ahead = q + v * VelocityFilter.LOOKAHEAD_S
        inside = (np.minimum(q, ahead) > self._low) & (np.maximum(q, ahead) < self._high)
        if not inside.all() or (np.abs(q - self.centre) > FARTHEST_RAD).any():
            return False
        if not self._axes:
            return True
        for joints in (q, ahead):
            whole = np.tile(self._all, (len(q), 1))
            whole[:, self._rows] = joints
            points = self._task.workspace_points(whole)[..., self._axes]
            if (points < self._box[:, 0]).any() or (points > self._box[:, 1]).any():
                return False
        return True

    def _from_rest(
        self, sine: np.ndarray, cosine: np.ndarray, share: np.ndarray | None, times: np.ndarray | None = None
    ) -> FourierMotion:
        """No velocity and no acceleration at the start; with `share`, of the greatest velocity of each joint."""
        cosine = cosine - cosine.mean(1, keepdims=True)
        w = self._frequency
        sine = sine - (sine @ w)[:, None] * w / (w @ w)
        motion = FourierMotion(w, sine, cosine, self._rows, self.centre)
        if share is None:
            return self._scaled(motion, np.ones(len(sine)) if times is None else times)
        _, v, a = motion.at(self._time)
        most = np.maximum(np.abs(v).max(0) / self._fastest, np.abs(a).max(0) / self._hardest)
        return self._scaled(motion, share / most)

    def _scaled(self, motion: FourierMotion, scale: np.ndarray) -> FourierMotion:
        sine, cosine = motion.sine * scale[:, None], motion.cosine * scale[:, None]
        return FourierMotion(motion.frequency_hz, sine, cosine, self._rows, self.centre)
