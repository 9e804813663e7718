"""Restitution of a body that was dropped in view of a tracker, from its height over time.

A drop is a fall, bounces and rest on one level: z(t) is made of parabolas under gravity, each begun with `restitution`
times the speed of the one before. All rows of all drops are fitted at once, so the tracker's rate need not resolve an
impact: what counts is when and how high it flew. Intervals come from the profile of the fit over restitution, because
at a low rate quite different numbers of bounces may explain the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares

from robot.body_log import BodyLog
from robot.estimate import Estimate
from robot.interface import RobotError

GRAVITY_M_S2 = 9.81
LEAST_FALL_M = 0.03
LEAST_NOISE_M = 2e-4  # a fit is never trusted more than that
FALL_SHARE = 0.7  # of the last fall that is fitted: what was before may have been in somebody's hand
REST_S = 0.3
GRID_E = np.linspace(0.0, 0.95, 39)
UNTOLD, WORST = 2.0, 5.0  # times the noise: what a row costs before the fall, and at most
MINIMA = 8  # places where the first impact is looked for
BEYOND = 6.0  # rise of the fit's cost at the ends of the interval; 3.84 if rows were independent
LEAST_FIT = 0.1  # of the height of the fall: farther off, this was no bounce on a level


@dataclass(frozen=True)
class Drop:
    """Rows of one drop, and where the search begins: impact, speed into it and restitution."""

    rows: slice
    impact_s: float
    speed_m_s: float
    restitution: float


def restitution(log: BodyLog) -> list[Estimate]:
    """Of the body on what it falls on, and the speeds of impact seen; raises RobotError where nothing bounced."""
    drops = find_drops(log)
    if not drops:
        raise _nothing_falls(log)
    fit = _Fit(log, drops)
    starts = dict.fromkeys([*(d.restitution for d in drops), 0.1, 0.3, 0.5, 0.7])
    x, _ = min((fit.solve(fit.start(e), None) for e in starts), key=lambda solved: solved[1])
    error = np.abs(fit.residual(x)) * fit.noise
    off = float(np.sqrt(np.mean(np.square(error[fit.moving(x)]))))
    fall = float(np.max(x[3::2])) ** 2 / (2 * GRAVITY_M_S2)
    if fall < LEAST_FALL_M / 2:
        raise _nothing_falls(log)
    if off > LEAST_FIT * fall:
        raise RobotError(
            f"{log.source}: its height is {off * 100:.2g} cm off from a fall under {GRAVITY_M_S2:g} m/s^2 with bounces "
            "on one level; is z up and in m, and time in s (--map z=COLUMN:mm), and was it let go without a push?"
        )
    fit.noise = max(1.4826 * float(np.median(error)), fit.noise)
    low, high = fit.interval(x)
    speed = x[3::2]
    return [
        Estimate("restitution", float(x[1]), low, high, "1"),
        Estimate("impact_speed", float(np.median(speed)), float(speed.min()), float(speed.max()), "m/s"),
    ]


def _nothing_falls(log: BodyLog) -> RobotError:
    return RobotError(
        f"{log.source}: nothing falls by {LEAST_FALL_M * 100:g} cm and more and comes to rest where it falls; accepted "
        "is a body held still, let go over the table and left alone until it rests, z upwards in m"
    )


class _Fit:
    """x = (level, restitution, impact_s and speed of each drop)."""

    def __init__(self, log: BodyLog, drops: list[Drop]) -> None:
        self.noise = max(_noise(log), LEAST_NOISE_M)
        self._drops, self._floor = drops, _floor(log)
        self._rows = []
        for drop in drops:
            begin = drop.impact_s - FALL_SHARE * drop.speed_m_s / GRAVITY_M_S2
            rows = slice(max(drop.rows.start, int(np.searchsorted(log.time_s, begin))), drop.rows.stop)
            self._rows.append((log.time_s[rows], log.position_m[rows, 2]))

    def start(self, restitution: float) -> np.ndarray:
        return np.array([self._floor, restitution, *(x for d in self._drops for x in (d.impact_s, d.speed_m_s))])

    def residual(self, x: np.ndarray) -> np.ndarray:
        parts = [height(t, x[2 + 2 * k], x[3 + 2 * k], x[1]) + x[0] - z for k, (t, z) in enumerate(self._rows)]
        return np.concatenate(parts) / self.noise

    def moving(self, x: np.ndarray) -> np.ndarray:
        """Which rows are above the level they rest on, and tell whether it fell."""
        parts = [height(t, x[2 + 2 * k], x[3 + 2 * k], x[1]) > 0 for k, (t, _) in enumerate(self._rows)]
        return np.concatenate(parts)

    def solve(self, x: np.ndarray, restitution: float | None) -> tuple[np.ndarray, float]:
        """The best x, and twice its cost; a given restitution stays."""
        x = x.copy()
        free = np.ones(len(x), bool)
        if restitution is not None:
            x[1], free[1] = restitution, False
        low, high = np.full(len(x), -np.inf), np.full(len(x), np.inf)
        low[1], high[1] = 0.0, 0.99
        low[3::2] = 0.05

        def whole(y: np.ndarray) -> np.ndarray:
            out = x.copy()
            out[free] = y
            return out

        found = least_squares(
            lambda y: self.residual(whole(y)),
            np.clip(x, low, high)[free],
            bounds=(low[free], high[free]),
            loss="soft_l1",
            x_scale=0.01,
            max_nfev=40,
        )
        return whole(found.x), 2 * float(found.cost)

    def interval(self, x: np.ndarray) -> tuple[float, float]:
        """95 %: every restitution that explains the rows nearly as well as the best."""
        least = self.solve(x, None)[1]
        ends = []
        for side in (-1.0, 1.0):
            known, step, at = x, 0.004, float(x[1])
            inside = at
            while 0.0 < at + side * step < 0.99:
                at += side * step
                known, cost = self.solve(known, at)
                if cost - least > BEYOND:
                    break
                inside, step = at, step * 1.5
            else:
                at = inside = 0.0 if side < 0 else 0.99
            for _ in range(5):  # halve the step in which it was left
                middle = (inside + at) / 2
                inside, at = (middle, at) if self.solve(known, middle)[1] - least <= BEYOND else (inside, middle)
            ends.append(at)
        return ends[0], ends[1]


def height(
    time_s: np.ndarray,
    impact_s: float,
    speed_m_s: float | np.ndarray,
    restitution: float | np.ndarray,
    gravity: float = GRAVITY_M_S2,
) -> np.ndarray:
    """m above where it comes to rest: a fall that ends at `impact_s` with `speed_m_s`, then bounces. All broadcast."""
    since = time_s - impact_s
    falling = -since * speed_m_s - gravity / 2 * since**2
    e = np.clip(restitution, 1e-6, 1 - 1e-6)
    spent = np.clip(since * gravity / (2 * speed_m_s * e), 0, None)  # in flights like that after the impact
    left = 1 - spent * (1 - e)
    bounce = np.minimum(np.floor(np.log(np.maximum(left, 1e-12)) / np.log(e) + 1e-12), 200)
    begun = 2 * speed_m_s * e / gravity * (1 - e**bounce) / (1 - e)
    flying = np.clip(speed_m_s * e ** (bounce + 1) * (since - begun) - gravity / 2 * (since - begun) ** 2, 0, None)
    return np.where(since <= 0, falling, np.where(left > 1e-12, flying, 0.0))


def find_drops(log: BodyLog) -> list[Drop]:
    """Falls from above `LEAST_FALL_M` to rest, one for each time the body came to rest."""
    t, z = log.time_s, log.position_m[:, 2] - _floor(log)
    noise = max(_noise(log), LEAST_NOISE_M)
    least = max(LEAST_FALL_M, 8 * noise)
    found, begin = [], 0
    for first, last in _runs(np.abs(z) < max(4 * noise, 0.2 * least)):
        if t[last] - t[first] < REST_S:
            continue
        above = np.flatnonzero(z[begin:first] > least)
        if len(above):
            end = first + int(np.searchsorted(t[first:], t[first] + REST_S))
            drop = _search(t, z, slice(begin + int(above[0]), min(end, len(log))), noise, least)
            if drop is not None:
                found.append(drop)
        begin = last
    return found


def _search(t: np.ndarray, z: np.ndarray, rows: slice, noise: float, least: float) -> Drop | None:
    """The first impact after which all rows follow bounces: a grid over its time, speed and restitution."""
    t, z = t[rows], z[rows]
    speed, e = np.meshgrid(
        np.sqrt(2 * GRAVITY_M_S2 * np.geomspace(0.7 * least, z.max() * 1.3, 20)), GRID_E, indexing="ij"
    )
    speed, e = speed.ravel()[:, None], e.ravel()[:, None]
    size, best = max(2 * noise, 0.02 * float(z.max())), (np.inf, 0.0, 0.0, 0.0)  # the grid is no finer
    for row in _lows(t, z, least):
        for impact in np.linspace(t[row - 1], t[row + 1], 9):
            told = t > impact - FALL_SHARE * speed / GRAVITY_M_S2
            error = np.minimum(np.abs(height(t, impact, speed, e) - z) / size, WORST)
            # What is not explained costs too: else the last bounce would explain the few rows after it best.
            cost = np.where(told, error**2, UNTOLD**2).sum(1)
            cost[(told & (t < impact)).sum(1) < 2] = np.inf
            k = int(np.argmin(cost))
            best = min(best, (float(cost[k]), float(impact), float(speed[k, 0]), float(e[k, 0])))
    return None if np.isinf(best[0]) else Drop(rows, *best[1:])


def _lows(t: np.ndarray, z: np.ndarray, least: float) -> list[int]:
    """Rows about which an impact may lie: lowest between neighbours, after a descent within half a second."""
    found = []
    for row in range(1, len(z) - 1):
        recent = z[: row + 1][t[: row + 1] > t[row] - 0.5]
        if z[row] <= z[row - 1] and z[row] <= z[row + 1] + least / 8 and recent.max() - z[row] > 0.7 * least:
            found.append(row)
    return found[:MINIMA]


def _floor(log: BodyLog) -> float:
    """Where it rests: a frequent height, low rather than high, for a hand may hold it still as well."""
    z = np.sort(log.position_m[:, 2])
    count = max(3, len(z) // 8)
    i = int(np.argmin(z[count:] - z[:-count] + 0.1 * (z[:-count] - z[0])))
    return float(np.median(z[i : i + count + 1]))


def _noise(log: BodyLog) -> float:
    """m, of one reading of the height, from second differences where it moves least."""
    second = np.abs(np.diff(log.position_m[:, 2], 2))
    return float(np.percentile(second, 30) / 0.385 / np.sqrt(6))


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """First and last row of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
    return [(int(a), int(b) - 1) for a, b in edges.reshape(-1, 2)]
