"""RLlib's own SAC as a contender: the stock algorithm, learner, runner and replay of its new API stack."""

from __future__ import annotations

import time

import ray
import torch
from ray.rllib.algorithms.sac import SACConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig

import envs  # noqa: F401  registers the environment
from benchmarks.peers.contender import Meter, Settings, start_ray
from envs.registry import make_task
from pipeline.export import export_policy


def config(settings: Settings) -> SACConfig:
    """Defaults, but for what all contenders share. `training_intensity` is how RLlib is told updates per step."""
    hidden = list(settings.hidden)
    made = SACConfig()
    made.environment("sim2real/Cartpole-v0", env_config={"ranges": {}, "dr_strength": 1.0})
    made.env_runners(num_env_runners=0, num_envs_per_env_runner=settings.worlds)
    made.rl_module(
        model_config=DefaultModelConfig(fcnet_hiddens=hidden, fcnet_activation="relu", fusionnet_hiddens=hidden)
    )
    made.training(
        actor_lr=settings.learning_rate,
        critic_lr=settings.learning_rate,
        alpha_lr=settings.learning_rate,
        tau=settings.tau,
        gamma=settings.gamma,
        train_batch_size_per_learner=settings.batch_size,
        training_intensity=settings.updates_per_env_step * settings.batch_size,
        num_steps_sampled_before_learning_starts=settings.warmup_steps,
        replay_buffer_config={**made.replay_buffer_config, "capacity": settings.replay},
    )
    made.debugging(seed=settings.seed, log_level="ERROR")
    return made


class StockRLlib:
    """`Algorithm.train()` again and again; one iteration takes about a second."""

    def __init__(self, settings: Settings) -> None:
        torch.set_num_threads(1)
        start_ray(2)
        self._task = make_task("cartpole")
        self._algorithm = config(settings).build_algo()
        self.env_steps = 0
        self.meter = Meter(self._algorithm.learner_group, "update")

    @property
    def updates(self) -> int:
        return self.meter.calls

    def train(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            result = self._algorithm.train()
            self.env_steps = int(result["num_env_steps_sampled_lifetime"])

    def export(self) -> bytes:
        """Encoder and head of RLlib's actor are one plain network."""
        state = self._algorithm.get_module().get_state()  # type: ignore[union-attr]
        layers = [name.removesuffix(".weight") for name in state if name.startswith(("pi_encoder.", "pi."))]
        layers = [name for name in dict.fromkeys(layers) if f"{name}.weight" in state]
        layers.sort(key=lambda name: (not name.startswith("pi_encoder."), int(name.rpartition(".")[2])))
        weights = {
            f"pi.{2 * i}.{kind}": state[f"{name}.{kind}"]
            for i, name in enumerate(layers)
            for kind in ("weight", "bias")
        }
        return export_policy(weights, self._task, version=self.updates, run="rllib")

    def close(self) -> None:
        self._algorithm.stop()
        ray.shutdown()
