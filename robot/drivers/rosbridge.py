"""A robot under ROS 1 or ROS 2, through rosbridge: JointState in, efforts out, Trigger services to stop it.

What has to be there on the robot's side:
- `states`, a sensor_msgs/JointState with header stamps and velocities of every joint, and its efforts if it has any;
- `commands`, a trajectory_msgs/JointTrajectory of one point whose efforts are wanted now, or a
  std_msgs/Float64MultiArray of efforts;
- the std_srvs/Trigger services `stop` (success only once the motors were seen off), `arm` and `recover`;
- a time limit of its own: efforts that are not renewed end. No WebSocket can promise to deliver a stop.
"""

from __future__ import annotations

import math
import threading
import time
from contextlib import suppress
from typing import Any, Literal

import numpy as np
from pydantic import Field

from envs.task import Task
from robot.drivers.options import DriverOptions, parse
from robot.drivers.rest import link_status, until_still
from robot.drivers.rosbridge_link import Link, numbers, stamp_s
from robot.drivers.spec import make_spec
from robot.interface import Held, Observation, RobotError, RobotFault, Sent, Status
from robot.settings import RobotSettings

REALTIME_PATIENCE_S = 0.25
LOCKSTEP_PATIENCE_S = 20.0  # a twin that waits for us may itself have to wait for the processor
SERVICE_PATIENCE_S = 3.0
SKEW_S = 1.0  # clocks further apart than this make no ages


class RosbridgeOptions(DriverOptions):
    ros: Literal[1, 2] = Field(default=2, description="which ROS is behind the bridge: how it spells types and times")
    states: str = Field(default="/joint_states", description="topic of the sensor_msgs/JointState")
    commands: str = Field(default="/robot/command", description="topic the efforts go to")
    message: Literal["trajectory", "array"] = Field(
        default="trajectory", description="trajectory_msgs/JointTrajectory, or std_msgs/Float64MultiArray"
    )
    names: dict[str, str] = Field(
        default_factory=dict, description="what a joint is called there, where that is not its name here"
    )
    resolution: dict[str, float] = Field(
        default_factory=dict, description="N or N m of the motor's smallest step; commands are cut to whole steps"
    )
    stamps: Literal["header", "arrival"] = Field(
        default="header",
        description="what ages are counted from; arrival, where the robot's clock is not synchronised, hides delays",
    )
    stop: str = Field(default="/robot/stop", description="Trigger service: motors off")
    arm: str = Field(default="/robot/arm", description="Trigger service: motors on, at zero effort")
    recover: str = Field(default="/robot/recover", description="Trigger service: clear the robot's error states")
    sync: str = Field(default="/robot/sync", description="Trigger service of a twin in lockstep: publish now")


