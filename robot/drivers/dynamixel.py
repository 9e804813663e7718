"""Servos of the Dynamixel X series in current or velocity control, over Protocol 2.0 with the vendor's SDK.

A joint that a command drives is a motor (goal current for efforts, goal velocity for velocities, as the task's motors
take); any other is a servo with its torque off, read as encoder.
"""

from __future__ import annotations

import math
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.task import Task
from robot.drivers.dynamixel_link import Link
from robot.drivers.rest import link_status, until_still
from robot.drivers.spec import make_spec
from robot.interface import Held, Observation, RobotError, RobotFault, Sent, Status
from robot.settings import RobotSettings

OPERATING_MODE, CURRENT_LIMIT, VELOCITY_LIMIT, TORQUE_ENABLE, HARDWARE_ERROR, BUS_WATCHDOG = 11, 38, 44, 64, 70, 98
PRESENT_CURRENT = 126
BLOCK, BLOCK_SIZE = 98, 38  # bus watchdog up to and with present position
# watchdog, goal current, goal velocity, current, velocity, position at 98, 102, 104, 126, 128, 132
BLOCK_FORMAT = struct.Struct("<B3xhi18xhii")
TICK_RAD = 2 * math.pi / 4096
VELOCITY_RAD_S = 0.229 * 2 * math.pi / 60
WATCHDOG_UNIT_MS = 20.0
LOCKSTEP_PATIENCE_S = 20.0  # a twin that waits for us may itself have to wait for the processor
REALTIME_PATIENCE_S = 0.04
LANDING_S = 15.0
LOOK_S = 0.02
PING_PATIENCE_S = 2.0  # a device that is no robot should not keep anybody waiting


@dataclass(frozen=True)
class Goal:
    """How a servo is told what to do: operating mode, and the register of the goal."""

    mode: int
    name: str
    register: int
    size: int  # bytes
    field: int  # of BLOCK_FORMAT
    limit: int  # register of the most it accepts
    limit_size: int

    @property
    def most_units(self) -> int:
        return 2 ** (8 * self.size - 1) - 1


GOALS = {
    "effort": Goal(0, "goal current", 102, 2, 1, CURRENT_LIMIT, 2),
    "velocity": Goal(1, "goal velocity", 104, 4, 2, VELOCITY_LIMIT, 4),
}
GOALS["thrust"] = GOALS["effort"]


