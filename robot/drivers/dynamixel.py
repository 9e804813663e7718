"""Servos of the Dynamixel X series in current control, over Protocol 2.0 with the vendor's SDK.

A joint that a command drives is a motor (goal current); any other is a servo with its torque off, read as
encoder.
"""

from __future__ import annotations

import math
import struct
import threading
import time
from pathlib import Path

import numpy as np

from envs.task import Task
from robot.drivers.dynamixel_link import Link
from robot.drivers.rest import link_status, until_still
from robot.drivers.spec import make_spec
from robot.interface import Held, Observation, RobotError, RobotFault, Sent, Status
from robot.settings import RobotSettings

OPERATING_MODE, CURRENT_LIMIT, TORQUE_ENABLE, HARDWARE_ERROR, BUS_WATCHDOG, GOAL_CURRENT = 11, 38, 64, 70, 98, 102
CURRENT_CONTROL = 0
MOST_UNITS = 0x7FFF
BLOCK, BLOCK_SIZE = 98, 38  # bus watchdog up to and with present position
BLOCK_FORMAT = struct.Struct("<B3xh24xii")  # watchdog, goal current, velocity, position at 98, 102, 128, 132
TICK_RAD = 2 * math.pi / 4096
VELOCITY_RAD_S = 0.229 * 2 * math.pi / 60
WATCHDOG_UNIT_MS = 20.0
LOCKSTEP_PATIENCE_S = 20.0  # a twin that waits for us may itself have to wait for the processor
REALTIME_PATIENCE_S = 0.04
PING_PATIENCE_S = 2.0  # a device that is no robot should not keep anybody waiting


