"""X-series servos on one bus: control tables, access rules, bus watchdog."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from robot.twin import protocol
from robot.twin.protocol import Instruction, status

TABLE_SIZE = 147
MODEL, FIRMWARE, ID, OPERATING_MODE, CURRENT_LIMIT, VELOCITY_LIMIT = 0, 6, 7, 11, 38, 44
TORQUE_ENABLE, HARDWARE_ERROR, BUS_WATCHDOG, GOAL_CURRENT, GOAL_VELOCITY = 64, 70, 98, 102, 104
PRESENT_CURRENT, PRESENT_VELOCITY, PRESENT_POSITION = 126, 128, 132
EEPROM_END, READ_ONLY = 64, range(120, TABLE_SIZE)
READ_ONLY_LOW = range(0, 7)
MODES = (0, 1, 3, 4, 5, 16)
CURRENT_CONTROL, VELOCITY_CONTROL = 0, 1
GOALS = ((GOAL_CURRENT, 2, CURRENT_LIMIT, 2), (GOAL_VELOCITY, 4, VELOCITY_LIMIT, 4))  # goal, size; its limit, size
WATCHDOG_UNIT_S = 0.02
TRIPPED = 0xFF  # what the watchdog register reads after it has stopped the servo


class Servo:
    """The registers of one servo; `torque` and `tripped` say what its power stage does."""

    def __init__(self, servo_id: int, current_limit: int, velocity_limit: int = 0) -> None:
        self.id = servo_id
        self.table = bytearray(TABLE_SIZE)
        self.heard_s = 0.0  # when the bus last addressed this servo
        self.put(MODEL, 1020, 2)
        self.put(FIRMWARE, 50, 1)
        self.put(ID, servo_id, 1)
        self.put(OPERATING_MODE, 3, 1)
        self.put(CURRENT_LIMIT, current_limit, 2)
        self.put(VELOCITY_LIMIT, velocity_limit, 4)

    def put(self, address: int, value: int, size: int) -> None:
        low = -(1 << (8 * size - 1))
        high = (1 << (8 * size)) - 1
        value = min(max(value, low), high)
        self.table[address : address + size] = value.to_bytes(size, "little", signed=value < 0)

    def get(self, address: int, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.table[address : address + size], "little", signed=signed)

    @property
    def torque(self) -> bool:
        return self.table[TORQUE_ENABLE] == 1 and not self.tripped

    @property
    def tripped(self) -> bool:
        return self.table[BUS_WATCHDOG] == TRIPPED

    def refuse(self, address: int, data: bytes) -> int:
        """The error number for a write, 0 if it is allowed. Nothing is changed."""
        end = address + len(data)
        if not data or end > TABLE_SIZE:
            return protocol.RANGE
        if end > READ_ONLY.start or address < READ_ONLY_LOW.stop:
            return protocol.ACCESS
        if address < EEPROM_END and self.table[TORQUE_ENABLE]:
            return protocol.ACCESS  # these are locked while the motor is on
        if self.tripped and end > 100:
            return protocol.ACCESS  # goals are locked until the watchdog register is written 0
        for register, allowed in (
            (TORQUE_ENABLE, (0, 1)),
            (OPERATING_MODE, MODES),
            (BUS_WATCHDOG, range(128)),
        ):
            if address <= register < end and data[register - address] not in allowed:
                return protocol.RANGE
        for register, size, limit, limit_size in GOALS:
            if address < register + size and end > register:
                if address > register or end < register + size:
                    return protocol.LENGTH
                part = data[register - address : register - address + size]
                if abs(int.from_bytes(part, "little", signed=True)) > self.get(limit, limit_size):
                    return protocol.LIMIT
        return protocol.OK

    def write(self, address: int, data: bytes) -> None:
        was_on = self.table[TORQUE_ENABLE]
        self.table[address : address + len(data)] = data
        if self.table[TORQUE_ENABLE] and not was_on:
            self.rest()  # a motor that is switched on starts at rest

    def rest(self) -> None:
        """No goal."""
        for register, size, *_ in GOALS:
            self.put(register, 0, size)


class Bus:
    """Answers instructions. `on_write(servo, address, end)` hears of what was accepted, once stored."""

    def __init__(
        self,
        servos: Iterable[Servo],
        refresh: Callable[[], None],
        on_write: Callable[[Servo, int, int], None],
        on_reboot: Callable[[Servo], None],
    ) -> None:
        self.servos = {servo.id: servo for servo in servos}
        self.corrupt = 0  # packets with a wrong checksum
        self._refresh, self._on_write, self._on_reboot = refresh, on_write, on_reboot
        self._decoder = protocol.Decoder()

    def feed(self, data: bytes, now_s: float) -> bytes:
        """Bytes in, bytes out."""
        return b"".join([self._answer(instruction, now_s) for instruction in self._decoder.feed(data)])

    def hang_up(self) -> None:
        """Whoever was on the line is gone; half a packet of theirs means nothing to the next."""
        self._decoder.clear()

    def _answer(self, instruction: Instruction, now_s: float) -> bytes:
        code, data = instruction.code, instruction.parameters
        broadcast = instruction.servo == protocol.BROADCAST
        servo = self.servos.get(instruction.servo)
        if not instruction.intact:
            self.corrupt += 1
            return status(servo.id, protocol.CRC) if servo else b""
        if code in (protocol.SYNC_READ, protocol.FAST_SYNC_READ, protocol.SYNC_WRITE):
            return self._sync(code, data, now_s) if broadcast and len(data) >= 4 else b""
        if servo is None and not (broadcast and code == protocol.PING):
            return b""
        addressed = list(self.servos.values()) if servo is None else [servo]
        for each in addressed:
            each.heard_s = now_s
        if code == protocol.PING:
            return b"".join(
                self._status(each, 0, bytes(each.table[0:2]) + bytes(each.table[6:7])) for each in addressed
            )
        assert servo is not None
        if code == protocol.READ:
            if len(data) != 4:
                return self._status(servo, protocol.LENGTH)
            address, size = struct.unpack("<HH", data)
            if not size or address + size > TABLE_SIZE:
                return self._status(servo, protocol.RANGE)
            self._refresh()
            return self._status(servo, 0, bytes(servo.table[address : address + size]))
        if code == protocol.WRITE:
            if len(data) < 3:
                return self._status(servo, protocol.LENGTH)
            return self._status(servo, self._write(servo, data[0] | data[1] << 8, data[2:]))
        if code == protocol.REBOOT:
            self._on_reboot(servo)
            return self._status(servo, 0)
        return self._status(servo, protocol.INSTRUCTION)

    def _sync(self, code: int, data: bytes, now_s: float) -> bytes:
        address, size = struct.unpack_from("<HH", data)
        rest = data[4:]
        if code == protocol.SYNC_WRITE:  # nobody answers a sync write
            for i in range(0, len(rest) - size, size + 1):
                servo = self.servos.get(rest[i])
                if servo is not None:
                    servo.heard_s = now_s
                    self._write(servo, address, rest[i + 1 : i + 1 + size])
            return b""
        self._refresh()
        fits = size and address + size <= TABLE_SIZE
        listed = [self.servos[i] for i in rest if i in self.servos]
        for servo in listed:
            servo.heard_s = now_s
        if code == protocol.SYNC_READ:
            return b"".join(
                self._status(servo, 0, bytes(servo.table[address : address + size]))
                if fits
                else self._status(servo, protocol.RANGE)
                for servo in listed
            )
        if not fits or len(listed) != len(rest) or not listed:
            return b""
        return self._fast(listed, address, size)

    def _fast(self, servos: list[Servo], address: int, size: int) -> bytes:
        """The joined status of a fast sync read: each servo adds error, id, data and the checksum so far."""
        length = (size + 4) * len(servos) + 1
        packet = protocol.HEADER + bytes((protocol.BROADCAST,)) + struct.pack("<H", length) + b"\x55"
        for servo in servos:
            packet += bytes((self._alert(servo), servo.id)) + bytes(servo.table[address : address + size])
            packet += struct.pack("<H", protocol.crc16(packet))
        return packet

    def _write(self, servo: Servo, address: int, data: bytes) -> int:
        error = servo.refuse(address, data)
        if not error:
            servo.write(address, data)
            self._on_write(servo, address, address + len(data))
        return error

    @staticmethod
    def _alert(servo: Servo) -> int:
        return protocol.ALERT if servo.table[HARDWARE_ERROR] else 0

    def _status(self, servo: Servo, error: int, parameters: bytes = b"") -> bytes:
        return status(servo.id, error | self._alert(servo), parameters)
