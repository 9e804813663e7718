"""Judging a task's identified parameters: where will the robot be, from what was commanded alone?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.task import Task
from pipeline.identify.crew import Filter
from pipeline.identify.kalman import Noise, gains
from pipeline.identify.recording import WARM_S, Windows
from robot.interface import RobotError
from robot.logs import Log

PAST_S = 0.5  # the starting state is estimated from so much of the past, and nothing later


@dataclass(frozen=True)
class Ahead:
    """Open-loop predictions from n starts, each after `past` rows of filtering."""

    windows: Windows  # past and future of each start
    past: int
    error: np.ndarray  # (n, T, 2j) measured less predicted; rows before `past` are one step ahead

    @property
    def final(self) -> np.ndarray:
        """(n, 2j) errors at the horizon."""
        return self.error[:, -1]


def look_ahead(
    task: Task, values: np.ndarray, noise: Noise, logs: Sequence[Log], horizon_s: float, starts: int, seed: int = 0
) -> Ahead:
    """Predict `horizon_s` ahead from `starts` random rows of the logs, with parameters (d,).

    Logs are as `as_recorded_by` gives them, all of one rate. Raises RobotError where no stretch is long enough.
    """
    period_s = logs[0].period_s
    past, ahead = max(1, round(PAST_S / period_s)), max(1, round(horizon_s / period_s))
    rows: list[tuple[int, int, int]] = []
    piece = 0
    for number, log in enumerate(logs):
        for part in log.pieces():
            warm = part.start + int(np.searchsorted(log.time_s[part] - log.time_s[part.start], WARM_S))
            rows += [(number, piece, first) for first in range(warm, part.stop - past - ahead)]
            piece += 1
    if not rows:
        raise RobotError(
            f"{', '.join(log.source for log in logs)}: no stretch of {WARM_S + PAST_S + horizon_s:g} s without a gap; "
            "accepted is a shorter --horizon"
        )
    chosen = np.random.default_rng(seed).choice(len(rows), starts)
    picked = [rows[i] for i in sorted(chosen)]
    take = [(logs[n], slice(first, first + past + ahead + 1)) for n, _, first in picked]
    windows = Windows(
        np.array([n for n, _, _ in picked]),
        np.array([p for _, p, _ in picked]),
        np.stack([log.time_s[part] for log, part in take]),
        np.stack([np.concatenate([log.position[part], log.velocity[part]], 1) for log, part in take]),
        np.ones((len(picked), past + ahead), bool),
    )
    worlds = Filter(task, logs, windows, 1)
    try:
        filtered = gains(worlds.linearise(values, noise), noise)
        filtered.gain[:, past:] = 0.0
        return Ahead(windows, past, worlds.innovations(values[None], filtered)[0])
    finally:
        worlds.close()


def rms(task: Task, ahead: Ahead) -> dict[str, float]:
    """By joint, of the position at the horizon, m or rad."""
    found = np.sqrt(np.mean(np.square(ahead.final), axis=0))
    return {joint: float(found[i]) for i, joint in enumerate(task.joints)}
