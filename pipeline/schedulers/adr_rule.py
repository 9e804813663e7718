"""Automatic domain randomization (Akkaya et al. 2019) as a pure rule: from boundary results to ranges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from envs.randomization.parameters import ParameterSpace, RangeError, Ranges

Side = Literal["low", "high"]
SIDES: tuple[Side, ...] = get_args(Side)
Buffers = Mapping[str, Mapping[str, Sequence[float]]]  # performances by parameter and side


class AdrSettings(BaseModel):
    """How fast and how far the ranges move. Published: m = 240, steps of 0.02 in the parameter's unit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    m: int = Field(default=10, ge=1, description="results a boundary's buffer holds before its bound is decided on")
    step: float = Field(
        default=0.1,
        gt=0,
        le=1,
        description="Δ, how far a bound moves: a fraction of the parameter's starting width",
    )
    t_low: float | None = Field(
        default=None, description="mean performance at which a bound narrows; null: the task's own"
    )
    t_high: float | None = Field(
        default=None, description="mean performance at which a bound widens; null: the task's own"
    )
    floor: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="never narrower than this fraction of the starting range, towards nominal",
    )
    least: dict[str, tuple[float, float]] = Field(
        default_factory=dict, description="per parameter, an interval [low, high] the range always covers"
    )

    @model_validator(mode="after")
    def _ordered(self) -> AdrSettings:
        if self.t_low is not None and self.t_high is not None and self.t_low >= self.t_high:
            raise ValueError(f"t_low: {self.t_low} given with t_high {self.t_high}; accepted is t_low below t_high")
        return self


@dataclass(frozen=True)
class Move:
    """What one full buffer did to its bound."""

    name: str
    side: Side
    action: Literal["widen", "narrow", "keep"]
    before: float
    after: float
    performance: float  # mean of the buffer, in the task's units
    n: int

    def __str__(self) -> str:
        what = f"{self.name} {self.side}: mean {self.performance:.2f} of {self.n}, {self.action}"
        return what if self.before == self.after else f"{what} {self.before:.4g} -> {self.after:.4g}"


@dataclass(frozen=True)
class AdrDecision:
    """The ranges to use from now on and the buffers to empty. The version grows only if a bound moved."""

    ranges: Ranges
    moves: tuple[Move, ...]

    @property
    def cleared(self) -> list[list[str]]:
        """[[parameter, side], …]: every buffer that was full, moved or not."""
        return [[move.name, move.side] for move in self.moves]


