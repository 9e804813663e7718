"""Faults happen as scheduled, and the session around them stops where it should."""

from __future__ import annotations

import time

import numpy as np
import pytest

from robot.drivers import make_robot
from robot.interface import RobotError, RobotFault
from robot.open import open_session
from tests.robot.drivers import fakes

SMALL = {"driver": "gymnasium", "driver_options": fakes.ENVIRONMENT}


@pytest.fixture
def make(make_settings, task):
    fakes.fresh_cart()
    made = []

    def make(*faults, **keys):
        robot = make_robot(make_settings(driver="faulty", driver_options={**SMALL, "faults": faults, **keys}), task)
        robot.connect()
        robot.arm()
        made.append(robot)
        return robot

    yield make
    for robot in made:
        robot.disconnect()


def drive(robot, n=8):
    """Positions that were observed, a command of 1 N between them."""
    seen = []
    for _ in range(n):
        seen.append(robot.observe())
        robot.command(np.array([1.0]))
    return seen


def test_without_faults_it_is_the_robot_inside(make):
    robot = make()
    positions = [one.joint_position[0] for one in drive(robot)]
    assert np.all(np.diff(positions[1:]) > 0) and robot.injected == []
    assert robot.spec is robot.inner.spec


def test_readings_are_spoilt_at_the_given_steps_only(make):
    for kind, bad in (
        ("nan", lambda one: not np.isfinite([one.joint_position, one.joint_velocity]).all()),
        ("out_of_range", lambda one: np.abs(one.joint_position).max() > 1e3),
        ("wrong_units", lambda one: one.joint_velocity[0] > 2.0),
    ):
        robot = make({"kind": kind, "at": [3, 6]})
        assert [i + 1 for i, one in enumerate(drive(robot)) if bad(one)] == [3, 6], kind
        assert robot.injected == [(3, kind), (6, kind)]


def test_frozen_is_stamped_as_fresh_and_duplicated_is_not(make):
    robot = make({"kind": "frozen", "at": [4], "steps": 3})
    seen = drive(robot)
    position = [one.joint_position[0] for one in seen]
    assert position[2] == position[3] == position[4] == position[5] < position[6]
    assert all(a.captured_s < b.captured_s for a, b in zip(seen, seen[1:], strict=False))
    seen = drive(make({"kind": "duplicated", "at": [4]}))
    assert seen[3] is seen[2] and seen[4].joint_position[0] > seen[3].joint_position[0]


def test_commands_are_lost_doubled_and_late(make):
    robot = make({"kind": "lost_command", "at": [2]}, {"kind": "twice_command", "at": [4]})
    drive(robot, 4)
    assert len(fakes.FakeEnvironment.cart.motions) == 4
    robot = make({"kind": "late_command", "at": [1], "delay_ms": 60})
    at = time.monotonic()
    sent = robot.command(np.array([1.0]))
    assert sent.sent_s - at >= 0.06


def test_a_closed_link_stays_closed_until_connected_anew(make):
    robot = make({"kind": "link_closed", "at": [2]})
    robot.observe()
    for _ in range(3):
        with pytest.raises(RobotFault, match="injected") as caught:
            robot.observe()
        assert caught.value.link and robot.status().state == "disconnected"
    robot.recover("Ada")
    robot.arm()
    robot.observe()
    with pytest.raises(RobotFault, match="no observation came"):
        drive(make({"kind": "dropped", "at": [1]}))
    with pytest.raises(RuntimeError, match="no driver should raise"):
        drive(make({"kind": "exception", "at": [2]}))


def test_a_clock_that_jumps_stays_off(make):
    seen = drive(make({"kind": "clock_jump", "at": [3], "jump_s": -100.0}))
    assert [one.captured_s < time.monotonic() - 50 for one in seen] == [False] * 2 + [True] * 6


def test_chance_follows_from_the_seed(make):
    schedules = []
    for seed in (0, 0, 1):
        robot = make({"kind": "nan", "rate": 0.3}, {"kind": "duplicated", "rate": 0.2}, seed=seed)
        drive(robot, 40)
        schedules.append(robot.injected)
    assert schedules[0] == schedules[1] != schedules[2] and 10 < len(schedules[0]) < 35


def test_a_fault_that_never_happens_or_is_unknown_is_refused(make_settings, task):
    for fault, sentence in (({"kind": "nan"}, "never happens"), ({"kind": "rust", "at": [1]}, "'rust'")):
        with pytest.raises(RobotError, match=rf"robot\.driver_options\.faults\.0.*{sentence}"):
            make_robot(make_settings(driver="faulty", driver_options={**SMALL, "faults": [fault]}), task)


@pytest.mark.parametrize(
    ("kind", "stop"),
    [("nan", "not finite"), ("dropped", "injected"), ("link_closed", "injected")],
)
def test_a_session_stops_keeps_what_it_has_and_stays_stopped(kind, stop, tmp_path, task, make_settings, balancer):
    options = {"faults": [{"kind": kind, "at": [30]}], "seed": 1}  # this seed spoils the joint that has limits
    session = open_session(make_settings(driver="faulty", driver_options=options), task, tmp_path)
    result = session.run_episode(balancer, purpose="evaluation", seed=3, world=0)
    assert stop in result.meta.stop and 0 < result.meta.steps < 30
    assert session.status().state == "stopped" and len(session.store) == 1
    with pytest.raises(RobotError, match="stopped"):
        session.run_episode(balancer, purpose="evaluation", seed=3, world=1)
    session.recover("Ada")
    assert session.status().state != "stopped"
    session.close()
