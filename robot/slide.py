"""Sliding friction of a body that was pushed off and left to slide, from its place over time.

After it is let go a body on a level place slows down by v' = -friction g - drag v until it stops. All slides of a log
are fitted at once, each with a start and a velocity of its own; their errors come from redrawn blocks of rows.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import least_squares

from robot.body_log import BodyLog
from robot.bounce import GRAVITY_M_S2
from robot.estimate import Estimate, resampled
from robot.interface import RobotError

LEAST_WAY_M = 0.04
LEAST_SPEED_M_S = 0.1
LOOK_S = 0.1  # over which speed is seen
REST_S = 0.15  # at rest after a slide, as far as fitted
FLAT_M = 0.02  # its height changes by less while it slides
LEAST_DROP = 0.4  # of the speed, lost while it slides
LEAST_DRAG = 1e-3  # 1/s; less is none


def friction(log: BodyLog) -> list[Estimate]:
    """Coulomb friction on what it slides on, and drag per mass; raises RobotError where nothing slides."""
    slides = find_slides(log)
    if not slides:
        raise RobotError(
            f"{log.source}: nothing slides {LEAST_WAY_M * 100:g} cm and slows down by itself; accepted is a body "
            "pushed off by hand and let go, sliding on the level until it stops, z upwards and in m"
        )
    rows = [(log.time_s[s] - log.time_s[s.start], log.position_m[s, :2]) for s in slides]
    start = [0.2 * GRAVITY_M_S2, 0.1]
    for t, place in rows:
        k = max(2, int(np.searchsorted(t, LOOK_S)))
        start += [*place[0], *((place[k] - place[0]) / t[k])]
    noise = max(float(np.median([_noise(place) for _, place in rows])), 1e-4)

    def residual(x: np.ndarray) -> np.ndarray:
        parts = []
        for k, (t, place) in enumerate(rows):
            x0, velocity = x[2 + 4 * k : 4 + 4 * k], x[4 + 4 * k : 6 + 4 * k]
            speed = float(np.hypot(*velocity)) + 1e-9
            parts.append((x0 + way(t, speed, x[0], x[1])[:, None] * velocity / speed - place).ravel())
        return np.concatenate(parts) / noise

    low, high = np.full(len(start), -np.inf), np.full(len(start), np.inf)
    low[:2] = 1e-3, LEAST_DRAG
    found = least_squares(residual, start, bounds=(low, high), loss="soft_l1", x_scale=0.1)
    begin = found.x.copy()
    begin[1] = max(begin[1], 0.3)  # a draw that began on the bound would stay there
    off = float(np.median(np.abs(residual(found.x)))) * noise
    longest = max(float(np.hypot(*(place[-1] - place[0]))) for _, place in rows)
    if off > 0.05 * longest:
        raise RobotError(
            f"{log.source}: it is {off * 100:.2g} cm off from sliding straight and slowing down; accepted is a slide "
            "without a bump, a turn or a hand on it"
        )
    length = max(2, round(LOOK_S / log.period_s))
    blocks = np.concatenate([np.repeat(1000 * k + np.arange(len(t)) // length, 2) for k, (t, _) in enumerate(rows)])
    drawn = resampled(residual, begin, blocks, low, high)
    count = len(np.unique(blocks))
    few = np.sqrt(
        count / max(count - len(start), 1)
    )  # draws of few blocks, to which much was fitted, differ too little
    g, (mu, drag) = GRAVITY_M_S2, found.x[:2]
    ends = found.x[:2] + few * (np.percentile(drawn[:, :2], [2.5, 97.5], axis=0) - found.x[:2])
    (mu_low, drag_low), (mu_high, drag_high) = np.maximum(ends, 0.0)
    return [
        Estimate("friction", float(mu / g), float(min(mu_low, mu) / g), float(max(mu_high, mu) / g), "1"),
        Estimate("drag_rate", float(drag), float(min(drag_low, drag)), float(max(drag_high, drag)), "1/s"),
    ]


def way(time_s: np.ndarray, speed_m_s: float, slowing_m_s2: float, drag_rate: float) -> np.ndarray:
    """(t,) m slid from time 0, and no farther once it stands."""
    k = max(drag_rate, LEAST_DRAG)
    stop = np.log1p(k * speed_m_s / slowing_m_s2) / k
    t = np.clip(time_s, 0.0, stop)
    return (speed_m_s + slowing_m_s2 / k) * -np.expm1(-k * t) / k - slowing_m_s2 * t / k


def find_slides(log: BodyLog) -> list[slice]:
    """Rows from just after the greatest speed to a little after it stands, on a level."""
    t, place = log.time_s, log.position_m
    half = max(1, round(LOOK_S / 2 / log.period_s))
    a, b = np.maximum(np.arange(len(t)) - half, 0), np.minimum(np.arange(len(t)) + half, len(t) - 1)
    speed = np.hypot(*(place[b] - place[a])[:, :2].T) / (t[b] - t[a])
    found, row = [], 0
    while row < len(t) - 1:
        if speed[row] < LEAST_SPEED_M_S:
            row += 1
            continue
        end = row + int(np.argmax(speed[row:] < 0.03)) if (speed[row:] < 0.03).any() else len(t) - 1
        top = row + int(np.argmax(speed[row : end + 1]))
        begin = min(top + half, end)
        last = min(int(np.searchsorted(t, t[end] + REST_S)), len(t))
        rows = slice(begin, last)
        slid = float(np.hypot(*(place[last - 1] - place[begin])[:2]))
        calm = np.ptp(place[rows, 2]) < FLAT_M
        if slid > LEAST_WAY_M and last - begin >= 5 and calm and speed[end] < (1 - LEAST_DROP) * speed[top]:
            found.append(rows)
        row = end + 1
    return found


def _noise(place: np.ndarray) -> float:
    second = np.diff(place, 2, axis=0)
    return float(np.median(np.abs(second)) * 1.4826 / np.sqrt(6)) if len(second) else 0.0
