"""SimRunner: steps many randomized worlds in one process and returns columns of transitions.

It imports neither torch nor RLlib, so a runner process is small and starts fast. Everything random in it is a
function of (seed, world, episode, step), so a runner that died and came back continues the same streams.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from envs.randomization.keyed import KeyedRandom
from envs.randomization.parameters import ParameterSpace, Ranges
from envs.registry import make_task
from envs.vector_env import TaskVectorEnv
from pipeline.policy import NumpyPolicy


@dataclass(frozen=True)
class Randomization:
    """What runners sample now; small enough to travel with every request."""

    version: int
    intervals: dict[str, list[float]]
    dr_strength: float
    nominal: dict[str, float] = field(default_factory=dict)  # where identification moved it
    correlation: list[list[float]] | None = None  # (d, d)

    @classmethod
    def of(cls, ranges: Ranges, dr_strength: float) -> Randomization:
        space = ranges.space
        nominal = dict(zip(space.names, space.nominal.tolist(), strict=True))
        correlation = None if space.correlation is None else space.correlation.tolist()
        return cls(ranges.version, ranges.to_dict(), dr_strength, nominal, correlation)

    def ranges(self, space: ParameterSpace) -> Ranges:
        correlation = None if self.correlation is None else np.array(self.correlation)
        return Ranges.from_dict(space.around(self.nominal, correlation), self.intervals, self.version)


@dataclass
class Chunk:
    """T vector steps of n worlds as columns of T * n rows, time-major, with what produced them."""

    columns: dict[str, np.ndarray]
    policy_version: int
    ranges_version: int
    next_episodes: np.ndarray  # (n,) where a replacement runner goes on
    episode_returns: np.ndarray  # of the episodes that ended
    episode_success: np.ndarray

    def __len__(self) -> int:
        return len(self.columns["rewards"])


class SimRunner:
    """n worlds of one task, numbered from `first_world` on.

    `sample` is the only thing called in a loop. Until weights arrive it acts uniformly at random, which fills the
    replay before learning starts.
    """

    def __init__(self, task: str, n: int, seed: int, first_world: int = 0, episodes: np.ndarray | None = None) -> None:
        self._task = make_task(task)
        self._explore = "explore", self._task.action_size
        self._env = TaskVectorEnv(
            self._task,
            n,
            seed=seed,
            first_world=first_world,
            groups=("policy", "privileged"),
            streams=(self._explore,),
        )
        self._random = KeyedRandom(seed)
        self._worlds = first_world + np.arange(n)
        self._policy: NumpyPolicy | None = None
        self._policy_version = -1
        self._randomization: Randomization | None = None
        self._obs: np.ndarray | None = None
        if episodes is not None:
            self._env.episodes = episodes

    def sample(
        self,
        weights: dict[str, np.ndarray] | None,
        policy_version: int,
        randomization: Randomization,
        steps: int,
    ) -> Chunk:
        """Advance every world by `steps` control steps with the given policy and randomization."""
        self._update(weights, policy_version, randomization)
        env, task = self._env, self._task
        n, size = env.num_envs, task.policy_size + task.privileged_size
        obs = np.empty((steps + 1, n, size), np.float32)
        actions = np.empty((steps, n, task.action_size), np.float32)
        rewards = np.empty((steps, n), np.float32)
        terminated = np.empty((steps, n), bool)
        following = np.empty((steps, n, size), np.float32)
        returns, success = [], []
        if self._obs is None:
            self._obs = env.reset()[0]
        obs[0] = self._obs
        for t in range(steps):
            actions[t] = self._act(obs[t, :, : task.policy_size])
            obs[t + 1], rewards[t], terminated[t], truncated, info = env.step(actions[t])
            following[t] = obs[t + 1]
            ended = terminated[t] | truncated
            if ended.any():
                following[t, ended] = info["final_obs"][ended]
                returns.append(info["episode_return"][ended])
                success.append(info["success"][ended])
        self._obs = obs[steps].copy()
        flat = lambda x: x.reshape(steps * n, *x.shape[2:])  # noqa: E731
        return Chunk(
            columns={
                "obs": flat(obs[:steps]),
                "new_obs": flat(following),
                "actions": flat(actions),
                "rewards": flat(rewards),
                "terminateds": flat(terminated),
            },
            policy_version=self._policy_version,
            ranges_version=randomization.version,
            next_episodes=env.episodes + 1,
            episode_returns=np.concatenate(returns) if returns else np.zeros(0, np.float32),
            episode_success=np.concatenate(success) if success else np.zeros(0, bool),
        )

    def restart_episodes(self, episodes: np.ndarray) -> None:
        """Begin new episodes with these numbers at the next `sample`: a checkpoint is an episode boundary."""
        self._env.episodes = episodes
        self._obs = None

    def close(self) -> None:
        self._env.close()

    def _update(self, weights, policy_version: int, randomization: Randomization) -> None:
        if weights is not None and policy_version != self._policy_version:
            self._policy, self._policy_version = NumpyPolicy(weights), policy_version
        if randomization != self._randomization:
            self._randomization = randomization
            self._env.set_randomization(randomization.ranges(self._task.parameters), randomization.dr_strength)

    def _act(self, policy_obs: np.ndarray) -> np.ndarray:
        env, size = self._env, self._task.action_size
        if self._policy is None:
            draw = self._random.uniform("warmup", self._worlds, env.episodes, size, env.steps)
            return (2.0 * draw - 1.0).astype(np.float32)
        return self._policy.act(policy_obs, env.normals(self._explore))
