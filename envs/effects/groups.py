"""Effects on one group of what is measured: joint positions, joint velocities, or tracked body positions."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import replace
from typing import Literal

import numpy as np
from scipy.special import ndtri

from envs.effects.base import SensorEffect
from envs.task import State

Group = Literal["joint_position", "joint_velocity", "body_position"]


class GroupEffect(SensorEffect):
    """Acts on one group, whose values of a world are a row (c,), or on some of its `columns`.

    The rest passes through.
    """

    identity = (0.0,)

    def __init__(self, parameter: str, group: Group, columns: slice = slice(None)) -> None:
        self.parameters = (parameter,)
        self.group, self.chosen = group, columns

    def bind(self, n: int, joints: int, bodies: int = 0, period_s: float = 0.0) -> None:
        super().bind(n, joints, bodies, period_s)
        whole = 3 * bodies if self.group == "body_position" else joints
        self.columns = len(range(whole)[self.chosen])
        self.noise_columns = self.columns

    def apply(self, state: State, noise: np.ndarray | None, rows: np.ndarray | slice = slice(None)) -> State:
        if not self.active:
            return state
        is_body = self.group == "body_position"
        true = state.body_pose[:, :, :3] if is_body else getattr(state, self.group)
        whole = true.reshape(len(true), -1)
        flat = whole[:, self.chosen]
        changed = self._change(flat, noise, rows).astype(np.float32, copy=False)
        if self._absent is not None:
            absent = self._absent[rows]
            changed = np.where(absent[:, None], flat, changed)
        if self.columns < whole.shape[1]:
            part, changed = changed, whole.copy()
            changed[:, self.chosen] = part
        if not is_body:
            return replace(state, **{self.group: changed})
        pose = state.body_pose.copy()
        pose[:, :, :3] = changed.reshape(true.shape)
        return replace(state, body_pose=pose)

    def _transform(self, state: State, noise: np.ndarray | None, rows: np.ndarray | slice):
        raise NotImplementedError("group effects change one group in _change")

    @abstractmethod
    def _change(self, true: np.ndarray, noise: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray:
        """The measured (k, c) of the worlds `rows`; worlds at the identity may hold anything."""


class GroupNoise(GroupEffect):
    """Gaussian noise; the parameter is its sd, in the group's SI unit."""

    noisy = True

    def _change(self, true: np.ndarray, noise: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray:
        assert noise is not None
        return true + noise * self.values[rows]


class GroupBias(GroupEffect):
    """Each column reads too high by a constant of its own, in the group's SI unit; one parameter for each."""

    def __init__(self, parameters: tuple[str, ...], group: Group, columns: slice = slice(None)) -> None:
        super().__init__(parameters[0], group, columns)
        self.parameters, self.identity = parameters, (0.0,) * len(parameters)

    def _change(self, true: np.ndarray, noise: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray:
        return true + self.values[rows]


class GroupQuantization(GroupEffect):
    """Each value is rounded to a multiple of the parameter, in the group's SI unit."""

    def _change(self, true: np.ndarray, noise: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray:
        quantum = self.values[rows]
        quantum = np.where(quantum > 0, quantum, 1.0)
        return np.round(true / quantum) * quantum


class Drift(GroupEffect):
    """The zero of each sensor walks randomly; the parameter is its sd after one second, SI unit / sqrt(s)."""

    noisy = True

    def bind(self, n: int, joints: int, bodies: int = 0, period_s: float = 0.0) -> None:
        super().bind(n, joints, bodies, period_s)
        self._zero = np.zeros((n, self.columns))

    def _prepare(self, mask: np.ndarray) -> None:
        self._zero[mask] = 0.0
        self._first = mask.copy()

    def _change(self, true: np.ndarray, noise: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray:
        assert noise is not None
        step = noise * (self.values[rows] * np.sqrt(self.period_s))
        self._zero[rows] += np.where(self._first[rows][:, None], 0.0, step)
        self._first[rows] = False
        return true + self._zero[rows]


class _Remembering(GroupEffect):
    """Has a past that begins with the first sample of an episode."""

    def bind(self, n: int, joints: int, bodies: int = 0, period_s: float = 0.0) -> None:
        super().bind(n, joints, bodies, period_s)
        self._first = np.ones(n, bool)
        self._last = np.zeros((n, self.columns))

    def _prepare(self, mask: np.ndarray) -> None:
        self._first |= mask

    def _held(self, true: np.ndarray, hold: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """`true`, or where `hold` (k,) the sample before; never at the first sample of an episode."""
        hold = hold & ~self._first[rows]
        self._first[rows] = False
        measured = np.where(hold[:, None], self._last[rows], true)
        self._last[rows] = measured
        return measured


class DroppedSamples(_Remembering):
    """A sample gets lost with the probability given by the parameter, and the one before is seen again."""

    noisy = True

    def _prepare(self, mask: np.ndarray) -> None:
        super()._prepare(mask)
        self._threshold = ndtri(self.values[:, 0])

    def _change(self, true: np.ndarray, noise: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray:
        assert noise is not None
        return self._held(true, noise[:, 0] < self._threshold[rows], rows)


class FrozenSamples(_Remembering):
    """The sensor now and then repeats itself for `hold_s`; the parameter is how often that begins, 1/s."""

    noisy = True

    def __init__(self, parameter: str, group: Group, hold_s: float, columns: slice = slice(None)) -> None:
        super().__init__(parameter, group, columns)
        self._hold_s = hold_s

    def bind(self, n: int, joints: int, bodies: int = 0, period_s: float = 0.0) -> None:
        super().bind(n, joints, bodies, period_s)
        self._hold = max(1, round(self._hold_s / period_s)) if period_s else 1
        self._remaining = np.zeros(n, np.int64)  # samples still to be frozen

    def _prepare(self, mask: np.ndarray) -> None:
        super()._prepare(mask)
        self._remaining[mask] = 0
        self._threshold = ndtri(-np.expm1(-self.values[:, 0] * self.period_s))

    def _change(self, true: np.ndarray, noise: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray:
        assert noise is not None
        begins = (noise[:, 0] < self._threshold[rows]) & (self._remaining[rows] == 0) & ~self._first[rows]
        remaining = np.where(begins, self._hold, self._remaining[rows])
        self._remaining[rows] = np.maximum(remaining - 1, 0)
        return self._held(true, remaining > 0, rows)


class GroupDelay(GroupEffect):
    """What is measured is d ms old, interpolated between the samples around; at first it is the first sample."""

    def bind(self, n: int, joints: int, bodies: int = 0, period_s: float = 0.0) -> None:
        super().bind(n, joints, bodies, period_s)
        self._first = np.ones(n, bool)
        self._past = np.zeros((n, 1, self.columns))  # newest first

    def _prepare(self, mask: np.ndarray) -> None:
        self._first |= mask
        late = self.values[:, 0] * 1e-3 / self.period_s  # in samples
        self._whole = np.floor(late).astype(np.int64)
        self._fraction = (late - self._whole)[:, None]
        missing = int(self._whole.max()) + 2 - self._past.shape[1]
        if missing > 0:
            oldest = np.repeat(self._past[:, -1:], missing, axis=1)
            self._past = np.concatenate([self._past, oldest], axis=1)

    def _change(self, true: np.ndarray, noise: np.ndarray | None, rows: np.ndarray | slice) -> np.ndarray:
        past = np.concatenate([true[:, None], self._past[rows, :-1]], axis=1)
        first = self._first[rows]
        if first.any():
            past[first] = true[first, None]
            self._first[rows] = False
        self._past[rows] = past
        k, whole = np.arange(len(past)), self._whole[rows]
        newer, older = past[k, whole], past[k, whole + 1]
        return newer + (older - newer) * self._fraction[rows]
