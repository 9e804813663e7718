"""Recordings as a task's own: its joints, its motors, in windows that can be simulated side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from envs.scene import Effort
from envs.task import Task
from robot.interface import RobotError
from robot.logs import Log

WARM_S = 0.3  # after a gap, what was commanded in it may still be on its way to the motors
LEAST_S = 3.0  # in all recordings together


@dataclass(frozen=True)
class Windows:
    """W stretches of T steps between rows: row k + 1 is what came of row k. Shorter ones end in steps not `valid`."""

    log: np.ndarray  # (W,) which recording
    piece: np.ndarray  # (W,) which piece, counted through all recordings
    time_s: np.ndarray  # (W, T + 1)
    measured: np.ndarray  # (W, T + 1, 2j) positions, then velocities
    valid: np.ndarray  # (W, T) bool

    def __len__(self) -> int:
        return len(self.log)

    @property
    def period_s(self) -> np.ndarray:
        """(W, T)"""
        return np.diff(self.time_s, axis=1)

    def pick(self, which: np.ndarray | slice) -> Windows:
        return Windows(self.log[which], self.piece[which], self.time_s[which], self.measured[which], self.valid[which])


def fits(task: Task) -> None:
    """Raise RobotError for a task that identification does not serve."""
    if task.scene.actuation != Effort() or task.bodies:
        raise RobotError(
            f"task: {task.name} is not driven by efforts alone; accepted for identification are tasks whose commands "
            "are efforts and whose robot touches nothing, such as cartpole and pendulum"
        )


def as_recorded_by(task: Task, log: Log) -> Log:
    """The log with the task's joints and motors in the task's order, efforts in SI; raises RobotError if it has others.

    Columns without names (`joint0`, …) are taken in the order they come in.
    """
    fits(task)
    joints = _order(log, "position and velocity", log.joints, task.joints)
    motors = _order(log, "effort", log.motors, task.actuated)
    effort = log.effort[:, motors]
    if log.units.get("effort") == "action":
        effort = np.asarray(task.command(effort), float)
    if wrong := next((p for p in log.problems if p.kind in ("units", "constant")), None):
        raise RobotError(wrong.sentence)
    units = {**log.units, "effort": "SI"}
    return replace(
        log,
        position=log.position[:, joints],
        velocity=log.velocity[:, joints],
        effort=effort,
        joints=task.joints,
        motors=task.actuated,
        units=units,
    )


def cut(logs: Sequence[Log], window_s: float) -> Windows:
    """Windows of about `window_s` that follow on each other, none across a gap; raises RobotError for too little."""
    found: list[tuple[int, int, slice]] = []
    piece = 0
    for number, log in enumerate(logs):
        steps = max(2, round(window_s / log.period_s))
        for rows in log.pieces():
            first = rows.start + int(np.searchsorted(log.time_s[rows] - log.time_s[rows.start], WARM_S))
            for begin in range(first, rows.stop - 2, steps):
                found.append((number, piece, slice(begin, min(begin + steps + 1, rows.stop))))
            piece += 1
    seconds = sum(float(logs[n].time_s[rows.stop - 1] - logs[n].time_s[rows.start]) for n, _, rows in found)
    if seconds < LEAST_S:
        names = ", ".join(log.source for log in logs)
        raise RobotError(
            f"{names}: {seconds:.2g} s without a gap are left, and at least {LEAST_S:g} s are needed: "
            "record a longer stretch without interruptions"
        )
    longest = max(rows.stop - rows.start for _, _, rows in found)
    width = logs[0].position.shape[1]
    time_s = np.empty((len(found), longest))
    measured = np.zeros((len(found), longest, 2 * width))
    valid = np.zeros((len(found), longest - 1), bool)
    for w, (number, _, rows) in enumerate(found):
        log, count = logs[number], rows.stop - rows.start
        time_s[w, :count] = log.time_s[rows]
        time_s[w, count:] = log.time_s[rows.stop - 1] + log.period_s * np.arange(1, longest - count + 1)
        measured[w, :count] = np.concatenate([log.position[rows], log.velocity[rows]], axis=1)
        valid[w, : count - 1] = True
    numbers = np.array([n for n, _, _ in found])
    return Windows(numbers, np.array([p for _, p, _ in found]), time_s, measured, valid)


def _order(log: Log, what: str, names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    if set(names) == set(wanted):
        return [list(names).index(name) for name in wanted]
    if len(names) == len(wanted) and not set(names) & set(wanted):
        return list(range(len(names)))
    raise RobotError(
        f"{log.source}: it has {what} of {', '.join(names)}; accepted are {', '.join(wanted)}, "
        f"named by --map as in position.{wanted[0]}=COLUMN"
    )
