"""The rosbridge driver against its twin, and the twin against somebody else's client."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect
from websockets.sync.server import serve

from envs.tasks.pendulum import Pendulum
from pipeline.config import load_experiment
from robot.drivers import make_robot
from robot.drivers.rosbridge import RosbridgeRobot
from robot.drivers.rosbridge_link import numbers, stamp_s
from robot.interface import RobotError, RobotFault
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.technician import SocketTechnician
from tests.robot.policies import linear_policy


def goals(twin) -> list[dict]:
    technician = SocketTechnician(twin.technician)
    events = technician.record()["events"]
    technician.close()
    return events


def test_the_same_policy_has_the_same_episodes_over_either_bus(tmp_path, task, make_settings, balancer):
    """Rounded to the motor's steps before it is sent, every number is the same; else success is."""
    flown = {}
    for name, driver, options in (
        ("dynamixel", "dynamixel", {}),
        ("rosbridge", "rosbridge", {"resolution": {"slider": 0.005}}),
        ("any force", "rosbridge", {"message": "array", "ros": 1}),
    ):
        session = open_session(make_settings(driver=driver, driver_options=options), task, tmp_path / name)
        run = lambda world, s=session: s.run_episode(balancer, purpose="evaluation", seed=3, world=world)  # noqa: E731
        flown[name] = [run(world) for world in (0, 2)]  # one that succeeds, one that fails
        session.close()
    for one, other in zip(flown["dynamixel"], flown["rosbridge"], strict=True):
        for column in one.columns:
            if not column.startswith("t_"):
                assert np.array_equal(one.columns[column], other.columns[column]), column
    assert [e.meta.success for e in flown["any force"]] == [e.meta.success for e in flown["dynamixel"]]
    assert any(e.meta.success for e in flown["dynamixel"]) and not any(e.meta.stop for e in flown["any force"])


def test_the_pendulum_too_has_the_same_episode_over_either_bus(tmp_path):
    task, flown = Pendulum(), []
    gains = np.zeros(task.policy_size)
    gains[-2] = 40.0  # push the way it moves
    policy = ExportedPolicy(linear_policy(task, gains))
    for driver, options in (("dynamixel", {}), ("rosbridge", {"resolution": {"pivot": 0.002}})):
        settings = load_experiment("pendulum").robot
        settings = settings.model_copy(update={"driver": driver, "driver_options": options})
        session = open_session(settings, task, tmp_path / driver)
        flown.append(session.run_episode(policy, purpose="evaluation", seed=0, world=0).columns)
        session.close()
    for column in flown[0]:
        assert column.startswith("t_") or np.array_equal(flown[0][column], flown[1][column]), column


def test_a_dead_twin_is_revived_as_on_the_other_bus(tmp_path, task, make_settings, balancer):
    session = open_session(make_settings(driver="rosbridge"), task, tmp_path)
    assert session.twin_pid is not None
    os.kill(session.twin_pid, signal.SIGKILL)
    result = session.run_episode(balancer, purpose="evaluation", seed=3, world=0)
    assert result.meta.stop and result.meta.void
    assert session.revive_twin()
    assert session.run_episode(balancer, purpose="evaluation", seed=3, world=0).meta.stop == ""
    session.close()


def test_another_client_sees_and_drives_the_same_robot(twins):
    roslibpy = pytest.importorskip("roslibpy")
    twin = twins("rosbridge", "lockstep")
    before = len(goals(twin))
    ros = roslibpy.Ros("127.0.0.1", int(twin.port.rsplit(":", 1)[1]))
    ros.run(timeout=10)
    heard, came = [], threading.Event()

    def hear(message):
        heard.append(message)
        came.set()

    states = roslibpy.Topic(ros, "/joint_states", "sensor_msgs/JointState")
    states.subscribe(hear)
    trigger = lambda name: roslibpy.Service(ros, name, "std_srvs/Trigger").call({}, timeout=5)  # noqa: E731
    assert trigger("/robot/sync")["success"] and came.wait(5)
    assert heard[0]["name"] == ["slider", "hinge"] and abs(stamp_s(heard[0]) - time.time()) < 5
    assert "secs" in heard[0]["header"]["stamp"]  # it was asked for as ROS 1 spells it
    assert trigger("/robot/arm")["success"]
    came.clear()
    command = roslibpy.Topic(ros, "/robot/command", "trajectory_msgs/JointTrajectory")
    command.publish({"joint_names": ["slider"], "points": [{"effort": [2.5], "time_from_start": {"secs": 0}}]})
    assert came.wait(5)
    assert not trigger("/robot/recover")["message"] and trigger("/robot/stop")["success"]
    with pytest.raises(Exception, match="does not exist"):
        trigger("/robot/dance")
    ros.close()
    events = goals(twin)[before:]
    assert [e["efforts"] for e in events if e["event"] == "goal"] == [[2.5]]
    assert events[-1]["event"] == "motor off"


