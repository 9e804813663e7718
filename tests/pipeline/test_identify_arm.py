"""Identification of arms: from motion to file, on made up arms and on the twin."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from envs.inverse_dynamics import ArmDynamics
from envs.tasks.reach import Reach
from pipeline.cli import app
from pipeline.config import load_experiment
from pipeline.identify import arm_result, identified
from pipeline.identify.arm_design import design
from pipeline.identify.arm_fit import ArmSettings, fit_arm
from pipeline.identify.arm_motion import smooth
from robot.arm_excitation import FourierMotion, centre_of, polled
from robot.interface import Observation, RobotError
from robot.log_files import read_log, write_log
from robot.logs import Log, clean
from robot.safety import Workspace
from robot.velocity_filter import VelocityFilter

TASK = Reach()
SECONDS = 12.0
SCALE, ARMATURE, VISCOUS, COULOMB = 1.3, 0.2, 1.5, 0.8


@pytest.fixture(scope="module")
def motion() -> FourierMotion:
    return design(TASK, load_experiment("reach").robot, 1, SECONDS, seed=3)[0]


@pytest.fixture(scope="module")
def log(motion: FourierMotion) -> Log:
    """An arm that does exactly what it was asked, 40 ms late and a little too slow, with noise on what it tells."""
    random = np.random.default_rng(0)
    time_s = np.arange(0.0, SECONDS, 0.01)
    q, v, a = motion.at(time_s)
    torque = SCALE * ArmDynamics.from_scene(TASK.scene).torques(q, v, a).sum(0)
    torque += ARMATURE * a + VISCOUS * v + COULOMB * np.sign(v)
    command = motion.at(time_s + 0.04 + 0.005)[1] / 0.95  # held from row to row: half a period early
    return clean(
        Log(
            time_s=time_s,
            position=q + random.normal(0, 5e-4, q.shape),
            velocity=v + random.normal(0, 0.01, v.shape),
            effort=torque + random.normal(0, 0.2, q.shape),
            joints=TASK.joints,
            motors=TASK.scene.motors,
            units={"effort": "SI"},
            source="made up",
            command=command,
        )
    )


@pytest.fixture(scope="module")
def fit(log: Log):
    return fit_arm(TASK, [log])


def test_a_designed_motion_starts_at_rest_and_the_filter_leaves_it_as_it_is(motion: FourierMotion):
    settings, quick = load_experiment("reach").robot, polled(TASK)
    assert motion.at(np.zeros(1))[0][0] == pytest.approx(centre_of(TASK).joint_position[0], abs=1e-6)
    assert np.abs(motion.at(np.zeros(1))[1]).max() < 1e-9
    safety = VelocityFilter(
        settings.limits,
        TASK.joints,
        TASK.scene.motors,
        quick.control_period_s,
        workspace=Workspace(settings.workspace, TASK.workspace_points),
    )
    safety.reset(settings.reduced_speed.scale)
    for k in range(int(SECONDS / quick.control_period_s)):
        position, velocity, _ = (one[0] for one in motion.at(np.array([k * quick.control_period_s])))
        seen = Observation(position.astype(np.float32), velocity.astype(np.float32), 0.0, np.zeros(7))
        command = motion.command(k * quick.control_period_s, seen.joint_position, seen.joint_velocity)
        filtered = safety.filter(command, seen, 0.0)
        assert not filtered.reasons
        safety.sent(filtered.command)


def test_designs_repeat_by_seed_and_velocities_are_derivatives(motion: FourierMotion):
    one, other = (design(TASK, load_experiment("reach").robot, 1, 3.0, seed=3)[0] for _ in range(2))
    assert np.array_equal(one.sine, other.sine)
    time_s = np.linspace(1.0, 2.0, 5)
    step = 1e-5
    later, before = motion.at(time_s + step), motion.at(time_s - step)
    assert motion.at(time_s)[1] == pytest.approx((later[0] - before[0]) / (2 * step), abs=1e-6)
    assert motion.at(time_s)[2] == pytest.approx((later[1] - before[1]) / (2 * step), abs=1e-5)


def test_smoothing_finds_accelerations_behind_noise_at_uneven_times(motion: FourierMotion):
    random = np.random.default_rng(0)
    time_s = np.sort(np.arange(0.0, 6.0, 0.01) + random.normal(0, 5e-4, 600))
    q, v, a = motion.at(time_s)
    found = smooth(time_s, q + random.normal(0, 5e-4, q.shape), v + random.normal(0, 0.01, v.shape))
    inside = slice(40, -40)
    assert np.sqrt(np.mean(np.square(found.acceleration - a)[inside])) < 0.25
    assert found.position_noise == pytest.approx(5e-4, rel=0.2)
    assert found.velocity_noise == pytest.approx(0.01, rel=0.2)


def test_masses_frictions_and_lateness_are_found(fit):
    values = dict(zip(fit.free, fit.value, strict=True))
    assert values["arm.mass_scale"] == pytest.approx(SCALE, rel=0.01)
    assert values["action.delay_ms"] + values["action.lag_ms"] == pytest.approx(40.0, abs=2.0)
    assert values["action.gain"] == pytest.approx(0.95, rel=0.01)
    for kind, true in (("coulomb_nm", COULOMB), ("viscous_nm_s", VISCOUS), ("armature_kg_m2", ARMATURE)):
        at = [fit.torque.own(j, kind) for j in range(7)]
        assert np.median(fit.torque.coefficients[at]) == pytest.approx(true, rel=0.1)
        low, high = np.percentile(fit.torque.draws[:, at], [0.1, 99.9], axis=0)
        assert np.mean((low < true) & (true < high)) > 0.7


def test_the_file_is_what_training_reads(fit, tmp_path: Path):
    content = arm_result.to_dict(fit)
    file = tmp_path / "identified.yaml"
    identified.save(content, file)
    known = identified.load(file, TASK)
    assert known.centre["arm.mass_scale"] == pytest.approx(SCALE, rel=0.01)
    ranges = load_experiment("reach", [f"randomization.posterior={file}"]).ranges().to_dict()
    low, high = ranges["arm.mass_scale"]
    assert low < high and high - low < 0.1
    assert any("torque readings" in sentence for sentence in content["not_identifiable"])
    assert content["joints"]["panda_joint1"]["coulomb_nm"]["value"] == pytest.approx(COULOMB, rel=0.15)


def test_without_torques_only_lateness_is_fitted_and_that_is_said(log: Log):
    from dataclasses import replace

    mute = replace(log, effort=np.zeros((len(log), 0)))
    fit = fit_arm(TASK, [mute])
    assert set(fit.free) == {"action.delay_ms", "action.lag_ms", "action.gain"}
    assert any("no reading of its motors' torques" in one for one in arm_result.to_dict(fit)["not_identifiable"])


def test_a_payload_and_a_given_mass(log: Log):
    fit = fit_arm(TASK, [log], ArmSettings(fixed={"arm.mass_scale": SCALE}, extra=("arm.payload_kg",)))
    values = dict(zip(fit.free, fit.value, strict=True))
    assert values["arm.payload_kg"] == pytest.approx(0.0, abs=0.05)
    assert arm_result.to_dict(fit)["values"]["arm.mass_scale"]["known"] == "given"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (ArmSettings(fixed={"arm.gain_scale": 1.0}), "cannot be told"),
        (ArmSettings(fixed={"arm.mass_scale": 50.0}), "accepted is"),
        (ArmSettings(extra=("nothing",)), "accepted are"),
    ],
)
def test_what_cannot_be_given_is_refused(log: Log, settings: ArmSettings, words: str):
    with pytest.raises(RobotError, match=words):
        fit_arm(TASK, [log], settings)


def test_logs_keep_commands_in_files_and_slow_or_empty_ones_are_refused(log: Log, tmp_path: Path):
    from dataclasses import replace

    write_log(log, tmp_path / "log.parquet")
    back = read_log(tmp_path / "log.parquet")
    assert np.array_equal(back.command, log.command) and np.array_equal(back.effort, log.effort)
    mute = replace(log, effort=np.zeros((len(log), 0)))
    write_log(mute, tmp_path / "mute.parquet")
    assert read_log(tmp_path / "mute.parquet").effort.shape == (len(log), 0)
    with pytest.raises(RobotError, match="rows a second"):
        fit_arm(TASK, [replace(log, time_s=log.time_s * 5, velocity=log.velocity / 5)])
    with pytest.raises(RobotError, match="neither commanded"):
        fit_arm(TASK, [replace(mute, command=np.zeros((0, 0)))])


def test_a_csv_of_any_logger_is_read(log: Log, tmp_path: Path):
    few = 300
    columns = {"t": log.time_s[:few]}
    entries = ["time=t"]
    for j, joint in enumerate(TASK.joints):
        for name, value in (("position", log.position), ("velocity", log.velocity), ("command", log.command)):
            columns[f"{name[0]}{j}"] = value[:few, j]
            entries.append(f"{name}.{joint}={name[0]}{j}")
    rows = np.stack(list(columns.values()), 1)
    file = tmp_path / "log.csv"
    file.write_text("\n".join([",".join(columns), *(",".join(f"{v:.9g}" for v in row) for row in rows)]))
    back = read_log(file, entries)
    assert back.command == pytest.approx(log.command[:few], rel=1e-6)
    assert back.effort.shape == (few, 0) and back.motors == TASK.joints


def test_the_command_moves_the_twin_books_its_time_and_writes_file_and_page(tmp_path: Path):
    output = tmp_path / "identified.yaml"
    command = ["identify", "reach", "--robot", "reach", "--seconds", "4", "-o", str(output), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    content = json.loads(result.stdout)
    assert set(content["order"]) >= {"arm.mass_scale", "action.delay_ms", "action.lag_ms", "action.gain"}
    assert output.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    folder = tmp_path / "identified_recordings"
    entries = [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]
    booked = sum(one["seconds"] for one in entries if one.get("purpose") == "identification")
    assert booked == pytest.approx(4.0, abs=0.1)
    kept = read_log(folder / "recording1.parquet")
    assert kept.period_s == pytest.approx(0.01) and kept.command.shape == kept.effort.shape == (399, 7)
    assert np.abs(kept.effort).max() > 5.0
