"""The only path to the motors."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from robot.interface import Observation, RobotError
from robot.settings import JointLimits

VELOCITY_BAND = 0.1  # effort that speeds a joint up fades over the last tenth below its velocity limit
NO_MOTION = 1e-9  # m: a smaller movement of a point is rounding
RUNAWAY = 1.5  # a joint this many times faster than its limit is not under control any more


@dataclass(frozen=True)
class Filtered:
    """A command that may be sent, and the names of the limits that changed it (empty: none did)."""

    command: np.ndarray  # (u,) N or N m, or velocities
    reasons: tuple[str, ...] = ()


class Workspace:
    """A box for points of the robot, by forward kinematics: `points` maps (1, j) joints to (1, p, 3) m.

    `box` is {axis: (low, high)} in m. Raises RobotError when there is a box and nothing to hold inside it.
    """

    STEP = 1e-4  # m or rad, of the finite differences

    def __init__(self, box: Mapping[str, tuple[float, float]], points: Callable[[np.ndarray], np.ndarray]) -> None:
        self._points = points
        self._axes = ["xyz".index(axis) for axis in box]
        self._low = np.array([low for low, _ in box.values()])
        self._high = np.array([high for _, high in box.values()])
        self._names = list(box)

    def check(self, joints: int) -> None:
        """Raise RobotError when the task has no point to hold inside a box."""
        if self._axes and not points_of(self._points, np.zeros(joints)).size:
            raise RobotError("robot.workspace: a box is given, but the task derives no points; accepted is none ({})")

    def outside(self, position: np.ndarray) -> str:
        """What is outside the box now, or an empty string."""
        if not self._axes:
            return ""
        at = points_of(self._points, position)[:, self._axes]
        for k, name in enumerate(self._names):
            worst = at[:, k][(at[:, k] < self._low[k]) | (at[:, k] > self._high[k])]
            if worst.size:
                return f"workspace: {name} = {worst[0]:.3f} is outside [{self._low[k]:g}, {self._high[k]:g}]"
        return ""

    def within(self, position: np.ndarray, ahead: np.ndarray) -> float:
        """The share in [0, 1] of the way from `position` to `ahead` (j,) that leaves no point further outside."""
        if not self._axes:
            return 1.0
        at, soon = (points_of(self._points, q)[:, self._axes] for q in (position, ahead))
        way = soon - at
        room = np.where(way > 0, self._high - at, at - self._low)
        moves = np.abs(way) > NO_MOTION
        return float(np.min(np.clip(room[moves] / np.abs(way[moves]), 0.0, 1.0), initial=1.0))

    def outward(self, position: np.ndarray, ahead: np.ndarray, row: int, effort: float) -> bool:
        """Whether effort on joint `row` drives a point further out that is at the border, or will be at `ahead`."""
        if not self._axes or effort == 0.0:
            return False
        at, soon = (points_of(self._points, q)[:, self._axes] for q in (position, ahead))
        moved = position.copy()
        moved[row] += math.copysign(self.STEP, effort)
        direction = points_of(self._points, moved)[:, self._axes] - at
        low, high = (at <= self._low) | (soon < self._low), (at >= self._high) | (soon > self._high)
        return bool(np.any(low & (direction < -NO_MOTION)) or np.any(high & (direction > NO_MOTION)))


def points_of(points: Callable[[np.ndarray], np.ndarray], position: np.ndarray) -> np.ndarray:
    """(p, 3) m of one robot."""
    return np.asarray(points(np.asarray(position, np.float64)[None]))[0]


class SafetyFilter:
    """Bounds commands (effort, N or N m) by the limits of each joint and by the workspace.

    Whatever is asked: the effort limit is never exceeded; effort grows no faster than its rate (removing
    effort is always allowed at once); a joint at its velocity or position limit, or about to pass the latter
    within `lookahead_s`, gets no effort that drives it further; so does one that accelerates beyond its
    limit; a command or observation that is not finite, or an observation that is too old, gives zero.
    """

    RATE = "effort_rate"  # the limit of how fast a command may change, which must be given
    LOOKAHEAD_S = 0.12

    def __init__(
        self,
        limits: Mapping[str, JointLimits],
        joints: Sequence[str],
        actuated: Sequence[str],
        period_s: float,
        *,
        max_age_s: float = math.inf,
        lookahead_s: float | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        for joint in actuated:
            if joint not in limits:
                raise RobotError(f"robot.limits: the actuated joint '{joint}' has no entry; accepted is one for each")
            for needed in ("effort", self.RATE):
                if getattr(limits[joint], needed) in (None, math.inf):
                    raise RobotError(f"robot.limits.{joint}.{needed}: none given; accepted is the most there may be")
        self._joints = tuple(joints)
        self._watched = [(row, name, limits[name]) for row, name in enumerate(joints) if name in limits]
        self._driven = [(list(joints).index(name), limits[name]) for name in actuated]
        self._workspace = workspace or Workspace({}, lambda joints: np.zeros((1, 0, 3)))
        self._workspace.check(len(joints))
        self._period_s, self._max_age_s = period_s, max_age_s
        self._lookahead_s = self.LOOKAHEAD_S if lookahead_s is None else lookahead_s
        self.reset()

    def reset(self, speed: float = 1.0) -> None:
        """A new episode from zero effort; `speed` in (0, 1] scales the velocity limits."""
        self._speed = speed
        self._sent = [0.0] * len(self._driven)
        self._last_velocity: list[float] | None = None

    def sent(self, command: np.ndarray) -> None:
        """What really went out, after the motors' resolution: the rate is counted from there."""
        self._sent = command.tolist()

    def unsafe(self, observation: Observation) -> str:
        """Why the robot must be stopped in this state, or an empty string."""
        position, velocity = observation.joint_position.tolist(), observation.joint_velocity.tolist()
        for name, q, v in zip(self._joints, position, velocity, strict=True):
            if not (math.isfinite(q) and math.isfinite(v)):
                return f"joint {name}: the measurement is not finite"
        if not observation.finite:
            return "a tracked body: its pose is not finite"
        for row, name, limit in self._watched:
            q, v = position[row], velocity[row]
            if not limit.position[0] <= q <= limit.position[1]:
                return f"joint {name}: position {q:.3f} is outside {list(limit.position)}"
            if abs(v) > RUNAWAY * limit.velocity:
                return f"joint {name}: velocity {v:.3f} is far beyond {limit.velocity}"
        return self._workspace.outside(observation.joint_position)

    def filter(self, command: np.ndarray, observation: Observation, now_s: float) -> Filtered:
        """Make (u,) efforts safe, given the newest observation and the time on its clock."""
        asked = command.tolist()
        position, velocity = observation.joint_position.tolist(), observation.joint_velocity.tolist()
        last, self._last_velocity = self._last_velocity, velocity
        if why_not := self._unusable(asked, observation, now_s):
            return self._zero(why_not)
        reasons: dict[str, None] = {}
        for i, (row, limit) in enumerate(self._driven):
            why: dict[str, None] = {}
            assert limit.effort_rate is not None  # checked when this was made
            q, v, step = position[row], velocity[row], limit.effort_rate * self._period_s
            effort = _clip(asked[i], -limit.effort, limit.effort)
            if effort != asked[i]:
                why["effort"] = None
            gradual = _clip(effort, self._sent[i] - step, self._sent[i] + step)
            if gradual != effort:
                why["effort_rate"] = None
            fastest = limit.velocity * self._speed
            band = fastest * VELOCITY_BAND
            low = -limit.effort * _clip((fastest + v) / band, 0.0, 1.0)
            high = limit.effort * _clip((fastest - v) / band, 0.0, 1.0)
            slower = _clip(gradual, low, high)
            if slower != gradual:
                why["velocity"] = None
            outward_low = q <= limit.position[0] or q + v * self._lookahead_s < limit.position[0]
            outward_high = q >= limit.position[1] or q + v * self._lookahead_s > limit.position[1]
            inside = _clip(slower, 0.0 if outward_low else slower, 0.0 if outward_high else slower)
            if inside != slower:
                why["position"] = None
            ahead = observation.joint_position + observation.joint_velocity * self._lookahead_s
            if self._workspace.outward(observation.joint_position, ahead, row, inside):
                inside = 0.0
                why["workspace"] = None
            if limit.acceleration is not None and last is not None:
                measured = (v - last[row]) / self._period_s
                if abs(measured) > limit.acceleration and inside * measured > 0:
                    inside = 0.0
                    why["acceleration"] = None
            if inside != asked[i]:  # limits that undid one another changed nothing
                reasons |= why
            asked[i] = inside
        return Filtered(np.array(asked), tuple(reasons))

    def _unusable(self, asked: list[float], observation: Observation, now_s: float) -> str:
        """Why no command can be made of this, or an empty string."""
        measured = [*observation.joint_position.tolist(), *observation.joint_velocity.tolist()]
        if not all(map(math.isfinite, (*asked, *measured))):
            return "non_finite"
        old = now_s - observation.captured_s + max(observation.age_s.tolist()) > self._max_age_s
        return "stale" if old else ""

    def _zero(self, reason: str) -> Filtered:
        return Filtered(np.zeros(len(self._driven)), (reason,))


def _clip(value: float, low: float, high: float) -> float:
    return low if value < low else high if value > high else value
