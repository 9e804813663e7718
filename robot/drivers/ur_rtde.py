"""An arm of Universal Robots in torque control, through ur_rtde (needs PolyScope 5.22 or newer).

Written against the library's interface and tested with a stand-in for its classes alone: it has never met a
controller. Begin with the arm in the air, low limits, and a hand on the emergency stop.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import numpy as np
import rtde_control  # pyright: ignore[reportMissingImports]
import rtde_receive  # pyright: ignore[reportMissingImports]
from pydantic import Field, field_validator

from envs.task import Task
from robot.drivers.options import DriverOptions, parse
from robot.drivers.rest import until_still
from robot.drivers.spec import each, make_spec, only_realtime
from robot.interface import Held, Observation, RobotError, RobotFault, Sent, Status
from robot.settings import RobotSettings

AXES = 6
STILL_RAD_S = 0.02
STILL_WAIT_S = 2.0


class UrOptions(DriverOptions):
    joints: dict[str, int] = Field(description="which axis of the arm each joint is, from 0 (base) to 5 (wrist 3)")
    frequency_hz: float = Field(default=500.0, gt=0, le=500, description="of the exchange with the controller")

    @field_validator("joints")
    @classmethod
    def _axes(cls, value: dict[str, int]) -> dict[str, int]:
        if sorted(set(value.values())) != sorted(value.values()) or not set(value.values()) <= set(range(AXES)):
            raise ValueError(f"{value} is no assignment of axes; accepted are different numbers from 0 to 5")
        return value


class UrRobot:
    """Satisfies `robot.interface.Robot`; commands are N m on top of the controller's gravity compensation.

    `connect` only listens. `arm` takes control: it starts the controller's program and its watchdog, which
    ends that program when no command comes for `watchdog_ms`. `hold` ends the program, after which the arm
    stands by its own position control. A protective or emergency stop is ended at the robot, by a person:
    `recover` only looks whether that was done.
    """

    Options = UrOptions

    def __init__(self, settings: RobotSettings, task: Task) -> None:
        options = parse(UrOptions, settings.driver_options)
        each("joints", options.joints, task.joints)
        only_realtime(settings)
        if settings.port is None:
            raise RobotError("robot.port: none given; accepted is the host name or address of the controller")
        self.spec = make_spec(settings, task, "hold")
        self._settings, self._host, self._hz = settings, settings.port, options.frequency_hz
        self._axes = [options.joints[joint] for joint in task.joints]
        self._driven = [options.joints[joint] for joint in task.actuated]
        self._rows = [task.joints.index(joint) for joint in task.actuated]
        self._lock = threading.RLock()
        self._receive: Any = None
        self._control: Any = None
        self._stamp = (float("nan"), 0.0)  # the controller's clock, and ours when it last moved on
        self._seen = Status("disconnected")

    def connect(self) -> None:
        with self._lock:
            self.disconnect()
            try:
                self._receive = rtde_receive.RTDEReceiveInterface(self._host, self._hz)
            except Exception as error:  # the library raises RuntimeError and its own
                raise RobotError(
                    f"robot.port: no controller answers at {self._host} ({error}); accepted is the address of a "
                    "robot that is switched on"
                ) from error
            self._stamp = (float("nan"), time.monotonic())
            self._look()

    def arm(self) -> None:
        with self._lock:
            receive = self._line()
            self._refuse_stopped()
            self._release()
            try:
                control = rtde_control.RTDEControlInterface(self._host, self._hz)
            except Exception as error:
                raise RobotFault(f"the controller's program did not start: {error}", link=True) from error
            self._control = control
            if not hasattr(control, "directTorque"):
                self._release()
                raise RobotFault("the installed ur-rtde has no directTorque; accepted is version 1.6.1 or newer")
            if not self._call(control.isJointsWithinSafetyLimits, list(receive.getActualQ())):
                self._release()
                raise RobotFault("the arm stands outside the safety limits that its controller has")
            if not self._call(control.setWatchdog, 1e3 / self._settings.watchdog_ms):
                self._release()
                raise RobotFault("the controller did not take the watchdog, and without it nothing moves")

    def observe(self) -> Observation:
        with self._lock:
            receive = self._line()
            if not receive.isConnected():
                raise RobotFault(f"the controller at {self._host} does not answer", link=True)
            before = time.monotonic()
            position, velocity = receive.getActualQ(), receive.getActualQd()
            stamp, now = receive.getTimestamp(), time.monotonic()
            if stamp != self._stamp[0]:
                self._stamp = (stamp, before)
            self._look()
            if self._control is not None:
                self._refuse_stopped()
        age = np.full(len(self._axes), now - self._stamp[1])  # a clock that stands still makes the reading old
        pick = lambda values: np.array([values[axis] for axis in self._axes], np.float32)  # noqa: E731
        return Observation(pick(position), pick(velocity), now, age)

    def command(self, command: np.ndarray) -> Sent:
        with self._lock:
            self._line()
            control = self._control
            if control is None:
                raise RobotFault("the motors are off: the robot was held and must be armed before a command")
            torque = [0.0] * AXES
            for axis, value in zip(self._driven, np.asarray(command, np.float64).tolist(), strict=True):
                torque[axis] = value
            at = time.monotonic()
            if not (self._call(control.directTorque, torque) and self._call(control.kickWatchdog)):
                self._look()
                self._release()
                self._refuse_stopped()
                raise RobotFault("the controller refused the command; its program is not running", link=True)
        return Sent(np.array([torque[axis] for axis in self._driven]), at)

    def hold(self) -> Held:
        start = time.monotonic()
        with self._lock:
            self._line()
            self._release()
        return until_still(self.observe, self._rows, False, start, slower_than=STILL_RAD_S, wait_s=STILL_WAIT_S)

    def status(self) -> Status:
        return self._seen

    def recover(self, operator: str) -> None:
        """Raises RobotFault while the arm's own stop stands: it is ended at the robot, not from here."""
        with self._lock:
            if self._receive is None:
                self.connect()
            self._look()
            self._refuse_stopped()

    def disconnect(self) -> None:
        with self._lock:
            self._release()
            receive, self._receive = self._receive, None
            if receive is not None:
                with contextlib.suppress(Exception):
                    receive.disconnect()
            self._seen = Status("disconnected")

    def _release(self) -> None:
        """End the controller's program; the arm then holds its position."""
        control, self._control = self._control, None
        if control is None:
            return
        with contextlib.suppress(Exception):  # a line that is gone: the controller's watchdog does the same
            control.stopScript()
        with contextlib.suppress(Exception):
            control.disconnect()

    def _look(self) -> None:
        """Remember what the controller says of its own stops, so that `status` asks nobody."""
        if self._receive.isEmergencyStopped():
            self._seen = Status("emergency_stop", "the arm's emergency stop is pressed")
        elif self._receive.isProtectiveStopped():
            self._seen = Status("stopped", "the arm is in a protective stop; look at it and end that at its panel")
        else:
            self._seen = Status("ok")

    def _refuse_stopped(self) -> None:
        if self._seen.state in ("stopped", "emergency_stop"):
            self._release()
            raise RobotFault(self._seen.reason)

    def _line(self) -> Any:
        if self._receive is None:
            raise RobotFault(f"not connected to the controller at {self._host}", link=True)
        return self._receive

    @staticmethod
    def _call(what: Any, *arguments: Any) -> Any:
        try:
            return what(*arguments)
        except Exception as error:
            raise RobotFault(f"the controller failed: {error}", link=True) from error
