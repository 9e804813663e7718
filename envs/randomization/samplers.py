"""Samplers: which parameters a world gets in an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import numpy as np
from scipy.special import ndtr, ndtri

from envs.randomization.keyed import KeyedRandom
from envs.randomization.parameters import ParameterSpace, RangeError, Ranges

BOUND_SD = 1.96  # a bound is where 95 % of a normal end, for what goes with it


class Sampler(Protocol):
    """Maps (n,) global world numbers and (n,) episode numbers to (n, d) parameter values in SI units.

    It must be a pure function of these numbers, so that results do not depend on who asks and when.
    """

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray: ...


class UniformSampler:
    """Independent draws, uniform in each parameter's own scale, from ranges shrunk by `dr_strength`.

    A parameter whose range has no width gets exactly the range's value. Where the space says that parameters are
    correlated, a Gaussian copula draws them so; each by itself stays uniform.
    """

    def __init__(self, ranges: Ranges, dr_strength: float, seed: int) -> None:
        self.ranges = ranges
        self._random = KeyedRandom(seed)
        self._low, self._high = ranges.effective(dr_strength)
        for i in np.flatnonzero(ranges.space.is_whole):
            self._low[i], self._high[i] = _whole_ends(self._low[i], self._high[i])
        self._width = self._high - self._low
        self._log = np.flatnonzero(ranges.space.is_log)
        self._log_low = self._low[self._log]
        self._log_ratio = self._high[self._log] / self._log_low
        self._correlation = ranges.space.correlation
        if self._correlation is not None:
            values, vectors = np.linalg.eigh(self._correlation)
            self._root = vectors * np.sqrt(np.maximum(values, 0.0))

    def sample(self, world: np.ndarray, episode: np.ndarray, given: tuple[int, float] | None = None) -> np.ndarray:
        """(n, d); with `given` (column, z), as they go with that parameter at z sds from its middle."""
        uniform = self._random.uniform("parameters", world, episode, len(self._low))
        if self._correlation is not None:
            normal = ndtri(np.clip(uniform, 1e-16, 1 - 1e-16)) @ self._root.T
            if given is not None:
                column, z = given
                normal += (z - normal[:, [column]]) * self._correlation[column]
            uniform = ndtr(normal)
        values = self._low + uniform * self._width
        if len(self._log):
            values[:, self._log] = self._log_low * self._log_ratio ** uniform[:, self._log]
        return self.ranges.space.whole(np.minimum(values, self._high, out=values))


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
        self._value = ranges.space.whole(low if side == "low" else high)[self._column]
        self._given = self._column, -BOUND_SD if side == "low" else BOUND_SD

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        values = self._inner.sample(world, episode, self._given)
        values[:, self._column] = self._value
        return values


class TruncatedNormalSampler:
    """Independent normals in each parameter's own scale, cut off at the ranges.

    The mean is the nominal value moved into the range, the sd a `spread`-th of the range's width; drawn by
    inversion, so a draw costs the same wherever the cut is.
    """

    def __init__(self, ranges: Ranges, spread: float, seed: int) -> None:
        if not spread > 0:
            raise RangeError(f"spread: {spread} is not positive; accepted is a number above 0, such as 4")
        self._space = space = ranges.space
        self._random, self._log = KeyedRandom(seed), space.is_log
        self._low, self._high = space.own_scale(ranges.low), space.own_scale(ranges.high)
        self._bounds = ranges.low, ranges.high
        self._mean = np.clip(space.own_scale(space.nominal), self._low, self._high)
        width = self._high - self._low
        self._sd = np.where(width > 0, width, 1.0) / spread
        self._from = ndtr((self._low - self._mean) / self._sd)
        self._share = ndtr((self._high - self._mean) / self._sd) - self._from

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        uniform = self._random.uniform("parameters", world, episode, len(self._low))
        values = self._mean + self._sd * ndtri(self._from + uniform * self._share)
        return self._space.whole(_to_units(values, self._log, *self._bounds))


class DiscreteSampler:
    """Some parameters from lists of values, each as likely as the others; the rest from another sampler."""

    def __init__(self, inner: Sampler, space: ParameterSpace, choices: Mapping[str, Sequence[float]], seed: int):
        self._inner, self._random = inner, KeyedRandom(seed)
        self._choices: list[tuple[int, np.ndarray]] = []
        for name, values in choices.items():
            column = space.index(name)
            if not len(values):
                raise RangeError(f"{name}: there are no values; accepted is a list of one or more")
            space[column].check(float(min(values)), float(max(values)))
            self._choices.append((column, np.array(values, np.float64)))

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        values = self._inner.sample(world, episode).copy()
        uniform = self._random.uniform("choices", world, episode, len(self._choices))
        for k, (column, choices) in enumerate(self._choices):
            values[:, column] = choices[(uniform[:, k] * len(choices)).astype(np.int64)]
        return values


class CorrelatedSampler:
    """A multivariate normal in the parameters' own scales, such as a posterior of identification.

    `mean` (d,) and `covariance` (d, d) are in these scales (the logarithm, where a scale is log); draws beyond
    a hard bound are set to the bound.
    """

    def __init__(self, space: ParameterSpace, mean: np.ndarray, covariance: np.ndarray, seed: int) -> None:
        size = len(space)
        mean, covariance = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)
        if mean.shape != (size,) or covariance.shape != (size, size):
            raise RangeError(
                f"covariance: shapes {mean.shape} and {covariance.shape} do not fit; "
                f"accepted are ({size},) and ({size}, {size})"
            )
        values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
        if not np.allclose(covariance, covariance.T) or values.min() < -1e-9 * max(1.0, values.max()):
            raise RangeError("covariance: it is not symmetric and positive; accepted is a covariance matrix")
        self._random, self._space, self._mean = KeyedRandom(seed), space, mean
        self._root = vectors * np.sqrt(np.maximum(values, 0.0))

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        normal = self._random.normal("parameters", world, episode, len(self._mean))
        values = self._mean + normal @ self._root.T
        bounds = self._space.bounds_low, self._space.bounds_high
        return self._space.whole(_to_units(values, self._space.is_log, *bounds))


def _whole_ends(low: float, high: float) -> tuple[float, float]:
    """The interval in which even draws, rounded, give each whole number inside [low, high] alike.

    Without one inside: the nearest to the middle.
    """
    first, last = np.ceil(low), np.floor(high)
    if first > last:
        first = last = np.round((low + high) / 2)
    if first == last:
        return first, last
    inset = 1e-9  # halves are rounded to even numbers
    return first - 0.5 + inset, last + 0.5 - inset


def _to_units(values: np.ndarray, is_log: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """From own scales to units, inside [low, high]."""
    return np.clip(np.where(is_log, np.exp(np.where(is_log, values, 0.0)), values), low, high)
