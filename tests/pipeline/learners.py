"""Small SAC learner groups and made-up transitions for tests."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

from pipeline.learner import FlatSACLearner
from pipeline.module import AsymmetricSACModule

OBS, POLICY, ACTIONS, ROWS = 11, 7, 2, 64


def learner_group(
    learner_class: type = FlatSACLearner, hidden: tuple[int, ...] = (32, 32), seed: int = 0, **training: Any
) -> LearnerGroup:
    """A local learner group for observations of 11 columns, 7 of them the actor's, and 2 actions."""
    observations = gym.spaces.Box(-np.inf, np.inf, (OBS,), np.float32)
    actions = gym.spaces.Box(-1.0, 1.0, (ACTIONS,), np.float32)
    module = RLModuleSpec(
        module_class=AsymmetricSACModule, model_config={"policy_size": POLICY, "hidden": list(hidden)}
    )
    config = (
        SACConfig()
        .environment(observation_space=observations, action_space=actions)
        .learners(learner_class=learner_class)
        .training(**{"actor_lr": 3e-4, **training})
        .rl_module(rl_module_spec=module)
        .debugging(seed=seed, log_level="ERROR")
    )
    return config.build_learner_group(spaces={DEFAULT_MODULE_ID: (observations, actions)})


def transitions(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        "obs": random.normal(size=(rows, OBS)).astype(np.float32),
        "new_obs": random.normal(size=(rows, OBS)).astype(np.float32),
        "actions": random.uniform(-1, 1, (rows, ACTIONS)).astype(np.float32),
        "rewards": random.normal(size=rows).astype(np.float32),
        "terminateds": random.random(rows) < 0.2,
    }


def update(
    group: LearnerGroup, columns: dict[str, np.ndarray], rows: int = ROWS, timestep: int = 0
) -> dict[str, float]:
    """Train on the columns, minibatches of `rows` rows; the statistics as numbers."""
    batch = MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=len(columns["rewards"]))
    results = group.update(
        batch=batch,
        minibatch_size=rows,
        num_epochs=1,
        timesteps={"num_env_steps_sampled_lifetime": timestep},
    )
    values = {name: np.asarray(value.peek()) for name, value in results[0][DEFAULT_MODULE_ID].items()}
    return {name: float(value) for name, value in values.items() if value.ndim == 0}


def learner_of(group: LearnerGroup) -> Any:
    return group._learner


def module_of(group: LearnerGroup) -> Any:
    """The module itself, not a copy."""
    return learner_of(group).module[DEFAULT_MODULE_ID]


def trained_state(group: LearnerGroup) -> dict[str, torch.Tensor]:
    """Copies of all networks, log_alpha and Adam's state."""
    learner = learner_of(group)
    state = {name: value.detach().clone() for name, value in module_of(group).state_dict().items()}
    state["log_alpha"] = learner.curr_log_alpha[DEFAULT_MODULE_ID].detach().clone()
    for name, optimizer in learner._named_optimizers.items():
        for index, parameter in enumerate(optimizer.param_groups[0]["params"]):
            for key, value in optimizer.state[parameter].items():
                state[f"{name}.{index}.{key}"] = value.detach().clone()
    return state


def largest_difference(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)