class DynamixelRobot:
    """Satisfies `robot.interface.Robot`.

    Commands go out as a sync write, which nobody answers; the next `observe` reads the goal back and raises
    RobotFault if the motor does not have it. `hold` switches the torque off.
    """

    def __init__(self, settings: RobotSettings, task: Task) -> None:
        if settings.port is None:
            raise RobotError("robot.port: none given; accepted is a serial device such as /dev/ttyUSB0")
        for joint in task.joints:
            if joint not in settings.servos:
                raise RobotError(
                    f"robot.servos: joint '{joint}' of {task.name} has no servo; accepted is an entry for it"
                )
        self.spec = make_spec(settings, task, "torque_off")
        self._settings = settings
        servos = [settings.servos[joint] for joint in task.joints]
        self._ids = tuple(servo.id for servo in servos)
        self._zero = [servo.zero_ticks for servo in servos]
        self._position_scale = [TICK_RAD * servo.scale for servo in servos]
        self._velocity_scale = [VELOCITY_RAD_S * servo.scale for servo in servos]
        self._motors: list[tuple[int, int, float]] = []  # (row in `joints`, servo id, effort of one unit)
        for joint in task.actuated:
            servo = settings.servos[joint]
            if servo.effort_per_unit is None:
                raise RobotError(
                    f"robot.servos.{joint}.effort_per_unit: none given for an actuated joint; accepted is "
                    "the N or N m of one unit of goal current"
                )
            self._motors.append((task.joints.index(joint), servo.id, servo.effort_per_unit))
        self._motor_rows = [row for row, _, _ in self._motors]
        self._units = [0] * len(self._motors)  # the last goal sent
        self._lock = threading.RLock()  # the watchdog's thread may call hold
        self._link: Link | None = None
        self._armed = False
        self._trouble = ""
        self._errors = 0  # of links already closed

    def connect(self) -> None:
        with self._lock:
            self.disconnect()
            realtime = self.spec.realtime
            link = Link(self._port, self._settings.baud)
            link.open()
            if not realtime and not _is_terminal(self._port):
                link.close()
                raise RobotError(
                    f"robot.mode: lockstep on {self._port}, which is no pseudo-terminal; only a twin waits "
                    "for commands, accepted is realtime"
                )
            self._link = link
            try:
                link.patience(PING_PATIENCE_S)
                for servo in self._ids:
                    link.ping(servo)
                link.patience(REALTIME_PATIENCE_S if realtime else LOCKSTEP_PATIENCE_S)
                for servo in self._ids:
                    link.write(servo, TORQUE_ENABLE, 1, 0)
                for _, servo, _ in self._motors:
                    link.write(servo, BUS_WATCHDOG, 1, 0)
                    link.write(servo, OPERATING_MODE, 1, CURRENT_CONTROL)
                self._check_units(link)
            except RobotFault as error:
                self.disconnect()
                if not error.link:
                    raise RobotError(f"robot.servos: {error}") from error
                raise RobotError(
                    f"robot.port: no robot answers on {self._port} ({error}); accepted is a powered bus with "
                    f"servos {', '.join(map(str, self._ids))} at {self._settings.baud} baud"
                ) from error
            self._trouble = ""

    def _check_units(self, link: Link) -> None:
        """Refuse an effort limit that the servo could never be asked for: then the units are wrong."""
        for (_, servo, unit), joint in zip(self._motors, self.spec.actuated, strict=True):
            most, accepted = self.spec.limits[joint].effort / unit, link.read(servo, CURRENT_LIMIT, 2)
            if not accepted:
                raise RobotFault(f"{joint}: servo {servo} has a current limit of 0; accepted is one that may drive")
            if most > accepted + 0.5:
                least = self.spec.limits[joint].effort / accepted
                raise RobotFault(
                    f"{joint}: its effort limit is {most:.0f} units of goal current, and servo {servo} takes "
                    f"{accepted}; accepted is an effort_per_unit of at least {least:.4g}, or a lower limit"
                )

    def arm(self) -> None:
        with self._lock:
            link = self._line()
            for _, servo, _ in self._motors:
                link.write(servo, BUS_WATCHDOG, 1, 0)
                link.write(servo, TORQUE_ENABLE, 1, 1)
                if self.spec.realtime:
                    units = math.ceil(self._settings.watchdog_ms / WATCHDOG_UNIT_MS)
                    link.write(servo, BUS_WATCHDOG, 1, min(units, 127))
            self._units = [0] * len(self._motors)
            self._armed = True

    def observe(self) -> Observation:
        with self._lock:
            link = self._line()
            before = time.monotonic()
            try:
                blocks = link.sync_read(self._ids, BLOCK, BLOCK_SIZE)
            except RobotFault as fault:
                if not (fault.link and self.spec.realtime):
                    raise
                before = time.monotonic()
                blocks = link.sync_read(self._ids, BLOCK, BLOCK_SIZE)  # one lost packet is no reason to stop
            after = time.monotonic()
            rows = [BLOCK_FORMAT.unpack(block) for block in blocks]
            if self._armed:
                for units, (row, servo, _) in zip(self._units, self._motors, strict=True):
                    watchdog, goal = rows[row][0], rows[row][1]
                    if watchdog == 0xFF:
                        self._armed = False
                        raise RobotFault(f"servo {servo}: its bus watchdog stopped it", link=True)
                    if goal != units:
                        self._armed = False
                        raise RobotFault(f"servo {servo}: has goal current {goal} where {units} was sent")
        position = [(row[3] - zero) * k for row, zero, k in zip(rows, self._zero, self._position_scale, strict=True)]
        velocity = [row[2] * k for row, k in zip(rows, self._velocity_scale, strict=True)]
        return Observation(
            np.array(position, np.float32),
            np.array(velocity, np.float32),
            after,
            np.full(len(rows), after - before),
        )

    def command(self, command: np.ndarray) -> Sent:
        """Round towards zero to whole units, so that what is sent never exceeds what was allowed."""
        values = command.tolist()
        units = [int(v / unit + math.copysign(1e-9, v)) for v, (_, _, unit) in zip(values, self._motors, strict=True)]
        if any(abs(n) > MOST_UNITS for n in units):  # it would arrive as something else
            raise RobotFault(f"{units} units of goal current asked; the register holds at most {MOST_UNITS}")
        with self._lock:
            link = self._line()
            if not self._armed:
                raise RobotFault("the motors are off: the robot was held and must be armed before a command")
            link.sync_write(GOAL_CURRENT, 2, {servo: n for n, (_, servo, _) in zip(units, self._motors, strict=True)})
            self._units = units
        sent = np.array([n * unit for n, (_, _, unit) in zip(units, self._motors, strict=True)])
        return Sent(sent, time.monotonic())

    def hold(self) -> Held:
        start = time.monotonic()
        with self._lock:
            self._armed = False
            link = self._line()
            problem: RobotFault | None = None
            for _, servo, _ in self._motors:
                for attempt in (1, 2, 3):
                    try:
                        link.write(servo, TORQUE_ENABLE, 1, 0)
                        break
                    except RobotFault as fault:
                        if attempt == 3 or not self.spec.realtime:
                            problem = fault  # the other motors are still to be stopped
                            break
            if problem:
                raise problem
            off = all(link.read(servo, TORQUE_ENABLE, 1) == 0 for _, servo, _ in self._motors)
        return until_still(self.observe, self._motor_rows, off, start, realtime=self.spec.realtime)

    def status(self) -> Status:
        link = self._link
        return link_status(link is not None, self._trouble, self._errors + (link.errors if link else 0))

    def recover(self, operator: str) -> None:
        """Clear a tripped bus watchdog; a hardware error needs the motor's own cause removed first."""
        with self._lock:
            if self._link is None:
                self.connect()
            link = self._line()
            for _, servo, _ in self._motors:
                link.write(servo, TORQUE_ENABLE, 1, 0)
                link.write(servo, BUS_WATCHDOG, 1, 0)
                error = link.read(servo, HARDWARE_ERROR, 1)
                if error:
                    raise RobotFault(
                        f"servo {servo}: hardware error {error:#04x}; remove its cause and reboot the servo"
                    )

    def disconnect(self) -> None:
        with self._lock:
            link, self._link, self._armed = self._link, None, False
            if link is None:
                return
            try:
                for _, servo, _ in self._motors:
                    link.write(servo, TORQUE_ENABLE, 1, 0)
            except RobotFault as fault:
                self._trouble = str(fault)  # the line is gone: the servos' own watchdog has to do it
            self._errors += link.errors
            link.close()

    @property
    def _port(self) -> str:
        assert self._settings.port is not None
        return self._settings.port

    def _line(self) -> Link:
        if self._link is None:
            raise RobotFault(f"not connected to the robot on {self._port}", link=True)
        return self._link


def _is_terminal(port: str) -> bool:
    """Whether a device is a pseudo-terminal, or a link to one, which is how a twin appears."""
    return str(Path(port).resolve()).startswith(("/dev/pts/", "/dev/ttys"))