class DynamixelRobot:
    """Satisfies `robot.interface.Robot`.

    Commands go out as a sync write, which nobody answers; the next `observe` reads the goal back and raises
    RobotFault if the motor does not have it. `hold` switches the torque off. Rotors are motors beside the joints, which
    then are what the flight controller estimates; with their torque off it lands by itself, and `hold` waits for that.
    """

    def __init__(self, settings: RobotSettings, task: Task) -> None:
        if settings.port is None:
            raise RobotError("robot.port: none given; accepted is a serial device such as /dev/ttyUSB0")
        names = tuple(dict.fromkeys((*task.joints, *task.scene.motors)))  # rotors move no joint of their own
        for joint in names:
            if joint not in settings.servos:
                raise RobotError(
                    f"robot.servos: joint '{joint}' of {task.name} has no servo; accepted is an entry for it"
                )
        stop = "land" if task.scene.motors_take == "thrust" else "torque_off"
        self.spec = make_spec(settings, task, stop, sends=tuple(GOALS))
        self._goal = GOALS[self.spec.takes]
        self._settings = settings
        servos = [settings.servos[joint] for joint in names]
        self._ids = tuple(servo.id for servo in servos)
        self._zero = [servo.zero_ticks for servo in servos]
        self._position_scale = [TICK_RAD * servo.scale for servo in servos]
        self._velocity_scale = [VELOCITY_RAD_S * servo.scale for servo in servos]
        self._motors: list[tuple[int, int, float]] = []  # (row in `_ids`, servo id, what one unit of the goal is)
        self._effort_units: list[float] = []  # N or N m of one unit of current
        for joint in self.spec.actuated:
            servo = settings.servos[joint]
            if servo.effort_per_unit is None:
                raise RobotError(
                    f"robot.servos.{joint}.effort_per_unit: none given for an actuated joint; accepted is "
                    "the N or N m of one unit of current"
                )
            unit = VELOCITY_RAD_S * servo.scale if self.spec.takes == "velocity" else servo.effort_per_unit
            self._motors.append((names.index(joint), servo.id, unit))
            self._effort_units.append(servo.effort_per_unit)
        self._moves = range(len(task.joints)) if stop == "land" else [row for row, _, _ in self._motors]
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
                    link.write(servo, OPERATING_MODE, 1, self._goal.mode)
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
        """Refuse a limit that the servo could never be asked for: then the units are wrong.

        In velocity control the servo alone bounds the effort, so its own limit has to keep to the joint's.
        """
        goal, takes = self._goal, self.spec.takes
        if takes == "thrust":
            self._check_thrusts(link)
            return
        for (_, servo, unit), joint, effort_unit in zip(
            self._motors, self.spec.actuated, self._effort_units, strict=True
        ):
            limit, current = self.spec.limits[joint], link.read(servo, CURRENT_LIMIT, 2)
            accepted = link.read(servo, goal.limit, goal.limit_size)
            if not (accepted and current):
                what = "current" if not current else "velocity"
                raise RobotFault(f"{joint}: servo {servo} has a {what} limit of 0; accepted is one that may drive")
            most = limit.effort if takes == "effort" else limit.velocity
            if most / abs(unit) > accepted + 0.5:
                least, key = most / accepted, "effort_per_unit" if takes == "effort" else "scale"
                least /= 1.0 if takes == "effort" else VELOCITY_RAD_S
                raise RobotFault(
                    f"{joint}: its {takes} limit is {most / abs(unit):.0f} units of {goal.name}, and servo {servo} "
                    f"takes {accepted}; accepted is {'an' if key[0] == 'e' else 'a'} {key} of at least {least:.4g}, "
                    "or a lower limit"
                )
            if takes == "velocity" and current * effort_unit > limit.effort + 0.5 * effort_unit:
                raise RobotFault(
                    f"{joint}: servo {servo} may push with {current * effort_unit:.4g} N m, and the joint's limit is "
                    f"{limit.effort:g}; accepted is a lower current limit in the servo, or a higher one here"
                )

    def _check_thrusts(self, link: Link) -> None:
        for (_, servo, unit), rotor in zip(self._motors, self.spec.actuated, strict=True):
            accepted, most = link.read(servo, CURRENT_LIMIT, 2), self._settings.rotors[rotor].thrust[1]
            if most / unit > accepted + 0.5:
                raise RobotFault(
                    f"{rotor}: its thrust limit is {most / unit:.0f} units of goal current, and servo {servo} takes "
                    f"{accepted}; accepted is a lower limit, or another effort_per_unit"
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
                    watchdog, goal = rows[row][0], rows[row][self._goal.field]
                    if watchdog == 0xFF:
                        self._armed = False
                        raise RobotFault(f"servo {servo}: its bus watchdog stopped it", link=True)
                    if goal != units:
                        self._armed = False
                        raise RobotFault(f"servo {servo}: has {self._goal.name} {goal} where {units} was sent")
        position = [(row[5] - zero) * k for row, zero, k in zip(rows, self._zero, self._position_scale, strict=True)]
        velocity = [row[4] * k for row, k in zip(rows, self._velocity_scale, strict=True)]
        joints = len(self.spec.joints)
        effort = [0.0] * joints if self.spec.takes != "thrust" else []  # rotors drive no joint
        for (row, _, _), unit in zip(self._motors, self._effort_units, strict=True):
            if effort:
                effort[row] = rows[row][3] * unit
        return Observation(
            np.array(position[:joints], np.float32),
            np.array(velocity[:joints], np.float32),
            after,
            np.full(joints, after - before),
            joint_effort=np.array(effort, np.float32),
        )

    def command(self, command: np.ndarray) -> Sent:
        """Round towards zero to whole units, so that what is sent never exceeds what was allowed."""
        values = command.tolist()
        units = [_whole(v / unit) for v, (_, _, unit) in zip(values, self._motors, strict=True)]
        goal = self._goal
        if any(abs(n) > goal.most_units for n in units):  # it would arrive as something else
            raise RobotFault(f"{units} units of {goal.name} asked; the register holds at most {goal.most_units}")
        with self._lock:
            link = self._line()
            if not self._armed:
                raise RobotFault("the motors are off: the robot was held and must be armed before a command")
            goals = {servo: n for n, (_, servo, _) in zip(units, self._motors, strict=True)}
            link.sync_write(goal.register, goal.size, goals)
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
        if self.spec.stop == "land":
            off = self._landed(start) and off
        return until_still(self.observe, self._moves, off, start, realtime=self.spec.realtime)

    def _landed(self, start_s: float) -> bool:
        """Wait until the rotors were seen to stand, LANDING_S from `start_s` at most."""
        while True:
            with self._lock:
                link = self._line()
                turning = any(link.read(servo, PRESENT_CURRENT, 2) for _, servo, _ in self._motors)
            if not (turning and self.spec.realtime and time.monotonic() - start_s < LANDING_S):
                return not turning
            time.sleep(LOOK_S)

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


def _whole(units: float) -> int:
    return int(units + math.copysign(1e-9, units))


def _is_terminal(port: str) -> bool:
    """Whether a device is a pseudo-terminal, or a link to one, which is how a twin appears."""
    return str(Path(port).resolve()).startswith(("/dev/pts/", "/dev/ttys"))
