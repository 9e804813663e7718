"""The only path to the rotors of a robot that flies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robot.interface import Observation, RobotError
from robot.safety import Filtered, SafetyFilter
from robot.settings import ROTORS, JointLimits, RotorLimits


class ThrustFilter(SafetyFilter):
    """Bounds thrusts, N, and says when to give up: a machine that is held up by its commands cannot be sent zero.

    Whatever is asked: each thrust stays inside its limits and changes no faster than its rate, up and down. What is
    not finite, or follows an observation that is too old, sends the last thrusts again. The limits of the coordinates
    are a geofence, an attitude limit and limits of speed: `unsafe` names what is beyond them, or for the geofence will
    be within `lookahead_s`, and the robot lands. Reduced speed changes nothing here, since thrusts alone do not say how
    fast it will fly.
    """

    def __init__(
        self,
        limits: Mapping[str, JointLimits],
        joints: Sequence[str],
        actuated: Sequence[str],
        period_s: float,
        rotors: Mapping[str, RotorLimits],
        **keys: Any,
    ) -> None:
        for name in actuated:
            if name not in rotors:
                raise RobotError(f"robot.rotors: none given for {name}; {ROTORS}")
        chosen = [rotors[name] for name in actuated]
        self._low, self._high = np.array([rotor.thrust for rotor in chosen], float).T
        self._step = np.array([rotor.thrust_rate for rotor in chosen]) * period_s
        super().__init__(limits, joints, (), period_s, **keys)

    def reset(self, speed: float = 1.0) -> None:
        super().reset(speed)
        self._last: np.ndarray | None = None  # nothing was sent: the first command may be anything inside the limits

    def sent(self, command: np.ndarray) -> None:
        self._last = command.copy()

    def unsafe(self, observation: Observation) -> str:
        if reason := super().unsafe(observation):
            return reason
        for row, name, limit in self._watched:
            if row >= 3:  # angles change too fast to look ahead
                continue
            at, speed = float(observation.joint_position[row]), float(observation.joint_velocity[row])
            if not limit.position[0] <= at + speed * self._lookahead_s <= limit.position[1]:
                return f"geofence: {name} = {at:.3f} at {speed:.2f} m/s is about to leave {list(limit.position)}"
        return ""

    def filter(self, command: np.ndarray, observation: Observation, now_s: float) -> Filtered:
        """Make (u,) thrusts safe, given the newest observation and the time on its clock."""
        asked = np.asarray(command, float)
        if why_not := self._unusable(asked.tolist(), observation, now_s):
            again = self._low if self._last is None else self._last
            return Filtered(again.copy(), (why_not,))
        reasons = []
        thrust = np.clip(asked, self._low, self._high)
        if (thrust != asked).any():
            reasons.append("thrust")
        if self._last is not None:
            gradual = np.clip(thrust, self._last - self._step, self._last + self._step)
            if (gradual != thrust).any():
                reasons.append("thrust_rate")
            thrust = gradual
        return Filtered(thrust, tuple(reasons))
