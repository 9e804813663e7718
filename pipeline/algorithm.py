"""Sim2Real: the RLlib Algorithm that learns from simulation and the robot. Tested with Ray 2.60.

RLlib provides the learner group, checkpoints and the Tune trial. Sampling, evaluation and the robot are plain actors
(`pipeline.actors`), because RLlib's environment runners import torch and RLlib in every process and step through
Python connectors. All of RLlib this project touches is here and in `pipeline.spaces_only`,
`pipeline.module` and `pipeline.learner`.
"""

from __future__ import annotations

import copy
import time
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import ray
import torch
from ray.rllib.algorithms.algorithm import Algorithm
from ray.rllib.algorithms.sac import SAC, SACConfig
from ray.rllib.core import COMPONENT_LEARNER, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.learner.learner_group import LearnerGroup
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.tune import PlacementGroupFactory

from envs.registry import make_task
from envs.task import Task
from pipeline.campaign import Campaign
from pipeline.config import Experiment
from pipeline.evaluation import EvaluationService
from pipeline.export import actor_weights, export_policy
from pipeline.fitting import FitService
from pipeline.identify import identified
from pipeline.learner import FlatSACLearner
from pipeline.module import AsymmetricSACModule
from pipeline.replay import ColumnReplay, MixedReplay
from pipeline.robot_link import RobotLink
from pipeline.run import FOUND_FILE, POLICY_FILE, bundles, first_bundle
from pipeline.sampling import SimSampler
from pipeline.spaces_only import SpacesOnly
from pipeline.telling import tell
from pipeline.worlds import evaluation_seed

WAIT_S = 0.05  # between looks at runners that the learner waits for
IDLE_S = 0.5  # between looks at measurements once training is over


def trial_experiment(config: Any) -> Experiment:
    """The experiment of one trial, with its own values of a sweep, from a trial's configuration."""
    if not isinstance(config, dict):
        return Experiment.model_validate(config.experiment)
    return Experiment.model_validate(config["experiment"]).with_values(config.get("sweep") or {})


class Sim2RealConfig(SACConfig):
    """SAC with the settings of an Experiment. `experiment`, `robot_actor` and `namespace` are plain data."""

    def __init__(self, algo_class: type | None = None) -> None:
        super().__init__(algo_class=algo_class or Sim2Real)
        self.experiment: dict[str, Any] = {}
        self.robot_actor: str | None = None
        self.namespace: str = ""

    @classmethod
    def build(cls, config: dict[str, Any]) -> Sim2RealConfig:
        """From what Tune hands over: {"experiment", "sweep": {key.path: value}, "robot_actor", "namespace"}."""
        experiment = trial_experiment(config)
        task, learner = make_task(experiment.task), experiment.learner
        columns = task.policy_size + task.privileged_size
        self = cls()
        self.experiment = experiment.model_dump(mode="json")
        self.robot_actor, self.namespace = config.get("robot_actor"), config.get("namespace", "")
        self.environment(
            observation_space=gym.spaces.Box(-np.inf, np.inf, (columns,), np.float32),
            action_space=gym.spaces.Box(-1.0, 1.0, (task.action_size,), np.float32),
        )
        self.env_runners(env_runner_cls=SpacesOnly, num_env_runners=0)
        self.rl_module(
            rl_module_spec=RLModuleSpec(
                module_class=AsymmetricSACModule,
                model_config={"policy_size": task.policy_size, "hidden": list(learner.hidden)},
            )
        )
        self.training(
            train_batch_size_per_learner=learner.batch_size,
            actor_lr=learner.actor_lr,
            critic_lr=learner.critic_lr,
            alpha_lr=learner.alpha_lr,
            tau=learner.tau,
            gamma=learner.gamma,
            target_entropy="auto" if learner.target_entropy is None else learner.target_entropy,
            grad_clip=learner.grad_clip,
        )
        self.learners(learner_class=FlatSACLearner)
        self.debugging(seed=experiment.seed, log_level="ERROR")
        return self


