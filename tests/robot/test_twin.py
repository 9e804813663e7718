"""The twin's process: what it serves, when it ends, what its clocks do."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from envs.task import State
from robot.drivers import make_robot
from robot.interface import RobotError, RobotFault
from robot.technician import SocketTechnician
from robot.twin.process import TwinProcess


def start_state(x=0.0, angle=0.0) -> State:
    return State(np.array([[x, angle]]), np.zeros((1, 2)))


@pytest.fixture
def robot(lockstep, task, make_settings):
    made = make_robot(make_settings(port=lockstep.port), task)
    made.connect()
    yield made
    made.disconnect()


def test_reads_let_no_time_pass_and_see_what_they_saw(robot, lockstep):
    technician = SocketTechnician(lockstep.technician)
    technician.reset(start_state(0.3, 0.1), 5)
    robot.arm()
    readings = [robot.observe() for _ in range(5)]
    assert all(np.array_equal(r.joint_position, readings[0].joint_position) for r in readings)
    assert technician.record()["state"]["time_s"] == 0.0
    np.testing.assert_allclose(readings[0].joint_position, [0.3, 0.1], atol=0.1)
    robot.command(np.array([1.0]))
    assert not np.array_equal(robot.observe().joint_position, readings[0].joint_position)
    assert technician.record()["state"]["time_s"] == pytest.approx(0.02)
    technician.close()


def test_the_technician_refuses_nonsense(lockstep):
    technician = SocketTechnician(lockstep.technician)
    for position in ([float("nan"), 0.0], [0.0], [0.0, 0.0, 0.0]):
        with pytest.raises(RobotError, match="finite"):
            technician.reset(State(np.array([position]), np.zeros((1, 2))), 1)
    with pytest.raises(RobotError, match="unknown request"):
        technician._line.ask(do="dance")
    assert technician.ping()["mode"] == "lockstep"
    technician.close()


def test_a_second_program_on_the_bus_is_refused(robot, lockstep, task, make_settings):
    second = make_robot(make_settings(port=lockstep.port), task)
    with pytest.raises(RobotError, match="cannot be opened.*no other program"):
        second.connect()
    assert robot.observe() is not None


def test_a_restart_keeps_the_paths(task, make_settings):
    with TwinProcess() as twin:
        robot = make_robot(make_settings(port=twin.port), task)
        robot.connect()
        before = twin.pid
        assert before is not None
        os.kill(before, signal.SIGKILL)
        with pytest.raises(RobotFault) as caught:
            for _ in range(3):
                robot.observe()
        assert caught.value.link
        twin.restart()
        assert twin.pid != before
        robot.disconnect()
        robot.connect()
        robot.observe()
        robot.disconnect()
    assert not os.path.lexists(twin.port)


def test_it_ends_with_its_owner():
    code = (
        "import sys, time; from robot.twin.process import TwinProcess\n"
        "twin = TwinProcess(); twin.start(); print(twin.pid, twin.technician.parent, flush=True)\n"
        "time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    number, directory = owner.stdout.readline().split()
    pid = int(number)
    assert os.path.isdir(directory)
    owner.kill()
    owner.wait()
    owner.stdout.close()
    end = time.monotonic() + 10
    while _alive(pid) and time.monotonic() < end:
        time.sleep(0.01)
    assert not _alive(pid) and not os.path.exists(directory)


def test_real_time_runs_at_the_pace_of_the_wall_clock_from_the_first_command(realtime, task, make_settings):
    technician = SocketTechnician(realtime.technician)
    robot = make_robot(make_settings(port=realtime.port, mode="realtime", watchdog_ms=2000.0), task)
    robot.connect()
    technician.reset(start_state(), 1)
    robot.arm()
    time.sleep(0.05)
    assert technician.record()["state"]["time_s"] == 0.0  # held by hand
    robot.command(np.array([0.0]))
    began = time.monotonic()
    first = technician.record()["state"]["time_s"]
    time.sleep(0.2)
    robot.observe()
    record = technician.record()["state"]["time_s"]
    took = time.monotonic() - began
    assert 0.2 - 0.02 <= record - first <= took + 0.02
    robot.disconnect()
    technician.close()


def test_serving_in_the_foreground_prints_where_and_ends_on_request(tmp_path):
    command = [sys.executable, "-m", "robot.twin", "--mode", "realtime", "--directory", str(tmp_path / "d")]
    served = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert served.stdout is not None
    line = served.stdout.readline()
    assert str(tmp_path / "d" / "bus") in line and "technician" in line
    served.send_signal(signal.SIGINT)
    assert served.wait(10) == 0
    served.stdout.close()
    assert list((tmp_path / "d").iterdir()) == []
    wrong = subprocess.run(
        [sys.executable, "-m", "robot.twin", "--hidden", str(tmp_path / "none.yaml")],
        capture_output=True,
        text=True,
    )
    assert wrong.returncode == 2 and "none.yaml cannot be read" in wrong.stdout and wrong.stderr == ""


def test_a_directory_that_cannot_be_used_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / ("long" * 40)):
        with pytest.raises(RobotError, match="accepted is a directory with a short path"):
            TwinProcess(directory=directory).start()


def _alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
