"""Simulating all windows of a recording for candidates of the parameters, in one process or several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.bindings import JointCoulomb
from envs.bullet import BulletWorlds
from envs.effects.sensor import Bias
from envs.task import Task
from pipeline.identify.kalman import Gains, Linear, Noise, sliding_spread, update
from pipeline.identify.motors import Motors
from pipeline.identify.recording import Windows
from pipeline.identify.workers import Workers
from robot.logs import Log

TURNING_SD, ROOT_3 = 3.0, 3**0.5  # a joint slower than so many sds of its velocity may be turning round


class Filter:
    """PyBullet worlds as the model of a filter: predict a row, correct by what was measured, go on.

    One world for each candidate serves all windows, since every step begins by putting a state.
    """

    def __init__(self, task: Task, logs: Sequence[Log], windows: Windows, candidates: int) -> None:
        self._task, self._windows = task, windows
        self._motors = Motors(task, logs, windows)
        self._worlds = BulletWorlds(task, candidates)
        self._joints = len(task.joints)
        rough = [b.joint for b in task.scene.bindings.values() if isinstance(b, JointCoulomb)]
        self._sliding = tuple(self._joints + task.joints.index(joint) for joint in rough if joint in task.joints)

    def close(self) -> None:
        self._worlds.close()

    def innovations(self, values: np.ndarray, gains: Gains, every: int = 1) -> np.ndarray:
        """(c, W, T, 2j) measured less predicted, for candidates (c, d), under gains.

        With `every` 3, of each third window only.
        """
        windows, count = self._windows.pick(slice(None, None, every)), len(values)
        efforts = self._motors.efforts(values)[:, ::every]
        measured = windows.measured - offsets(self._task, values)[:, None, None]
        period_s = windows.period_s
        self._worlds.set_parameters(values)
        state = measured[:, :, 0]
        out = np.zeros((count, *windows.valid.shape, 2 * self._joints))
        for k in range(windows.valid.shape[1]):
            state = self._mean_step(state, efforts[:, :, k], period_s[:, k], gains.spread[:, k])
            new = measured[:, :, k + 1] - state
            out[:, :, k] = np.where(windows.valid[:, k, None], new, 0.0)
            state = state + (gains.gain[:, k] @ out[:, :, k, :, None])[..., 0]
        return out

    def linearise(self, values: np.ndarray, noise: Noise, every: int = 1) -> Linear:
        """The motion under parameters (d,), filtered with gains for this noise; `every` as above.

        Slopes are differences over the noise's own size, so that a friction that this noise shakes loose counts so.
        """
        windows, size = self._windows.pick(slice(None, None, every)), 2 * self._joints
        n, steps = windows.valid.shape
        efforts = self._motors.efforts(values[None])[0, ::every]
        measured = windows.measured - offsets(self._task, values[None])[0]
        period_s = windows.period_s
        self._worlds.set_parameters(values[None])
        width = efforts.shape[-1]
        moves = np.zeros((1 + size + 2 * width, size))
        pushes = np.zeros((len(moves), width))
        moves[1 : 1 + size] = np.diag(noise.sensor)
        pushes[1 + size : 1 + size + width], pushes[1 + size + width :] = np.diag(noise.effort), -np.diag(noise.effort)
        sensor, effort = np.diag(noise.sensor**2), np.diag(noise.effort**2)
        covariance = np.tile(sensor, (n, 1, 1))
        transition, push = np.zeros((n, steps, size, size)), np.zeros((n, steps, size, width))
        innovation, gain = np.zeros((n, steps, size)), np.zeros((n, steps, size, size))
        state = measured[:, 0]
        for k in range(steps):
            around = (state[:, None] + moves).reshape(-1, size)
            pushed = (efforts[:, k, None] + pushes[:, None]).reshape(-1, *efforts.shape[2:])
            after = self._step(around[None], pushed[None], np.repeat(period_s[:, k], len(moves)))
            after = after.reshape(n, len(moves), size)
            along, there, back = np.split(after[:, 1:], [size, size + width], axis=1)
            a = np.swapaxes((along - after[:, :1]) / noise.sensor[:, None], 1, 2)
            b = np.swapaxes((there - back) / (2 * noise.effort[:, None]), 1, 2)
            before = a @ covariance @ np.swapaxes(a, 1, 2) + b @ effort @ np.swapaxes(b, 1, 2)
            spread = sliding_spread(covariance, b, noise, self._sliding)
            mean = self._mean_step(state[None], efforts[None, :, k], period_s[:, k], spread, after[None, :, 0])[0]
            _, now, covariance = update(before, sensor)
            rows = windows.valid[:, k, None]
            innovation[:, k] = np.where(rows, measured[:, k + 1] - mean, 0.0)
            transition[:, k], push[:, k], gain[:, k] = a, b, np.where(rows[..., None], now, 0.0)
            state = mean + (gain[:, k] @ innovation[:, k, :, None])[..., 0]
        return Linear(transition, push, innovation, gain, windows.valid, self._sliding)

    def _mean_step(
        self,
        state: np.ndarray,
        efforts: np.ndarray,
        period_s: np.ndarray,
        spread: np.ndarray,
        plain: np.ndarray | None = None,
    ) -> np.ndarray:
        """(c, W, m) expected states after a step, from (c, W, m) states that are known up to `spread`.

        Coulomb friction jumps where a joint turns round. There the mean is taken over the velocity that the joint may
        have, by three-point Gauss-Hermite quadrature; elsewhere, and without friction, it is the `plain` step.
        """
        size = state.shape[-1]
        plain = self._step(state, efforts, period_s) if plain is None else plain
        mean = plain.copy()
        for s, row in enumerate(self._sliding):
            before, after, near = state[0, :, row], plain[0, :, row], TURNING_SD * spread[:, s, -1]
            turns = np.flatnonzero((np.minimum(abs(before), abs(after)) < near) | (before * after < 0))
            if not len(turns):
                continue
            along = spread[turns, s]
            shift, push = along[:, :size], along[:, None, size:-1]
            ends = [
                self._step(state[:, turns] + z * shift, efforts[:, turns] + z * push, period_s[turns])
                for z in (ROOT_3, -ROOT_3)
            ]
            mean[:, turns] += (ends[0] + ends[1] - 2 * plain[:, turns]) / 6
        return mean

    def _step(self, state: np.ndarray, efforts: np.ndarray, period_s: np.ndarray) -> np.ndarray:
        j = self._joints
        return self._worlds.branch(state[..., :j], state[..., j:], efforts, period_s)


def offsets(task: Task, values: np.ndarray) -> np.ndarray:
    """(c, 2j) by how much a task's sensors read too high, for parameters (c, d)."""
    out = np.zeros((len(values), 2 * len(task.joints)))
    for effect in task.sensor_effects:
        if isinstance(effect, Bias):
            out[:, effect.joint] += values[:, task.parameters.index(effect.parameters[0])]
    return out


