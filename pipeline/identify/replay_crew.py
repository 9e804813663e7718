"""Replaying windows in several processes: each has worlds of its own and a share of the windows."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from envs.task import Task
from pipeline.identify.replay_recording import Cut
from pipeline.identify.replay_worlds import AT_ONCE, Replay
from pipeline.identify.workers import Workers
from robot.logs import Log

LEAST_WINDOWS = 8  # for a process of its own


class ReplayCrew:
    """Each process has a stretch of the windows; results come back in the order in which windows were asked for."""

    def __init__(self, task: Task, logs: Sequence[Log], cut: Cut, processes: int = 1, worlds: int = AT_ONCE) -> None:
        processes = max(1, min(processes, len(cut) // LEAST_WINDOWS))
        self._edges = np.linspace(0, len(cut), processes + 1).astype(int)
        parts = [cut.pick(slice(a, b)) for a, b in pairwise(self._edges)]
        self._workers = Workers(Replay, [(task, list(logs), part, worlds) for part in parts])

    def __enter__(self) -> ReplayCrew:
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.close()

    def predict(self, values: np.ndarray, shift: np.ndarray, which: np.ndarray) -> np.ndarray:
        """As `Replay.predict`: (c, k, T, m) for windows `which` (k,) of all."""
        mine = [np.flatnonzero((a <= which) & (which < b)) for a, b in pairwise(self._edges)]
        jobs = [(values, shift[:, rows], which[rows] - a) for rows, a in zip(mine, self._edges, strict=False)]
        found = self._workers.call("predict", jobs)
        out = np.empty((len(values), len(which), *found[0].shape[2:]))
        for rows, part in zip(mine, found, strict=True):
            out[:, rows] = part
        return out
