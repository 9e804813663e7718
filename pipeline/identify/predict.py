"""Judging identified constants on a log: where will the joint be, from the measured torque alone?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.identify.one_joint import Windows, simulate
from pipeline.identify.windows import check
from robot.interface import RobotError
from robot.logs import Log

PAST_S = 0.1  # the starting state is estimated from so much of the past, and nothing later
POSITION_SD, VELOCITY_SD = 0.003, 0.3  # rad, rad/s: how far to trust either column at one instant


@dataclass(frozen=True)
class Prediction:
    first: np.ndarray  # (n,) rows at which predictions began
    error_rad: np.ndarray  # (n,) predicted less measured position, `horizon_s` later

    @property
    def rms_rad(self) -> float:
        return float(np.sqrt(np.mean(np.square(self.error_rad))))

    @property
    def median_rad(self) -> float:
        return float(np.median(np.abs(self.error_rad)))


def predict(
    values: np.ndarray, log: Log, horizon_s: float = 0.5, starts: int = 60, seed: int = 0, past_s: float = PAST_S
) -> Prediction:
    """Errors of the position `horizon_s` ahead, open loop from the measured torque, from `starts` random rows.

    `starts` 0 means every tenth row there is.
    """
    check(log)
    if not horizon_s > 0:
        raise RobotError(f"horizon: {horizon_s:g} s; accepted is a positive time")
    steps = max(1, round(horizon_s / log.period_s))
    rows = np.concatenate([np.arange(p.start, max(p.start, p.stop - steps)) for p in log.pieces()])
    if not len(rows):
        raise RobotError(f"{log.source}: no stretch of {horizon_s:g} s without a gap; accepted is a shorter --horizon")
    first = np.sort(np.random.default_rng(seed).choice(rows, starts)) if starts else rows[::10]
    position, velocity = starting_state(values, log, first, past_s)
    windows = Windows(log, first, steps)
    found = simulate(values[None], windows, position[None], velocity[None])[0][0, :, -1]
    return Prediction(first, found - windows.position[:, -1])


def starting_state(values: np.ndarray, log: Log, rows: np.ndarray, past_s: float) -> tuple[np.ndarray, np.ndarray]:
    """Position and velocity (n,) at `rows`, from the rows before: the motion of the model that fits them best.

    A single velocity reading would do where the arm is quiet; where it vibrates it is off by several rad/s.
    """
    most = max(1, round(past_s / log.period_s))
    begin = np.zeros(len(log), int)
    for piece in log.pieces():
        begin[piece] = piece.start
    have = np.minimum(rows - begin[rows], most)
    position, velocity = log.position[rows, 0].copy(), log.velocity[rows, 0].copy()
    for n in np.unique(have[have >= 1]):
        mine = have == n
        position[mine], velocity[mine] = _estimate(values, Windows(log, rows[mine] - n, int(n)))
    return position, velocity


def _estimate(values: np.ndarray, past: Windows, rounds: int = 3, e: float = 1e-5) -> tuple[np.ndarray, np.ndarray]:
    """The state at the windows' last row: Gauss-Newton over the state at their first."""
    state = np.stack([past.position[:, 0], past.velocity.mean(1)])
    for _ in range(rounds):
        moved = state[:, None] + np.array([[0, e, 0], [0, 0, e]])[..., None]  # (2, 3, w)
        q, v = simulate(np.tile(values, (3, 1)), past, moved[0], moved[1])
        seen = np.concatenate([q / POSITION_SD, v / VELOCITY_SD], -1)  # (3, w, rows)
        measured = np.concatenate([past.position / POSITION_SD, past.velocity / VELOCITY_SD], -1)
        slope = (seen[1:] - seen[0]) / e
        matrix = np.einsum("iwk,jwk->wij", slope, slope)
        pull = np.einsum("iwk,wk->wi", slope, measured - seen[0])
        state = state + np.linalg.solve(matrix, pull[..., None])[..., 0].T
    q, v = simulate(values[None], past, state[0][None], state[1][None])
    return q[0, :, -1], v[0, :, -1]
