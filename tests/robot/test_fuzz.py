"""Whatever comes over the wire, the driver answers with a sentence, never with a crash."""

from __future__ import annotations

import os
import pty
import struct
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from robot.drivers import dynamixel
from robot.drivers.dynamixel import DynamixelRobot
from robot.drivers.dynamixel_link import Link
from robot.interface import RobotError, RobotFault
from robot.twin import protocol
from robot.twin.bus import Bus, Servo

FEW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@contextmanager
def device(answer: Callable[[bytes], bytes]) -> Iterator[str]:
    """A pseudo-terminal on which every packet is answered with `answer(packet)`."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    closing = threading.Event()

    def serve() -> None:
        while not closing.is_set():
            try:
                os.write(master, answer(os.read(master, 4096)))
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        closing.set()
        os.write(slave, b"\0")  # wakes the thread
        thread.join(2)
        os.close(slave)
        os.close(master)


def good_bus() -> Bus:
    servos = (Servo(1, current_limit=2000), Servo(2, current_limit=0))
    return Bus(servos, lambda: None, lambda s, a, e: None, lambda s: None)


pieces = st.one_of(
    st.binary(max_size=40),
    st.builds(
        lambda servo, error, data: protocol.status(servo, error, data),
        st.integers(0, 255),
        st.integers(0, 255),
        st.binary(max_size=40),
    ),
    st.builds(
        lambda length, data: protocol.HEADER + b"\x01" + struct.pack("<H", length) + b"\x55" + data,
        st.integers(0, 0xFFFF),
        st.binary(max_size=20),
    ),
)


@FEW
@given(replies=st.lists(pieces, min_size=1, max_size=6), size=st.sampled_from((1, 2, 4)))
def test_a_read_gives_a_number_that_was_sent_whole_or_a_fault(replies, size):
    replies, sent = list(replies), []

    def answer(packet: bytes) -> bytes:
        sent.append(replies.pop(0) if replies else b"")
        return sent[-1]

    with device(answer) as port:
        link = Link(port, 1_000_000)
        link.open()
        link.patience(0.01)
        for _ in range(2):
            try:
                value = link.read(1, 132, size)
            except RobotFault as fault:
                assert "servo 1" in str(fault) or "link" in str(fault)
            else:
                assert 0 <= value < 1 << (8 * size) and any(protocol.HEADER in reply for reply in sent)
        link.close()


@FEW
@given(data=st.data(), flips=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 7)), min_size=1, max_size=3))
def test_a_robot_with_a_bad_line_connects_properly_or_says_why(data, flips, make_settings, task):
    bus, count, which = good_bus(), [0], data.draw(st.integers(0, 12))

    def answer(packet: bytes) -> bytes:
        reply, count[0] = bus.feed(packet, 0.0), count[0] + 1
        if count[0] - 1 != which or not reply:
            return reply
        harmed = bytearray(reply)
        for place, bit in flips:
            harmed[place % len(harmed)] ^= 1 << bit
        return bytes(harmed)

    with pytest.MonkeyPatch.context() as patch, device(answer) as port:
        patch.setattr(dynamixel, "PING_PATIENCE_S", 0.01)
        patch.setattr(dynamixel, "LOCKSTEP_PATIENCE_S", 0.01)
        robot = DynamixelRobot(make_settings(port=port, twin=None), task)
        try:
            robot.connect()
            robot.arm()
            robot.command(np.array([2.0]))
            seen = robot.observe()
            assert np.isfinite(seen.joint_position).all() and np.isfinite(seen.joint_velocity).all()
            assert bus.servos[1].get(102, 2, signed=True) == 400
        except RobotError as error:
            assert len(str(error)) > 10
        finally:
            robot.disconnect()
