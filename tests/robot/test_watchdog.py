"""Nobody at the wheel: the motors go off, as the twin's own recorder shows."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from robot.drivers.dynamixel import DynamixelRobot
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.technician import SocketTechnician
from robot.watchdog import Watchdog
from tests.robot.policies import balancing_gains, linear_policy

pytestmark = pytest.mark.real_time

WATCHDOG_MS = 100
SLACK_S = 0.15  # for a loaded test machine; the twin itself acts to the millisecond of its own clock

CLIENT = """
import sys, time
import numpy as np
from envs.task import State
from envs.tasks.cartpole import Cartpole
from robot.drivers import make_robot
from robot.settings import RobotSettings
from robot.technician import SocketTechnician
from tests.robot.conftest import LIMITS
port, technician = sys.argv[1:]
settings = RobotSettings(limits=LIMITS, port=port, mode="realtime", watchdog_ms=100)
robot = make_robot(settings, Cartpole())
robot.connect()
SocketTechnician(technician).reset(State(np.zeros((1, 2)), np.zeros((1, 2))), 1)
robot.arm()
print("armed", flush=True)
while True:
    robot.command(np.array([0.5]))
    robot.observe()
    time.sleep(0.02)
"""


@pytest.mark.parametrize(("how", "why"), [(signal.SIGKILL, "hang-up"), (signal.SIGSTOP, "bus watchdog")])
def test_motors_go_off_when_the_client_is_gone_or_frozen(realtime, how, why):
    client = subprocess.Popen(
        [sys.executable, "-c", CLIENT, realtime.port, str(realtime.technician)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert client.stdout is not None and client.stdout.readline() == "armed\n"
    time.sleep(0.3)
    technician = SocketTechnician(realtime.technician)
    assert [e["event"] for e in technician.record()["events"] if e["event"] != "goal"][-1] == "motor on"
    client.send_signal(how)
    gone = time.monotonic()
    event: dict = {}
    while event.get("event") != "motor off" and time.monotonic() < gone + 5:
        time.sleep(0.01)
        event = [e for e in technician.record()["events"] if e["event"] != "goal"][-1]
    assert event["event"] == "motor off" and event["why"] == why
    goals = [e["at_s"] for e in technician.record()["events"] if e["event"] == "goal"]
    assert event["at_s"] - goals[-1] <= WATCHDOG_MS / 1e3 + SLACK_S
    client.kill()
    client.wait()
    client.stdout.close()
    technician.close()


def test_a_control_loop_that_hangs_is_stopped_by_the_driver_s_process(tmp_path, task, make_settings, monkeypatch):
    # The servos' own watchdog is far longer here, so that only the thread can have done it.
    session = open_session(make_settings(mode="realtime", watchdog_ms=100), task, tmp_path)
    robot, technician = session.robot, session.technician
    assert isinstance(robot, DynamixelRobot) and isinstance(technician, SocketTechnician)
    real_arm = robot.arm

    def arm():
        real_arm()
        robot._line().write(1, 98, 1, 0)

    monkeypatch.setattr(robot, "arm", arm)
    hanging = ExportedPolicy(linear_policy(task, balancing_gains(task)))
    calls, act = [], hanging.act

    def hang(*arguments):
        calls.append(0)
        if len(calls) == 10:
            time.sleep(0.6)
        return act(*arguments)

    monkeypatch.setattr(hanging, "act", hang)
    result = session.run_episode(hanging, purpose="evaluation", seed=0, world=0)
    assert "watchdog" in result.meta.stop and result.meta.void
    assert result.meta.steps <= 9 and not result.columns["terminated"].any()
    assert session.status().state == "stopped"
    events = technician.record()["events"]
    off = next(e["at_s"] for e in events if e["event"] == "motor off" and e["why"] == "command")
    last_goal = [e["at_s"] for e in events if e["event"] == "goal"][-1]
    assert off - last_goal <= 0.1 + SLACK_S
    session.close()


def test_it_expires_once_and_only_arming_starts_it_again():
    fired = threading.Event()
    times = []

    def expire() -> None:
        times.append(time.monotonic())
        fired.set()

    dog = Watchdog(0.05, expire)
    time.sleep(0.1)
    assert not times  # not armed
    dog.arm()
    for _ in range(5):
        time.sleep(0.005)
        dog.feed()
    assert fired.wait(5)
    dog.feed()
    time.sleep(0.1)
    assert len(times) == 1
    dog.arm()
    dog.disarm()
    time.sleep(0.1)
    assert len(times) == 1
    dog.close()
