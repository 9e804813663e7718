"""What is to be found: which parameters of a task a recording can tell, where they are looked for, on what scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from envs.effects.command import Noise as EffortNoise
from envs.effects.sensor import Bias, SensorNoise
from envs.randomization.parameters import ParameterSpace
from envs.task import Task
from robot.interface import RobotError


@dataclass(frozen=True)
class Unknowns:
    """F free parameters of a space as numbers x of order one: x = 0 is the middle of a parameter's range.

    The prior of each is normal, with the half width of its range as sd, in its own scale; a parameter without a range
    that is asked for gets a sixth of its hard bounds. All others are given.
    """

    space: ParameterSpace
    free: tuple[str, ...]
    given: Mapping[str, float]

    @property
    def columns(self) -> np.ndarray:
        return np.array([self.space.index(name) for name in self.free], int)

    @property
    def middle(self) -> np.ndarray:
        """(F,) in own scales."""
        return self._range.mean(0)

    @property
    def sd(self) -> np.ndarray:
        """(F,) of the prior, in own scales."""
        low, high = self._range
        bounds = self._own(self.space.bounds_high) - self._own(self.space.bounds_low)
        return np.where(high > low, (high - low) / 2, bounds / 6)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """(F,) each: the hard bounds as x."""
        low, high = self._own(self.space.bounds_low), self._own(self.space.bounds_high)
        return (low - self.middle) / self.sd, (high - self.middle) / self.sd

    def values(self, x: np.ndarray) -> np.ndarray:
        """(..., d) SI values of every parameter from (..., F)."""
        out = np.tile(self.space.nominal, (*x.shape[:-1], 1)).astype(float)
        for name, value in self.given.items():
            out[..., self.space.index(name)] = value
        own = np.asarray(x) * self.sd + self.middle
        is_log = self.space.is_log[self.columns]
        found = np.where(is_log, np.exp(np.where(is_log, own, 0.0)), own)
        low, high = self.space.bounds_low[self.columns], self.space.bounds_high[self.columns]
        out[..., self.columns] = np.clip(found, low, high)
        return out

    def x(self, values: np.ndarray) -> np.ndarray:
        """(..., F) from (..., d)."""
        return (self.space.own_scale(values)[..., self.columns] - self.middle) / self.sd

    def _own(self, values: np.ndarray) -> np.ndarray:
        return self.space.own_scale(values)[self.columns]

    @property
    def _range(self) -> np.ndarray:
        """(2, F) default ranges in own scales."""
        ends = np.array([p.default for p in self.space]).T
        return np.stack([self._own(end) for end in ends])


def unknowns(task: Task, fixed: Mapping[str, float], extra: Sequence[str]) -> Unknowns:
    """What is fitted: what the task randomizes and the motion shows, with `extra`, without `fixed`.

    Raises RobotError for a name that cannot be, or a value outside its bounds.
    """
    space = task.parameters
    can = seen_in_motion(task)
    every = [*can, *noise_of(task).values()]
    for what, names, accepted in (("fix", fixed, every), ("extra", extra, can)):
        if wrong := sorted(set(names) - set(accepted)):
            raise RobotError(
                f"{what}: {wrong[0]!r} cannot be told from a motion of {task.name}; accepted are {', '.join(accepted)}"
            )
    for name, value in fixed.items():
        low, high = space[space.index(name)].bounds
        if not low <= value <= high:
            raise RobotError(
                f"fix: {name} is {value:g}; accepted is {low:g} to {high:g} {space[space.index(name)].unit}"
            )
    wide = [p.name for p in space if p.default[1] > p.default[0]]
    free = [name for name in can if (name in wide or name in extra) and name not in fixed]
    if not free:
        raise RobotError("fix: every parameter is given; accepted is to leave at least one to be fitted")
    return Unknowns(space, tuple(free), dict(fixed))


def seen_in_motion(task: Task) -> list[str]:
    """Parameters that change a motion in a repeatable way, in the task's order."""
    moving = set(task.scene.bindings)
    moving |= {name for effect in task.command_effects if not effect.noisy for name in effect.parameters}
    moving |= {name for effect in task.sensor_effects if isinstance(effect, Bias) for name in effect.parameters}
    return [name for name in task.parameters.names if name in moving]


def noise_of(task: Task) -> dict[str, str]:
    """The parameters that are standard deviations: {"effort": …, "sensor": …}, those that the task has."""
    kinds = [("effort", EffortNoise, task.command_effects), ("sensor", SensorNoise, task.sensor_effects)]
    return {word: e.parameters[0] for word, kind, effects in kinds for e in effects if isinstance(e, kind)}