@pytest.mark.real_time
def test_a_client_that_dies_takes_the_motors_with_it(twins, task, make_settings):
    twin = twins("rosbridge", "realtime")
    robot = make_robot(make_settings(driver="rosbridge", port=twin.port, mode="realtime"), task)
    assert isinstance(robot, RosbridgeRobot)
    robot.connect()
    robot.arm()
    robot.command(np.array([1.0]))
    robot.observe()
    assert robot._link and robot._link._socket
    robot._link._socket.socket.shutdown(socket.SHUT_RDWR)  # as the system does it when a process dies
    until = time.monotonic() + 5
    while goals(twin)[-1]["event"] != "motor off" and time.monotonic() < until:
        time.sleep(0.01)
    assert goals(twin)[-1]["event"] == "motor off"
    with pytest.raises(RobotFault) as caught:
        robot.observe()
    assert caught.value.link
    robot.disconnect()


@pytest.mark.real_time
def test_an_effort_that_is_not_renewed_ends(twins, task, make_settings):
    twin = twins("rosbridge", "realtime")
    robot = make_robot(make_settings(driver="rosbridge", port=twin.port, mode="realtime", watchdog_ms=60.0), task)
    robot.connect()
    robot.arm()
    robot.command(np.array([1.0]))
    with pytest.raises(RobotFault, match="no fresh command in time"):
        for _ in range(400):
            robot.observe()
            time.sleep(0.01)
    events = [e for e in goals(twin) if e["event"] != "stall"]
    assert [e["event"] for e in events[-2:]] == ["goal", "motor off"] and events[-1]["at_s"] - events[-2]["at_s"] < 1.0
    assert robot.hold().motors_off
    robot.disconnect()


class Bridge:
    """A bridge that answers every service and publishes whatever it is told to."""

    def __init__(self, *states):
        self.states = states

    def __call__(self, connection):
        for text in connection:
            message = json.loads(text)
            if message["op"] != "call_service":
                continue
            for state in self.states:
                connection.send(state if isinstance(state, str) else json.dumps(state))
            answer = {"op": "service_response", "id": message["id"], "values": {"success": True}, "result": True}
            connection.send(json.dumps(answer))


GOOD = {"name": ["hinge", "slider"], "position": [0.1, 0.2], "velocity": [0.3, 0.4], "header": {}}


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        ({**GOOD, "name": ["hinge", "elbow"]}, "no position of joint 'slider'"),
        ({**GOOD, "velocity": []}, "no velocity of joint 'slider'"),
        ({**GOOD, "position": ["a", "b"]}, "no position"),
        ({**GOOD, "name": [[1], None]}, "no position"),
    ],
)
def test_a_state_that_cannot_be_used_is_refused_at_connect(task, make_settings, state, sentence):
    bridge = Bridge("no json", "[1]", {"op": "publish"}, {"op": "publish", "topic": "/joint_states", "msg": state})
    with serve(bridge, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"ws://127.0.0.1:{server.socket.getsockname()[1]}"
        with pytest.raises(RobotError, match=f"joint_states.*{sentence}"):
            make_robot(make_settings(driver="rosbridge", port=url), task).connect()
        bridge.states = ({"op": "publish", "topic": "/joint_states", "msg": GOOD},)
        robot = make_robot(make_settings(driver="rosbridge", port=url), task)
        robot.connect()
        np.testing.assert_allclose(robot.observe().joint_position, [0.2, 0.1], rtol=1e-6)  # by name, not by place
        robot.disconnect()
        server.shutdown()


def test_no_bridge_and_no_address_are_named(task, make_settings):
    for port in ("ws://127.0.0.1:9", "/dev/ttyUSB0"):
        with pytest.raises(RobotError, match=f"robot.port: no rosbridge answers at {port}"):
            make_robot(make_settings(driver="rosbridge", port=port), task).connect()


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
operations = st.fixed_dictionaries(
    {"op": st.sampled_from(["publish", "subscribe", "call_service", "advertise", "x"])},
    optional={
        "topic": st.sampled_from(["/robot/command", "/joint_states", "/x"]) | json_values,
        "service": st.sampled_from(["/robot/sync", "/x"]) | json_values,
        "msg": json_values | st.fixed_dictionaries({"data": st.lists(json_values, max_size=2)}),
        "type": json_values,
        "id": json_values,
    },
)


@settings(max_examples=60)
@given(st.lists(operations | json_values, max_size=6), st.text(max_size=20))
def test_whatever_is_said_to_the_twin_it_goes_on_answering(twins, said, noise):
    twin = twins("rosbridge", "lockstep")
    with connect(twin.port, compression=None) as connection:
        for message in said:
            connection.send(json.dumps(message))
        connection.send(noise)
        connection.send(json.dumps({"op": "call_service", "id": "last", "service": "/robot/sync"}))
        while json.loads(connection.recv(timeout=10)).get("id") != "last":
            pass


@given(json_values)
def test_reading_messages_never_fails(message):
    whole = {"header": {"stamp": message}}
    assert isinstance(stamp_s(whole), float) and isinstance(stamp_s({"header": message}), float)
    assert isinstance(numbers(message, ["a", "b"]), dict)
