"""`python -m robot.twin.rosbridge_node`: a robot's bus on one side, rosbridge v2 on the other, on this computer only.

What a ROS driver node and a rosbridge server are to a real robot. In real time it publishes states at a fixed
rate, and efforts that are not renewed within their time end with the motors off. In lockstep it publishes once
for each command, and when asked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import os
import select
import signal
import sys
import threading
import time
from contextlib import suppress
from typing import Any

import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.server import ServerConnection, serve

from envs.registry import make_task
from robot.drivers.dynamixel import DynamixelRobot
from robot.interface import Observation, Robot, RobotError, RobotFault
from robot.settings import RobotSettings
from robot.twin.rigs import Rig, find_rig

STATES, COMMANDS = "/joint_states", "/robot/command"
ARM, STOP, RECOVER, SYNC = "/robot/arm", "/robot/stop", "/robot/recover", "/robot/sync"
STATE_HZ = 100.0
EFFORT_LASTS_S = 0.1  # of a Float64MultiArray, which cannot say so itself
LONGEST_S = 1.0  # no effort lasts longer, whatever a trajectory says
MAX_BYTES = 1 << 16


class Node:
    """One robot for any number of connections. When one that commanded it closes, the motors go off."""

    def __init__(self, robot: Robot) -> None:
        self.robot = robot
        self.failed = threading.Event()  # the bus is gone
        self._lock = threading.RLock()
        self._ears: dict[ServerConnection, dict[str, bool]] = {}  # topics they subscribed to; True: as ROS 1
        self._commanders: set[ServerConnection] = set()
        self._until_s = math.inf  # when the present effort ends
        self._failures = 0  # of the bus, one after the other

    def attend(self, connection: ServerConnection) -> None:
        """Serve one connection until it closes."""
        self._ears[connection] = {}
        try:
            for text in connection:
                self._hear(connection, text)
        except (OSError, WebSocketException):
            pass
        finally:
            with self._lock:
                del self._ears[connection]
                if connection in self._commanders:
                    self._commanders.discard(connection)
                    self._stop()

    def tick(self) -> None:
        """Real time: publish a state, and end an effort whose time is over."""
        with self._lock:
            if time.monotonic() > self._until_s:
                self._stop()
                self._complain("no fresh command in time: the motors are off")
            self._publish()

    def _hear(self, connection: ServerConnection, text: str | bytes) -> None:
        """One operation; what cannot be understood is answered with a status."""
        try:
            message = json.loads(text)
            op = message["op"]
            with self._lock:
                if op == "subscribe":
                    self._ears[connection][str(message["topic"])] = "/msg/" not in message.get("type", "/msg/")
                elif op == "unsubscribe":
                    self._ears[connection].pop(str(message["topic"]), None)
                elif op == "publish":
                    self._command(connection, str(message["topic"]), message["msg"])
                elif op == "call_service":
                    self._serve(connection, message)
                elif op not in ("advertise", "unadvertise"):
                    raise ValueError(f"operation {op} is not served")
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            self._tell(connection, op="status", level="error", msg=f"{type(error).__name__}: {error}")

    def _command(self, connection: ServerConnection, topic: str, message: dict[str, Any]) -> None:
        """Efforts out of a JointTrajectory or a Float64MultiArray, to the motors."""
        if topic != COMMANDS:
            raise ValueError(f"nobody listens to {topic}; accepted is {COMMANDS}")
        actuated = self.robot.spec.actuated
        if "points" in message:
            point = message["points"][0]
            given = dict(zip(message["joint_names"], point["effort"], strict=True))
            lasts = point.get("time_from_start", {})
            lasts_s = lasts.get("sec", lasts.get("secs", 0)) + 1e-9 * lasts.get("nanosec", lasts.get("nsecs", 0))
        else:
            given, lasts_s = dict(zip(actuated, message["data"], strict=True)), EFFORT_LASTS_S
        efforts = np.array([float(given[joint]) for joint in actuated])
        try:
            if not np.isfinite(efforts).all():
                raise ValueError("an effort is not finite")
            self.robot.command(efforts)
            self._commanders.add(connection)
            if self.robot.spec.realtime:
                self._until_s = time.monotonic() + min(max(lasts_s, 0.0), LONGEST_S)
        except RobotFault as fault:
            self._lost(fault)
            self._complain(str(fault))
        finally:
            if not self.robot.spec.realtime:
                self._publish()  # whoever waits for it hears what became of the command

    def _serve(self, connection: ServerConnection, message: dict[str, Any]) -> None:
        """The Trigger services."""
        service, ok, text = str(message["service"]), True, ""
        try:
            if service == ARM:
                self.robot.arm()
                self._commanders.add(connection)
                if self.robot.spec.realtime:
                    self._until_s = time.monotonic() + LONGEST_S
            elif service == STOP:
                ok = self._stop()
                text = "" if ok else "the motors were not seen off"
            elif service == RECOVER:
                self.robot.recover("rosbridge")
            elif service == SYNC:
                self._publish()
            else:
                self._answer(connection, message, f"service {service} does not exist", False)
                return
        except RobotFault as fault:
            self._lost(fault)
            ok, text = False, str(fault)
        self._answer(connection, message, {"success": ok, "message": text}, True)

    def _answer(self, connection: ServerConnection, message: dict[str, Any], values: Any, result: bool) -> None:
        answer = {"op": "service_response", "service": message["service"], "values": values, "result": result}
        self._tell(connection, **answer, **({"id": message["id"]} if "id" in message else {}))

    def _stop(self) -> bool:
        """Motors off, as read back from them."""
        self._until_s = math.inf
        try:
            return self.robot.hold().motors_off
        except RobotFault as fault:
            self._lost(fault)
            return False

    def _publish(self) -> None:
        try:
            seen = self.robot.observe()
        except RobotFault as fault:
            self._lost(fault)
            self._complain(str(fault))
            return
        self._failures = 0
        for connection, topics in list(self._ears.items()):
            if STATES in topics:
                self._tell(connection, op="publish", topic=STATES, msg=self._state(seen, ros1=topics[STATES]))

    def _state(self, seen: Observation, ros1: bool) -> dict[str, Any]:
        """A JointState stamped with when it was captured, on the wall clock."""
        stamp = time.time_ns() - int((time.monotonic() - seen.captured_s + float(seen.age_s.max())) * 1e9)
        second, nano = ("secs", "nsecs") if ros1 else ("sec", "nanosec")
        return {
            "header": {"stamp": {second: stamp // 10**9, nano: stamp % 10**9}, "frame_id": ""},
            "name": list(self.robot.spec.joints),
            "position": [float(value) for value in seen.joint_position],
            "velocity": [float(value) for value in seen.joint_velocity],
            "effort": [float(value) for value in seen.joint_effort],
        }

    def _complain(self, sentence: str) -> None:
        for connection in list(self._ears):
            self._tell(connection, op="status", level="error", msg=sentence)

    def _lost(self, fault: RobotFault) -> None:
        self._failures += fault.link
        if self._failures >= (3 if self.robot.spec.realtime else 1):
            self.failed.set()

    @staticmethod
    def _tell(connection: ServerConnection, **message: Any) -> None:
        with suppress(OSError, WebSocketException):  # it is gone, and `attend` notices
            connection.send(json.dumps(message))


def _robot(bus: str, mode: str, rig: Rig) -> Robot:
    """The rig's bus, with no limit but what its motors can do: limits are the business of who commands them."""
    task = make_task(rig.name)
    if task.scene.motors_take != "effort":
        raise RobotError(f"rosbridge: this node passes on efforts, and the motors of {rig.name} take none")
    wide = {"position": (-1e3, 1e3), "velocity": 1e3, "effort_rate": 1e6}
    axes = list(zip(task.joints, rig.axes, strict=True))
    limits = {joint: {**wide, "effort": axis.most} for joint, axis in axes if axis.unit}
    servos = {
        joint: {"id": axis.servo, "scale": axis.scale, "zero_ticks": axis.zero, "effort_per_unit": axis.unit or None}
        for joint, axis in axes
    }
    keys = {"limits": limits, "servos": servos, "port": bus, "mode": mode, "watchdog_ms": 500.0}
    return DynamixelRobot(RobotSettings.model_validate(keys), task)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m robot.twin.rosbridge_node", description=__doc__)
    parser.add_argument("--bus", required=True, help="the serial device, or a twin's pseudo-terminal")
    parser.add_argument("--mode", choices=("lockstep", "realtime"), default="lockstep")
    parser.add_argument("--task", default="cartpole", help="whose robot is on the bus")
    parser.add_argument("--port", type=int, default=9090, help="TCP port on 127.0.0.1")
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when standard input closes
    try:
        robot = _robot(arguments.bus, arguments.mode, find_rig(arguments.task))
        node = Node(robot)
        robot.connect()
        server = serve(node.attend, "127.0.0.1", arguments.port, compression=None, max_size=MAX_BYTES)
    except (RobotError, OSError) as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 2
    if robot.spec.realtime:
        with contextlib.suppress(OSError):  # where the user may; its threads inherit it
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(15))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"ready": {"port": f"ws://127.0.0.1:{arguments.port}"}}), flush=True)
    wait = select.poll()
    wait.register(sys.stdin, select.POLLIN)
    due = time.monotonic()
    while not node.failed.is_set():
        due = max(due + 1 / STATE_HZ, time.monotonic()) if robot.spec.realtime else time.monotonic() + 0.1
        if wait.poll(max(due - time.monotonic(), 0.0) * 1e3) and not os.read(sys.stdin.fileno(), 4096):
            break
        if robot.spec.realtime:
            node.tick()
    robot.disconnect()
    server.shutdown()
    os._exit(1 if node.failed.is_set() else 0)  # threads may wait for clients that never speak again


if __name__ == "__main__":
    sys.exit(main())
