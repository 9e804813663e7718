"""This project's loop as a contender: the Sim2Real algorithm with a remote runner and an evaluator, without a robot."""

from __future__ import annotations

import importlib
import threading
import time

import ray

from benchmarks.peers.contender import Meter, Settings, start_ray
from pipeline.config import Experiment, load_experiment

NO_END = 10**9


def experiment(settings: Settings) -> Experiment:
    """One stage: simulation only, the task's own ranges at full strength."""
    learner = {
        "hidden": list(settings.hidden),
        "batch_size": settings.batch_size,
        "actor_lr": settings.learning_rate,
        "critic_lr": settings.learning_rate,
        "alpha_lr": settings.learning_rate,
        "tau": settings.tau,
        "gamma": settings.gamma,
        "updates_per_env_step": settings.updates_per_env_step,
        "warmup_steps": settings.warmup_steps,
        "sim_capacity": settings.replay,
    }
    stage = {"name": "randomized", "sim_ratio": 1.0, "dr_strength": 1.0, "updates": NO_END}
    values = {
        "seed": settings.seed,
        "stages": [stage],
        "sim.runners": 1,
        "sim.worlds_per_runner": settings.worlds,
        "evaluation.evaluators": 1,
        **{f"learner.{key}": value for key, value in learner.items()},
    }
    return load_experiment().with_values(values)


class WholeLoop:
    """Trains as `sim2real train` does between two robot rounds."""

    def __init__(self, settings: Settings) -> None:
        ahead = threading.Thread(target=importlib.import_module, args=("pipeline.algorithm",))
        ahead.start()  # as `sim2real train` does: RLlib is imported while Ray starts
        start_ray(4)
        ahead.join()
        from pipeline.algorithm import Sim2Real

        plain = experiment(settings).to_dict()
        self._algorithm = Sim2Real({"experiment": plain, "sweep": {}, "robot_actor": None, "namespace": ""})
        self.meter = Meter(self._algorithm.learner_group, "update")

    @property
    def updates(self) -> int:
        return self._algorithm.updates

    @property
    def env_steps(self) -> int:
        return self._algorithm.sampler.env_steps

    def train(self, seconds: float) -> None:
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            self._algorithm.train()

    def export(self) -> bytes:
        return self._algorithm.export()

    def close(self) -> None:
        self._algorithm.stop()
        ray.shutdown()
