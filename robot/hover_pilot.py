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
CLIMB_PER_S2, CLIMB_PER_S = 5.0, 4.0
LEVEL_PER_S2, RATE_PER_S = 22.0, 8.0  # angular acceleration for each rad, rad/s
TRIM_PER_S = 5.0  # how fast what turns and lifts the machine besides its rotors is found out
FIRST_PER_S, FIRST_S = 6.0, 0.4  # how much faster at first, and for how long
CALM_S, RISE_S = 0.6, 0.8  # before anything is added, and until all of it is
LATE_S, LAG_S = 0.03, 0.04  # assumed of the motors
YAW_PER_S2, YAW_RATE_PER_S = 4.0, 4.0
MOST_TILT_RAD, MOST_SUM = 0.3, 1.0
MOST_TRIM = np.array([15.0, 15.0, 5.0, 5.0])  # rad/s^2, m/s^2
# What is added, rms: angular acceleration about x, y, z, rad/s^2; climb, m/s^2; and how far the place moves, m.
SHAKE, MOVE_M = np.array([5.0, 5.0, 1.5, 1.0]), 0.15
SHAKE_HZ, MOVE_HZ = (0.8, 6.0), (0.15, 0.5)
TURN_RAD, TURN_S = 1.8, 7.0  # of the heading, to and fro: what reads wrong turns with the machine, the wind does not
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
        self._size = 0  # of the batch, known with the first observation
        self._shaking = _Tones.drawn(random, SHAKE_HZ, SHAKE * self._shake)
        self._turn = TURN_RAD * self._shake * (1 if number % 2 else -1)
        self._moving = _Tones.drawn(random, MOVE_HZ, np.full(3, MOVE_M * self._shake))

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None, explore: float = 1.0) -> np.ndarray:
        """(N, 4) actions for (N, policy_size) observations, the newest frame last."""
        newest = observation[:, -len(self._scale) :].astype(float) / self._scale
        place, speed, angle, rate = (newest[:, 3 * i : 3 * i + 3] for i in range(4))
        if self._size != len(newest):
            self._rest(newest, rate, speed)
        time_s, period_s = self._step * self.task.control_period_s, self.task.control_period_s
        self._step += 1
        trim = self._observe(np.concatenate([rate, speed[:, 2:]], axis=1), time_s, period_s)
        share = min(max((time_s - CALM_S) / RISE_S, 0.0), 1.0)
        off = place - share * self._moving.at(time_s)
        self._summed = np.clip(self._summed + off[:, :2] * period_s, -MOST_SUM, MOST_SUM)
        wanted = -PLACE_PER_S2 * off - SPEED_PER_S * speed
        wanted[:, :2] -= PLACE_INTEGRAL_PER_S3 * self._summed
        tilt = np.clip(np.stack([-wanted[:, 1], wanted[:, 0]], axis=1) / GRAVITY_M_S2, -MOST_TILT_RAD, MOST_TILT_RAD)
        asked = np.empty((len(newest), 4))
        asked[:, :2] = LEVEL_PER_S2 * (tilt - angle[:, :2]) - RATE_PER_S * rate[:, :2]
        heading = self._turn * share * np.sin(2 * np.pi * time_s / TURN_S)
        asked[:, 2] = YAW_PER_S2 * (heading - angle[:, 2]) - YAW_RATE_PER_S * rate[:, 2]
        asked[:, 3] = -CLIMB_PER_S2 * off[:, 2] - CLIMB_PER_S * speed[:, 2]
        asked += share * self._shaking.at(time_s) - trim
        self._sent.append(asked)
        level = np.maximum(np.cos(angle[:, 0]) * np.cos(angle[:, 1]), 0.5)
        asked = asked.copy()
        asked[:, 3] = (GRAVITY_M_S2 + asked[:, 3]) / level
        thrust = asked @ self._mix.T
        return np.clip(thrust / HOVER_N - 1.0, -1.0, 1.0).astype(np.float32)

    def _rest(self, newest: np.ndarray, rate: np.ndarray, speed: np.ndarray) -> None:
        self._size = len(newest)
        self._summed = np.zeros((self._size, 2))
        self._seen = np.concatenate([rate, speed[:, 2:]], axis=1)  # body rates and climb, as they should be
        self._acts, self._trim = np.zeros((self._size, 4)), np.zeros((self._size, 4))
        self._sent = [np.zeros((self._size, 4))] * (1 + round(LATE_S / self.task.control_period_s))

    def _observe(self, seen: np.ndarray, time_s: float, period_s: float) -> np.ndarray:
        """(N, 4) accelerations that no rotor was asked for: a Luenberger observer of rates and climb."""
        late, quick = self._sent.pop(0), TRIM_PER_S + FIRST_PER_S * np.exp(-time_s / FIRST_S)
        self._acts = self._acts + (late - self._acts) * (1.0 - np.exp(-period_s / LAG_S))
        error = seen - self._seen
        self._trim = np.clip(self._trim + quick**2 * period_s * error, -MOST_TRIM, MOST_TRIM)
        self._seen = self._seen + (self._acts + self._trim) * period_s + 2 * quick * period_s * error
        return self._trim
