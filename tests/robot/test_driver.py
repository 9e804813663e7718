"""The Dynamixel driver against lines that are no robot, refuse, or fall silent."""

from __future__ import annotations

import os
import pty
import tty

import numpy as np
import pytest

from robot.drivers import dynamixel, make_robot
from robot.interface import RobotError, RobotFault
from robot.technician import SocketTechnician


@pytest.fixture
def robot(lockstep, task, make_settings):
    made = make_robot(make_settings(port=lockstep.port), task)
    made.connect()
    yield made
    made.disconnect()


def test_a_port_that_cannot_be_opened_is_named(tmp_path, task, make_settings):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file"):
        with pytest.raises(RobotError) as caught:
            make_robot(make_settings(port=str(path)), task).connect()
        message = str(caught.value)
        assert "robot.port" in message and str(path) in message and "accepted" in message and "\n" not in message
    with pytest.raises(RobotError, match=r"robot\.baud: 31"):
        make_robot(make_settings(port="/dev/null", baud=31), task).connect()


def test_a_line_nobody_answers_on_is_named(task, make_settings, monkeypatch):
    monkeypatch.setattr(dynamixel, "PING_PATIENCE_S", 0.05)
    master, slave = pty.openpty()
    tty.setraw(slave)
    robot = make_robot(make_settings(port=os.ttyname(slave)), task)
    with pytest.raises(RobotError, match="no robot answers.*no status packet"):
        robot.connect()
    assert robot.status().state == "disconnected"
    os.close(master)
    os.close(slave)


def test_wiring_is_checked_before_anything_moves(task, make_settings):
    with pytest.raises(RobotError, match=r"robot\.servos: joint 'hinge'"):
        make_robot(make_settings(port="x", servos={"slider": {"id": 1, "scale": 0.02}}), task)
    passive = {"slider": {"id": 1, "scale": 0.02}, "hinge": {"id": 2, "scale": 1.0}}
    with pytest.raises(RobotError, match="effort_per_unit"):
        make_robot(make_settings(port="x", servos=passive), task)
    with pytest.raises(RobotError, match="port"):
        make_robot(make_settings(), task)


def test_a_command_needs_an_armed_robot_and_hold_disarms(robot, lockstep):
    with pytest.raises(RobotFault, match="armed"):
        robot.command(np.array([1.0]))
    robot.arm()
    assert robot.command(np.array([1.0])).command[0] == 1.0
    held = robot.hold()
    assert held.motors_off and not held.still and np.isfinite(held.joint_velocity).all()
    with pytest.raises(RobotFault, match="armed"):
        robot.command(np.array([1.0]))
    technician = SocketTechnician(lockstep.technician)
    assert [e["event"] for e in technician.record()["events"]][-1] == "motor off"
    technician.close()


@pytest.mark.parametrize("force", [0.0, 0.0049, 0.005, -0.0051, 0.03, 3.3333, -9.9999, 10.0])
def test_what_is_sent_is_whole_units_towards_zero(robot, force):
    robot.arm()
    sent = robot.command(np.array([force])).command[0]
    assert abs(sent) <= abs(force) + 1e-12 and abs(sent - force) < 0.005 and sent * force >= 0
    assert sent / 0.005 == pytest.approx(round(sent / 0.005), abs=1e-9)
    robot.observe()  # the motor has it


def test_a_motor_that_does_not_have_the_goal_is_a_fault(robot):
    robot.arm()
    robot.command(np.array([1.0]))
    robot._line().write(1, 102, 2, 7)  # somebody else
    with pytest.raises(RobotFault, match="goal current 7 where 200 was sent"):
        robot.observe()
    robot.arm()
    robot.command(np.array([0.0]))
    with pytest.raises(RobotFault, match="refused"):
        robot._line().write(1, 102, 2, 2001)


def test_lockstep_needs_a_twin(task, make_settings, monkeypatch, lockstep):
    monkeypatch.setattr(dynamixel, "_is_terminal", lambda port: False)
    with pytest.raises(RobotError, match="only a twin waits"):
        make_robot(make_settings(port=lockstep.port), task).connect()


def test_status_and_disconnect_never_raise(task, make_settings):
    robot = make_robot(make_settings(port="/dev/nowhere"), task)
    assert robot.status().state == "disconnected"
    robot.disconnect()
    with pytest.raises(RobotFault, match="not connected"):
        robot.observe()


@pytest.mark.parametrize("factor", [1e-6, 1e-3, 0.1, 0.8])
def test_an_effort_limit_beyond_what_the_servo_accepts_is_refused(tmp_path, task, make_settings, lockstep, factor):
    servos = dict(make_settings().servos)
    servos["slider"] = servos["slider"].model_copy(update={"effort_per_unit": 0.005 * factor})
    with pytest.raises(RobotError, match="slider.*effort_per_unit of at least 0.005"):
        make_robot(make_settings(port=lockstep.port, twin=None, servos=servos), task).connect()


def test_more_units_than_the_register_holds_never_go_out(task, make_settings, lockstep):
    robot = make_robot(make_settings(port=lockstep.port, twin=None), task)
    robot.connect()
    robot.arm()
    for force in (170.0, -170.0, 1e30):
        with pytest.raises(RobotFault, match="register holds"):
            robot.command(np.array([force]))
    robot.hold()
    robot.disconnect()