class Sim2Real(SAC):
    """One trial: samples, learns, evaluates and asks for robot rounds, `updates_per_iteration` updates a result."""

    config: Sim2RealConfig
    learner_group: LearnerGroup

    def __init__(self, config: Any = None, *args: Any, **kwargs: Any) -> None:
        torch.set_num_threads(1)  # two torch threads beside busy runners are slower than one
        super().__init__(Sim2RealConfig.build(config) if isinstance(config, dict) else config, *args, **kwargs)

    @classmethod
    def get_default_config(cls) -> Sim2RealConfig:
        return Sim2RealConfig()

    @classmethod
    def default_resource_request(cls, config: Any) -> PlacementGroupFactory:
        """One bundle each for learner, runners, evaluators and fits. The robot is outside every trial's group."""
        every = bundles(trial_experiment(config)).values()
        return PlacementGroupFactory([{"CPU": cpus} for kind in every for cpus in kind])

    # -- building -------------------------------------------------------------------------------------------------

    def setup(self, config: Any) -> None:
        self.experiment = Experiment.model_validate(self.config.experiment)
        e = self.experiment
        self.task: Task = make_task(e.task)
        self.sampler = SimSampler(  # started first: its processes come up while this one imports and builds
            e.task,
            runners=0 if e.deterministic else e.sim.runners,
            worlds=e.sim.worlds_per_runner,
            fragment_steps=e.sim.fragment_steps,
            seed=e.seed,
            num_cpus=e.sim.runner_cpus,
            first_bundle=first_bundle(e, "runners"),
        )
        self.evaluations = EvaluationService(
            e.task,
            e.evaluation.worlds,
            evaluation_seed(e.seed),
            0 if e.deterministic else e.evaluation.evaluators,
            e.evaluation.cpus,
            first_bundle=first_bundle(e, "evaluators"),
        )
        self.fits = FitService(e.task, not e.deterministic, bundle=first_bundle(e, "fits"))
        self.robot = RobotLink(self.config.robot_actor, self.config.namespace, client=self._run_name())
        Algorithm.setup(self, config)  # DQN.setup, in between, wants a module in an environment runner
        self.campaign = Campaign(e, self.task, self.evaluations, self.fits, self.robot, self._run_name())
        self.updates = 0
        self.train_s = 0.0
        self._training_s = 0.0  # of it, until the last gradient update
        self._losses: dict[str, float] = {}
        self._snapshots: dict[int, Any] = {}  # learner state on entering each stage, for demotion
        self._first_update_at: float | None = None
        self._publish()

    def _create_local_replay_buffer_if_necessary(self, config: Any) -> None:
        """RLlib's hook for replay buffers: ours are columns, one ring for each source."""
        e, task = self.experiment, self.task
        columns = task.policy_size + task.privileged_size
        self.sim_replay = ColumnReplay(e.learner.sim_capacity, columns, task.action_size, e.seed)
        self.real_replay = ColumnReplay(e.learner.real_capacity, columns, task.action_size, e.seed + 1)
        self.replay = MixedReplay(
            self.sim_replay,
            self.real_replay,
            e.learner.batch_size,
            privileged=slice(task.policy_size, columns),
            privileged_dropout=e.learner.privileged_dropout,
        )

    def _run_name(self) -> str:
        return f"{self.experiment.name}-seed{self.experiment.seed}-{self.trial_id}"

    # -- one iteration --------------------------------------------------------------------------------------------

    def step(self) -> dict[str, Any]:
        """Train for one iteration, or wait: for measurements once training is over, or where a stage says so."""
        started = time.perf_counter()
        before = (self.updates, self.sampler.env_steps)
        if self.campaign.training and not self.campaign.waiting:
            self._train_iteration()
        elif not self.experiment.deterministic:
            time.sleep(IDLE_S)
        self._steer()
        elapsed = time.perf_counter() - started
        self.train_s += elapsed
        if self.campaign.training:
            self._training_s = self.train_s
        return self._result(before, elapsed)

    def _train_iteration(self) -> None:
        settings = self.experiment.learner
        target = self.updates + settings.updates_per_iteration
        while self.updates < target:
            count = min(settings.updates_per_call, target - self.updates)
            self._gather(count)
            columns = self.replay.sample(count, self.campaign.sim_ratio, settings.min_real)
            self._learn(columns)
            self.updates += count
            self._publish()

    def _gather(self, count: int) -> None:
        """Bring in what runners and robot have, and wait only if `count` updates would outrun the data too far.

        While a robot moves in real time on this machine nothing new is simulated, and learning goes on from what is
        here, as far as `max_reuse` allows.
        """
        settings, sampler = self.experiment.learner, self.sampler
        ratio, warmup = settings.updates_per_env_step, settings.warmup_steps
        wanted = warmup + (self.updates + count) / ratio
        randomization = self.campaign.randomization
        if sampler.is_local:
            while sampler.env_steps < wanted:
                self.sim_replay.add(sampler.sample(self._weights, self._version, randomization).columns)
            return
        needed = warmup + (self.updates + count) / (ratio * settings.max_reuse)
        while True:
            if sampler.paused:
                self._hear_robot()
            sampler.request(self._weights_ref, self._version, randomization, wanted)
            behind = sampler.env_steps < needed
            for chunk in sampler.collect(timeout_s=WAIT_S if behind else 0.0):
                self.sim_replay.add(chunk.columns)
            if sampler.env_steps >= needed:
                return

    def _hear_robot(self) -> None:
        for columns in self.campaign.hear():
            self.real_replay.add(columns)  # without the privileged group, which a robot lacks
        self.sampler.paused = self.evaluations.paused = self.fits.paused = self.robot.realtime_round

    def _learn(self, columns: dict[str, np.ndarray]) -> None:
        rows = len(columns["rewards"])
        batch = MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(columns)}, env_steps=rows)
        results = self.learner_group.update(
            batch=batch,
            minibatch_size=self.experiment.learner.batch_size,
            num_epochs=1,
            timesteps={"num_env_steps_sampled_lifetime": self.sampler.env_steps},
        )
        self._losses = _scalars(results[0][DEFAULT_MODULE_ID])
        if self._first_update_at is None:
            self._first_update_at = time.time()

    def _publish(self) -> None:
        """Make the current actor available to runners, evaluators and the robot."""
        state = self.learner_group.get_state(
            components=f"{COMPONENT_LEARNER}/{COMPONENT_RL_MODULE}", inference_only=True
        )
        module_state = state[COMPONENT_LEARNER][COMPONENT_RL_MODULE][DEFAULT_MODULE_ID]
        weights = actor_weights(module_state)
        self._version = self.updates
        # Before the first update runners act at random, which fills the replay with diverse data.
        self._weights = weights if self.updates else None
        self._weights_ref = None if self.sampler.is_local or self._weights is None else ray.put(self._weights)
        self._export_weights = weights

    def export(self) -> bytes:
        """The artifact that ships: the policy of the moment, or the one the finished campaign chose."""
        if self.campaign.final is not None:
            return self.campaign.final.policy
        return export_policy(self._export_weights, self.task, version=self.updates, run=self._run_name())

    def _steer(self) -> None:
        """Hear evaluations and the robot, then let the campaign decide about stage, rounds and ranges."""
        campaign = self.campaign
        self._hear_robot()
        stage_before = campaign.stage_index
        decision = campaign.steer(self.updates, self.export)
        if decision == "advance":
            self._snapshots[campaign.stage_index] = self._learner_state()
        elif decision == "demote":  # go on from what the stage that failed had begun with
            self._set_learner_state(self._snapshots[stage_before])
            self._publish()
        if self.experiment.deterministic:
            for columns in campaign.settle():
                self.real_replay.add(columns)

    def set_ranges(self, version: int, intervals: dict[str, list[float]], cleared: list[list[str]]) -> int:
        """Called by the ADR scheduler between two iterations; the newest version wins."""
        return self.campaign.set_ranges(version, intervals, cleared)

    # -- results --------------------------------------------------------------------------------------------------

    def _result(self, before: tuple[int, int], elapsed: float) -> dict[str, Any]:
        updates, env_steps = self.updates - before[0], self.sampler.env_steps - before[1]
        fraction = self.campaign.fraction(self.updates)
        pace_s = self._training_s / fraction if fraction > 0 else float("nan")
        remaining = (pace_s * (1.0 - fraction) if self.campaign.training else 0.0) + self.campaign.robot_eta_s()
        return {
            **tell(self.campaign, self.updates),
            "progress": {
                "env_steps": self.sampler.env_steps,
                "updates": self.updates,
                "env_steps_s": env_steps / elapsed,
                "updates_s": updates / elapsed,
                "fraction": fraction,
                "eta_s": remaining,
                "train_s": self.train_s,
                "first_update_at": self._first_update_at,
                "runner_deaths": self.sampler.pool.deaths,
                "sim_rows": len(self.sim_replay),
                "real_rows": len(self.real_replay),
            },
            "losses": self._losses,
            "done": self.campaign.finished,
        }

    def get_auto_filled_metrics(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """RLlib repeats its whole configuration in every result; the run folder has it once."""
        filled = super().get_auto_filled_metrics(*args, **kwargs)
        filled.pop("config", None)
        return filled

    # -- state ----------------------------------------------------------------------------------------------------

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        super().save_checkpoint(checkpoint_dir)
        (Path(checkpoint_dir) / POLICY_FILE).write_bytes(self.export())
        if (found := self.campaign.knowledge.content) is not None:
            identified.save(found, Path(checkpoint_dir) / FOUND_FILE)
        self.sampler.begin_new_episodes()  # a resumed run begins new episodes too, so both go on alike

    def get_state(self, components: Any = None, *, not_components: Any = None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component("sim2real", components, not_components):
            state["sim2real"] = {
                "updates": self.updates,
                "train_s": self.train_s,
                "training_s": self._training_s,
                "sampler": self.sampler.get_state(),
                "campaign": self.campaign.get_state(),
                "robot": self.robot.get_state(),
                "replay": self.replay.get_state(),
                "sim_replay": self.sim_replay.get_state(),
                "real_replay": self.real_replay.get_state(),
                "snapshots": self._snapshots,
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        super().set_state(state)
        own = state.get("sim2real")
        if own is None:
            return
        self.updates, self.train_s = own["updates"], own["train_s"]
        self._training_s = own["training_s"]
        self._snapshots = own["snapshots"]
        for part in ("sampler", "campaign", "robot", "replay", "sim_replay", "real_replay"):
            getattr(self, part).set_state(own[part])
        self._publish()

    def _learner_state(self) -> Any:
        return copy.deepcopy(self.learner_group.get_state()[COMPONENT_LEARNER])

    def _set_learner_state(self, state: Any) -> None:
        self.learner_group.set_state({COMPONENT_LEARNER: copy.deepcopy(state)})

    def cleanup(self) -> None:
        self.sampler.close()
        self.evaluations.close()
        self.fits.close()
        super().cleanup()


def _scalars(results: dict[str, Any]) -> dict[str, float]:
    """The plain numbers of one module's learner results."""
    peeked = {k: v.peek() if hasattr(v, "peek") else v for k, v in results.items()}
    return {k: float(v) for k, v in peeked.items() if isinstance(v, (int, float, np.number)) and np.isfinite(v)}
