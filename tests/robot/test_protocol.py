"""Dynamixel Protocol 2.0: checksums, framing, access rules; nothing sent to the bus can break it."""

from __future__ import annotations

import struct

import pytest
from dynamixel_sdk import Protocol2PacketHandler
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.drivers.dynamixel_link import QuickPackets
from robot.twin import protocol
from robot.twin.bus import BUS_WATCHDOG, GOAL_CURRENT, HARDWARE_ERROR, TORQUE_ENABLE, TRIPPED, Bus, Servo

# From the e-Manual: the examples of Ping and Read.
PING_1 = bytes.fromhex("FF FF FD 00 01 03 00 01 19 4E")
READ_1 = bytes.fromhex("FF FF FD 00 01 07 00 02 84 00 04 00 1D 15")


def packet(servo: int, code: int, parameters: bytes = b"") -> bytes:
    body = bytes((code,)) + parameters
    body = body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
    head = protocol.HEADER + bytes((servo,)) + struct.pack("<H", len(body) + 2) + body
    return head + struct.pack("<H", Protocol2PacketHandler().updateCRC(0, head, len(head)))


def make_bus() -> tuple[Bus, list[tuple[int, int, int]]]:
    heard: list[tuple[int, int, int]] = []
    servos = (Servo(1, current_limit=2000), Servo(2, current_limit=0))
    bus = Bus(servos, lambda: None, lambda s, a, e: heard.append((s.id, a, e)), lambda s: None)
    return bus, heard


def write(servo: int, address: int, value: int, size: int) -> bytes:
    data = value.to_bytes(size, "little", signed=value < 0)
    return packet(servo, protocol.WRITE, struct.pack("<H", address) + data)


def errors(answer: bytes) -> list[int]:
    """The error byte of each status packet in an answer, each with its checksum checked."""
    found = []
    while answer:
        length = struct.unpack_from("<H", answer, 5)[0]
        one, answer = answer[: 7 + length], answer[7 + length :]
        assert one[:4] == protocol.HEADER and one[7] == 0x55
        assert protocol.crc16(one[:-2]) == struct.unpack("<H", one[-2:])[0]
        found.append(one[8])
    return found


@given(st.binary(max_size=80), st.integers(0, 0xFFFF))
def test_checksums_agree_with_the_vendor(data, start):
    vendor = Protocol2PacketHandler()
    assert protocol.crc16(data) == vendor.updateCRC(0, data, len(data))
    assert QuickPackets().updateCRC(start, list(data), len(data)) == vendor.updateCRC(start, data, len(data))


@given(st.lists(st.sampled_from([0xFF, 0xFD, 0x00, 0x55]), max_size=40))
def test_stuffing_agrees_with_the_vendor(parameters):
    raw = [0xFF, 0xFF, 0xFD, 0, 1, (len(parameters) + 3) & 0xFF, 0, 3, *parameters, 0, 0]
    theirs, ours = list(raw), list(raw)
    Protocol2PacketHandler().addStuffing(theirs)
    QuickPackets().addStuffing(ours)
    assert ours == theirs
    assert QuickPackets().removeStuffing(list(theirs)) == Protocol2PacketHandler().removeStuffing(list(theirs))


def test_examples_of_the_manual():
    assert packet(1, protocol.PING) == PING_1
    assert packet(1, protocol.READ, bytes((132, 0, 4, 0))) == READ_1
    bus, _ = make_bus()
    answer = bus.feed(PING_1, 0.0)
    assert answer[:7] == bytes.fromhex("FF FF FD 00 01 07 00")
    assert answer[7:12] == bytes((0x55, 0, 0xFC, 0x03, 50))  # model 1020, firmware 50


