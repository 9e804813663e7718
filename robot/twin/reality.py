"""The cartpole rig as its bus sees it: servo registers on one side, physics on the other, and a clock."""

from __future__ import annotations

import math
import time
from collections import deque

from robot.interface import RobotError
from robot.twin.bus import (
    BUS_WATCHDOG,
    GOAL_CURRENT,
    HARDWARE_ERROR,
    PRESENT_CURRENT,
    PRESENT_POSITION,
    PRESENT_VELOCITY,
    TORQUE_ENABLE,
    TRIPPED,
    WATCHDOG_UNIT_S,
    Bus,
    Servo,
)
from robot.twin.model import CONTROL_STEPS, MAX_FORCE_N, STEP_S, CartpoleModel

PULLEY_M = 0.02
UNIT_N = 0.005  # one unit of goal current at the belt
TICK_RAD = 2 * math.pi / 4096
VELOCITY_RAD_S = 0.229 * 2 * math.pi / 60
ANGLE_ZERO = 2048
MOTOR, ENCODER = 1, 2
STALL_S = 0.5  # after a longer pause of the whole machine the world goes on from where it was


class Reality:
    """In lockstep a write of goal current lets one control period pass; in real time the wall clock does.

    After `reset` the technician holds the pole: nothing moves until the motor gets its first command.
    """

    def __init__(self, model: CartpoleModel, realtime: bool) -> None:
        self.realtime = realtime
        self.model = model
        self.events: deque[dict] = deque(maxlen=20_000)  # the twin's own recorder
        self._motor = Servo(MOTOR, current_limit=round(MAX_FORCE_N / UNIT_N))
        self._encoder = Servo(ENCODER, current_limit=0)
        self.bus = Bus((self._motor, self._encoder), self._publish, self._on_write, self._power_up)
        self._held = True
        self._origin_s = time.monotonic()  # the wall clock at physics step zero
        self._was_on = False
        self._record("start")

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        """The technician puts cart and pole in place and re-arms the motor, which stays off for now."""
        values = [*position, *velocity]
        if len(position) != 2 or len(velocity) != 2 or not all(math.isfinite(value) for value in values):
            raise RobotError("reset: accepted are two finite joint positions and two finite joint velocities")
        self._power_up(self._motor)
        self.model.reset(position, velocity, noise_seed)
        self.model.measure()
        self._held = True
        self._record("reset")

    def handle(self, data: bytes) -> bytes:
        """Bytes from the bus; returns what the servos answer."""
        now = time.monotonic()
        if self.realtime:
            self.catch_up(now)
        return self.bus.feed(data, now)

    def hang_up(self) -> None:
        """The line went dead: motors off."""
        self.bus.hang_up()
        for servo in (self._motor, self._encoder):
            servo.put(TORQUE_ENABLE, 0, 1)
        self._power("hang-up")

    def catch_up(self, now_s: float) -> None:
        """Real time: run the world up to `now_s`; a bus watchdog that expires before then stops the motor."""
        units = self._motor.table[BUS_WATCHDOG]
        expiry = self._motor.heard_s + units * WATCHDOG_UNIT_S if 0 < units < TRIPPED else math.inf
        if now_s >= expiry:
            self._run_to(expiry)
            self._motor.put(BUS_WATCHDOG, TRIPPED, 1)
            self._power("bus watchdog")
        self._run_to(now_s)

    def patience_s(self, now_s: float) -> float:
        """Real time: how long the loop may sleep."""
        units = self._motor.table[BUS_WATCHDOG]
        if 0 < units < TRIPPED:
            return min(max(self._motor.heard_s + units * WATCHDOG_UNIT_S - now_s, 0.0), 0.01)
        return 0.01

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
        if servo is not self._motor:
            return
        self._power("command")
        if not (address < GOAL_CURRENT + 2 and end > GOAL_CURRENT):
            return
        if self._motor.torque:
            force = self._motor.get(GOAL_CURRENT, 2, signed=True) * UNIT_N
            (x, _), (speed, _) = self.model.state
            event = {"at_s": time.monotonic(), "event": "goal", "force_n": force, "x_m": x, "x_m_s": speed}
            self.events.append(event)
            self.model.push(force)
            if self._held:
                self._held = False
                self._origin_s = time.monotonic() - self.model.time_s
        if not self.realtime:
            self._held = False
            self.model.advance(CONTROL_STEPS)
            self.model.measure()

    def _power_up(self, servo: Servo) -> None:
        """As after a reboot: motor off, no goal, watchdog off, no error."""
        for register, size in ((TORQUE_ENABLE, 1), (BUS_WATCHDOG, 1), (HARDWARE_ERROR, 1), (GOAL_CURRENT, 2)):
            servo.put(register, 0, size)
        self._power("reset")

    def _power(self, why: str) -> None:
        """Record changes of the motor's power stage, and cut it when it goes off."""
        on = self._motor.torque
        if on != self._was_on:
            self._was_on = on
            self._record("motor on" if on else "motor off", why)
        if not on:
            self.model.cut()

    def _record(self, event: str, why: str = "") -> None:
        self.events.append({"at_s": time.monotonic(), "event": event, "why": why})

    def _publish(self) -> None:
        """Put what the sensors have now into the registers."""
        x, speed, angle, rate = self.model.measure()
        motor, encoder = self._motor, self._encoder
        motor.put(PRESENT_POSITION, round(x / PULLEY_M / TICK_RAD), 4)
        motor.put(PRESENT_VELOCITY, round(speed / PULLEY_M / VELOCITY_RAD_S), 4)
        motor.put(PRESENT_CURRENT, motor.get(GOAL_CURRENT, 2, signed=True) if motor.torque else 0, 2)
        encoder.put(PRESENT_POSITION, round(angle / TICK_RAD) + ANGLE_ZERO, 4)
        encoder.put(PRESENT_VELOCITY, round(rate / VELOCITY_RAD_S), 4)
