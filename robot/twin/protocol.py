"""Dynamixel Protocol 2.0 packets as a servo sees them (ROBOTIS e-Manual, "DYNAMIXEL Protocol 2.0")."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

HEADER = b"\xff\xff\xfd\x00"
BROADCAST = 0xFE
MAX_LENGTH = 1024

PING, READ, WRITE, REBOOT, SYNC_READ, SYNC_WRITE, FAST_SYNC_READ = 0x01, 0x02, 0x03, 0x08, 0x82, 0x83, 0x8A

OK, RESULT_FAIL, INSTRUCTION, CRC, RANGE, LENGTH, LIMIT, ACCESS = range(8)  # error numbers of a status packet
ALERT = 0x80  # set in every status while the hardware error register is not zero


def _table() -> list[int]:
    """The checksum of each byte: CRC-16/BUYPASS (polynomial 0x8005, no reflection, initial value 0)."""
    rows = []
    for i in range(256):
        crc = i << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x8005 if crc & 0x8000 else crc << 1
        rows.append(crc & 0xFFFF)
    return rows


_BYTE = _table()
_PAIR = [((_BYTE[i >> 8] << 8) & 0xFF00) ^ _BYTE[(_BYTE[i >> 8] >> 8) ^ (i & 0xFF)] for i in range(0x10000)]


def crc16(data: bytes) -> int:
    """Two bytes at a time; a zero byte in front changes nothing."""
    if len(data) & 1:
        data = b"\0" + data
    crc = 0
    for pair in struct.unpack(f">{len(data) // 2}H", data):
        crc = _PAIR[crc ^ pair]
    return crc


def status(servo: int, error: int, parameters: bytes = b"") -> bytes:
    """A status packet: what servo `servo` answers."""
    body = bytes((0x55, error)) + parameters
    if b"\xff\xff\xfd" in body:  # byte stuffing: a header must not appear inside
        body = body.replace(b"\xff\xff\xfd", b"\xff\xff\xfd\xfd")
    packet = HEADER + bytes((servo,)) + struct.pack("<H", len(body) + 2) + body
    return packet + struct.pack("<H", crc16(packet))


@dataclass(frozen=True)
class Instruction:
    servo: int
    code: int
    parameters: bytes
    intact: bool  # the checksum agrees


class Decoder:
    """Cuts a byte stream into instructions, and finds its feet again after noise."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def clear(self) -> None:
        self._buffer.clear()

    def feed(self, data: bytes) -> Iterator[Instruction]:
        buffer = self._buffer
        buffer += data
        while True:
            start = buffer.find(HEADER)
            if start < 0:
                del buffer[: max(0, len(buffer) - (len(HEADER) - 1))]
                return
            if start:
                del buffer[:start]
            if len(buffer) < 7:
                return
            length = buffer[5] | buffer[6] << 8
            if not 3 <= length <= MAX_LENGTH:  # no such packet: look for the next header
                del buffer[: len(HEADER)]
                continue
            if len(buffer) < 7 + length:
                # A false length would swallow what follows; a header inside means this packet was cut.
                again = buffer.find(HEADER, len(HEADER))
                if again < 0:
                    return
                del buffer[:again]
                continue
            packet = bytes(buffer[: 7 + length])
            intact = crc16(packet[:-2]) == packet[-2] | packet[-1] << 8
            if not intact and packet.find(HEADER, len(HEADER)) > 0:
                del buffer[: packet.find(HEADER, len(HEADER))]
            else:
                del buffer[: 7 + length]
            body = packet[7:-2]
            if b"\xff\xff\xfd\xfd" in body:
                body = body.replace(b"\xff\xff\xfd\xfd", b"\xff\xff\xfd")
            yield Instruction(packet[4], body[0] if body else 0, body[1:], intact)
