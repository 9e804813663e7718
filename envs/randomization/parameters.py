"""Randomizable parameters and the ranges they are sampled from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np


class RangeError(ValueError):
    """A range that cannot be used; the message names the parameter, the value and what would be accepted."""


@dataclass(frozen=True)
class Parameter:
    """One physical quantity that can differ between worlds.

    `nominal` is the simulator's best guess without randomization, `bounds` the values that make physical
    sense, `default` the range sampled at full strength when the configuration says nothing. On the scale "integer"
    a value is a whole number, such as which of several bodies there is; each inside the range is as likely.
    """

    name: str
    unit: str
    nominal: float
    bounds: tuple[float, float]
    default: tuple[float, float]
    scale: Literal["linear", "log", "integer"] = "linear"
    description: str = ""

    def __post_init__(self) -> None:
        if self.scale == "log" and self.bounds[0] <= 0:
            raise RangeError(f"{self.name}: a log scale needs bounds above zero, not {list(self.bounds)}")
        if not self.bounds[0] <= self.nominal <= self.bounds[1]:
            raise RangeError(f"{self.name}: nominal {self.nominal} lies outside its bounds {list(self.bounds)}")
        self.check(*self.default)

    def check(self, low: float, high: float) -> None:
        """Raise RangeError unless bounds[0] <= low <= high <= bounds[1]."""
        allowed = f"an interval [low, high] {self.unit} inside {list(self.bounds)}"
        if not (np.isfinite(low) and np.isfinite(high)):
            raise RangeError(f"{self.name}: [{low}, {high}] is not finite; accepted is {allowed}")
        if low > high:
            raise RangeError(f"{self.name}: [{low}, {high}] is reversed; accepted is {allowed}")
        if low < self.bounds[0] or high > self.bounds[1]:
            raise RangeError(f"{self.name}: [{low}, {high}] leaves the hard bounds; accepted is {allowed}")
        if self.scale == "integer" and np.ceil(low) > high:
            raise RangeError(f"{self.name}: [{low}, {high}] holds no whole number; accepted is {allowed} that does")


class ParameterSpace(Sequence[Parameter]):
    """The ordered parameters of a task. Column i of every parameter array belongs to parameter i."""

    def __init__(self, parameters: Sequence[Parameter], correlation: np.ndarray | None = None) -> None:
        """`correlation` (d, d): of what is sampled, where parameters are known only together."""
        self._parameters = tuple(parameters)
        self.correlation = correlation
        self.names = tuple(p.name for p in self._parameters)
        self._index = {name: i for i, name in enumerate(self.names)}
        if len(self._index) != len(self.names):
            raise RangeError(f"parameter names must be unique, not {list(self.names)}")
        self.nominal = np.array([p.nominal for p in self._parameters], np.float64)
        self.bounds_low = np.array([p.bounds[0] for p in self._parameters], np.float64)
        self.bounds_high = np.array([p.bounds[1] for p in self._parameters], np.float64)
        self.is_log = np.array([p.scale == "log" for p in self._parameters], bool)
        self.is_whole = np.array([p.scale == "integer" for p in self._parameters], bool)
        low, high = self.own_scale(self.bounds_low), self.own_scale(self.bounds_high)
        self._centre = (low + high) / 2
        self._stretch = 2.0 / np.where(high > low, high - low, 1.0)

    def __getitem__(self, i):  # type: ignore[override]
        return self._parameters[i]

    def __len__(self) -> int:
        return len(self._parameters)

    def __iter__(self) -> Iterator[Parameter]:
        return iter(self._parameters)

    def around(self, nominal: Mapping[str, float], correlation: np.ndarray | None = None) -> ParameterSpace:
        """The same parameters with other nominal values (SI), such as identified ones."""
        for name in nominal:
            self.index(name)
        moved = [replace(p, nominal=float(nominal.get(p.name, p.nominal))) for p in self]
        return ParameterSpace(moved, correlation)

    def index(self, name: str) -> int:  # type: ignore[override]
        """The column of a parameter; raises RangeError naming the known ones."""
        if name not in self._index:
            raise RangeError(f"unknown parameter '{name}'; this task has {', '.join(self.names)}")
        return self._index[name]

    def scaled(self, values: np.ndarray) -> np.ndarray:
        """(n, d) values mapped so that the hard bounds are [-1, 1] in each parameter's own scale."""
        return ((self.own_scale(values) - self._centre) * self._stretch).astype(np.float32)

    def whole(self, values: np.ndarray) -> np.ndarray:
        """(..., d) values, rounded where only whole numbers are accepted."""
        if not self.is_whole.any():
            return values
        return np.where(self.is_whole, np.round(values) + 0.0, values)  # no -0.0

    def own_scale(self, values: np.ndarray) -> np.ndarray:
        """(n, d) values, with the logarithm taken of those on a log scale."""
        if not self.is_log.any():
            return values
        return np.where(self.is_log, np.log(np.where(self.is_log, values, 1.0)), values)


@dataclass(frozen=True)
class Ranges:
    """What is sampled now: one interval per parameter and a version that grows with every change."""

    space: ParameterSpace
    low: np.ndarray  # (d,)
    high: np.ndarray  # (d,)
    version: int = 0

    def __post_init__(self) -> None:
        for parameter, low, high in zip(self.space, self.low, self.high, strict=True):
            parameter.check(float(low), float(high))

    @classmethod
    def default(cls, space: ParameterSpace) -> Ranges:
        return cls(space, np.array([p.default[0] for p in space]), np.array([p.default[1] for p in space]))

    @classmethod
    def nominal(cls, space: ParameterSpace) -> Ranges:
        return cls(space, space.nominal.copy(), space.nominal.copy())

    @classmethod
    def from_dict(cls, space: ParameterSpace, intervals: Mapping[str, Sequence[float]], version: int = 0) -> Ranges:
        """Ranges from {name: [low, high]}; parameters not named keep their default range."""
        base = cls.default(space)
        low, high = base.low.copy(), base.high.copy()
        for name, interval in intervals.items():
            i = space.index(name)
            if np.ndim(interval) != 1 or len(interval) != 2:
                raise RangeError(f"{name}: {interval!r} is not an interval; accepted is [low, high] {space[i].unit}")
            low[i], high[i] = float(interval[0]), float(interval[1])
        return cls(space, low, high, version)

    def to_dict(self) -> dict[str, list[float]]:
        return {name: [float(a), float(b)] for name, a, b in zip(self.space.names, self.low, self.high, strict=True)}

    def effective(self, dr_strength: float) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) shrunk to nominal + s (range - nominal), in each parameter's own scale."""
        if not 0.0 <= dr_strength <= 1.0:
            raise RangeError(f"dr_strength: {dr_strength} is out of range; accepted is a number in [0, 1]")
        if dr_strength == 1.0:
            return self.low.copy(), self.high.copy()
        nominal = self.space.nominal

        def shrink(bound: np.ndarray) -> np.ndarray:
            ratio = np.where(self.space.is_log, bound / np.where(nominal != 0, nominal, 1.0), 1.0)
            return np.where(self.space.is_log, nominal * ratio**dr_strength, nominal + dr_strength * (bound - nominal))

        return shrink(self.low), shrink(self.high)

    def entropy(self) -> float:
        """ADR entropy in nats per dimension (Akkaya et al. 2019, eq. 2), over the parameters that vary."""
        width = self.space.own_scale(self.high) - self.space.own_scale(self.low)
        return float(np.mean(np.log(width[width > 0]))) if np.any(width > 0) else float("-inf")
