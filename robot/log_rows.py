"""Rows of a recording that are not what was measured then: repeated readings, spikes, a turn that was taken off."""

from __future__ import annotations

import numpy as np

TURN = 2 * np.pi
REPEATED = 0.5  # share of rows beyond which the file was written faster than the robot was read
LONGEST = 50  # rows; equal for longer than that, and it stood still
SPIKE = 0.05  # of the range of a position, beyond both neighbours, at least
STRAY = 25.0  # times the usual distance from both neighbours, at least


def repeated(*columns: np.ndarray) -> np.ndarray:
    """(t,) rows that repeat all values of the row before; none unless that is how the file was written."""
    table = np.concatenate(columns, axis=1)
    same = np.concatenate([[False], (np.diff(table, axis=0) == 0).all(1)])
    run = np.bincount(np.cumsum(~same))
    few = same.mean() < REPEATED or run.max(initial=0) > LONGEST
    return np.zeros(len(same), bool) if few else same


def spikes(time_s: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """(t,) rows whose position lies far from both neighbours, which are close to each other, without the velocity."""
    bad = np.zeros(len(position), bool)
    if len(position) < 10:
        return bad
    width = np.abs(time_s[2:] - time_s[:-2])
    for q, v in zip(position.T, np.abs(velocity).T, strict=True):
        off, apart = np.abs(q[1:-1] - (q[2:] + q[:-2]) / 2), np.abs(q[2:] - q[:-2])
        low, high = np.percentile(q, [1, 99])
        fastest = np.maximum(np.maximum(v[2:], v[1:-1]), v[:-2]) * width
        far = (off > max(SPIKE * (high - low), 1e-9)) & (off > STRAY * np.median(off)) & (off > 3 * fastest)
        bad[1:-1] |= far & (apart < 0.3 * off)
    return bad


def turns(time_s: np.ndarray, position: np.ndarray, velocity: np.ndarray, per_turn: float = TURN) -> np.ndarray:
    """(t, j) whole turns by which positions jump without the velocity for it, to be added again."""
    out = np.zeros_like(position)
    step = np.diff(position, axis=0)
    with np.errstate(invalid="ignore", over="ignore"):
        expected = 0.5 * (velocity[1:] + velocity[:-1]) * np.diff(time_s)[:, None]
        off = (step - expected) / per_turn
        jumped = (np.abs(np.round(off)) == 1) & (np.abs(off - np.round(off)) < 0.05) & (np.abs(expected) < per_turn / 4)
        out[1:] = -np.cumsum(np.where(jumped, np.round(off), 0.0), axis=0) * per_turn
    return out
