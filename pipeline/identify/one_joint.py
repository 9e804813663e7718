"""The equation of one driven joint, and its integration over many windows of a recording at once.

    inertia q'' = u - load_friction |u| s + offset - gravity sin q - gravity_cos cos q
                  - viscous q' - drag q'|q'| - (coulomb + stribeck e^-(q'/1)^2) s - coulomb_asymmetry |s|,
    s = tanh(q' / 0.1 rad/s),   u the measured torque, late by `delay` and smoothed by `lag`.

A gain on the torque would scale every other term alike, so it cannot be told from the motion: it is 1 here, and all
values are per unit of measured torque.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from robot.logs import Log

SMOOTH_RAD_S = 0.1  # Coulomb friction turns over this velocity
STRIBECK_RAD_S = 1.0


@dataclass(frozen=True)
class Constant:
    """One value of the equation: its bounds, and how far from `prior` it is expected where the data say nothing."""

    name: str
    unit: str
    start: float
    low: float
    high: float
    prior: float = 0.0
    prior_sd: float = float("inf")


# The priors are those of a small arm with a geared motor. Those of gravity_cos (a zero of the encoder off by 0.3 deg)
# and of offset are narrow because they belong to a session, not to the machine: zero is wherever friction left it.
CONSTANTS = (
    Constant("inertia", "kg m^2", 0.1, 1e-4, 50.0),
    Constant("gravity", "N m", 1.0, -500.0, 500.0),
    Constant("gravity_cos", "N m", 0.0, -50.0, 50.0, 0.0, 0.02),
    Constant("offset", "N m", 0.0, -50.0, 50.0, 0.0, 0.03),
    Constant("viscous", "N m s/rad", 0.02, 0.0, 50.0, 0.02, 0.02),
    Constant("coulomb", "N m", 0.1, 0.0, 50.0, 0.1, 0.05),
    Constant("coulomb_asymmetry", "N m", 0.0, -5.0, 5.0, 0.0, 0.03),
    Constant("stribeck", "N m", 0.0, -5.0, 5.0, 0.0, 0.03),
    Constant("drag", "N m s^2/rad^2", 0.0, 0.0, 5.0, 0.0, 0.003),
    Constant("load_friction", "1", 0.0, 0.0, 0.9, 0.0, 0.05),
    Constant("delay", "s", 0.004, 0.0, 0.1, 0.004, 0.002),
    Constant("lag", "s", 0.001, 1e-4, 0.1, 0.001, 0.001),
)
# Tried on recordings of a real pendulum: these bring no better prediction of a recording that was not fitted.
EXTRA = ("coulomb_asymmetry", "stribeck", "drag")
NAMES = tuple(c.name for c in CONSTANTS)


def acceleration(p: dict[str, np.ndarray], q: np.ndarray, v: np.ndarray, u: np.ndarray) -> np.ndarray:
    """rad/s^2; all arguments broadcast."""
    side = np.tanh(v / SMOOTH_RAD_S)
    friction = p["coulomb"] + p["stribeck"] * np.exp(-np.square(v / STRIBECK_RAD_S)) + p["load_friction"] * np.abs(u)
    torque = u + p["offset"] - p["gravity"] * np.sin(q) - p["gravity_cos"] * np.cos(q)
    loss = (p["viscous"] + p["drag"] * np.abs(v)) * v + friction * side + p["coulomb_asymmetry"] * np.abs(side)
    return (torque - loss) / p["inertia"]


@dataclass(frozen=True)
class Windows:
    """Stretches of `steps + 1` rows of one log, beginning at the rows `first` (w,)."""

    log: Log
    first: np.ndarray
    steps: int

    @property
    def rows(self) -> np.ndarray:
        """(w, steps + 1) row numbers."""
        return self.first[:, None] + np.arange(self.steps + 1)

    @property
    def position(self) -> np.ndarray:
        return self.log.position[self.rows, 0]

    @property
    def velocity(self) -> np.ndarray:
        return self.log.velocity[self.rows, 0]


def simulate(
    values: np.ndarray, windows: Windows, position: np.ndarray, velocity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Positions and velocities (k, w, steps + 1) from (k, w) starting states under (k, NAMES) values of constants.

    Classical Runge-Kutta from row to row, with the times as recorded.
    """
    p = {name: values[:, i, None] for i, name in enumerate(NAMES)}
    times = windows.log.time_s[windows.rows]
    step = np.diff(times, axis=1)
    torque = [_torque(windows.log, values, at) for at in (times[:, :-1], times[:, :-1] + step / 2, times[:, 1:])]
    q = np.empty((*position.shape, windows.steps + 1))
    v = np.empty_like(q)
    q[..., 0], v[..., 0] = position, velocity
    with np.errstate(over="ignore", invalid="ignore"):
        for k in range(windows.steps):
            h, x, w = step[:, k], q[..., k], v[..., k]
            begin, middle, end = (u[..., k] for u in torque)
            a1 = acceleration(p, x, w, begin)
            w2 = w + h / 2 * a1
            a2 = acceleration(p, x + h / 2 * w, w2, middle)
            w3 = w + h / 2 * a2
            a3 = acceleration(p, x + h / 2 * w2, w3, middle)
            w4 = w + h * a3
            a4 = acceleration(p, x + h * w3, w4, end)
            q[..., k + 1] = x + h / 6 * (w + 2 * w2 + 2 * w3 + w4)
            v[..., k + 1] = w + h / 6 * (a1 + 2 * a2 + 2 * a3 + a4)
    return q, v


def _torque(log: Log, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    """(k, w, steps) torque in effect at the times `at` (w, steps): lagged, then late by a fraction of a row."""
    late = values[:, [NAMES.index("delay"), NAMES.index("lag")]]
    pairs, which = np.unique(late, axis=0, return_inverse=True)
    found = np.stack([_interpolate(log, lagged(log, lag), at - delay, at) for delay, lag in pairs])
    return found[which.ravel()]


def _interpolate(log: Log, effort: np.ndarray, when: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Linear between rows; never from another piece of the recording than that of `at`."""
    pieces = log.pieces()
    if len(pieces) == 1:
        return np.interp(when, log.time_s, effort)
    found = np.zeros_like(when)
    for rows in pieces:
        t = log.time_s[rows]
        inside = (at[:, 0] >= t[0]) & (at[:, -1] <= t[-1])
        found[inside] = np.interp(when[inside], t, effort[rows])
    return found


def lagged(log: Log, lag_s: float) -> np.ndarray:
    """(t,) the torque through a first-order lag, piece by piece."""
    out = log.effort[:, 0].copy()
    for rows in log.pieces():
        u = out[rows]
        share = 1 - np.exp(-np.diff(log.time_s[rows]) / max(lag_s, 1e-6))
        for k, part in enumerate(share):
            u[k + 1] = u[k] + part * (u[k + 1] - u[k])
    return out
