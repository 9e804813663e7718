"""Robots that are simulated worlds: recordings of them, through the safety filter, as a session would make them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy

import numpy as np

from envs.task import State, Task
from envs.vector_env import TaskVectorEnv
from robot.excitation import Excitation
from robot.interface import Observation
from robot.logs import Log, clean
from robot.safety import SafetyFilter
from robot.settings import JointLimits


class _Given:
    """World i has the parameters of row i."""

    def __init__(self, values: np.ndarray) -> None:
        self._values = values

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        return self._values[world]


def record(
    task: Task,
    limits: Mapping[str, JointLimits],
    values: np.ndarray,
    excitations: Sequence[Excitation],
    seconds: float,
    speed: float = 1.0,
    seed: int = 0,
    told: Callable[[int], None] = lambda step: None,
) -> list[Log]:
    """One recording of each of n robots with parameters (n, d), under its own excitation, from where it rests.

    `speed` scales the velocity limits, as for the first episodes on a robot.
    """
    n, period_s = len(values), task.control_period_s
    steps = round(seconds / period_s)
    seen: list[State] = []
    watched = _watched(task, seen, steps)
    filters = [SafetyFilter(limits, task.joints, task.actuated, period_s) for _ in range(n)]
    for one in filters:
        one.reset(speed)
    env = TaskVectorEnv(watched, n, seed=seed, sampler=_Given(values))
    sent = np.zeros((steps, n, len(task.actuated)))
    try:
        env.reset()
        for k in range(steps):
            now = seen[-1]
            for i, (excitation, safe) in enumerate(zip(excitations, filters, strict=True)):
                reading = Observation(
                    now.joint_position[i].astype(float), now.joint_velocity[i].astype(float), 0.0, np.zeros(1)
                )
                asked = excitation.command(k * period_s, reading.joint_position, reading.joint_velocity)
                sent[k, i] = safe.filter(asked, reading, 0.0).command
                safe.sent(sent[k, i])
            env.step(task.action(sent[k]).astype(np.float32))
            told(k)
    finally:
        env.close()
    position = np.stack([state.joint_position for state in seen], axis=1).astype(float)  # (n, steps + 1, j)
    velocity = np.stack([state.joint_velocity for state in seen], axis=1).astype(float)
    return [
        clean(
            Log(
                time_s=period_s * np.arange(steps),
                position=position[i, :-1],
                velocity=velocity[i, :-1],
                effort=sent[:, i],
                joints=task.joints,
                motors=task.actuated,
                units={"effort": "SI"},
                source=f"simulated robot {i}",
            )
        )
        for i in range(n)
    ]


def _watched(task: Task, seen: list[State], steps: int) -> Task:
    """The task with what is measured kept in `seen`, beginning at rest, ended by nothing."""
    watched = copy(task)
    rest = np.array([task.rest or (0.0,) * len(task.joints)], np.float32)
    watched.max_steps = steps + 1
    watched.frame = lambda state, last_action: (seen.append(state), task.frame(state, last_action))[1]
    watched.failed = lambda state: np.zeros(len(state), bool)
    watched.initial = lambda uniform: State(
        np.repeat(rest, len(uniform), 0), np.zeros((len(uniform), len(task.joints)), np.float32)
    )
    return watched