class Crew:
    """A Filter for each process, with its share of the windows; results come back in the order of the windows."""

    def __init__(self, task: Task, logs: Sequence[Log], windows: Windows, candidates: int, processes: int = 1) -> None:
        processes = max(1, min(processes, len(windows) // 8))
        edges = np.linspace(0, len(windows), processes + 1).astype(int)
        self._shares = [slice(a, b) for a, b in zip(edges[:-1], edges[1:], strict=True)]
        parts = [windows.pick(np.arange(len(windows))[share]) for share in self._shares]
        self._workers = Workers(Filter, [(task, list(logs), part, candidates) for part in parts])

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *error: object) -> None:
        self._workers.close()

    def innovations(self, values: np.ndarray, gains: Gains, every: int = 1) -> np.ndarray:
        """As `Filter.innovations`."""
        ends = np.cumsum([len(range(share.start, share.stop, every)) for share in self._shares])[:-1]
        split = [np.split(column, ends) for column in (gains.gain, gains.whiten, gains.spread)]
        each = [(values, Gains(*part), every) for part in zip(*split, strict=True)]
        return np.concatenate(self._workers.call("innovations", each), axis=1)

    def linearise(self, values: np.ndarray, noise: Noise, every: int = 1) -> Linear:
        """As `Filter.linearise`."""
        parts: list[Linear] = self._workers.call("linearise", [(values, noise, every)] * len(self._shares))
        columns = ("transition", "push", "innovation", "gain", "valid")
        whole = (np.concatenate([getattr(part, name) for part in parts]) for name in columns)
        return Linear(*whole, sliding=parts[0].sliding)
