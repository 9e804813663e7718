"""A hand-written pilot for the quadrotor: it holds its place, and shakes the machine so that its parameters show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from envs.task import Task
from envs.tasks.hover import ARM_M, HOVER_N, MASS_KG, ROTORS
from robot.interface import RobotError
from robot.policy import Scripted

GRAVITY_M_S2 = 9.81
INERTIA_KG_M2 = 0.0025  # nominal, about x and y; twice that about z
PLACE_PER_S2, SPEED_PER_S, PLACE_INTEGRAL_PER_S3 = 1.5, 2.0, 0.5  # horizontal acceleration for each m, m/s, m s
CLIMB_PER_S2, CLIMB_PER_S, CLIMB_INTEGRAL_PER_S3 = 5.0, 4.0, 4.0
LEVEL_PER_S2, RATE_PER_S, LEVEL_INTEGRAL_PER_S3 = 22.0, 8.0, 30.0  # angular acceleration for each rad, rad/s, rad s
YAW_PER_S2, YAW_RATE_PER_S = 4.0, 4.0
MOST_TILT_RAD, MOST_SUM = 0.3, 1.0
# What is added, rms: angular acceleration about x, y, z, rad/s^2; climb, m/s^2; and how far the place moves, m.
SHAKE, MOVE_M = np.array([5.0, 5.0, 1.5, 1.0]), 0.15
SHAKE_HZ, MOVE_HZ = (0.8, 6.0), (0.15, 0.5)
TONES = 8


@dataclass
class _Tones:
    """Sums of sines, one for each row: rms as given."""

    frequency_hz: np.ndarray  # (r, k)
    phase_rad: np.ndarray  # (r, k)
    rms: np.ndarray  # (r,)

    @classmethod
    def drawn(cls, random: np.random.Generator, band_hz: tuple[float, float], rms: np.ndarray) -> _Tones:
        edges = np.geomspace(*band_hz, TONES + 1)
        share = random.uniform(size=(len(rms), TONES))
        frequency = edges[:-1] * (edges[1:] / edges[:-1]) ** share
        return cls(frequency, random.uniform(0, 2 * np.pi, frequency.shape), rms)

    def at(self, time_s: float) -> np.ndarray:
        waves = np.sin(2 * np.pi * self.frequency_hz * time_s + self.phase_rad)
        return self.rms * np.sqrt(2.0 / TONES) * waves.sum(1)


class HoverPilot(Scripted):
    """Flies the task hover by nested PID loops, attitude inside position, from what a policy sees.

    `shake` scales what is added (0: nothing). A pilot is for one or more machines at once, and remembers the integrals
    of each; `begin` starts an episode, with sines of its own for each number.
    """

    def __init__(self, task: Task, shake: float = 1.0) -> None:
        if task.name != "hover":
            raise RobotError(f"pilot: {task.name} given; accepted is the task hover")
        super().__init__(task, "hover pilot")
        self._shake = shake
        self._scale = task.frame_scale.astype(float)
        signs = np.sign(np.array(ROTORS.points))[:, :2]
        spin = np.sign(ROTORS.reaction_m)
        # Thrust of each rotor for one unit of angular acceleration about x, y, z and of climb.
        self._mix = np.stack(
            [
                signs[:, 1] * INERTIA_KG_M2 / (4 * ARM_M),
                -signs[:, 0] * INERTIA_KG_M2 / (4 * ARM_M),
                spin * 2 * INERTIA_KG_M2 / (4 * abs(ROTORS.reaction_m[0])),
                np.full(4, MASS_KG / 4),
            ],
            axis=1,
        )
        self.begin(0)

    def begin(self, number: int) -> None:
        random = np.random.default_rng([number, 7])
        self._step = 0
        self._summed = np.zeros((1, 5))  # of place (2), climb, roll and pitch errors
        self._shaking = _Tones.drawn(random, SHAKE_HZ, SHAKE * self._shake)
        self._moving = _Tones.drawn(random, MOVE_HZ, np.full(3, MOVE_M * self._shake))

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None, explore: float = 1.0) -> np.ndarray:
        """(N, 4) actions for (N, policy_size) observations, the newest frame last."""
        newest = observation[:, -len(self._scale) :].astype(float) / self._scale
        place, speed, angle, rate = (newest[:, 3 * i : 3 * i + 3] for i in range(4))
        if len(self._summed) != len(newest):
            self._summed = np.zeros((len(newest), 5))
        time_s, period_s = self._step * self.task.control_period_s, self.task.control_period_s
        self._step += 1
        off = place - self._moving.at(time_s)
        summed = self._summed
        summed[:, :3] = np.clip(summed[:, :3] + off * period_s, -MOST_SUM, MOST_SUM)
        wanted = -PLACE_PER_S2 * off - SPEED_PER_S * speed - PLACE_INTEGRAL_PER_S3 * summed[:, :3]
        tilt = np.clip(np.stack([-wanted[:, 1], wanted[:, 0]], axis=1) / GRAVITY_M_S2, -MOST_TILT_RAD, MOST_TILT_RAD)
        error = tilt - angle[:, :2]
        summed[:, 3:] = np.clip(summed[:, 3:] + error * period_s, -MOST_SUM, MOST_SUM)
        asked = np.empty((len(newest), 4))
        asked[:, :2] = LEVEL_PER_S2 * error - RATE_PER_S * rate[:, :2] + LEVEL_INTEGRAL_PER_S3 * summed[:, 3:]
        asked[:, 2] = -YAW_PER_S2 * angle[:, 2] - YAW_RATE_PER_S * rate[:, 2]
        climb = -CLIMB_PER_S2 * off[:, 2] - CLIMB_PER_S * speed[:, 2] - CLIMB_INTEGRAL_PER_S3 * summed[:, 2]
        level = np.maximum(np.cos(angle[:, 0]) * np.cos(angle[:, 1]), 0.5)
        asked[:, 3] = (GRAVITY_M_S2 + climb) / level
        thrust = (asked + self._shaking.at(time_s)) @ self._mix.T
        return np.clip(thrust / HOVER_N - 1.0, -1.0, 1.0).astype(np.float32)
