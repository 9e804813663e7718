"""The controllers of simulated arms: a servo turns commands into joint velocities, and the joints follow these."""

from __future__ import annotations

import numpy as np

from envs.servo import CartesianServo, CartesianVelocity

GAIN_PER_S = 10.0  # of the error of a joint's position; never more than what takes it all out in one step
LEASH_RAD = 0.03  # how far a joint may fall behind and be made to catch up


class ArmControl:
    """For n worlds. Joints follow their velocities and the integrals of these, so that an arm neither sags nor drifts.

    This loop is the arm's own, and is closed without latency. Fingers follow their velocity only: they press on what
    holds them back.
    """

    def __init__(self, spec: CartesianVelocity, n: int, period_s: float) -> None:
        fingers = len(spec.fingers)
        self._servo, self._period_s = CartesianServo(spec, n, period_s), period_s
        self._follows = np.array([1.0] * (len(spec.joints) - fingers) + [0.0] * fingers)
        self._reference = np.zeros((n, len(spec.joints)))
        self.gain = np.ones(n)  # multiplies GAIN_PER_S

    def reset(self, rows: np.ndarray, q: np.ndarray) -> None:
        """The worlds `rows` (k,) stand still at joint positions `q` (k, j)."""
        self._servo.reset(rows, q)
        self._reference[rows] = q

    def resume(self, rows: np.ndarray, velocity: np.ndarray, held: np.ndarray) -> None:
        """After `reset`: see `CartesianServo.resume`."""
        self._servo.resume(rows, velocity, held)

    def targets(self, command: np.ndarray, q: np.ndarray, extra_s: np.ndarray | None) -> np.ndarray:
        """(n, j) velocities for the motors, for commands at joint positions (n, j).

        With `extra_s` (n,) they are to last so much longer than a period.
        """
        velocity = self._servo.velocities(command, q)
        behind = np.minimum(np.maximum(self._reference - q, -LEASH_RAD), LEASH_RAD)
        lasts_s = self._period_s if extra_s is None else (self._period_s + extra_s)[:, None]
        self._reference = q + behind + velocity * lasts_s
        return velocity + behind * self._follows * np.minimum(GAIN_PER_S * self.gain, 1 / self._period_s)[:, None]
