"""Planned moves stay inside their bounds, arrive on the twin, and go through the filter like everything else."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.task import State
from robot.durable import read_lines
from robot.interface import Observation, RobotError
from robot.motion import Plan
from robot.open import open_session
from robot.safety import SafetyFilter, Workspace
from robot.settings import JointLimits, MotionSettings
from tests.robot.conftest import LIMITS

LIMIT = JointLimits(position=(-0.75, 0.75), velocity=3.0, effort=10.0, effort_rate=2000.0)


@given(
    start=st.floats(-0.7, 0.7),
    target=st.floats(-0.7, 0.7),
    velocity=st.floats(0.05, 2),
    acceleration=st.floats(0.1, 5),
    jerk=st.floats(0.5, 50),
)
def test_a_plan_keeps_velocity_acceleration_and_jerk_and_arrives_at_rest(start, target, velocity, acceleration, jerk):
    motion = MotionSettings(velocity=velocity, acceleration=acceleration, jerk=jerk)
    plan = Plan(np.array([start]), np.array([target]), ("slider",), {"slider": LIMIT}, motion)
    times = np.linspace(0, plan.duration_s, 200)
    rows = np.array([[value[0] for value in plan.at(time_s)] for time_s in times])
    assert np.abs(rows[:, 1]).max() <= velocity + 1e-6 and np.abs(rows[:, 2]).max() <= acceleration + 1e-6
    steps = np.diff(times)
    assert np.all(np.abs(np.diff(rows[:, 2])) <= jerk * steps + 1e-6)
    assert rows[:, 0].min() >= min(start, target) - 1e-6 and rows[:, 0].max() <= max(start, target) + 1e-6
    position, speed, _ = plan.at(plan.duration_s + 1)
    assert position[0] == pytest.approx(target, abs=1e-6) and abs(speed[0]) < 1e-6


def test_a_target_outside_the_limits_is_refused():
    with pytest.raises(RobotError, match="slider.*-0.75"):
        Plan(np.zeros(1), np.ones(1), ("slider",), {"slider": LIMIT}, MotionSettings())


def test_home_drives_the_cart_to_the_middle_within_limits_and_is_booked_and_logged(tmp_path, task, make_settings):
    session = open_session(make_settings(home={"slider": 0.0}), task, tmp_path)
    assert session.technician is not None
    session.technician.reset(State(np.array([[0.5, 0.3]]), np.zeros((1, 2))), 4)
    moved = session.home("Ada")
    assert moved.stop == "" and moved.error <= session.settings.motion.tolerance and moved.steps > 50
    record = session.technician.record()  # pyright: ignore[reportAttributeAccessIssue]
    assert abs(record["state"]["joint_position"][0]) < 0.1
    goals = [event["efforts"][0] for event in record["events"] if event["event"] == "goal"]
    assert max(map(abs, goals)) <= 10.0 and record["events"][-1]["event"] == "motor off"
    assert session.ledger.totals()["reset"] == pytest.approx(moved.steps * 0.02)
    line = read_lines(tmp_path / "safety.jsonl")[-1]
    assert (line["event"], line["what"], line["operator"]) == ("move", "home", "Ada")
    session.close()


def test_an_episode_begins_with_homing_where_a_home_is_given(tmp_path, task, make_settings, balancer):
    session = open_session(make_settings(home={"slider": 0.1}), task, tmp_path)
    result = session.run_episode(balancer, purpose="evaluation", seed=3, world=0)
    assert result.meta.steps > 10 and result.meta.stop == "" and session.ledger.totals()["reset"] > 0
    session.close()


def test_jogging_is_small_named_and_inside_the_limits(session):
    assert session.technician is not None
    session.technician.reset(State(np.array([[0.0, 0.3]]), np.zeros((1, 2))), 4)
    moved = session.jog("slider", 0.1, "Ada")
    assert moved.stop == ""
    assert session.technician.record()["state"]["joint_position"][0] == pytest.approx(0.1, abs=0.1)
    for joint, by, who in (("hinge", 0.1, "Ada"), ("slider", 0.1, " "), ("slider", 2.0, "Ada")):
        with pytest.raises(RobotError, match="jog|move"):
            session.jog(joint, by, who)
    session.hold("enough")
    with pytest.raises(RobotError, match="stopped: enough"):
        session.jog("slider", 0.1, "Ada")


def test_a_stop_in_mid_reset_is_latched_and_the_episode_never_begins(tmp_path, task, make_settings, balancer):
    session = open_session(make_settings(home={"slider": 0.5}), task, tmp_path)
    real_arm, held = session.robot.arm, threading.Event()

    def arm() -> None:  # the stop comes just before the motors are switched on
        session.hold("somebody pressed the button")
        held.set()
        real_arm()

    session.robot.arm = arm  # type: ignore[method-assign]
    result = session.run_episode(balancer, purpose="evaluation", seed=3, world=0)
    assert held.is_set() and result.meta.stop == "somebody pressed the button" and result.meta.steps == 0
    events = session.technician.record()["events"]  # pyright: ignore
    assert events[-1]["event"] == "motor off" and session.status().state == "stopped"
    forces = [event["efforts"][0] for event in events if event["event"] == "goal"]
    assert len(forces) <= 1
    session.close()


def test_a_stop_just_before_the_motors_of_an_episode_go_on_sends_no_command(session, task, balancer):
    real_arm = session.robot.arm

    def arm() -> None:
        session.hold("somebody pressed the button")
        real_arm()

    session.robot.arm = arm
    result = session.run_episode(balancer, purpose="evaluation", seed=3, world=0)
    assert result.meta.stop == "somebody pressed the button" and result.meta.steps == 0
    assert not [event for event in session.technician.record()["events"] if event["event"] == "goal"]


def observation(q: float, v: float) -> Observation:
    return Observation(np.array([q], np.float32), np.array([v], np.float32), 0.0, np.zeros(1))


@given(q=st.floats(-1, 1), v=st.floats(-2, 2), asked=st.floats(-20, 20), sign=st.sampled_from((-1.0, 1.0)))
def test_no_effort_drives_a_point_further_out_of_the_workspace(q, v, asked, sign):
    limit = LIMIT.model_copy(update={"position": (-5.0, 5.0), "effort_rate": 1e6})

    def points(joints: np.ndarray) -> np.ndarray:  # a joint that may drive its point either way
        found = np.zeros((len(joints), 1, 3))
        found[:, 0, 2] = sign * joints[:, 0]
        return found

    box = Workspace({"z": (-0.4, 0.6)}, points)
    safety = SafetyFilter({"slider": limit}, ("slider",), ("slider",), 0.02, lookahead_s=0.1, workspace=box)
    out = safety.filter(np.array([asked]), observation(q, v), 0.0)
    z, soon = sign * np.float32(q), sign * (np.float32(q) + np.float32(v) * 0.1)
    force = sign * out.command[0]
    if z > 0.6 or soon > 0.6 + 1e-6:
        assert force <= 0
    if z < -0.4 or soon < -0.4 - 1e-6:
        assert force >= 0
    assert bool(safety.unsafe(observation(q, 0.0))) == (not -0.4 <= z <= 0.6)
    if "workspace" in out.reasons:
        assert out.command[0] == 0


def test_the_cart_stays_in_a_box_smaller_than_its_limits(tmp_path, task, make_settings):
    session = open_session(make_settings(workspace={"x": (-0.2, 0.2)}, limits=LIMITS), task, tmp_path)
    assert session.technician is not None
    session.technician.reset(State(np.array([[0.0, 0.3]]), np.zeros((1, 2))), 4)
    moved = session.jog("slider", 0.5, "Ada")
    assert "workspace" in moved.interventions or "workspace" in moved.stop
    assert moved.stop  # it never arrived, or was seen outside
    assert abs(session.technician.record()["state"]["joint_position"][0]) < 0.25  # pyright: ignore
    session.close()
    with pytest.raises(RobotError, match="no points"):
        Workspace({"x": (-1.0, 1.0)}, lambda joints: np.zeros((1, 0, 3))).check(1)
