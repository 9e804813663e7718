"""Replaying windows in several processes: each has worlds of its own and a share of the windows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.task import Task
from pipeline.identify.replay_recording import Cut
from pipeline.identify.replay_worlds import AT_ONCE, Replay
from pipeline.identify.workers import Workers
from robot.logs import Log

LEAST_WINDOWS = 8  # for a process of its own


class ReplayCrew:
    """Process p has the windows p, p + P, ...; results come back in the order in which windows were asked for."""

    def __init__(self, task: Task, logs: Sequence[Log], cut: Cut, processes: int = 1, worlds: int = AT_ONCE) -> None:
        self.processes = max(1, min(processes, len(cut) // LEAST_WINDOWS))
        parts = [cut.pick(slice(p, None, self.processes)) for p in range(self.processes)]
        self._workers = Workers(Replay, [(task, list(logs), part, worlds) for part in parts])

    def __enter__(self) -> ReplayCrew:
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.close()

    def predict(self, values: np.ndarray, shift: np.ndarray, which: np.ndarray) -> np.ndarray:
        """As `Replay.predict`: (c, k, T, m) for windows `which` (k,) of all."""
        mine = [np.flatnonzero(which % self.processes == p) for p in range(self.processes)]
        jobs = [(values, shift[:, rows], which[rows] // self.processes) for rows in mine]
        found = self._workers.call("predict", jobs)
        out = np.empty((len(values), len(which), *found[0].shape[2:]))
        for rows, part in zip(mine, found, strict=True):
            out[:, rows] = part
        return out
