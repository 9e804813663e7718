"""The only path to motors that take velocities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robot.interface import Observation
from robot.safety import Filtered, SafetyFilter
from robot.settings import JointLimits


class VelocityFilter(SafetyFilter):
    """Bounds velocities, m/s or rad/s, by the limits of each joint and by the workspace.

    All joints slow down together, so that the direction of the motion is kept; but those of `apart`, such as fingers,
    each by itself: a gripper that is open already does not keep its arm from moving. Whatever is asked: no joint is
    sent faster than its limit; speed changes no faster than the joint's acceleration allows, but slowing down before
    a border is always allowed; no joint, and no point of the robot, is sent on a way that leads over its border
    within `lookahead_s`; what is not finite, or follows an observation that is too old, gives zero.
    """

    RATE = "acceleration"
    LOOKAHEAD_S = 0.4  # speed falls with the distance from a border, and must be seen to fall before it is crossed

    def __init__(
        self,
        limits: Mapping[str, JointLimits],
        joints: Sequence[str],
        actuated: Sequence[str],
        period_s: float,
        *,
        apart: Sequence[str] = (),
        **keys: Any,
    ) -> None:
        super().__init__(limits, joints, actuated, period_s, **keys)
        together = [i for i, name in enumerate(actuated) if name not in apart]
        alone = [[i] for i, name in enumerate(actuated) if name in apart]
        self._groups = [group for group in (together, *alone) if group]

    def filter(self, command: np.ndarray, observation: Observation, now_s: float) -> Filtered:
        """Make (u,) velocities safe, given the newest observation and the time on its clock."""
        asked = np.asarray(command, float)
        if why_not := self._unusable(asked.tolist(), observation, now_s):
            return self._zero(why_not)
        rows = [row for row, _ in self._driven]
        limits = [limit for _, limit in self._driven]
        fastest = np.array([limit.velocity * self._speed for limit in limits])
        step = np.array([limit.acceleration or 0.0 for limit in limits]) * self._period_s
        low, high = np.array([limit.position for limit in limits]).T
        reasons = []

        share = self._shares(fastest, np.abs(asked))
        if share.min() < 1.0:
            reasons.append("velocity")
        sent = np.array(self._sent)
        change = share * asked - sent
        gradual = self._shares(step, np.abs(change))
        if gradual.min() < 1.0:
            reasons.append("acceleration")
        velocity = sent + gradual * change

        here = observation.joint_position.astype(float)
        way = velocity * self._lookahead_s
        room = np.where(way > 0, high - here[rows], here[rows] - low)
        share = self._shares(np.maximum(room, 0.0), np.abs(way))
        if share.min() < 1.0:
            reasons.append("position")
        inside = np.ones(len(rows))
        for group in self._groups:  # one after the other, so that all of them together stay inside
            moved = [rows[i] for i in group]
            ahead = here.copy()
            ahead[moved] += share[group] * way[group]
            inside[group] = self._workspace.within(here, ahead)
            here[moved] += inside[group] * (ahead[moved] - here[moved])
        if inside.min() < 1.0:
            reasons.append("workspace")
        return Filtered(velocity * (share * inside), tuple(reasons))

    def _shares(self, most: np.ndarray, size: np.ndarray) -> np.ndarray:
        """(u,) by how much, in [0, 1], each joint with all of its group must slow down, that none is above `most`."""
        shares = np.ones(len(size))
        for group in self._groups:
            shares[group] = _share(most[group], size[group])
        return shares


def _share(most: np.ndarray, size: np.ndarray) -> float:
    """By how much, in [0, 1], all of `size` must shrink so that none is above `most`."""
    above = size > most * (1.0 + 1e-9)  # rounding is no reason
    return float(np.min(most[above] / size[above], initial=1.0))
