"""The Algorithm by itself: complete checkpoints, ranges while it runs, the share of robot data, and demotion."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.algorithm import Sim2Real, trial_experiment
from pipeline.config import load_experiment
from tests.e2e.helpers import CONFIG, numbers

OVERRIDES = {
    "deterministic": True,
    "learner.updates_per_iteration": 20,
    "learner.updates_per_call": 10,
    "learner.warmup_steps": 300,
    "sim.worlds_per_runner": 4,
    "sim.fragment_steps": 16,
    "evaluation.episodes": 2,
    "evaluation.worlds": 2,
    "evaluation.boundary_episodes": 2,
    "evaluation.every_updates": 20,
    "stages": [{**CONFIG["stages"][1], "updates": 5000, "adr": True}],
}


def build(**changes) -> Sim2Real:
    experiment = load_experiment().with_values({**OVERRIDES, **changes})
    return Sim2Real({"experiment": experiment.to_dict(), "robot_actor": None, "namespace": ""})


@pytest.fixture
def algorithm(ray_session):
    made = []

    def make(**changes) -> Sim2Real:
        made.append(build(**changes))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def real_rows(algorithm: Sim2Real, count: int) -> None:
    """Robot transitions as they arrive: without the privileged group."""
    rng, task = np.random.default_rng(0), algorithm.task
    algorithm.real_replay.add(
        {
            "obs": rng.normal(size=(count, task.policy_size)).astype(np.float32),
            "new_obs": rng.normal(size=(count, task.policy_size)).astype(np.float32),
            "actions": rng.uniform(-1, 1, (count, task.action_size)).astype(np.float32),
            "rewards": rng.normal(size=count).astype(np.float32),
            "terminateds": np.zeros(count, bool),
        }
    )


def same(a, b, path: str = "") -> None:
    """Two states are equal to the last bit."""
    assert type(a) is type(b), path
    if isinstance(a, dict):
        assert a.keys() == b.keys(), path
        for key in a:
            same(a[key], b[key], f"{path}/{key}")
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i, pair in enumerate(zip(a, b, strict=True)):
            same(*pair, f"{path}/{i}")
    elif isinstance(a, np.ndarray):
        assert np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), path
    elif hasattr(a, "__dataclass_fields__"):
        same(vars(a), vars(b), path)
    else:
        assert a == b or (a != a and b != b), path


def test_checkpoint_holds_everything_and_training_goes_on_alike(algorithm, tmp_path):
    first = algorithm()
    real_rows(first, 300)
    for _ in range(3):
        first.train()
    name = "cart.mass_kg"
    intervals = {**first.campaign.ranges.to_dict(), name: [0.8, 1.6]}
    assert first.set_ranges(5, intervals, [[name, "low"]]) == 5
    first.train()
    first.save_checkpoint(str(tmp_path))
    saved = first.get_state()["sim2real"]

    second = algorithm(seed=1)  # its own seed must not show after the restore
    second.load_checkpoint(str(tmp_path))
    same(second.get_state()["sim2real"], saved)
    assert second.campaign.ranges.version == 5 and second.campaign.ranges.to_dict()[name] == [0.8, 1.6]
    assert second.campaign.book.buffers and len(second.real_replay) == 300
    alphas = [a.learner_group.get_state()["learner"]["sac"] for a in (first, second)]
    assert float(np.asarray(next(iter(alphas[0]["log_alpha"].values())))) != 0.0
    assert str(alphas[0]) == str(alphas[1])
    assert (tmp_path / "policy.onnx").stat().st_size > 1000


def test_restored_trial_gives_the_results_of_the_one_it_was_saved_from(algorithm, tmp_path):
    first = algorithm()
    first.train()
    first.save_checkpoint(str(tmp_path))
    second = algorithm()
    second.load_checkpoint(str(tmp_path))
    for _ in range(2):
        assert numbers(second.train()) == numbers(first.train())


def test_newest_ranges_win_and_old_boundary_results_are_dropped(algorithm):
    trial = algorithm()
    campaign = trial.campaign
    wide, narrow = campaign.ranges.to_dict(), {**campaign.ranges.to_dict(), "action.gain": [0.9, 1.1]}
    assert trial.set_ranges(2, narrow, []) == 2
    assert trial.set_ranges(1, wide, []) == 2 and campaign.ranges.to_dict()["action.gain"] == [0.9, 1.1]
    result = trial.train()
    assert result["adr"]["version"] == 2 and result["adr"]["ranges"]["action.gain"] == [0.9, 1.1]
    assert trial.sampler.ranges_version == 2


def test_minibatches_have_the_stage_s_share_of_robot_rows(algorithm):
    trial = algorithm()
    real_rows(trial, 300)
    trial.train()
    size = trial.experiment.learner.batch_size
    assert trial.campaign.sim_ratio == 0.5 and trial.replay.realised_ratio == round(0.5 * size) / size


def test_swept_values_reach_the_trial():
    plain = load_experiment().to_dict()
    trial = trial_experiment({"experiment": plain, "sweep": {"learner.tau": 0.5, "randomization.strength": 0.25}})
    assert trial.learner.tau == 0.5 and trial.randomization.strength == 0.25 and trial.sweep is None
