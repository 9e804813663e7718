"""What every driver promises, whatever is behind it."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from robot.episodes import EpisodeStore
from robot.interface import RobotError, RobotFault
from robot.ledger import Ledger
from robot.session import RobotSession


@pytest.fixture
def robot(rig):
    made = rig.make()
    rig.start()
    made.connect()
    yield made
    made.disconnect()


def test_connecting_never_moves(rig, robot):
    robot.disconnect()
    robot.connect()
    assert robot.status().state == "ok"
    assert rig.motions() == [] and not rig.motors_on()


def test_observations_are_stamped_in_order_with_ages(rig, robot):
    robot.arm()
    seen = [robot.observe() for _ in range(5)]
    for _ in range(3):
        robot.command(np.array([0.5]))
        seen.append(robot.observe())
    stamps = [one.captured_s for one in seen]
    assert np.all(np.diff(stamps) >= 0)
    for one in seen:
        assert one.joint_position.shape == one.joint_velocity.shape == one.age_s.shape == (2,)
        assert one.joint_position.dtype == one.joint_velocity.dtype == np.float32
        assert np.isfinite(one.joint_position).all() and (one.age_s >= 0).all() and (one.age_s < 1).all()


def test_a_command_returns_what_was_sent(rig, robot):
    robot.arm()
    for force in (0.0, 1.0, -2.345, 7.7):
        sent = robot.command(np.array([force]))
        seen = robot.observe()
        assert sent.command.shape == (1,) and sent.sent_s <= seen.captured_s + 1
        if rig.settings.driver != "replay" and force:
            assert abs(sent.command[0] - force) < 0.006
            until = time.monotonic() + 5  # in real time a command may still be on its way
            while not _reached(rig, sent.command[0]) and time.monotonic() < until:
                robot.observe()
            assert _reached(rig, sent.command[0])


def test_commands_need_arming_and_holding_leaves_the_motors_off_with_evidence(rig, robot):
    with pytest.raises(RobotFault, match="armed") as caught:
        robot.command(np.array([1.0]))
    assert not caught.value.link and rig.motions() == []
    robot.arm()
    robot.command(np.array([1.0]))
    robot.observe()
    held = robot.hold()
    assert held.motors_off or (held.still and robot.spec.stop == "hold")
    assert not rig.motors_on() and np.isfinite(held.joint_velocity).all() and held.elapsed_s >= 0
    moved = len(rig.motions())
    with pytest.raises(RobotFault, match="armed"):
        robot.command(np.array([1.0]))
    assert robot.hold().motors_off == held.motors_off  # again is no harm
    assert len(rig.motions()) == moved
    robot.arm()
    robot.command(np.array([0.0]))


def test_holding_works_from_another_thread(rig, robot):
    robot.arm()
    robot.command(np.array([0.5]))
    robot.observe()
    thread = threading.Thread(target=robot.hold)
    thread.start()
    thread.join(10)
    assert not thread.is_alive() and not rig.motors_on()
    with pytest.raises(RobotFault, match="armed"):
        robot.command(np.array([0.5]))


def test_status_and_disconnecting_never_raise_and_leave_the_motors_off(rig, robot):
    assert rig.make().status().state == "disconnected"
    robot.arm()
    robot.command(np.array([1.0]))
    robot.observe()
    robot.disconnect()
    robot.disconnect()
    assert robot.status().state == "disconnected" and not rig.motors_on()
    for call in (robot.observe, robot.hold, robot.arm, lambda: robot.command(np.zeros(1))):
        with pytest.raises(RobotFault, match="connected") as caught:
            call()
        assert caught.value.link


def test_a_pulled_cable_is_a_fault_of_the_link_until_connected_anew(rig, robot):
    robot.arm()
    robot.command(np.array([1.0]))
    robot.observe()
    rig.cut()
    for _ in range(2):  # it does not mend itself
        with pytest.raises(RobotFault) as caught:
            robot.command(np.array([1.0]))
            robot.observe()
        assert caught.value.link
    robot.status()
    robot.disconnect()
    assert robot.status().state == "disconnected"


def test_a_stop_is_ended_by_recovering_alone(rig, tmp_path, balancer):
    session = RobotSession(
        rig.make(),
        rig.task,
        rig.settings,
        EpisodeStore(tmp_path / "episodes"),
        None,
        Ledger(tmp_path / "ledger.jsonl", 0.0),
        tmp_path,
    )
    rig.start()
    session.connect()
    if rig.settings.driver == "gymnasium":
        session.robot.arm()  # it has nothing to show before its first reset
    session.hold("a person pressed the button")
    session.robot.disconnect()
    session.robot.connect()
    for _ in range(2):
        with pytest.raises(RobotError, match="stopped: a person pressed the button"):
            session.run_episode(balancer, purpose="evaluation", seed=3, world=2)
    assert session.status().state == "stopped" and not rig.motors_on()
    session.recover("Ada")
    assert session.status().state == "ok"
    session.close()


def _reached(rig, effort) -> bool:
    motions = rig.motions()
    return bool(motions) and abs(motions[-1] - effort) < 0.006
