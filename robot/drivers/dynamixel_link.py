"""The vendor's SDK, but for two habits that cost time: it polls the port, and it checks bytes slowly."""

from __future__ import annotations

import os
import select
import struct
import termios
import time
from collections.abc import Sequence

import numpy as np
from dynamixel_sdk import COMM_SUCCESS, PortHandler, Protocol2PacketHandler
from serial import SerialException

from robot.interface import RobotError, RobotFault


def _table() -> np.ndarray:
    """CRC-16 of the protocol (polynomial 0x8005, no reflection) for each pair of bytes."""
    crc = np.arange(0x10000, dtype=np.uint32)
    for _ in range(16):
        crc = np.where(crc & 0x8000, (crc << 1) ^ 0x8005, crc << 1) & 0xFFFF
    return crc


_CRC = _table().tolist()


class BlockingPort(PortHandler):
    """A port that sleeps until bytes arrive, and gives up `patience_ms` after the bytes had time to pass."""

    patience_ms = 40.0

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._deadline_s = 0.0
        self._fd = -1
        self._poll = select.poll()
        self._received = b""

    def setupPort(self, cflag_baud: int) -> bool:  # noqa: N802 (the vendor's name)
        super().setupPort(cflag_baud)
        assert self.ser is not None
        self.ser.exclusive = True  # two programs on one bus would talk over each other
        self._fd = self.ser.fileno()
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        return True

    def clearPort(self) -> None:  # noqa: N802
        self._received = b""
        termios.tcflush(self._fd, termios.TCIFLUSH)

    def writePort(self, packet: list[int]) -> int:  # noqa: N802
        return os.write(self._fd, bytes(packet))

    def setPacketTimeout(self, packet_length: int) -> None:  # noqa: N802
        self._deadline_s = time.monotonic() + (self.tx_time_per_byte * packet_length + self.patience_ms) / 1e3

    def setPacketTimeoutMillis(self, msec: float) -> None:  # noqa: N802
        self._deadline_s = time.monotonic() + msec / 1e3

    def isPacketTimeout(self) -> bool:  # noqa: N802
        return time.monotonic() >= self._deadline_s

    def readPort(self, length: int) -> bytes:  # noqa: N802
        """Up to `length` bytes; empty when the time for the reply is over."""
        if not self._received and length > 0:
            wait_ms = (self._deadline_s - time.monotonic()) * 1e3
            if not self._poll.poll(max(wait_ms, 0.0)):
                return b""
            self._received = os.read(self._fd, 4096)
            if not self._received:
                raise OSError("the line was hung up")
        data, self._received = self._received[:length], self._received[length:]
        return data


class QuickPackets(Protocol2PacketHandler):
    """Protocol 2.0 as the vendor has it; checksum and byte stuffing in fewer Python operations."""

    def updateCRC(self, crc_accum: int, data_blk_ptr: list[int], data_blk_size: int) -> int:  # noqa: N802
        """Two bytes at a time; a leading zero byte changes nothing when the checksum starts from zero."""
        data = bytes(data_blk_ptr[:data_blk_size])
        if data_blk_size & 1:
            if crc_accum:
                return super().updateCRC(crc_accum, data_blk_ptr, data_blk_size)
            data = b"\0" + data
        crc = crc_accum
        for pair in struct.unpack(f">{len(data) // 2}H", data):
            crc = _CRC[crc ^ pair]
        return crc

    def addStuffing(self, packet: list[int]) -> list[int]:  # noqa: N802
        if b"\xff\xff\xfd" not in bytes(packet[7:-2]):
            return packet
        return super().addStuffing(packet)

    def removeStuffing(self, packet: list[int]) -> list[int]:  # noqa: N802
        if b"\xff\xff\xfd\xfd" not in bytes(packet[7:-2]):
            return packet
        return super().removeStuffing(packet)