@settings(max_examples=300, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8))
def test_noise_never_breaks_the_bus(chunks):
    bus, _ = make_bus()
    for chunk in chunks:
        errors(bus.feed(chunk, 0.0))
    # Noise may have begun a packet that swallows what follows; two silences' worth of traffic always end it.
    answer = b"".join(bus.feed(PING_1, 0.0) for _ in range(2 + protocol.MAX_LENGTH // len(PING_1)))
    assert 0 in errors(answer)


@settings(max_examples=300, deadline=None)
@given(
    servo=st.sampled_from([0, 1, 2, 3, 0xFE]),
    code=st.integers(0, 255),
    parameters=st.binary(max_size=30),
    cuts=st.lists(st.integers(0, 40), max_size=3),
)
def test_any_instruction_is_answered_in_form_however_it_arrives(servo, code, parameters, cuts):
    data = packet(servo, code, parameters)
    whole = make_bus()[0].feed(data, 0.0)
    errors(whole) if code != protocol.FAST_SYNC_READ else None
    bus, _ = make_bus()
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    assert b"".join(bus.feed(data[a:b], 0.0) for a, b in zip(edges, edges[1:], strict=False)) == whole
    for table in (each.table for each in bus.servos.values()):
        assert len(table) == 147
        assert abs(int.from_bytes(table[102:104], "little", signed=True)) <= 2000


@given(st.binary(min_size=1, max_size=20), st.integers(0, 12), st.integers(1, 255))
def test_a_damaged_write_changes_nothing(parameters, place, flip):
    bus, heard = make_bus()
    before = [bytes(servo.table) for servo in bus.servos.values()]
    data = bytearray(packet(1, protocol.WRITE, struct.pack("<H", TORQUE_ENABLE) + parameters))
    data[8 + place % (len(data) - 8)] ^= flip
    bus.feed(bytes(data), 0.0)
    assert [bytes(servo.table) for servo in bus.servos.values()] == before and not heard


@pytest.mark.parametrize(
    ("address", "value", "size", "error"),
    [
        (11, 0, 1, protocol.OK),
        (11, 7, 1, protocol.RANGE),  # no such mode
        (TORQUE_ENABLE, 2, 1, protocol.RANGE),
        (GOAL_CURRENT, 2000, 2, protocol.OK),
        (GOAL_CURRENT, 2001, 2, protocol.LIMIT),
        (GOAL_CURRENT, -2001, 2, protocol.LIMIT),
        (GOAL_CURRENT, 5, 1, protocol.LENGTH),  # half a register
        (132, 0, 4, protocol.ACCESS),  # present position is read-only
        (0, 1, 2, protocol.ACCESS),  # and so is the model number
        (BUS_WATCHDOG, 128, 1, protocol.RANGE),
        (146, 0, 4, protocol.RANGE),
    ],
)
def test_access_rules(address, value, size, error):
    bus, heard = make_bus()
    assert errors(bus.feed(write(1, address, value, size), 0.0)) == [error]
    assert bool(heard) == (error == protocol.OK)


def test_modes_are_locked_while_the_motor_is_on():
    bus, _ = make_bus()
    bus.feed(write(1, TORQUE_ENABLE, 1, 1), 0.0)
    assert errors(bus.feed(write(1, 11, 0, 1), 0.0)) == [protocol.ACCESS]


def test_a_tripped_watchdog_locks_the_goals_until_it_is_cleared():
    bus, _ = make_bus()
    motor = bus.servos[1]
    bus.feed(write(1, TORQUE_ENABLE, 1, 1), 0.0)
    motor.put(BUS_WATCHDOG, TRIPPED, 1)
    assert not motor.torque
    assert errors(bus.feed(write(1, GOAL_CURRENT, 10, 2), 0.0)) == [protocol.ACCESS]
    assert errors(bus.feed(write(1, BUS_WATCHDOG, 0, 1), 0.0)) == [protocol.OK]
    assert errors(bus.feed(write(1, GOAL_CURRENT, 10, 2), 0.0)) == [protocol.OK]


def test_a_hardware_error_raises_the_alert_bit_and_a_motor_starts_at_rest():
    bus, _ = make_bus()
    bus.servos[1].put(HARDWARE_ERROR, 0x20, 1)
    assert errors(bus.feed(PING_1, 0.0)) == [protocol.ALERT]
    bus.feed(write(1, GOAL_CURRENT, 500, 2), 0.0)
    bus.feed(write(1, TORQUE_ENABLE, 1, 1), 0.0)
    assert bus.servos[1].get(GOAL_CURRENT, 2) == 0


def test_unknown_instructions_and_checksums_are_reported():
    bus, _ = make_bus()
    assert errors(bus.feed(packet(1, 0x77), 0.0)) == [protocol.INSTRUCTION]
    wrong = PING_1[:-1] + b"\x00"
    assert errors(bus.feed(wrong, 0.0)) == [protocol.CRC] and bus.corrupt == 1
    assert bus.feed(packet(9, protocol.PING), 0.0) == b""  # nobody there
