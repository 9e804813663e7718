"""Policies are ranked by what they do in the worlds that may be the robot's."""

from __future__ import annotations

import json

import numpy as np
import pytest
import yaml

from pipeline import cli
from pipeline.config import load_experiment, save_experiment
from pipeline.identify import identified
from pipeline.preflight import Flight, fly, policies_of, robots, training_likelihood
from pipeline.run import CONFIG_FILE, POLICY_FILE, RunError
from tests.pipeline.test_identify_task import recordings
from tests.robot.policies import balancing_gains, linear_policy

CARTPOLE = load_experiment("cartpole").make_task()
POLICIES = {
    "balancing": linear_policy(CARTPOLE, balancing_gains(CARTPOLE)),
    "idle": linear_policy(CARTPOLE, np.zeros(CARTPOLE.policy_size)),
}


@pytest.fixture
def experiment():
    return load_experiment("cartpole", ["randomization.strength=0.2"])


def test_a_policy_that_balances_is_preferred_to_one_that_does_nothing(experiment):
    them = robots(experiment, None, 8, seed=0)
    low, high = experiment.ranges().effective(1.0)
    assert (them >= low).all() and (them <= high).all() and len(np.unique(them[:, 1])) == 8
    flights = [fly(experiment, policy, name, them, 0, None) for name, policy in POLICIES.items()]
    best, worst = sorted(flights, key=lambda flight: flight.merit, reverse=True)
    assert best.policy == "balancing" and best.success > worst.success == 0.0
    assert fly(experiment, POLICIES["balancing"], "balancing", them, 0, None) == flights[0]


def test_what_was_identified_replaces_the_ranges_and_the_rest_stays_wide(experiment, tmp_path):
    entry = {"value": 1.5, "low": 1.45, "high": 1.55, "unit": "kg", "known": "told"}
    content = {"format": 2, "task": "cartpole", "values": {"cart.mass_kg": entry}}
    content |= {"order": ["cart.mass_kg"], "mean": [1.5], "covariance": [[0.0004]]}
    (tmp_path / "known.yaml").write_text(yaml.safe_dump(content))
    known = identified.load(tmp_path / "known.yaml", experiment.make_task())
    them = robots(experiment, known, 200, seed=0)
    mass, lag = (known.space.index(name) for name in ("cart.mass_kg", "action.lag_ms"))
    assert them[:, mass].mean() == pytest.approx(1.5, abs=0.01) and them[:, mass].std() < 0.03
    assert them[:, lag].std() > 5.0


def test_recordings_are_likelier_under_ranges_that_hold_the_robot():
    (log,) = recordings(1, 8.0)
    near = load_experiment("pendulum")
    far = load_experiment("pendulum", ["randomization.ranges.world.gravity_m_s2=[6.0, 6.2]"])
    good, bad = (training_likelihood(experiment, [log], seed=0) for experiment in (near, far))
    assert good > bad + 0.1


def test_all_policies_of_runs_are_ranked(experiment, tmp_path, capsys):
    for name, policy in POLICIES.items():
        folder = tmp_path / name
        checkpoint = folder / "tune" / "trial" / "checkpoint_000000"
        checkpoint.mkdir(parents=True)
        save_experiment(experiment, folder / CONFIG_FILE)
        (checkpoint / POLICY_FILE).write_bytes(policy)
    (tmp_path / "idle" / POLICY_FILE).write_bytes(POLICIES["idle"])
    assert len(policies_of(tmp_path / "idle")) == 2
    command = ["preflight", str(tmp_path / "idle"), str(tmp_path / "balancing"), "--robots", "4", "--json"]
    assert cli.main(command) == 0
    ranking = json.loads(capsys.readouterr().out)
    assert len(ranking) == 2 and "balancing" in ranking[0]["policy"] and ranking[0]["likelihood"] is None
    assert set(ranking[0]) == set(Flight.__dataclass_fields__)
    assert cli.main([*command[:-1]]) == 0 and "policy" in capsys.readouterr().out
    with pytest.raises(RunError, match="holds no policy"):
        policies_of(tmp_path)
    assert cli.main(["preflight", str(tmp_path)]) == cli.EXIT_USER
