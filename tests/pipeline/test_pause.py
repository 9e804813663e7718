"""A robot that moves in real time has the machine to itself: runners pause, the learner goes on, and all resumes."""

from __future__ import annotations

import time

import ray

from pipeline.actors.robot_actor import RobotActor
from pipeline.algorithm import Sim2Real
from pipeline.config import load_experiment
from pipeline.telling import tell
from tests.pipeline.test_algorithm import OVERRIDES

ROBOT = {"mode": "realtime", "watchdog_ms": 2000.0, "max_lateness_ms": 1e4}  # a loaded machine is late
CHANGES = {
    "deterministic": False,
    "sim.runners": 1,
    "evaluation.evaluators": 1,
    "learner.max_reuse": 1e4,
    "rounds.collect_round_episodes": 2,
    "stages": [{"name": "mixed", "sim_ratio": 0.5, "dr_strength": 1.0, "updates": 10**6, "collect_episodes": 2}],
}


def test_runners_pause_in_a_real_time_round_and_learning_goes_on(ray_session, tmp_path):
    experiment = load_experiment().with_values({**OVERRIDES, **CHANGES})
    experiment = experiment.model_copy(update={"robot": experiment.robot.model_copy(update=ROBOT)})
    options = {"name": "robot:pause", "num_cpus": 0, "max_concurrency": 4}
    settings = experiment.robot.model_dump(mode="json")
    actor = ray.remote(RobotActor).options(**options).remote(settings, "cartpole", str(tmp_path))
    namespace = ray.get_runtime_context().namespace
    trial = Sim2Real({"experiment": experiment.to_dict(), "robot_actor": "robot:pause", "namespace": namespace})
    try:
        assert ray.get(actor.opened.remote()) == ""
        end, alone = time.monotonic() + 240, 0
        while tell(trial.campaign, 0)["robot"]["episodes"] < 2:
            assert time.monotonic() < end, ray.get(actor.status.remote())
            before, paused = (trial.updates, trial.sampler.env_steps), trial.sampler.paused
            quiet = paused and not trial.sampler.pool.in_flight()
            trial.train()
            assert trial.updates == before[0] + 20
            if quiet and trial.sampler.paused and trial.sampler.env_steps == before[1]:
                alone += 1
            assert not (quiet and trial.sampler.paused) or trial.sampler.env_steps == before[1]
        assert alone, "the learner learned while the runners paused"
        steps = trial.sampler.env_steps
        while trial.sampler.paused or trial.sampler.env_steps == steps:
            assert time.monotonic() < end
            trial.train()
    finally:
        trial.stop()
        ray.get(actor.close.remote())
        ray.kill(actor)  # pyright: ignore[reportArgumentType]
