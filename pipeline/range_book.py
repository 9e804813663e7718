"""RangeBook: the ranges of a run, the rule that moves them, and what was measured on their bounds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.randomization.parameters import ParameterSpace, Ranges
from envs.task import Task
from pipeline.config import Experiment
from pipeline.identify.identified import Posterior, parse
from pipeline.schedulers.adr_rule import AdrRule

SAME = 0.1  # of a range's width: what was measured on a bound still counts if it moves by no more


class RangeBook:
    """Ranges and their version. ADR moves them from outside (`set`), a posterior found in the run from within."""

    def __init__(self, experiment: Experiment, task: Task) -> None:
        self._experiment, self._task = experiment, task
        self._content: dict[str, Any] | None = None  # of the posterior found in this run that is in force
        self.rule = self._rule(None)
        self.ranges = self.rule.start
        self.buffers: dict[str, dict[str, list[float]]] = {}

    def set(self, version: int, intervals: Mapping[str, Sequence[float]], cleared: Sequence[Sequence[str]]) -> int:
        """Take newer ranges and empty the buffers they were decided on. Returns the version now in use."""
        if version >= self.ranges.version:
            self.ranges = Ranges.from_dict(self.ranges.space, intervals, version)
            for name, side in cleared:
                self.buffers.get(name, {}).pop(side, None)
        return self.ranges.version

    def move_to(self, content: dict[str, Any]) -> None:
        """Centre and bound the ranges with a posterior, as `randomization.posterior` would; the version grows.

        What it says for the first time gets its interval. What was identified before keeps on top of it what ADR has
        added since, and what it says nothing of stays as it is.
        """
        new, old = parse(content, self._task, "the run's posterior"), self._posterior(self._content)
        rule = self._rule(new)
        space, start = rule.space, rule.start
        own = space.own_scale
        given = [*self._experiment.randomization.ranges]  # these go before
        known = np.isin(space.names, new.names) & ~np.isin(space.names, given)
        again = known & np.isin(space.names, old.names if old is not None else ())
        bounds = []
        for now, then, start_at, floor in (
            (self.ranges.low, self.rule.start.low, start.low, (rule.floor_low, np.minimum)),
            (self.ranges.high, self.rule.start.high, start.high, (rule.floor_high, np.maximum)),
        ):
            shifted = own(start_at) + np.where(again, own(now) - own(then), 0.0)
            value = np.where(space.is_log, np.exp(np.where(space.is_log, shifted, 0.0)), shifted)
            value = np.where(again & (now != then), value, np.where(known, start_at, now))
            bounds.append(np.clip(floor[1](value, floor[0]), space.bounds_low, space.bounds_high))
        self._forget(space, bounds)
        self.rule, self._content = rule, content
        self.ranges = Ranges(space, bounds[0], bounds[1], self.ranges.version + 1)

    def _forget(self, space: ParameterSpace, bounds: list[np.ndarray]) -> None:
        """Empty the buffers of bounds that will have moved, by more than a small share of their range."""
        low, high = (space.own_scale(bound) for bound in bounds)
        before = space.own_scale(self.ranges.low), space.own_scale(self.ranges.high)
        for side, then, now in (("low", before[0], low), ("high", before[1], high)):
            moved = np.abs(now - then) > SAME * (high - low)
            for name in np.array(space.names)[moved]:
                self.buffers.get(str(name), {}).pop(side, None)

    def heard(self, version: int, boundaries: Sequence[tuple[str, str]], performance: np.ndarray) -> None:
        """Performances on bounds; those of an older version do not count."""
        if version == self.ranges.version:
            for (name, side), value in zip(boundaries, performance, strict=True):
                self.buffers.setdefault(name, {}).setdefault(side, []).append(float(value))

    def result(self, active: bool) -> dict[str, Any]:
        """For training results, and for the scheduler that decides by them."""
        told = {
            "active": active,
            "version": self.ranges.version,
            "ranges": self.ranges.to_dict(),
            "buffers": {n: {s: list(v) for s, v in sides.items()} for n, sides in self.buffers.items()},
            "entropy": self.ranges.entropy(),
        }
        return told if self._content is None else {**told, "basis": self.rule.basis()}

    def get_state(self) -> dict[str, Any]:
        return {
            "version": self.ranges.version,
            "intervals": self.ranges.to_dict(),
            "buffers": self.buffers,
            "content": self._content,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        self._content, self.buffers = state["content"], state["buffers"]
        self.rule = self._rule(self._posterior(self._content))
        self.ranges = Ranges.from_dict(self.rule.space, state["intervals"], state["version"])

    def _posterior(self, content: Mapping[str, Any] | None) -> Posterior | None:
        """The posterior in force: this run's, or the one it was given."""
        return self._experiment.known() if content is None else parse(content, self._task, "the run's posterior")

    def _rule(self, known: Posterior | None) -> AdrRule:
        e = self._experiment
        return AdrRule(e.ranges(known), e.adr(known), self._task.adr_thresholds)
