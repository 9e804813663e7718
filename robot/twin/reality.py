"""A rig as its bus sees it: servo registers on one side, physics on the other, and a clock."""

from __future__ import annotations

import math
import time
from collections import deque
from typing import cast

from robot.interface import RobotError
from robot.twin.bus import (
    BUS_WATCHDOG,
    CURRENT_CONTROL,
    GOAL_CURRENT,
    GOAL_VELOCITY,
    HARDWARE_ERROR,
    OPERATING_MODE,
    PRESENT_CURRENT,
    PRESENT_POSITION,
    PRESENT_VELOCITY,
    TORQUE_ENABLE,
    TRIPPED,
    VELOCITY_CONTROL,
    WATCHDOG_UNIT_S,
    Bus,
    Servo,
)
from robot.twin.rigs import STEP_S, Axis, Flyer, Model, Rig, Servoed, Table

TICK_RAD = 2 * math.pi / 4096
VELOCITY_RAD_S = 0.229 * 2 * math.pi / 60
_MODE = {GOAL_CURRENT: CURRENT_CONTROL, GOAL_VELOCITY: VELOCITY_CONTROL}
_TAKES = {GOAL_CURRENT: "efforts", GOAL_VELOCITY: "velocities"}
LONGEST_FLIGHT_S = 120.0  # after which a landing that never ends is left alone
STALL_S = 0.5  # after a longer pause of the whole machine the world goes on from where it was


