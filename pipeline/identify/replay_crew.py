"""Replaying windows in several processes: each has worlds of its own and a share of the windows."""

from __future__ import annotations

from collections.abc import Sequence
from multiprocessing.connection import Connection

import numpy as np

from envs.task import Task
from pipeline.identify.crew import dismiss, hire, receive, send
from pipeline.identify.replay_recording import Cut
from pipeline.identify.replay_worlds import AT_ONCE, Replay
from robot.logs import Log

LEAST_WINDOWS = 8  # for a process of its own


class ReplayCrew:
    """Process p has the windows p, p + P, ...; results come back in the order in which windows were asked for."""

    def __init__(self, task: Task, logs: Sequence[Log], cut: Cut, processes: int = 1, worlds: int = AT_ONCE) -> None:
        self.processes = max(1, min(processes, len(cut) // LEAST_WINDOWS))
        parts = [cut.pick(slice(p, None, self.processes)) for p in range(self.processes)]
        self._others = hire(len(parts) - 1, _serve)
        self._own = Replay(task, logs, parts[0], worlds)
        for (_, pipe), part in zip(self._others, parts[1:], strict=True):
            send(pipe, (task, list(logs), part, worlds))  # as arguments they would hang if the process had died

    def __enter__(self) -> ReplayCrew:
        return self

    def __exit__(self, *error: object) -> None:
        self._own.close()
        dismiss(self._others)

    def predict(self, values: np.ndarray, shift: np.ndarray, which: np.ndarray) -> np.ndarray:
        """As `Replay.predict`: (c, k, T, m) for windows `which` (k,) of all."""
        mine = [np.flatnonzero(which % self.processes == p) for p in range(self.processes)]
        jobs = [(values, shift[:, rows], which[rows] // self.processes) for rows in mine]
        for (_, pipe), job in zip(self._others, jobs[1:], strict=True):
            send(pipe, job)
        found = [self._own.predict(*jobs[0])]
        for _, pipe in self._others:
            found.append(receive(pipe))
        out = np.empty((len(values), len(which), *found[0].shape[2:]))
        for rows, part in zip(mine, found, strict=True):
            out[:, rows] = part
        return out


def _serve(pipe: Connection) -> None:
    try:
        replay = Replay(*pipe.recv())
    except EOFError:  # who asked is gone
        return
    try:
        while True:
            job = pipe.recv()
            try:
                pipe.send(replay.predict(*job))
            except Exception as error:
                pipe.send(error)
    except (EOFError, OSError):
        pass  # who asked is gone
    finally:
        replay.close()
