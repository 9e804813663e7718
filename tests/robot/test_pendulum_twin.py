"""The pendulum's reality: what it has that the simulator has not, and a session on it."""

from __future__ import annotations

import math

import numpy as np
import pytest

from envs.tasks.pendulum import Pendulum
from pipeline.config import load_experiment
from robot.interface import RobotError
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.rollout import succeeded
from robot.twin.hidden import PendulumHidden, load
from robot.twin.pendulum import PendulumModel
from tests.robot.policies import linear_policy

QUIET = {"torque_noise_nm": 0.0, "latency_jitter_ms": 0.0, "sensor_noise_rad": 0.0, "sensor_noise_rad_s": 0.0}
BARE = {**QUIET, "coulomb_forward_nm": 0.0, "coulomb_backward_nm": 0.0, "viscous_nm_s": 0.0}
IDEAL = {**BARE, "cogging_nm": 0.0, "offset_nm": 0.0, "latency_ms": 0.0, "lag_ms": 0.0, "gain": 1.0}


def test_without_losses_it_swings_with_the_period_and_energy_of_a_pendulum():
    hidden = PendulumHidden(**IDEAL)
    model = PendulumModel(hidden)
    model.reset([0.1], [0.0], 1)
    crossings, last = [], 0.1
    for k in range(4000):
        model.advance(1)
        angle = model.state[0][0]
        if last > 0 >= angle:
            crossings.append(k)
        last = angle
    period_s = np.diff(crossings).mean() / 1e3
    small = 2 * math.pi * math.sqrt(hidden.inertia_kg_m2 / hidden.gravity_torque_nm)
    assert period_s == pytest.approx(small * (1 + 0.1**2 / 16), rel=2e-3)
    angle, speed = model.state[0][0], model.state[1][0]
    energy = 0.5 * hidden.inertia_kg_m2 * speed**2 - hidden.gravity_torque_nm * math.cos(angle)
    assert energy == pytest.approx(-hidden.gravity_torque_nm * math.cos(0.1), rel=1e-2)


def test_friction_differs_with_the_direction():
    def stops_after(speed: float) -> float:
        hidden = PendulumHidden(**{**IDEAL, "coulomb_forward_nm": 0.4, "coulomb_backward_nm": 0.1})
        model = PendulumModel(hidden)
        model.reset([0.0], [speed], 1)
        model.advance(20)
        return abs(speed) - abs(model.state[1][0])

    lost_forward, lost_backward = stops_after(5.0), stops_after(-5.0)
    assert lost_forward - lost_backward == pytest.approx((0.4 - 0.1) * 0.02 / 0.069, rel=0.05)


def test_cogging_holds_what_a_smooth_motor_lets_go():
    def rests_at(cogging: float) -> float:
        model = PendulumModel(PendulumHidden(**{**IDEAL, "viscous_nm_s": 0.05, "cogging_nm": cogging}))
        model.reset([2 * math.pi / 14], [0.0], 1)  # one notch away
        model.advance(15_000)
        return model.state[0][0]

    assert abs(rests_at(0.0)) < 0.01
    assert rests_at(1.0) > 0.3


def test_a_late_command_acts_late_and_never_with_more_than_the_motor_has():
    model = PendulumModel(PendulumHidden(**{**IDEAL, "latency_ms": 30.0}))
    limit = PendulumModel(PendulumHidden(**{**IDEAL, "latency_ms": 30.0}))
    model.push(1e6)
    limit.push(0.9)
    model.advance(30)
    assert model.state[0][0] == 0.0
    model.advance(50)
    limit.advance(80)
    assert model.state == limit.state and model.state[0][0] > 0.01
    model.reset([0.0], [0.0], 1)
    model.push(0.9)
    model.cut()
    model.advance(100)
    assert model.state[0][0] == 0.0


def test_impossible_values_are_refused(tmp_path):
    path = tmp_path / "other.yaml"
    path.write_text("inertia_kg_m2: 0.001\n")
    with pytest.raises(RobotError, match="inertia_kg_m2 should be above"):
        load(path, "pendulum")
    path.write_text("cart_mass_kg: 1\n")
    with pytest.raises(RobotError, match="unknown key 'cart_mass_kg'; accepted are inertia_kg_m2"):
        load(path, "pendulum")


def test_an_episode_through_the_bus_and_the_filter(tmp_path):
    task, settings = Pendulum(), load_experiment("pendulum").robot
    session = open_session(settings, task, tmp_path)
    try:
        gains = np.zeros(task.policy_size)
        gains[-2] = 40.0  # push the way it moves
        result = session.run_episode(ExportedPolicy(linear_policy(task, gains)), purpose="evaluation", seed=0, world=0)
    finally:
        session.close()
    assert not result.meta.stop and not result.meta.success
    assert result.columns["terminated"][-1]  # it pumped itself up, over the top, and wound up the cable
    assert (np.abs(result.columns["joint_position"]) < 14.0).all()
    assert np.abs(result.columns["sent"]).max() <= 1.0 + 1e-6


def test_success_asks_for_the_whole_last_second(tmp_path):
    task, settings = Pendulum(), load_experiment("pendulum").robot
    session = open_session(settings, task, tmp_path)
    try:
        up = np.full((400, 1), math.pi, np.float32)
        columns = {"reward": np.ones(400), "joint_position": up, "joint_velocity": np.zeros_like(up)}
        assert succeeded(task, columns)
        columns["joint_position"] = up.copy()
        columns["joint_position"][340] = 0.0
        assert succeeded(task, columns)
        columns["joint_position"][360] = 2.0
        assert not succeeded(task, columns)
    finally:
        session.close()