class Reality:
    """In lockstep a write of goals lets one control period pass; in real time the wall clock does.

    With several motors it is the write to the last of them. After `reset` the technician holds the robot: nothing
    moves until the motors get their first command. A robot that flies lands when its motors are cut: in lockstep at
    once, however long that takes it.
    """

    def __init__(self, rig: Rig, model: Model, realtime: bool, control_hz: float | None = None) -> None:
        """`control_hz` is how often somebody means to command; None: as often as the task."""
        self.realtime = realtime
        self._control_steps = rig.control_steps if control_hz is None else _steps_of(control_hz)
        self.model = model
        self._rig = rig
        self.events: deque[dict] = deque(maxlen=20_000)  # the twin's own recorder
        self._axes = [(axis, _servo(axis)) for axis in rig.axes]
        self._rotors = [(axis, _servo(axis)) for axis in rig.rotors]
        self._motors = [(axis, servo) for axis, servo in (*self._axes, *self._rotors) if axis.unit]
        self._servos = [servo for _, servo in (*self._axes, *self._rotors)]
        self.bus = Bus(self._servos, self._publish, self._on_write, self._power_up)
        self._held = True
        self._origin_s = time.monotonic()  # the wall clock at physics step zero
        self._was_on = False
        self._record("start")

    def reset(
        self, position: list[float], velocity: list[float], noise_seed: int, poses: list[list[float]] | None = None
    ) -> None:
        """The technician puts robot and bodies in place and re-arms the motors, which stay off for now."""
        poses = poses or []
        bodies = len(self._rig.bodies)
        if len(poses) != bodies or not all(len(pose) == 7 and all(map(math.isfinite, pose)) for pose in poses):
            raise RobotError(f"reset: accepted are {bodies} body poses of 7 finite numbers")
        values, joints = [*position, *velocity], len(self._axes)
        sizes_fit = len(position) == len(velocity) == joints
        if not sizes_fit or not all(math.isfinite(value) for value in values):
            raise RobotError(f"reset: accepted are {joints} finite joint positions and as many joint velocities")
        for _, servo in self._motors:
            self._power_up(servo)
        self.model.reset(position, velocity, noise_seed)
        if poses:
            self._table.place(poses)
        self.model.measure()
        self._held = True
        self._record("reset")

    def handle(self, data: bytes) -> bytes:
        """Bytes from the bus; returns what the servos answer."""
        now = time.monotonic()
        if self.realtime:
            self.catch_up(now)
        return self.bus.feed(data, now)

    def look(self) -> tuple[dict[str, list[float]], float]:
        """What a tracker has: the newest pose of each body, and its age in s."""
        if not self._rig.bodies:
            return {}, 0.0
        poses, age_s = self._table.look()
        return dict(zip(self._rig.bodies, poses, strict=True)), age_s

    @property
    def _flyer(self) -> Flyer:
        return cast(Flyer, self.model)

    @property
    def _table(self) -> Table:
        return cast(Table, self.model)

    def hang_up(self) -> None:
        """The line went dead: motors off."""
        self.bus.hang_up()
        for servo in self._servos:
            servo.put(TORQUE_ENABLE, 0, 1)
        self._power("hang-up")

    def catch_up(self, now_s: float) -> None:
        """Real time: run the world up to `now_s`; a bus watchdog that expires before then stops its motor."""
        for expiry, servo in sorted(self._expiries(), key=lambda pair: pair[0]):
            if now_s >= expiry:
                self._run_to(expiry)
                servo.put(BUS_WATCHDOG, TRIPPED, 1)
                self._power("bus watchdog")
        self._run_to(now_s)

    def patience_s(self, now_s: float) -> float:
        """Real time: how long the loop may sleep."""
        return min([0.01, *(max(expiry - now_s, 0.0) for expiry, _ in self._expiries())])

    def _expiries(self) -> list[tuple[float, Servo]]:
        """When the bus watchdogs that are on will stop their motors."""
        watched = [(servo.table[BUS_WATCHDOG], servo) for _, servo in self._motors]
        return [(servo.heard_s + units * WATCHDOG_UNIT_S, servo) for units, servo in watched if 0 < units < TRIPPED]

    def _run_to(self, now_s: float) -> None:
        if self._held:
            self._origin_s = now_s - self.model.time_s
            return
        due = int((now_s - self._origin_s) / STEP_S) - self.model.step_count
        if due * STEP_S > STALL_S:
            self._origin_s = now_s - self.model.time_s
            self._record("stall")
        elif due > 0:
            self.model.advance(due)

    def _on_write(self, servo: Servo, address: int, end: int) -> None:
        if all(servo is not motor for _, motor in self._motors):
            return
        self._power("command")
        last, motor = self._motors[-1]
        register, size, _ = _goal_of(last)
        if not (address < register + size and end > register) or servo is not motor:
            return
        if any(motor.torque for _, motor in self._motors):
            goals = [_goal_of(axis)[2] * self._goal(axis, motor) for axis, motor in self._motors]
            position, velocity = self.model.state
            goal = {_TAKES[register]: goals, "position": position, "velocity": velocity}
            self.events.append({"at_s": time.monotonic(), "event": "goal", **goal})
            self.model.push(*goals)
            if self._held:
                self._held = False
                self._origin_s = time.monotonic() - self.model.time_s
        if not self.realtime:
            self._held = False
            self.model.advance(self._control_steps)
            self.model.measure()

    @staticmethod
    def _goal(axis: Axis, motor: Servo) -> int:
        """Units of the goal that act: none while the motor is off, or in another mode."""
        register, size, _ = _goal_of(axis)
        acts = motor.torque and motor.get(OPERATING_MODE, 1) == _MODE[register]
        return motor.get(register, size, signed=True) if acts else 0

    def _power_up(self, servo: Servo) -> None:
        """As after a reboot: motor off, no goal, watchdog off, no error."""
        for register in (TORQUE_ENABLE, BUS_WATCHDOG, HARDWARE_ERROR):
            servo.put(register, 0, 1)
        servo.rest()
        self._power("reset")

    def _power(self, why: str) -> None:
        """Record changes of the power stage, and cut it when the last motor goes off."""
        on = any(servo.torque for _, servo in self._motors)
        if on != self._was_on:
            self._was_on = on
            self._record("motor on" if on else "motor off", why)
        if not on:
            self.model.cut()
            while self._rotors and not (self.realtime or self._held) and self._flyer.landing:
                if self.model.step_count > LONGEST_FLIGHT_S / STEP_S:
                    break
                self.model.advance(self._rig.control_steps)

    def _record(self, event: str, why: str = "") -> None:
        self.events.append({"at_s": time.monotonic(), "event": event, "why": why})

    def _publish(self) -> None:
        """Put what the sensors have now into the registers."""
        measured = self.model.measure()
        for i, (axis, servo) in enumerate(self._axes):
            servo.put(PRESENT_POSITION, round(measured[2 * i] / axis.scale / TICK_RAD) + axis.zero, 4)
            servo.put(PRESENT_VELOCITY, round(measured[2 * i + 1] / axis.scale / VELOCITY_RAD_S), 4)
            if axis.unit and not axis.fastest:
                servo.put(PRESENT_CURRENT, self._goal(axis, servo), 2)
        if any(axis.fastest for axis, _ in self._motors):
            for (axis, servo), effort in zip(self._motors, cast(Servoed, self.model).efforts, strict=True):
                servo.put(PRESENT_CURRENT, round(effort / axis.unit), 2)
        if self._rotors:
            for (axis, servo), thrust in zip(self._rotors, self._flyer.thrusts, strict=True):
                servo.put(PRESENT_CURRENT, round(thrust / axis.unit), 2)


def _steps_of(control_hz: float) -> int:
    steps = round(1.0 / (control_hz * STEP_S)) if math.isfinite(control_hz) and control_hz > 0 else 0
    if not steps or abs(steps * STEP_S * control_hz - 1.0) > 1e-9:
        raise RobotError(f"control_hz: {control_hz:g} given; accepted is a rate whose period is whole ms, such as 100")
    return steps


def _goal_of(axis: Axis) -> tuple[int, int, float]:
    """Register and size of the goal that drives an axis, and what one unit of it is, SI."""
    if axis.fastest:
        return GOAL_VELOCITY, 4, VELOCITY_RAD_S * axis.scale
    return GOAL_CURRENT, 2, axis.unit


def _servo(axis: Axis) -> Servo:
    current = round(axis.most / axis.unit) if axis.unit else 0
    return Servo(axis.servo, current, math.ceil(axis.fastest / (VELOCITY_RAD_S * axis.scale)))
