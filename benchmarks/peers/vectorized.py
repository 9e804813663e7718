"""Other ways to step many of the same environments: Stable-Baselines3's vector environments and RLlib's runner.

Each peer steps `sim2real/...` as its users would. Rates are control steps of one world for each second of wall
time, because some of them are several processes; the runner of the pipeline stands beside them in the same way.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from envs.env import TaskEnv, make_vector
from envs.registry import make_task

BLOCKS, BLOCK_STEPS = 5, 10
HIDDEN = 64


def rates(task: str, worlds: int, processes: int) -> dict[str, Any]:
    """Control steps a second of every contender; `processes` is how many SubprocVecEnv starts."""
    return {
        "sim2real_vector_steps_s": _vector(task, worlds),
        "sim2real_runner_steps_s": _runner(task, worlds),
        "sb3_dummy_steps_s": _sb3(task, worlds, in_processes=False),
        "sb3_subproc_steps_s": _sb3(task, processes, in_processes=True),
        "rllib_runner_steps_s": _rllib(task, worlds),
    }


def policy_weights(task: Any) -> dict[str, np.ndarray]:
    """A policy of the usual size with small random weights."""
    random = np.random.default_rng(0)
    sizes = [task.policy_size, HIDDEN, HIDDEN, 2 * task.action_size]
    layers = {}
    for i, (a, b) in enumerate(zip(sizes, sizes[1:], strict=False)):
        layers[f"pi.{2 * i}.weight"] = random.normal(scale=a**-0.5, size=(b, a)).astype(np.float32)
        layers[f"pi.{2 * i}.bias"] = np.zeros(b, np.float32)
    return layers


def _vector(task: str, worlds: int) -> float:
    env = make_vector(worlds, task, ranges={}, seed=0)
    action = _actions(env.action_space.shape)
    env.reset()
    rate = _rate(lambda: env.step(action), worlds)
    env.close()
    return rate


def _runner(task: str, worlds: int) -> float:
    from envs.randomization.parameters import Ranges
    from pipeline.actors.sim_runner import Randomization, SimRunner

    made = make_task(task)
    runner = SimRunner(task, worlds, seed=0)
    randomization = Randomization(0, Ranges.default(made.parameters).to_dict(), 1.0)
    weights = policy_weights(made)
    rate = _rate(lambda: runner.sample(weights, 0, randomization, BLOCK_STEPS), worlds * BLOCK_STEPS)
    runner.close()
    return rate


def _sb3(task: str, worlds: int, in_processes: bool) -> float:
    from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv

    kind = SubprocVecEnv if in_processes else DummyVecEnv
    env = kind([lambda i=i: TaskEnv(task, ranges={}, seed=i) for i in range(worlds)])
    action = _actions((worlds, *(env.action_space.shape or ())))
    env.reset()
    rate = _rate(lambda: env.step(action), worlds)
    env.close()
    return rate


def _rllib(task: str, worlds: int) -> float:
    """RLlib's runner in this process, with the policy of its SAC and its default connectors."""
    import ray
    from ray.rllib.algorithms.sac import SACConfig
    from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
    from ray.rllib.env.single_agent_env_runner import SingleAgentEnvRunner

    import envs  # noqa: F401  registers the environments
    from benchmarks.peers.contender import quiet_ray, start_ray

    start_ray(2)
    config = SACConfig()
    config.environment(f"sim2real/{task.capitalize()}-v0", env_config={"ranges": {}, "dr_strength": 1.0})
    config.env_runners(num_env_runners=0, num_envs_per_env_runner=worlds)
    config.rl_module(
        model_config=DefaultModelConfig(
            fcnet_hiddens=[HIDDEN] * 2, fcnet_activation="relu", fusionnet_hiddens=[HIDDEN] * 2
        )
    )
    config.debugging(seed=0, log_level="ERROR")
    quiet_ray()
    runner = SingleAgentEnvRunner(config=config)
    steps = worlds * BLOCK_STEPS
    rate = _rate(lambda: runner.sample(num_timesteps=steps, random_actions=False), steps)
    runner.stop()
    ray.shutdown()
    return rate


def _actions(shape: Any) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, shape).astype(np.float32)


def _rate(step: Callable[[], Any], steps: int) -> float:
    """Steps a second: the median of some blocks of about half a second, after one that is not counted."""
    step()
    began = time.perf_counter()
    step()
    calls = max(1, round(0.5 / max(time.perf_counter() - began, 1e-6)))
    found = []
    for _ in range(BLOCKS):
        began = time.perf_counter()
        for _ in range(calls):
            step()
        found.append(calls * steps / (time.perf_counter() - began))
    return statistics.median(found)
