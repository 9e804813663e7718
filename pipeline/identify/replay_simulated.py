"""Episodes of robots that are simulated worlds, flown by a policy, as recordings to be replayed."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np

from envs.bullet import BulletWorlds
from envs.task import State, Task
from envs.vector_env import TaskVectorEnv
from pipeline.identify.replay_recording import Recording, simulated
from pipeline.identify.simulated import _Given
from robot.policy import Scripted


class _Timed:
    """Worlds that tell how long each period was."""

    def __init__(self, inner: BulletWorlds, period_s: float) -> None:
        self._inner, self._period_s = inner, period_s
        self.n, self.substeps = inner.n, inner.substeps
        self.periods_s: list[np.ndarray] = []

    def reset(self, mask: np.ndarray, state: State, parameters: np.ndarray) -> None:
        self._inner.reset(mask, state, parameters)

    def step(self, profile: np.ndarray, extra_s=None, forces=None) -> State:
        self.periods_s.append(self._period_s + (np.zeros(self.n) if extra_s is None else extra_s))
        return self._inner.step(profile, extra_s, forces)

    def close(self) -> None:
        self._inner.close()


def fly(task: Task, values: np.ndarray, pilot: Scripted, episodes: int, seed: int = 0) -> list[list[Recording]]:
    """For each of n robots with parameters (n, d), so many episodes; those that fail end there."""
    n = len(values)
    found: list[list[Recording]] = [[] for _ in range(n)]
    seen: list[State] = []
    watched = copy(task)
    watched.frame = lambda state, last_action: (seen.append(state), task.frame(state, last_action))[1]
    watched.failed = lambda state: np.zeros(len(state), bool)
    watched.max_steps = task.max_steps + 1
    worlds = _Timed(BulletWorlds(task, n), task.control_period_s)
    env = TaskVectorEnv(watched, n, seed=seed, sampler=_Given(values), world=worlds)
    try:
        for number in range(episodes):
            seen.clear()
            worlds.periods_s.clear()
            observation, _ = env.reset()
            pilot.begin(number)
            sent = np.zeros((task.max_steps, n, len(task.actuated)))
            over, last = np.zeros(n, bool), np.full(n, task.max_steps)
            for k in range(task.max_steps):
                action = np.clip(pilot.act(observation), -1.0, 1.0).astype(np.float32)
                sent[k] = task.command(action)
                observation, *_ = env.step(action)
                ends = task.failed(seen[-1]) & ~over
                last[ends], over = k + 1, over | ends
            columns, ends_s = _columns(seen), np.cumsum(worlds.periods_s, axis=0)
            for i in range(n):
                rows = slice(0, last[i] + 1)
                position, velocity, pose = (column[rows, i] for column in columns)
                name = f"simulated robot {i}, episode {number}"
                if last[i] > 3:
                    found[i].append(
                        simulated(task, ends_s[: last[i], i], position, velocity, sent[: last[i], i], pose, name)
                    )
    finally:
        env.close()
    return found


def _columns(seen: Sequence[State]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    pose = [state.body_pose if len(state.body_pose) else np.zeros((len(state), 0, 7)) for state in seen]
    return (
        np.stack([state.joint_position for state in seen]),
        np.stack([state.joint_velocity for state in seen]),
        np.stack(pose),
    )
