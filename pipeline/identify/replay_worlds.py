"""Replaying windows in a task's own simulated worlds: from the measured start, under what was sent, as it was sent."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from envs.bullet import BulletWorlds
from envs.effects.disturbance import Wind
from envs.effects.groups import GroupBias, GroupDelay, GroupEffect
from envs.scene import Rotors
from envs.task import State, Task
from pipeline.identify.motors import Motors
from pipeline.identify.replay_recording import STILL_M_S, Cut, rows_before
from robot.logs import Log

AT_ONCE = 24  # worlds side by side
IRREGULAR_S = 1e-4  # a period that differs by less from the nominal one is nominal
LIES_M = 0.01  # a body that is less above where it would lie is lying there
UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])


class Replay:
    """Worlds that are put into a window's start and given what was commanded then.

    Commands pass the task's own effects from the beginning of the recording on, so that what was under way at a
    window's start still arrives. Sensors see rows before the start as they were measured. A `shift` moves what a
    window does not know of its own: the starting state of what flies (2j columns, SI), and the wind (2, m/s).
    """

    def __init__(self, task: Task, logs: Sequence[Log], cut: Cut, worlds: int = AT_ONCE) -> None:
        self._task, self._cut = task, cut
        self._motors = Motors(task, logs, cut.windows)
        self._worlds = BulletWorlds(task, worlds)
        self._flies = isinstance(task.scene.actuation, Rotors)
        self._winds = [effect for effect in task.disturbances if isinstance(effect, Wind)]
        self._before = rows_before(task)
        self._joints, self._bodies = len(task.joints), len(task.bodies)
        start = task.initial(np.full((1, task.initial_size), 0.5))
        self._lying = start  # heights of bodies that lie where an episode begins

    def close(self) -> None:
        self._worlds.close()

    @property
    def shifts(self) -> int:
        return shifts(self._task)

    def predict(self, values: np.ndarray, shift: np.ndarray, which: np.ndarray) -> np.ndarray:
        """(c, k, T, m) what the windows `which` (k,) should have measured, for (c, d) and shifts (c, k, s)."""
        count, k = len(values), len(which)
        if not k:
            return np.empty((count, 0, self._cut.windows.valid.shape[1], self._cut.around.shape[2]))
        efforts = self._motors.efforts(values)[:, which]
        sub = self._worlds.substeps
        efforts = efforts.reshape(*efforts.shape[:3], sub, -1, efforts.shape[-1]).mean(4)
        lanes = np.repeat(values, k, axis=0)
        window = np.tile(which, count)
        seen = self._lanes(lanes, shift.reshape(count * k, -1), window, efforts.reshape(count * k, *efforts.shape[2:]))
        return seen.reshape(count, k, *seen.shape[1:])

    def _lanes(self, values: np.ndarray, shift: np.ndarray, window: np.ndarray, efforts: np.ndarray) -> np.ndarray:
        task, size = self._task, self._worlds.n
        before, start = self._starts(values, shift, window)
        values = self._in_wind(values, shift)
        steps = efforts.shape[1]
        measured_size = before.shape[-1]
        true = np.empty((len(values), self._before + 1 + steps, measured_size))
        true[:, : self._before + 1] = before
        extra = self._cut.windows.period_s[window] - task.control_period_s
        extra = np.where(np.abs(extra) > IRREGULAR_S, extra, 0.0)
        for first in range(0, len(values), size):
            rows = np.minimum(np.arange(first, first + size), len(values) - 1)
            part = slice(first, min(first + size, len(values)))
            moved = self._run(values[rows], _rows(start, rows), window[rows], efforts[rows], extra[rows])
            true[part, self._before + 1 :] = moved[: part.stop - part.start]
        seen = self._sensed(values, true)
        return seen

    def _run(
        self, values: np.ndarray, start: State, window: np.ndarray, efforts: np.ndarray, extra_s: np.ndarray
    ) -> np.ndarray:
        """(n, T, m) true channels of one batch."""
        task, worlds = self._task, self._worlds
        every = np.ones(worlds.n, bool)
        worlds.reset(every, start, values)
        worlds.resume(np.arange(worlds.n), np.asarray(start.joint_velocity), self._cut.first[window])
        columns = {name: values[:, i] for i, name in enumerate(task.parameters.names)}
        for wind in self._winds:
            wind.bind(worlds.n, task.control_period_s)
            wind.reset(every, columns)
        still = np.zeros((worlds.n, 3))
        out = np.empty((worlds.n, efforts.shape[1], 2 * self._joints + 3 * self._bodies))
        state = start
        for k in range(efforts.shape[1]):
            forces: dict[str, np.ndarray] = {}
            for wind in self._winds:
                if wind.active:
                    forces[wind.body] = wind.force(state, still)
            stretched = extra_s[:, k] if extra_s[:, k].any() else None
            state = worlds.step(efforts[:, k], stretched, forces or None)
            out[:, k] = self._channels(state)
        return out

    def _channels(self, state: State) -> np.ndarray:
        body = state.body_pose[:, :, :3].reshape(len(state), -1) if self._bodies else np.zeros((len(state), 0))
        return np.concatenate([state.joint_position, state.joint_velocity, body], axis=1)

    def _starts(self, values: np.ndarray, shift: np.ndarray, window: np.ndarray) -> tuple[np.ndarray, State]:
        """(L, H + 1, m) true channels until the start, as far as measurements tell, and the starting states."""
        task, j = self._task, self._joints
        around, middle = self._cut.around[window], self._before
        rows = np.arange(middle + 1)
        before = around[:, : middle + 1].copy()
        columns = {name: values[:, i] for i, name in enumerate(task.parameters.names)}
        for effect in task.sensor_effects:
            if isinstance(effect, GroupDelay):
                late = columns[effect.parameters[0]] * 1e-3 / task.control_period_s
                part = self._group(effect)
                before[:, :, part] = _at(around[:, :, part], rows + late[:, None])
        for effect in task.sensor_effects:  # what reads too high is that much lower
            if isinstance(effect, GroupBias):
                chosen = np.arange(before.shape[-1])[self._group(effect)][effect.chosen]
                before[:, :, chosen] -= np.stack([columns[name] for name in effect.parameters], axis=1)[:, None]
        if self._flies:
            before[:, -1, : 2 * j] += shift[:, : 2 * j]
        return before, self._state(values, around, before)

    def _state(self, values: np.ndarray, around: np.ndarray, before: np.ndarray) -> State:
        task, j, n = self._task, self._joints, len(values)
        now = before[:, -1]
        state = State(now[:, :j].copy(), now[:, j : 2 * j].copy())
        if not self._bodies:
            return state
        place = now[:, 2 * j :].reshape(n, self._bodies, 3)
        speed = (place - before[:, -2, 2 * j :].reshape(place.shape)) / task.control_period_s
        speed = np.where(np.linalg.norm(speed, axis=2, keepdims=True) < STILL_M_S, 0.0, speed)
        pose = np.repeat(self._lying.body_pose.astype(float), n, axis=0)
        pose[:, :, :2] = place[:, :, :2]
        lies = task.settle(State(state.joint_position, state.joint_velocity, pose), values).body_pose
        in_air = place[:, :, 2] > lies[:, :, 2] + LIES_M
        pose = lies.astype(float)
        pose[:, :, 2] = np.where(in_air, place[:, :, 2], pose[:, :, 2])
        speed[:, :, 2] = np.where(in_air, speed[:, :, 2], 0.0)
        twist = np.concatenate([speed, np.zeros_like(speed)], axis=2)
        return State(state.joint_position, state.joint_velocity, pose, twist)

    def _group(self, effect: GroupEffect) -> slice:
        j = self._joints
        return {
            "joint_position": slice(0, j),
            "joint_velocity": slice(j, 2 * j),
            "body_position": slice(2 * j, 2 * j + 3 * self._bodies),
        }[effect.group]

    def _in_wind(self, values: np.ndarray, shift: np.ndarray) -> np.ndarray:
        """Each lane has the wind of its shift, and no turbulence."""
        values = values.copy()
        for wind in self._winds:
            _, speed, direction, turbulence, _ = (self._task.parameters.index(name) for name in wind.parameters)
            x, y = shift[:, -2:].T
            values[:, speed], values[:, direction] = np.hypot(x, y), np.arctan2(y, x)
            values[:, turbulence] = 0.0
        return values

    def _sensed(self, values: np.ndarray, true: np.ndarray) -> np.ndarray:
        """(L, T, m) through the task's sensors, which see the rows before the start too."""
        task, n, j = self._task, len(values), self._joints
        columns = {name: values[:, i] for i, name in enumerate(task.parameters.names)}
        effects = [effect for effect in task.sensor_effects if not effect.noisy]
        for effect in effects:
            effect.bind(n, j, self._bodies, task.control_period_s)
            effect.reset(np.ones(n, bool), columns)
        out = np.empty((n, true.shape[1] - self._before - 1, true.shape[2]))
        for k in range(true.shape[1]):
            pose = np.zeros((n, self._bodies, 7))
            pose[:, :, :3] = true[:, k, 2 * j :].reshape(n, self._bodies, 3)
            state = State(true[:, k, :j], true[:, k, j : 2 * j], pose)
            for effect in effects:
                state = effect.apply(state, None)
            if k > self._before:
                out[:, k - self._before - 1] = self._channels(state)
        return out


def shifts(task: Task) -> int:
    """How many columns a window's shift has."""
    flies = isinstance(task.scene.actuation, Rotors)
    windy = any(isinstance(effect, Wind) for effect in task.disturbances)
    return 2 * len(task.joints) * flies + 2 * windy


def _rows(state: State, rows: np.ndarray) -> State:
    names = ("joint_position", "joint_velocity", "body_pose", "body_twist")
    return State(*(getattr(state, name)[rows] for name in names if len(getattr(state, name))))


def _at(table: np.ndarray, row: np.ndarray) -> np.ndarray:
    """(L, r, m) rows of tables (L, R, m) at fractional `row` (L, r), linearly in between."""
    row = np.clip(row, 0.0, table.shape[1] - 1.001)
    whole = row.astype(int)
    lane = np.arange(len(table))[:, None]
    lower, upper = table[lane, whole], table[lane, whole + 1]
    return lower + (upper - lower) * (row - whole)[..., None]
