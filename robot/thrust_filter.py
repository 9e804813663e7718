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
        rotors: RotorLimits | None,
        **keys: Any,
    ) -> None:
        if rotors is None:
            raise RobotError(f"robot.rotors: none given for {', '.join(actuated)}; {ROTORS}")
        self._rotors = rotors
        self._count = len(actuated)
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
        (low, high), asked = self._rotors.thrust, np.asarray(command, float)
        if why_not := self._unusable(asked.tolist(), observation, now_s):
            again = np.full(self._count, low) if self._last is None else self._last
            return Filtered(again.copy(), (why_not,))
        reasons = []
        thrust = np.clip(asked, low, high)
        if (thrust != asked).any():
            reasons.append("thrust")
        if self._last is not None:
            step = self._rotors.thrust_rate * self._period_s
            gradual = np.clip(thrust, self._last - step, self._last + step)
            if (gradual != thrust).any():
                reasons.append("thrust_rate")
            thrust = gradual
        return Filtered(thrust, tuple(reasons))
