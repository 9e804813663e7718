"""Stable-Baselines3's SAC as a contender, on the same vector environment as everyone (Raffin et al. 2021)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.vec_env import VecEnv

from benchmarks.peers.contender import Meter, Settings
from envs.randomization.parameters import Ranges
from envs.registry import make_task
from envs.vector_env import TaskVectorEnv
from pipeline.export import export_policy

CALL_STEPS = 800  # control steps of one call of `learn`; it can only be left cleanly at its end


class TaskVecEnv(VecEnv):
    """A TaskVectorEnv behind SB3's interface: both restart a world in the step that ends its episode."""

    def __init__(self, env: TaskVectorEnv) -> None:
        self._env, self._seed = env, None
        super().__init__(env.num_envs, env.single_observation_space, env.single_action_space)

    def reset(self) -> np.ndarray:
        seed, self._seed = self._seed, None
        return self._env.reset(seed=seed)[0]

    def seed(self, seed: int | None = None) -> list[int | None]:
        self._seed = seed
        return [seed] * self.num_envs

    def step_async(self, actions: np.ndarray) -> None:
        self._actions = actions

    def step_wait(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        obs, reward, terminated, truncated, info = self._env.step(self._actions)
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        ended = terminated | truncated
        for i in np.flatnonzero(ended):
            infos[i] = {"terminal_observation": info["final_obs"][i], "TimeLimit.truncated": bool(truncated[i])}
        return obs, reward, ended, infos

    def close(self) -> None:
        self._env.close()

    def get_attr(self, attr_name: str, indices: Any = None) -> list[Any]:
        return [getattr(self._env, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: Any = None) -> None:
        raise NotImplementedError("the worlds have no attributes of their own")

    def env_method(self, method_name: str, *args: Any, indices: Any = None, **kwargs: Any) -> list[Any]:
        raise NotImplementedError("the worlds have no methods of their own")

    def env_is_wrapped(self, wrapper_class: type, indices: Any = None) -> list[bool]:
        return [False for _ in self._get_indices(indices)]


class StableBaselines:
    """Its defaults where the benchmark's settings say nothing."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)
        self._task = make_task("cartpole")
        ranges = Ranges.from_dict(self._task.parameters, {})
        env = TaskVectorEnv(self._task, settings.worlds, seed=settings.seed, ranges=ranges)
        self._model = SAC(
            "MlpPolicy",
            TaskVecEnv(env),
            learning_rate=settings.learning_rate,
            buffer_size=settings.replay,
            learning_starts=settings.warmup_steps,
            batch_size=settings.batch_size,
            tau=settings.tau,
            gamma=settings.gamma,
            train_freq=1,
            gradient_steps=settings.updates_per_vector_step,
            policy_kwargs={"net_arch": list(settings.hidden)},
            seed=settings.seed,
            device="cpu",
        )
        self.meter = Meter(self._model, "train")

    @property
    def updates(self) -> int:
        return self._model._n_updates

    @property
    def env_steps(self) -> int:
        return self._model.num_timesteps

    def train(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self._model.learn(CALL_STEPS, reset_num_timesteps=False)

    def export(self) -> bytes:
        """SB3 keeps mean and log standard deviation in two heads; ours are the two halves of one."""
        state = {name: value.detach().cpu().numpy() for name, value in self._model.actor.state_dict().items()}
        hidden = sorted({int(name.split(".")[1]) for name in state if name.startswith("latent_pi.")})
        weights = {f"pi.{i}.{kind}": state[f"latent_pi.{i}.{kind}"] for i in hidden for kind in ("weight", "bias")}
        for kind in ("weight", "bias"):
            weights[f"pi.{hidden[-1] + 2}.{kind}"] = np.concatenate([state[f"mu.{kind}"], state[f"log_std.{kind}"]])
        return export_policy(weights, self._task, version=self.updates, run="sb3")

    def close(self) -> None:
        self._model.env.close()  # type: ignore[union-attr]
