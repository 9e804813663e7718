"""Our learner, through `LearnerGroup.update`, and a bare PyTorch SAC, in turns on the same minibatches.

Both get the columns that a replay gives; drawing them is not timed. Rates are by the wall clock. The ratio is of
updates per CPU-second, turn by turn, so that what else the machine does is not in it; on an idle machine both agree.
RLlib switches PyTorch to its deterministic mode when it is given a seed; bare PyTorch has its turns without.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from benchmarks.common import middle, peak_rss_mb, tell, tree
from benchmarks.peers.bare_sac import BareSAC
from benchmarks.peers.contender import Settings, quiet_ray
from benchmarks.peers.whole_loop import experiment
from envs.task import Task
from pipeline.algorithm import Sim2RealConfig

UPDATES_PER_CALL = 20  # as in training, LearnerSettings.updates_per_call
Columns = dict[str, np.ndarray]


def compare(settings: Settings, turns: int, turn_s: float) -> list[dict[str, Any]]:
    """Results of both. Ours has `ratio`: our updates per CPU-second over the bare ones, [least, median, most]."""
    torch.set_num_threads(1)
    quiet_ray()
    torch.manual_seed(settings.seed)
    setup = experiment(settings)
    task = setup.make_task()
    columns = _columns(settings, task)
    ours, bare = _ours(settings, setup.to_dict()), _bare(settings, task)
    deterministic = {"ours": torch.are_deterministic_algorithms_enabled(), "bare": False}
    rates: dict[str, list[float]] = {"ours": [], "bare": []}
    cpu_rates: dict[str, list[float]] = {"ours": [], "bare": []}
    for turn in range(turns):
        pair = [("ours", ours), ("bare", bare)]
        for name, step in pair if turn % 2 else reversed(pair):
            torch.use_deterministic_algorithms(deterministic[name])
            step(columns)
            rate, cpu_rate = _rates(step, columns, turn_s)
            rates[name].append(rate)
            cpu_rates[name].append(cpu_rate)
        tell(f"turn {turn + 1} of {turns}: {rates['ours'][-1]:,.0f} and {rates['bare'][-1]:,.0f} updates/s")
    ratios = [mine / theirs for mine, theirs in zip(cpu_rates["ours"], cpu_rates["bare"], strict=True)]
    memory = peak_rss_mb(tree(os.getpid()))
    unmeasured = dict.fromkeys(("updates_s", "env_steps_s", "to_095_s", "first_update_s"))
    common = {"seed": settings.seed, **unmeasured, "peak_rss_mb": memory}
    return [
        {
            **common,
            "name": "ours, learner alone",
            "learner_updates_s": middle(rates["ours"]),
            "learner_updates_cpu_s": middle(cpu_rates["ours"]),
            "ratio": [min(ratios), middle(ratios), max(ratios)],
        },
        {
            **common,
            "name": "bare torch SAC, learner alone",
            "learner_updates_s": middle(rates["bare"]),
            "learner_updates_cpu_s": middle(cpu_rates["bare"]),
        },
    ]


def _rates(step: Callable[[Columns], None], columns: Columns, seconds: float) -> tuple[float, float]:
    """Updates per second and per CPU-second."""
    calls, begun, cpu_begun = 0, time.perf_counter(), time.process_time()
    while (elapsed := time.perf_counter() - begun) < seconds:
        step(columns)
        calls += 1
    updates = calls * UPDATES_PER_CALL
    return updates / elapsed, updates / (time.process_time() - cpu_begun)


def _ours(settings: Settings, plain: dict[str, Any]) -> Callable[[Columns], None]:
    config = Sim2RealConfig.build({"experiment": plain})
    assert config.observation_space is not None and config.action_space is not None
    group = config.build_learner_group(spaces={DEFAULT_MODULE_ID: (config.observation_space, config.action_space)})

    def step(columns: Columns) -> None:
        batch = MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=len(columns["rewards"]))
        group.update(
            batch=batch,
            minibatch_size=settings.batch_size,
            num_epochs=1,
            timesteps={"num_env_steps_sampled_lifetime": 0},
        )

    return step


def _bare(settings: Settings, task: Task) -> Callable[[Columns], None]:
    agent = BareSAC(
        policy_size=task.policy_size,
        obs_size=task.policy_size + task.privileged_size,
        action_size=task.action_size,
        hidden=settings.hidden,
        learning_rate=settings.learning_rate,
        gamma=settings.gamma,
        tau=settings.tau,
    )
    size = settings.batch_size

    def step(columns: Columns) -> None:
        obs, new_obs, actions, rewards = (
            torch.from_numpy(columns[name]) for name in ("obs", "new_obs", "actions", "rewards")
        )
        terminated = torch.from_numpy(columns["terminateds"]).float()
        for first in range(0, len(rewards), size):
            rows = slice(first, first + size)
            agent.update(obs[rows], new_obs[rows], actions[rows], rewards[rows, None], terminated[rows, None])

    return step


def _columns(settings: Settings, task: Task) -> Columns:
    """Minibatches of one call, made up: the speed does not depend on what they say."""
    random, rows = np.random.default_rng(settings.seed), UPDATES_PER_CALL * settings.batch_size
    width = task.policy_size + task.privileged_size
    return {
        "obs": random.normal(size=(rows, width)).astype(np.float32),
        "new_obs": random.normal(size=(rows, width)).astype(np.float32),
        "actions": random.uniform(-1, 1, (rows, task.action_size)).astype(np.float32),
        "rewards": random.uniform(size=rows).astype(np.float32),
        "terminateds": random.random(rows) < 0.02,
    }
