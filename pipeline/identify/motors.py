"""From recorded commands to what the motors deliver, by the task's own effects, with the times as recorded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.effects.base import CommandEffect
from envs.task import Task
from pipeline.identify.recording import Windows
from robot.logs import Log


class Motors:
    """Mean efforts over the substeps of every window, for candidates of the parameters.

    Commands hold from their row to the next. They are averaged onto a grid of physics steps, on which the effects act
    (a delay may be any fraction of one), and from there onto each recorded period: both averages are exact.
    """

    def __init__(self, task: Task, logs: Sequence[Log], windows: Windows) -> None:
        self._task = task
        self._step_s = 1.0 / task.scene.physics_hz
        pieces = [(log, rows) for log in logs for rows in log.pieces()]
        used = np.unique(windows.piece)
        begin = np.array([pieces[k][0].time_s[pieces[k][1].start] for k in used])
        ends = [windows.time_s[windows.piece == k].max() for k in used]
        size = int(np.ceil((np.array(ends) - begin).max() / self._step_s)) + 2
        width = pieces[0][0].effort.shape[1]
        self._commands = np.zeros((len(used), size, width))
        for i, k in enumerate(used):
            log, rows = pieces[k]
            self._commands[i] = _held(log.time_s[rows], log.effort[rows], begin[i], self._step_s, size)
        periods = windows.period_s
        self.substeps = max(1, round(float(np.median(periods[windows.valid])) / self._step_s))
        share = np.arange(self.substeps + 1) / self.substeps
        edges = windows.time_s[:, :-1, None] + periods[:, :, None] * share  # (W, T, s + 1)
        self._piece = np.searchsorted(used, windows.piece)
        at = np.maximum((edges - begin[self._piece, None, None]) / self._step_s, 0.0)
        self._cell = np.minimum(at.astype(np.int64), size - 1)
        self._part = at - self._cell
        self._cells_of_substep = np.diff(at, axis=2)  # how many grid cells one lasts

    @property
    def parameters(self) -> list[str]:
        """What the efforts depend on."""
        return [name for effect in self._effects() for name in effect.parameters]

    def efforts(self, values: np.ndarray) -> np.ndarray:
        """(c, W, T, substeps, u) N or N m for candidates (c, d)."""
        columns = [self._task.parameters.index(name) for name in self.parameters]
        different, which = np.unique(values[:, columns], axis=0, return_inverse=True)
        made = [self._one(row) for row in self._delivered(different)]
        return np.stack([made[i] for i in which.ravel()])

    def _one(self, delivered: np.ndarray) -> np.ndarray:
        """(W, T, substeps, u) from what was delivered in each cell of the grid, (pieces, cells, u)."""
        summed = np.concatenate([np.zeros_like(delivered[:, :1]), np.cumsum(delivered, axis=1)], axis=1)
        piece = self._piece[:, None, None]
        until = summed[piece, self._cell] + self._part[..., None] * delivered[piece, self._cell]
        return np.diff(until, axis=2) / self._cells_of_substep[..., None]

    def _delivered(self, values: np.ndarray) -> np.ndarray:
        """(c, pieces, cells, u): the whole of each piece is one long control step of the effects."""
        pieces, size, width = self._commands.shape
        count = len(values)
        profile = np.tile(self._commands, (count, 1, 1))
        column = {name: np.repeat(values[:, i], pieces) for i, name in enumerate(self.parameters)}
        for effect in self._effects():
            effect.bind(len(profile), width, size, size * self._step_s)
            effect.reset(np.ones(len(profile), bool), column)
            profile = effect.apply(profile, None)
        return profile.reshape(count, pieces, size, width)

    def _effects(self) -> list[CommandEffect]:
        return [effect for effect in self._task.command_effects if not effect.noisy]


def _held(time_s: np.ndarray, command: np.ndarray, begin_s: float, step_s: float, size: int) -> np.ndarray:
    """(size, u) means over the cells of a grid of commands that hold from row to row."""
    summed = np.concatenate([np.zeros((1, command.shape[1])), np.cumsum(command[:-1] * np.diff(time_s)[:, None], 0)])
    edges = begin_s + step_s * np.arange(size + 1)
    parts = [np.interp(edges, time_s, column) for column in summed.T]
    return np.diff(np.stack(parts, axis=1).astype(float), axis=0) / step_s
