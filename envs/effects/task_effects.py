"""All effects of a task together: what lies between its policy and n simulated worlds."""

from __future__ import annotations

import numpy as np

from envs.effects.base import CommandEffect, Effect, SensorEffect
from envs.effects.disturbance import Disturbance
from envs.effects.timing import PeriodJitter
from envs.randomization.keyed import Stream
from envs.randomization.noise import NoiseAhead
from envs.task import State, Task


class TaskEffects:
    """The effects of `task` in n worlds, each fed from its own stream of `noise`.

    Those that are at their identity in every world cost nothing: `streams` are those of the others.
    """

    def __init__(self, task: Task, n: int, substeps: int, noise: NoiseAhead) -> None:
        period_s = task.control_period_s
        self._noise = noise
        self._commands: tuple[CommandEffect, ...] = task.command_effects
        self._sensors: tuple[SensorEffect, ...] = task.sensor_effects
        self._disturbances: tuple[Disturbance, ...] = task.disturbances
        self._jitter = PeriodJitter(task.period_jitter, n, period_s) if task.period_jitter else None
        for command in self._commands:
            command.bind(n, len(task.actuated), substeps, period_s)
        for sensor in self._sensors:
            sensor.bind(n, len(task.joints), len(task.bodies), period_s)
        for disturbance in self._disturbances:
            disturbance.bind(n, period_s)
        self._all: list[Effect] = [*self._commands, *self._sensors, *self._disturbances]
        if self._jitter is not None:
            self._all.append(self._jitter)
        self._streams: dict[Effect, Stream] = {
            effect: (f"noise:{effect.parameters[0]}", effect.noise_columns) for effect in self._all if effect.noisy
        }
        self._columns = [task.parameters.index(name) for effect in self._all for name in effect.parameters]
        self._share_values(n)

    def _share_values(self, n: int) -> None:
        """One array for the values of all effects, so that beginning an episode compares them at once."""
        self._identity = np.array([value for effect in self._all for value in effect.identity])
        self._values = np.tile(self._identity, (n, 1))
        ends = np.cumsum([0] + [len(effect.parameters) for effect in self._all])
        self._first = ends[:-1]
        for effect, start, end in zip(self._all, ends[:-1].tolist(), ends[1:].tolist(), strict=True):
            effect.values = self._values[:, start:end]

    @property
    def streams(self) -> tuple[Stream, ...]:
        """What the effects that are at work now draw."""
        return tuple(stream for effect, stream in self._streams.items() if effect.active)

    def begin(self, mask: np.ndarray, rows: np.ndarray, values: np.ndarray) -> None:
        """Begin an episode in the worlds `rows` (k,), those of `mask` (n,), with parameter values (k, d)."""
        if not self._all:
            return
        self._values[rows] = values[:, self._columns]
        present = np.logical_or.reduceat(self._values != self._identity, self._first, axis=1)
        counts = present.sum(axis=0).tolist()
        for k, (effect, count) in enumerate(zip(self._all, counts, strict=True)):
            if count or effect.active:
                effect.begin(mask, present[:, k], count)

    def delivered(self, profile: np.ndarray) -> np.ndarray:
        """What of the commanded profile (n, substeps, u) reaches the motors."""
        for effect in self._commands:
            if effect.active:
                profile = effect.apply(profile, self._drawn(effect))
        return profile

    def measured(self, true: State, rows: np.ndarray | slice = slice(None)) -> State:
        """What is measured of the `true` state of the worlds `rows`."""
        for effect in self._sensors:
            if effect.active:
                noise = self._drawn(effect)
                true = effect.apply(true, None if noise is None else noise[rows], rows)
        return true

    def extra_s(self) -> np.ndarray | None:
        """(n,) by how much the control period that comes now is too long; None if all periods are nominal."""
        if self._jitter is None or not self._jitter.active:
            return None
        return self._jitter.extra_s(self._noise[self._streams[self._jitter]])

    def forces(self, true: State) -> dict[str, np.ndarray] | None:
        """(n, 3) N on each body that is disturbed now."""
        forces: dict[str, np.ndarray] = {}
        for effect in self._disturbances:
            if effect.active:
                force = effect.force(true, self._drawn(effect))
                forces[effect.body] = forces[effect.body] + force if effect.body in forces else force
        return forces or None

    def _drawn(self, effect: Effect) -> np.ndarray | None:
        return self._noise[self._streams[effect]] if effect.noisy else None