class RosbridgeRobot:
    """Satisfies `robot.interface.Robot`. A connection that broke stays broken until `connect` or `recover`."""

    Options = RosbridgeOptions

    def __init__(self, settings: RobotSettings, task: Task) -> None:
        self._options = options = parse(RosbridgeOptions, settings.driver_options)
        if settings.port is None:
            raise RobotError("robot.port: none given; accepted is an address such as ws://127.0.0.1:9090")
        for key, given in (("names", options.names), ("resolution", options.resolution)):
            for joint in given:
                if joint not in task.joints:
                    raise RobotError(
                        f"robot.driver_options.{key}: unknown joint '{joint}'; accepted are {', '.join(task.joints)}"
                    )
        self.spec = make_spec(settings, task, "torque_off")
        self._url, self._watchdog_s = settings.port, settings.watchdog_ms / 1e3
        self._names = [options.names.get(joint, joint) for joint in task.joints]
        self._driven = [options.names.get(joint, joint) for joint in task.actuated]
        self._units = [options.resolution.get(joint, 0.0) for joint in task.actuated]
        self._rows = [task.joints.index(joint) for joint in task.actuated]
        self._lock = threading.RLock()  # the watchdog's thread may call hold
        self._link: Link | None = None
        self._armed = False
        self._after = 0  # messages that were there before the last command
        self._errors = 0
        self._trouble = ""

    def connect(self) -> None:
        with self._lock:
            self.disconnect()
            link = Link(self._url, self.spec.realtime)
            link.open()
            try:
                slash = "msg/" if self._options.ros == 2 else ""
                link.send(
                    op="subscribe", topic=self._options.states, type=f"sensor_msgs/{slash}JointState", queue_length=1
                )
                kind = "trajectory_msgs/{}JointTrajectory", "std_msgs/{}Float64MultiArray"
                link.send(
                    op="advertise",
                    topic=self._options.commands,
                    type=kind[self._options.message == "array"].format(slash),
                )
                self._link = link
                self._first(link)
            except RobotError as error:
                self._link = None
                complaint = f"; the bridge says: {link.complaint}" if link.complaint else ""
                link.close()
                raise RobotError(
                    f"robot.driver_options.states: no usable JointState on {self._options.states} of {self._url} "
                    f"({error}{complaint}); accepted is a running robot that publishes positions and velocities of "
                    f"{', '.join(self._names)}"
                ) from error
            self._trouble = ""

    def arm(self) -> None:
        with self._lock:
            self._line().complaint = ""  # of before
            self._trigger(self._options.arm)
            self._armed = True

    def observe(self) -> Observation:
        """The newest state; in lockstep the one that followed the last command."""
        with self._lock:
            link, topic = self._line(), self._options.states
            if not self.spec.realtime:
                if link.count(topic) <= self._after:
                    arrival, message = link.newest(topic, self._after, LOCKSTEP_PATIENCE_S)
                else:
                    arrival, message = self._sync(link)
            else:
                arrival, message = self._fresh(link)
            if link.complaint and self._armed:
                complaint, link.complaint = link.complaint, ""
                raise RobotFault(f"the bridge reports: {complaint}")
            return self._read(arrival, message)

    def command(self, command: np.ndarray) -> Sent:
        efforts = [_whole(v, unit) for v, unit in zip(np.asarray(command).tolist(), self._units, strict=True)]
        if not all(map(math.isfinite, efforts)):
            raise RobotFault("a command that is not finite was not sent")
        with self._lock:
            link = self._line()
            if not self._armed:
                raise RobotFault("the motors are off: the robot was held and must be armed before a command")
            self._after = link.count(self._options.states)
            at = time.monotonic()
            link.send(op="publish", topic=self._options.commands, msg=self._message(efforts))
        return Sent(np.array(efforts), at)

    def hold(self) -> Held:
        start = time.monotonic()
        with self._lock:
            self._armed = False
            self._trigger(self._options.stop)
        return until_still(self.observe, self._rows, True, start, realtime=self.spec.realtime)

    def status(self) -> Status:
        link = self._link
        return link_status(link is not None, self._trouble, self._errors + (link.errors if link else 0))

    def recover(self, operator: str) -> None:
        with self._lock:
            if self._link is None:
                self.connect()
            self._trigger(self._options.stop)
            self._trigger(self._options.recover)

    def disconnect(self) -> None:
        with self._lock:
            link = self._link
            if link is None:
                return
            self._armed = False
            try:
                self._trigger(self._options.stop)
            except RobotFault as fault:
                self._trouble = str(fault)  # the robot's own time limit has to do it
            self._link = None
            self._errors += link.errors
            with suppress(Exception):
                link.close()

    def _trigger(self, service: str) -> None:
        """A std_srvs/Trigger that must succeed."""
        patience = SERVICE_PATIENCE_S if self.spec.realtime else LOCKSTEP_PATIENCE_S
        values = self._line().call(service, patience)
        if values.get("success") is not True:
            raise RobotFault(f"{service} was refused: {values.get('message') or values}")

    def _message(self, efforts: list[float]) -> dict[str, Any]:
        if self._options.message == "array":
            return {"layout": {"dim": [], "data_offset": 0}, "data": efforts}
        second, nano = ("sec", "nanosec") if self._options.ros == 2 else ("secs", "nsecs")
        now = time.time_ns()
        period = {second: int(self._watchdog_s), nano: int(self._watchdog_s % 1 * 1e9)}
        point = {"positions": [], "velocities": [], "accelerations": [], "effort": efforts, "time_from_start": period}
        header = {"stamp": {second: now // 10**9, nano: now % 10**9}, "frame_id": ""}
        return {"header": header, "joint_names": self._driven, "points": [point]}

    def _first(self, link: Link) -> None:
        """Wait for a state, and for one whose content and clock can be used."""
        if self.spec.realtime:
            link.newest(self._options.states, 0, SERVICE_PATIENCE_S)
            arrival, message = self._fresh(link)
        else:
            arrival, message = self._sync(link)
        self._read(arrival, message)

    def _sync(self, link: Link) -> tuple[float, dict[str, Any]]:
        """Lockstep: ask for a state, since nothing comes by itself."""
        before = link.count(self._options.states)
        self._trigger(self._options.sync)
        return link.newest(self._options.states, before, LOCKSTEP_PATIENCE_S)

    def _fresh(self, link: Link) -> tuple[float, dict[str, Any]]:
        """Real time: the last state that came, or the next, should the last have come too long ago."""
        count = link.count(self._options.states)
        arrival, message = link.newest(self._options.states, 0, REALTIME_PATIENCE_S)
        if time.monotonic() - arrival > self.spec.max_age_s:
            arrival, message = link.newest(self._options.states, count, REALTIME_PATIENCE_S)
        return arrival, message

    def _read(self, arrival: float, message: dict[str, Any]) -> Observation:
        names = message.get("name")
        names = names if isinstance(names, list) and all(isinstance(name, str) for name in names) else []
        rows = []
        for key in ("position", "velocity"):
            values = numbers(message.get(key), names)
            missing = [name for name in self._names if name not in values]
            if missing:
                raise RobotFault(f"the state has no {key} of joint '{missing[0]}'")
            rows.append(np.array([values[name] for name in self._names], np.float32))
        age = 0.0
        if self._options.stamps == "header" and self.spec.realtime:
            age = time.time() - (time.monotonic() - arrival) - stamp_s(message)
            if not abs(age) < SKEW_S:
                raise RobotFault(
                    f"the state's stamp is {age:.3f} s away from this computer's clock; synchronise the clocks"
                )
        efforts = numbers(message.get("effort"), names)
        told = all(math.isfinite(efforts.get(name, math.nan)) for name in self._names)
        return Observation(
            rows[0],
            rows[1],
            arrival,
            np.full(len(self._names), max(age, 0.0)),
            joint_effort=np.array([efforts[name] for name in self._names] if told else [], np.float32),
        )

    def _line(self) -> Link:
        if self._link is None:
            raise RobotFault(f"not connected to the robot at {self._url}", link=True)
        return self._link


def _whole(value: float, unit: float) -> float:
    """Towards zero to whole steps, so that what is sent never exceeds what was allowed."""
    if not unit or not math.isfinite(value):
        return value
    return int(value / unit + math.copysign(1e-9, value)) * unit