class AdrRule:
    """Algorithm 1 of "Solving Rubik's Cube with a Robot Hand" (Akkaya et al. 2019), without its randomness.

    A bound whose buffer holds m performances moves outwards by Δ if their mean reaches t_high, inwards if
    it is at most t_low, and the buffer is emptied either way. Steps are taken in the parameter's own scale
    (log where log). Parameters whose starting range has no width take no part.

    Bounds stay inside the parameter's hard bounds and never come closer than the floor: the starting range
    shrunk to `settings.floor` of itself towards nominal (at 0 the nominal value, or the point of the
    starting range nearest to it), joined with `settings.least`. Both bounds surround the floor, so they
    cannot cross.

    Raises RangeError if `least` names an unknown parameter or leaves the hard bounds, ValueError if the
    thresholds are not in order.
    """

    def __init__(self, start: Ranges, settings: AdrSettings, thresholds: tuple[float, float]) -> None:
        self.settings = settings
        self.space = start.space
        self.t_low = thresholds[0] if settings.t_low is None else settings.t_low
        self.t_high = thresholds[1] if settings.t_high is None else settings.t_high
        if not self.t_low < self.t_high:
            raise ValueError(f"adr.t_low: {self.t_low} given with t_high {self.t_high}; accepted is t_low below t_high")
        self.takes_part = start.high > start.low
        self.floor_low, self.floor_high = _floor(start, settings)
        # A starting range that does not cover the floor yet is widened to it.
        self.start = Ranges(
            self.space,
            np.minimum(start.low, self.floor_low),
            np.maximum(start.high, self.floor_high),
            start.version,
        )
        self._delta = settings.step * (_forward(self.space, start.high) - _forward(self.space, start.low))

    def basis(self) -> dict[str, dict[str, Any]]:
        """What tells this rule from that of the configuration, as plain values: {start, nominal, least}."""
        return {
            "start": self.start.to_dict(),
            "nominal": dict(zip(self.space.names, self.space.nominal.tolist(), strict=True)),
            "least": {name: [float(v) for v in interval] for name, interval in self.settings.least.items()},
        }

    def on(self, basis: Mapping[str, Mapping[str, Any]]) -> AdrRule:
        """This rule on another `basis`, such as that of a posterior which was found while the run trained."""
        start = Ranges.from_dict(self.space.around(basis["nominal"]), basis["start"])
        settings = self.settings.model_copy(update={"least": dict(basis["least"])})
        return AdrRule(start, settings, (self.t_low, self.t_high))

    def boundaries(self, ranges: Ranges) -> list[tuple[str, Side]]:
        """The (parameter, side) pairs worth evaluating: those that could still move, in or out."""
        pairs: list[tuple[str, Side]] = []
        for i in np.flatnonzero(self.takes_part):
            for side in SIDES:
                bound = float((ranges.low if side == "low" else ranges.high)[i])
                if any(self._moved(int(i), side, bound, way) != bound for way in (1, -1)):
                    pairs.append((self.space.names[i], side))
        return pairs

    def decide(self, ranges: Ranges, buffers: Buffers) -> AdrDecision | None:
        """What the full buffers ask for, all of them at once; None while none is full.

        Performances that are not finite do not count. Parameters that take no part are ignored.
        """
        low, high = ranges.low.copy(), ranges.high.copy()
        moves: list[Move] = []
        for name in (n for n in self.space.names if n in buffers):
            i = self.space.index(name)
            for side in SIDES:
                bounds = low if side == "low" else high
                results = np.asarray(buffers[name].get(side, ()), float)
                results = results[np.isfinite(results)]
                if not self.takes_part[i] or results.size < self.settings.m:
                    continue
                mean, before = float(results.mean()), float(bounds[i])
                way = 1 if mean >= self.t_high else -1 if mean <= self.t_low else 0
                bounds[i] = self._moved(i, side, before, way)
                action = ("keep", "widen", "narrow")[way] if bounds[i] != before else "keep"
                moves.append(Move(name, side, action, before, float(bounds[i]), mean, int(results.size)))
        if not moves:
            return None
        changed = any(move.after != move.before for move in moves)
        return AdrDecision(Ranges(self.space, low, high, ranges.version + int(changed)), tuple(moves))

    def _moved(self, i: int, side: Side, bound: float, way: int) -> float:
        """`bound` moved by Δ outwards (way 1) or inwards (-1), between the floor and the hard bounds."""
        if way == 0:
            return bound
        shift = self._delta[i] * way * (-1 if side == "low" else 1)
        value = float(bound * np.exp(shift)) if self.space.is_log[i] else bound + shift
        if side == "low":
            return float(max(min(value, self.floor_low[i]), self.space.bounds_low[i]))
        return float(min(max(value, self.floor_high[i]), self.space.bounds_high[i]))


def _forward(space: ParameterSpace, values: np.ndarray) -> np.ndarray:
    """Values in each parameter's own scale."""
    return np.where(space.is_log, np.log(np.where(space.is_log, values, 1.0)), values)


def _floor(start: Ranges, settings: AdrSettings) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of the interval each range keeps covering."""
    low, high = (np.clip(bound, start.low, start.high) for bound in start.effective(settings.floor))
    for name, (least_low, least_high) in settings.least.items():
        try:
            i = start.space.index(name)
            start.space[i].check(least_low, least_high)
        except RangeError as error:
            raise RangeError(f"adr.least: {error}") from None
        low[i], high[i] = least_low, least_high
    return low, high
