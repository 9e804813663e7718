"""Any robot of LeRobot's shape, by duck typing: LeRobot itself is never imported here.

Used of it: `is_calibrated`, `connect(calibrate=False)`, `observation_features`, `action_features`,
`get_observation()`, `send_action()` which returns what was sent, `disconnect()`, and for a stop without torque
`bus.enable_torque()`, `bus.disable_torque()`, `bus.sync_read("Torque_Enable", normalize=False)`. Values there
are in the robot's own units (degrees, or -100 to 100); `scale` and `zero` say what they are in SI.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import threading
import time
from typing import Any, Literal

import numpy as np
from pydantic import Field, field_validator

from envs.task import Task
from robot.drivers.options import DriverOptions, parse
from robot.drivers.rest import LOOK_S, until_still
from robot.drivers.spec import each, find, make_spec, only_realtime
from robot.interface import Held, Observation, RobotError, RobotFault, Sent, Status
from robot.settings import RobotSettings


class _Unit(DriverOptions):
    scale: float = Field(default=math.pi / 180, description="SI units of one unit there; negative turns the sign")
    zero: float = Field(default=0.0, description="what is shown there at zero in SI")

    @field_validator("scale")
    @classmethod
    def _not_nothing(cls, value: float) -> float:
        if value == 0:
            raise ValueError("0 is no scale; accepted is a number other than 0")
        return value


class Joint(_Unit):
    """Where a joint is in `get_observation`."""

    position: str = Field(description="key of its position, such as shoulder_pan.pos")
    velocity: str | None = Field(default=None, description="key of its velocity (null: from successive positions)")


class Drive(_Unit):
    """What drives an actuated joint in `send_action`."""

    action: str = Field(description="key of the action, such as shoulder_pan.pos")
    range: tuple[float, float] = Field(description="[low, high] there, in the robot's units; kept within")


class LeRobotOptions(DriverOptions):
    robot: str = Field(description="module:Class of the robot, such as lerobot.robots.so_follower:SO101Follower")
    config: str | None = Field(
        default=None, description="module:Class of its configuration (null: the arguments go to the robot)"
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="what that is made with, such as port and id")
    joints: dict[str, Joint] = Field(description="where each joint is in the observation")
    drives: dict[str, Drive] = Field(description="what drives each actuated joint")
    stop: Literal["hold", "torque_off"] = Field(
        default="hold",
        description="hold: told to stay where it is; torque_off: the motors go off, and an arm falls",
    )


class LeRobotRobot:
    """Satisfies `robot.interface.Robot`. What the command means (N m, rad) is the task's; here it is only scaled."""

    Options = LeRobotOptions

    def __init__(self, settings: RobotSettings, task: Task) -> None:
        self._options = options = parse(LeRobotOptions, settings.driver_options)
        each("joints", options.joints, task.joints)
        each("drives", options.drives, task.actuated)
        only_realtime(settings)
        self.spec = make_spec(settings, task, options.stop)
        self._joints = [options.joints[joint] for joint in task.joints]
        self._drives = [options.drives[joint] for joint in task.actuated]
        self._rows = [task.joints.index(joint) for joint in task.actuated]
        self._lock = threading.RLock()
        self._robot: Any = None
        self._armed = False
        self._rest: dict[str, float] = {}
        self._last: tuple[float, np.ndarray] | None = None
        self._trouble = ""

    def connect(self) -> None:
        with self._lock:
            self.disconnect()
            robot = self._make()
            try:
                takes = "calibrate" in inspect.signature(robot.connect).parameters
                robot.connect(**({"calibrate": False} if takes else {}))  # calibrating moves the robot and asks
                if not robot.is_calibrated:
                    raise RobotError(
                        "robot.driver_options.robot: this robot is not calibrated, so its positions mean nothing; "
                        "calibrate it with LeRobot's own command first"
                    )
                self._fits(robot)
            except Exception as error:
                with contextlib.suppress(Exception):
                    robot.disconnect()
                if isinstance(error, RobotError):
                    raise
                raise RobotError(f"the robot {self._options.robot} cannot be connected: {error}") from error
            self._robot, self._last, self._trouble = robot, None, ""

    def arm(self) -> None:
        """The goal is where it stands before the motors get power, so that nothing jumps."""
        with self._lock:
            robot = self._line()
            self._rest = self._stay(self._get())
            self._send(self._rest)
            if self._options.stop == "torque_off":
                self._call(robot.bus.enable_torque)
            self._armed = True

    def observe(self) -> Observation:
        with self._lock:
            self._line()
            before = time.monotonic()
            values = self._get()
            after = time.monotonic()
            position = np.array([(values[j.position] - j.zero) * j.scale for j in self._joints])
            velocity = np.zeros(len(position))
            if self._last is not None and after > self._last[0]:
                velocity = (position - self._last[1]) / (after - self._last[0])
            for row, joint in enumerate(self._joints):
                if joint.velocity is not None:
                    velocity[row] = values[joint.velocity] * joint.scale
            self._last = (after, position)
        age = np.full(len(position), after - before)
        return Observation(position.astype(np.float32), velocity.astype(np.float32), after, age)

    def command(self, command: np.ndarray) -> Sent:
        """Send it in the robot's units, within `range`; what the robot says it sent is what is returned."""
        with self._lock:
            self._line()
            if not self._armed:
                raise RobotFault("the motors are off: the robot was held and must be armed before a command")
            wanted, reasons = dict(self._rest), ()
            for value, drive in zip(np.asarray(command, np.float64).tolist(), self._drives, strict=True):
                units = value / drive.scale + drive.zero
                wanted[drive.action] = min(max(units, drive.range[0]), drive.range[1])
                if wanted[drive.action] != units:
                    reasons = ("range",)
            sent = self._send(wanted)
            at = time.monotonic()
            if any(abs(sent[d.action] - wanted[d.action]) > 1e-6 for d in self._drives):
                reasons += ("robot",)
        return Sent(np.array([(sent[d.action] - d.zero) * d.scale for d in self._drives]), at, reasons)

    def hold(self) -> Held:
        start = time.monotonic()
        with self._lock:
            robot, off = self._line(), False
            self._armed = False
            if self._options.stop == "torque_off":
                self._call(robot.bus.disable_torque)
                enabled = self._call(lambda: robot.bus.sync_read("Torque_Enable", normalize=False))
                off = bool(enabled) and not any(enabled.values())
            else:
                self._send(self._stay(self._get()))
            self.observe()  # a velocity needs two readings
        time.sleep(LOOK_S)
        return until_still(self.observe, self._rows, off, start)

    def status(self) -> Status:
        return Status("disconnected", self._trouble) if self._robot is None else Status("ok")

    def recover(self, operator: str) -> None:
        if self._robot is None:
            self.connect()

    def disconnect(self) -> None:
        with self._lock:
            robot, self._robot, self._armed = self._robot, None, False
            if robot is None:
                return
            try:
                robot.disconnect()
            except Exception as error:  # whatever a user's robot raises: there is nothing left to do about it
                self._trouble = f"disconnecting failed: {error}"

    def _make(self) -> Any:
        options = self._options
        try:
            maker = find("robot", options.robot)
            if options.config is None:
                return maker(**options.arguments)
            return maker(find("config", options.config)(**options.arguments))
        except RobotError:
            raise
        except Exception as error:
            raise RobotError(f"robot.driver_options.robot: {options.robot} cannot be made: {error}") from error

    def _fits(self, robot: Any) -> None:
        """Raise RobotError unless the robot has the features the options name, and can be stopped as they say."""
        measured = [key for joint in self._joints for key in (joint.position, joint.velocity) if key]
        for what, wanted, there in (
            ("joints", measured, robot.observation_features),
            ("drives", [drive.action for drive in self._drives], robot.action_features),
        ):
            for key in wanted:
                if key not in there:
                    raise RobotError(
                        f"robot.driver_options.{what}: the robot has no '{key}'; accepted are {', '.join(there)}"
                    )
        if self._options.stop == "torque_off" and not hasattr(getattr(robot, "bus", None), "disable_torque"):
            raise RobotError(
                "robot.driver_options.stop: this robot has no bus whose torque could be switched off; accepted is hold"
            )

    def _stay(self, values: dict[str, float]) -> dict[str, float]:
        """The action that leaves everything where it is: positions as measured, all else zero."""
        return {
            key: float(values[key]) if key.endswith(".pos") and key in values else 0.0
            for key in self._line().action_features
        }

    def _get(self) -> dict[str, Any]:
        return self._call(self._line().get_observation)

    def _send(self, action: dict[str, float]) -> dict[str, float]:
        sent = self._call(lambda: self._line().send_action(action))
        missing = [drive.action for drive in self._drives if drive.action not in (sent or {})]
        if missing:
            raise RobotFault(f"the robot does not say what it sent for {missing[0]}")
        return sent

    @staticmethod
    def _call(what: Any) -> Any:
        try:
            return what()
        except Exception as error:  # a user's robot may raise anything
            raise RobotFault(f"the robot failed: {type(error).__name__}: {error}", link=True) from error

    def _line(self) -> Any:
        if self._robot is None:
            raise RobotFault("not connected to the robot", link=True)
        return self._robot
