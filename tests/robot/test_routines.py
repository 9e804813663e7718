"""The simple tests of a joint find what a simulated robot has, inside its limits."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline import cli
from pipeline.config import load_experiment
from pipeline.identify.simulated import record
from robot.interface import RobotError
from robot.logs import Log
from robot.routines import ROUTINES, Estimate

CARTPOLE = {
    "cart.mass_kg": 1.5,
    "pole.mass_kg": 0.2,
    "cart.coulomb_n": 0.8,
    "cart.viscous_n_s_m": 0.4,
    "action.delay_ms": 35.0,
    "action.lag_ms": 30.0,
    "action.noise_n": 1.0,
    "sensor.noise_sd": 0.01,
}
PENDULUM = {"action.delay_ms": 30.0, "action.lag_ms": 15.0, "action.noise_nm": 0.02, "sensor.noise_sd": 0.01}


def tried(name: str, routine: str, known: dict[str, float]) -> tuple[dict[str, Estimate], Log]:
    experiment = load_experiment(name)
    task, limits = experiment.make_task(), experiment.robot.limits
    values = np.array([known.get(p.name, p.nominal) for p in task.parameters])
    test = ROUTINES[routine](task, limits[task.actuated[0]], 0.5)
    (log,) = record(task, limits, values[None], [test], test.seconds, 0.5)
    low, high = limits[task.actuated[0]].position
    driven = log.position[:, task.joints.index(task.actuated[0])]
    assert low < driven.min() and driven.max() < high
    return {one.name: one for one in test.estimate(log)}, log


@pytest.mark.parametrize(
    ("name", "routine", "expected"),
    [
        ("cartpole", "torque_sweep", {"viscous": (0.4, 0.25), "coulomb": (0.8, 0.2)}),
        ("cartpole", "torque_pulse", {"inertia": (1.7, 0.12)}),
        ("pendulum", "torque_sweep", {"viscous": (0.04707, 0.01), "coulomb": (0.2889, 0.03)}),
        ("pendulum", "torque_pulse", {"inertia": (0.0626, 0.004)}),
        ("pendulum", "free_swing", {"stiffness": (16.0, 2.0)}),  # friction stops it too soon to be told apart
        ("cartpole", "free_swing", {"stiffness": (36.8, 1.5), "decay": (0.0, 0.25)}),
    ],
)
def test_what_a_simulated_robot_has_is_found(name, routine, expected):
    found, _ = tried(name, routine, CARTPOLE if name == "cartpole" else PENDULUM)
    for quantity, (true, room) in expected.items():
        one = found[quantity]
        assert one.value == pytest.approx(true, abs=room) and one.low <= one.value <= one.high


def test_a_recording_that_shows_nothing_is_refused():
    experiment = load_experiment("pendulum")
    task = experiment.make_task()
    test = ROUTINES["free_swing"](task, experiment.robot.limits["pivot"], 0.5)
    still = np.zeros((200, 1))
    log = Log(np.arange(200) * 0.02, still, still, still, piece=np.zeros(200, int), source="still")
    with pytest.raises(RobotError, match="hardly swings"):
        test.estimate(log)


def test_routines_move_the_twin(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("robot.latency.RESAMPLES", 10)
    monkeypatch.chdir(tmp_path)
    command = ["identify", "cartpole", "--robot", "cartpole", "--json"]
    assert cli.main([*command, "--routine", "torque_pulse", "--routine", "step"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert 1.0 < found["torque_pulse"][0]["value"] < 2.5
    total = next(one for one in found["step"] if one["name"] == "total")
    assert 30 < total["value"] < 120
    for arguments, words in ((["--routine", "dance"], "'dance' given; accepted are torque_sweep"),):
        assert cli.main([*command, *arguments]) == cli.EXIT_USER
        assert words in capsys.readouterr().err
    assert cli.main(["identify", "cartpole", "--log", "x.csv", "--routine", "step"]) == cli.EXIT_USER
