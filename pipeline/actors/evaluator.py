"""Evaluator: measures an exported policy in simulation, in the nominal world, in the ranges, and on their bounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from envs.randomization.parameters import Ranges
from envs.randomization.samplers import BoundarySampler, UniformSampler
from envs.registry import make_task
from envs.vector_env import TaskVectorEnv
from pipeline.actors.sim_runner import Randomization
from robot.policy import ExportedPolicy


@dataclass(frozen=True)
class Scenario:
    """One evaluation request. Episode k runs in world `first_world + k`, so robot and simulation share starts."""

    kind: Literal["nominal", "randomized", "boundary"]
    episodes: int
    first_world: int
    randomization: Randomization
    boundaries: tuple[tuple[str, str], ...] = ()  # (parameter, "low" | "high") of episode k, for "boundary"


@dataclass
class Evaluation:
    """Per-episode outcomes of a scenario, and the versions they were measured under."""

    scenario: Scenario
    policy_version: int
    success: np.ndarray  # (episodes,) bool
    returns: np.ndarray  # (episodes,)
    steps: np.ndarray  # (episodes,)
    performance: np.ndarray  # (episodes,) in the task's ADR units


class _BoundarySweep:
    """Episode k samples inside the ranges, with its own one parameter fixed at one bound."""

    def __init__(self, ranges: Ranges, boundaries, first_world: int, seed: int) -> None:
        self._first_world = first_world
        self._samplers = [BoundarySampler(ranges, name, side, seed) for name, side in boundaries]

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        rows = [
            self._samplers[w - self._first_world].sample(world[i : i + 1], episode[i : i + 1])
            for i, w in enumerate(world)
        ]
        return np.concatenate(rows)


class Evaluator:
    """Keeps one vector environment and runs scenarios in it with the artifact that would ship."""

    def __init__(self, task: str, worlds: int, seed: int) -> None:
        self._task = make_task(task)
        self._seed = seed
        self._worlds = worlds
        self._env: TaskVectorEnv | None = None

    def run(self, policy: bytes, policy_version: int, scenario: Scenario) -> Evaluation:
        exported = ExportedPolicy(policy)
        parts = [
            self._run_batch(exported, scenario, start, min(self._worlds, scenario.episodes - start))
            for start in range(0, scenario.episodes, self._worlds)
        ]
        success, returns, steps = (np.concatenate(column) for column in zip(*parts, strict=True))
        performance = self._task.performance(success, returns)
        return Evaluation(scenario, policy_version, success, returns, steps, performance)

    def close(self) -> None:
        if self._env is not None:
            self._env.close()

    def _run_batch(self, policy: ExportedPolicy, scenario: Scenario, start: int, count: int):
        env = self._environment(scenario, scenario.first_world + start, scenario.boundaries[start : start + count])
        n = env.num_envs
        success, returns, steps = np.zeros(n, bool), np.zeros(n, np.float32), np.zeros(n, np.int64)
        pending = np.arange(n) < count
        obs, _ = env.reset()
        while pending.any():
            obs, _, terminated, truncated, info = env.step(policy.act(obs))
            ended = (terminated | truncated) & pending
            if ended.any():
                success[ended] = info["success"][ended]
                returns[ended] = info["episode_return"][ended]
                steps[ended] = info["episode_steps"][ended]
                pending &= ~ended
        return success[:count], returns[:count], steps[:count]

    def _environment(self, scenario: Scenario, first_world: int, boundaries) -> TaskVectorEnv:
        if self._env is None:
            self._env = TaskVectorEnv(self._task, self._worlds, seed=self._seed)
        env = self._env
        env.first_world = first_world
        env.episodes = np.zeros(self._worlds, np.int64)
        ranges = scenario.randomization.ranges(self._task.parameters)
        strength = scenario.randomization.dr_strength
        if scenario.kind == "nominal":
            env.set_sampler(UniformSampler(Ranges.nominal(ranges.space), 1.0, self._seed))
        elif scenario.kind == "randomized":
            env.set_sampler(UniformSampler(ranges, strength, self._seed))
        else:
            padding = (boundaries[0],) * (self._worlds - len(boundaries))
            env.set_sampler(_BoundarySweep(ranges, (*boundaries, *padding), first_world, self._seed))
        return env