class Link:
    """Registers of servos over one serial line. Every failure is a RobotFault that says which and why."""

    def __init__(self, port: str, baud: int) -> None:
        self._name, self._baud = port, baud
        self._port = BlockingPort(port)
        self._packets = QuickPackets()
        self.errors = 0

    def open(self) -> None:
        accepted = "accepted is a serial device that exists, that you may use and that no other program has open"
        try:
            if not self._port.setBaudRate(self._baud):
                raise RobotError(f"robot.baud: {self._baud} is no rate of this bus; accepted is for instance 1000000")
        except (SerialException, OSError, termios.error) as error:
            self.close()
            number = getattr(error, "errno", None)
            text = os.strerror(number) if number else str(error)
            raise RobotError(f"robot.port: {self._name} cannot be opened ({text}); {accepted}") from error

    def patience(self, seconds: float) -> None:
        """How long to wait for an answer."""
        self._port.patience_ms = seconds * 1e3

    def close(self) -> None:
        if self._port.ser is not None:
            try:
                self._port.closePort()
            except OSError:
                self._port.is_open = False  # a line that is gone needs no closing

    def ping(self, servo: int) -> None:
        try:
            _, result, error = self._packets.ping(self._port, servo)
        except (OSError, termios.error) as problem:
            raise self._lost(problem) from problem
        self._check(servo, "ping", result, error)

    def read(self, servo: int, address: int, size: int) -> int:
        try:
            data, result, error = self._packets.readTxRx(self._port, servo, address, size)
        except (OSError, termios.error) as problem:
            raise self._lost(problem) from problem
        self._check(servo, f"read {address}", result, error)
        self._whole(servo, f"read {address}", data, size)
        return int.from_bytes(bytes(data[:size]), "little")

    def write(self, servo: int, address: int, size: int, value: int) -> None:
        data = list(value.to_bytes(size, "little", signed=value < 0))
        try:
            result, error = self._packets.writeTxRx(self._port, servo, address, size, data)
        except (OSError, termios.error) as problem:
            raise self._lost(problem) from problem
        self._check(servo, f"write {address}", result, error)

    def sync_read(self, servos: tuple[int, ...], address: int, size: int) -> list[bytes]:
        """The same registers of several servos in one exchange."""
        packets, port = self._packets, self._port
        blocks = []
        try:
            result = packets.syncReadTx(port, address, size, list(servos), len(servos), False)
            self._check(servos[0], f"sync read {address}", result, 0)
            for servo in servos:
                data, result, error = packets.readRx(port, servo, size)
                self._check(servo, f"sync read {address}", result, error)
                self._whole(servo, f"sync read {address}", data, size)
                blocks.append(bytes(data))
        except (OSError, termios.error) as problem:
            raise self._lost(problem) from problem
        return blocks

    def sync_write(self, address: int, size: int, values: dict[int, int]) -> None:
        """The same register of several servos at one instant. Nobody answers; read back to be sure."""
        data: list[int] = []
        for servo, value in values.items():
            data += [servo, *value.to_bytes(size, "little", signed=value < 0)]
        try:
            result = self._packets.syncWriteTxOnly(self._port, address, size, data, len(data))
        except (OSError, termios.error) as problem:
            raise self._lost(problem) from problem
        self._check(next(iter(values)), f"sync write {address}", result, 0)

    def _check(self, servo: int, what: str, result: int, error: int) -> None:
        if result != COMM_SUCCESS:
            self.errors += 1
            text = self._packets.getTxRxResult(result).removeprefix("[TxRxResult] ")
            raise RobotFault(f"servo {servo} on {self._name}: {what}: {text}", link=True)
        if error:
            text = self._packets.getRxPacketError(error).removeprefix("[RxPacketError] ")
            raise RobotFault(f"servo {servo} on {self._name}: {what} was refused: {text}")

    def _whole(self, servo: int, what: str, data: Sequence[int], size: int) -> None:
        """An intact answer of the wrong size belongs to another question: a late one, on a line that loses packets."""
        if len(data) != size:
            self.errors += 1
            raise RobotFault(
                f"servo {servo} on {self._name}: {what}: {len(data)} bytes where {size} were asked", link=True
            )

    def _lost(self, problem: Exception) -> RobotFault:
        self.errors += 1
        self._port.is_using = False
        return RobotFault(f"the link to the robot on {self._name} is lost ({problem})", link=True)
