"""Samplers: which parameters a world gets in an episode."""

from __future__ import annotations

from typing import Literal, Protocol

import numpy as np

from envs.randomization.keyed import KeyedRandom
from envs.randomization.parameters import RangeError, Ranges


class Sampler(Protocol):
    """Maps (n,) global world numbers and (n,) episode numbers to (n, d) parameter values in SI units.

    It must be a pure function of these numbers, so that results do not depend on who asks and when.
    """

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray: ...


class UniformSampler:
    """Independent draws, uniform in each parameter's own scale, from ranges shrunk by `dr_strength`.

    A parameter whose range has no width gets exactly the range's value.
    """

    def __init__(self, ranges: Ranges, dr_strength: float, seed: int) -> None:
        self.ranges = ranges
        self._random = KeyedRandom(seed)
        self._low, self._high = ranges.effective(dr_strength)
        self._width = self._high - self._low
        self._log = np.flatnonzero(ranges.space.is_log)
        self._log_low = self._low[self._log]
        self._log_ratio = self._high[self._log] / self._log_low

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        uniform = self._random.uniform("parameters", world, episode, len(self._low))
        values = self._low + uniform * self._width
        if len(self._log):
            values[:, self._log] = self._log_low * self._log_ratio ** uniform[:, self._log]
        return np.minimum(values, self._high, out=values)


class BoundarySampler:
    """One parameter fixed at one bound of its range, the rest drawn inside (Akkaya et al. 2019, Alg. 1)."""

    def __init__(
        self,
        ranges: Ranges,
        parameter: str,
        side: Literal["low", "high"],
        seed: int,
        dr_strength: float = 1.0,
    ) -> None:
        if side not in ("low", "high"):
            raise RangeError(f"side: '{side}' is not a side of a range; accepted is 'low' or 'high'")
        self._inner = UniformSampler(ranges, dr_strength, seed)
        self._column = ranges.space.index(parameter)
        low, high = ranges.effective(dr_strength)
        self._value = (low if side == "low" else high)[self._column]

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        values = self._inner.sample(world, episode)
        values[:, self._column] = self._value
        return values
