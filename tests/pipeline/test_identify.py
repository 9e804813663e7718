"""Identification of one joint: known machines are found again, recordings of a real one are predicted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from pipeline import cli
from pipeline.identify.command import SHIPPED
from pipeline.identify.fit import FitSettings, Shooting, fit
from pipeline.identify.one_joint import CONSTANTS, EXTRA, NAMES, Windows, simulate
from pipeline.identify.predict import predict, starting_state
from pipeline.identify.result import load_values
from robot.interface import RobotError
from robot.log_files import read_log
from robot.logs import Log
from tests.robot.test_logs import REAL, needs_recordings

OFF = {name: 0.0 for name in EXTRA}
OWN = {"inertia": 0.15, "gravity": 3.0, "coulomb": 0.12, "viscous": 0.05}
TRUE = {c.name: c.start for c in CONSTANTS} | OFF | OWN


def as_array(values: dict[str, float]) -> np.ndarray:
    return np.array([values[name] for name in NAMES])


def recording(values: dict[str, float], seconds: float = 6.0, noise: float = 1.0, seed: int = 0) -> Log:
    """A driven swing with jitter in its times, as the equation has it, read with noise."""
    random = np.random.default_rng(seed)
    t = np.cumsum(random.uniform(0.003, 0.005, int(seconds / 0.004)))
    u = 1.5 * np.sin(4.5 * t) + 0.8 * np.sin(9.3 * t + 1) + 0.5 * np.sin(1.7 * t)
    still = np.zeros((len(t), 1))
    log = Log(t, still, still, u[:, None], piece=np.zeros(len(t), np.int64), source="synthetic")
    q, v = simulate(as_array(values)[None], Windows(log, np.array([0]), len(t) - 1), np.zeros((1, 1)), np.zeros((1, 1)))
    position = q[0, 0] + noise * random.normal(0, 0.002, len(t))
    velocity = v[0, 0] + noise * random.normal(0, 0.1, len(t))
    return replace(log, position=position[:, None], velocity=velocity[:, None])


def test_windows_simulated_together_are_those_simulated_alone():
    log = recording(TRUE, seconds=2.0)
    values = np.stack([as_array(TRUE), as_array(TRUE | {"delay": 0.009, "lag": 0.01})])
    first = np.array([0, 50, 120])
    q, _ = simulate(values, Windows(log, first, 60), np.ones((2, 3)), np.zeros((2, 3)))
    for k in range(2):
        for w in range(3):
            alone, _ = simulate(
                values[k : k + 1], Windows(log, first[w : w + 1], 60), np.ones((1, 1)), np.zeros((1, 1))
            )
            assert np.allclose(alone[0, 0], q[k, w], atol=1e-12)
    assert not np.allclose(q[0], q[1])


def test_the_jacobian_is_that_of_the_residual():
    problem = Shooting([recording(TRUE, seconds=2.0)], FitSettings())
    random = np.random.default_rng(0)
    x = problem.start() + 0.01 * random.normal(size=len(problem.start()))
    direction = random.normal(size=len(x))
    e = 1e-5
    numeric = (problem.residual(x + e * direction) - problem.residual(x - e * direction)) / (2 * e)
    assert np.allclose(problem.jacobian(x) @ direction, numeric, atol=1e-2 * np.abs(numeric).max())


def test_a_known_machine_is_found_again():
    found = fit([recording(TRUE, seed=s) for s in (1, 2)], seed=0)
    got = dict(zip(NAMES, found.values, strict=True))
    for name, share in (("inertia", 0.03), ("gravity", 0.03), ("coulomb", 0.25)):
        assert got[name] == pytest.approx(TRUE[name], rel=share)
    low, high = np.percentile(found.samples, [2.5, 97.5], axis=0)
    truth = as_array(TRUE)
    assert ((low <= truth) & (truth <= high)).mean() >= 0.8
    assert predict(found.values, recording(TRUE, seed=3), starts=60).rms_rad < 0.01
    assert found.held_out_rms["position_rad"] < 0.004


def test_what_is_given_is_kept():
    found = fit([recording(TRUE, seconds=3.0)], FitSettings(fixed={"inertia": 0.2, "drag": 0.0}))
    assert found.values[0] == 0.2 and (found.samples[:, 0] == 0.2).all() and "inertia" not in found.free
    with pytest.raises(RobotError, match="'mass' is no constant"):
        fit([recording(TRUE, seconds=3.0)], FitSettings(fixed={"mass": 1.0}))


def test_the_starting_state_comes_from_the_past_alone():
    log = recording(TRUE, seconds=2.0)
    rows = np.array([0, 3, 100, 300])
    cut = replace(log, position=log.position.copy(), velocity=log.velocity.copy())
    cut.position[301:], cut.velocity[301:] = 9.0, 9.0
    whole, past = (starting_state(as_array(TRUE), which, rows, 0.1) for which in (log, cut))
    assert np.array_equal(whole[0], past[0]) and np.array_equal(whole[1], past[1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"position": np.zeros((500, 1))}, "motion"),
        ({"effort": np.ones((500, 1))}, "never changes"),
        ({"position": np.zeros((500, 2))}, "2 joints"),
        ({"units": {"effort": "action"}}, "an action"),
        ({"piece": np.arange(500) // 50}, "windows"),
    ],
)
def test_recordings_that_cannot_tell_are_refused(change, words):
    log = recording(TRUE, seconds=2.0)
    with pytest.raises(RobotError, match=words) as error:
        fit([replace(log, **change)])
    assert "synthetic" in str(error.value)


def test_a_torque_of_the_other_sign_or_unit_is_refused():
    log = recording(TRUE, seconds=2.0)
    with pytest.raises(RobotError, match="takes .* J out of the motion"):
        fit([replace(log, effort=-log.effort)])
    with pytest.raises(RobotError, match="these torques do not make this motion"):
        fit([replace(log, effort=1e3 * log.effort)])


@needs_recordings
def test_the_real_pendulum_is_predicted_from_either_recording(tmp_path, monkeypatch, capsys):
    """The yardstick of the recordings' README: 0.085 and 0.20 rad are what a simple fit reaches."""
    monkeypatch.chdir(tmp_path)
    for one, other, simple in (("pd_excitation", "ddp_swingup", 0.085), ("ddp_swingup", "pd_excitation", 0.20)):
        assert cli.main(["identify", "pendulum", "--log", str(REAL / f"{one}.csv"), "-o", f"{one}.yaml"]) == 0
        assert Path(f"{one}.png").stat().st_size > 10_000
        capsys.readouterr()
        command = ["identify", "pendulum", "--use", f"{one}.yaml", "--predict", str(REAL / f"{other}.csv"), "--json"]
        assert cli.main([*command, "--starts", "300"]) == 0
        answer = json.loads(capsys.readouterr().out)
        assert answer["rms_rad"] < simple and answer["median_rad"] < answer["rms_rad"]
    content = yaml.safe_load(Path("ddp_swingup.yaml").read_text())
    assert content["logs"][0]["rows"] == 3000 and len(content["covariance"]) == len(content["order"])
    assert "gain" in content["not_identifiable"][0]


@needs_recordings
def test_the_model_that_ships_predicts_what_it_was_fitted_to():
    values = load_values(SHIPPED["pendulum"])
    assert predict(values, read_log(REAL / "ddp_swingup.csv"), starts=0).rms_rad < 0.05


def test_commands_that_make_no_sense_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("other.yaml").write_text("values: {inertia: 3}\n")
    for arguments, words in (
        (["pendulum"], "one of --log"),
        (["pendulum", "--use", "x.yaml"], "--predict"),
        (["teapot", "--log", "x.csv"], "'teapot'"),
        (["pendulum", "--log", "x.csv"], "cannot be read"),
        (["pendulum", "--use", "other.yaml", "--predict", "x.csv"], "no identified.yaml"),
        (["pendulum", "--log", "x.csv", "--fix", "inertia"], "'inertia' is not understood"),
    ):
        assert cli.main(["identify", *arguments]) == cli.EXIT_USER
        assert words in capsys.readouterr().err
    with pytest.raises(RobotError, match="cannot be read"):
        load_values(Path("none.yaml"))
