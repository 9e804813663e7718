"""TaskEnv: one world of a task as an ordinary Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding

from envs.randomization.parameters import Ranges
from envs.registry import make_task
from envs.vector_env import TaskVectorEnv
from envs.world import WorldError

Intervals = Mapping[str, Sequence[float]]


def make_vector(
    num_envs: int,
    task: str = "cartpole",
    ranges: Intervals | None = None,
    dr_strength: float = 1.0,
    groups: Sequence[str] = ("policy",),
    seed: int | None = None,
) -> TaskVectorEnv:
    """What `gymnasium.make_vec` builds.

    `ranges` None leaves every world nominal; a mapping {parameter: [low, high]} randomizes, where parameters
    that it does not name keep their default range (so {} is the task's own randomization). `seed` None draws
    one.
    """
    made = make_task(task)
    return TaskVectorEnv(
        made,
        num_envs,
        seed=seeding.np_random()[1] if seed is None else seed,
        ranges=None if ranges is None else Ranges.from_dict(made.parameters, ranges),
        dr_strength=dr_strength,
        groups=groups,
    )


class TaskEnv(gymnasium.Env):
    """The n = 1 view of a TaskVectorEnv, without automatic restart; arguments as for `make_vector`."""

    metadata: dict[str, Any] = {"render_modes": []}

    def __init__(
        self,
        task: str = "cartpole",
        ranges: Intervals | None = None,
        dr_strength: float = 1.0,
        groups: Sequence[str] = ("policy",),
        seed: int | None = None,
    ) -> None:
        self._vector = make_vector(1, task, ranges, dr_strength, groups, seed)
        self.task = self._vector.task
        self.observation_space = self._vector.single_observation_space
        self.action_space = self._vector.single_action_space
        self._episode = -1
        self._running = False

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        """Begin the next episode, or with a seed the first of that seed."""
        super().reset(seed=seed)
        self._episode = 0 if seed is not None else self._episode + 1
        self._vector.episodes = np.array([self._episode])
        obs, info = self._vector.reset(seed=seed)
        self._running = True
        return obs[0], {"parameters": info["parameters"][0]}

    def step(self, action: np.ndarray):
        """One control period. On the last step `info` holds success, episode_return and episode_steps."""
        if not self._running:
            raise WorldError("step: there is no current episode; call reset() first")
        action = np.asarray(action, np.float32)[None]
        obs, reward, terminated, truncated, info = self._vector.step(action)
        ended = bool(terminated[0] or truncated[0])
        outcome: dict[str, Any] = {}
        if ended:
            self._running = False
            obs = info["final_obs"]
            outcome = {key: info[key][0] for key in ("success", "episode_return", "episode_steps", "parameters")}
        return obs[0], float(reward[0]), bool(terminated[0]), bool(truncated[0]), outcome

    def close(self) -> None:
        self._vector.close()
