"""One connection that speaks rosbridge v2: JSON over a WebSocket, for ROS 1 and ROS 2 alike.

Protocol: https://github.com/RobotWebTools/rosbridge_suite/blob/ros2/ROSBRIDGE_PROTOCOL.md
"""

from __future__ import annotations

import itertools
import json
import math
import threading
import time
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from websockets.exceptions import InvalidURI, WebSocketException
from websockets.sync.client import ClientConnection, connect

from robot.clock import urgent
from robot.interface import RobotError, RobotFault

OPEN_S = 5.0
MAX_BYTES = 1 << 20  # a JointState is a few hundred bytes; more is nothing this asked for


class Link:
    """Never connects anew by itself. Every failure is a RobotFault with `link` set."""

    def __init__(self, url: str, realtime: bool) -> None:
        self._url, self._realtime = url, realtime
        self._socket: ClientConnection | None = None
        self._ends = ExitStack()
        self._changed = threading.Condition()
        self._messages: dict[str, tuple[int, float, dict[str, Any]]] = {}  # by topic: count, arrival, the last
        self._answers: dict[str, dict[str, Any]] = {}
        self._waiting: set[str] = set()
        self._numbers = itertools.count(1)
        self._lost = ""
        self.complaint = ""  # what the bridge itself last called an error
        self.errors = 0

    def open(self) -> None:
        try:
            opened = connect(self._url, open_timeout=OPEN_S, close_timeout=1.0, compression=None, max_size=MAX_BYTES)
            self._socket = self._ends.enter_context(opened)
        except (OSError, WebSocketException, InvalidURI, ValueError) as error:
            raise RobotError(
                f"robot.port: no rosbridge answers at {self._url} ({error or type(error).__name__}); accepted is an "
                "address such as ws://127.0.0.1:9090"
            ) from error
        threading.Thread(target=self._listen, args=(self._socket,), name="rosbridge", daemon=True).start()

    def close(self) -> None:
        self._socket = None
        self._ends.close()

    def send(self, **message: Any) -> None:
        socket = self._socket
        if socket is None or self._lost:
            raise self._fault()
        try:
            socket.send(json.dumps(message))
        except (OSError, WebSocketException) as error:
            self._lose(str(error))
            raise self._fault() from error

    def call(self, service: str, patience_s: float, **arguments: Any) -> dict[str, Any]:
        """The values that a service returned; raises RobotFault when it fails or does not answer in time."""
        name = f"call:{next(self._numbers)}"
        with self._changed:
            self._waiting.add(name)
        try:
            self.send(op="call_service", id=name, service=service, args=arguments)
            with self._changed:
                if not self._changed.wait_for(lambda: name in self._answers or self._lost, patience_s):
                    self.errors += 1
                    raise RobotFault(f"{service} on {self._url} did not answer within {patience_s:g} s", link=True)
                if name not in self._answers:
                    raise self._fault()
                answer = self._answers.pop(name)
        finally:
            with self._changed:
                self._waiting.discard(name)
        values = answer.get("values")
        if answer.get("result") is False or not isinstance(values, dict):
            raise RobotFault(f"{service} on {self._url} failed: {values}")
        return values

    def count(self, topic: str) -> int:
        """How many messages of a topic came so far."""
        with self._changed:
            return self._messages.get(topic, (0,))[0]

    def newest(self, topic: str, after: int, patience_s: float) -> tuple[float, dict[str, Any]]:
        """(arrival on the monotonic clock, message) of the last one, once more than `after` came."""
        with self._changed:
            ready = lambda: self._messages.get(topic, (0,))[0] > after or self._lost  # noqa: E731
            if not self._changed.wait_for(ready, patience_s):
                self.errors += 1
                raise RobotFault(f"nothing on {topic} of {self._url} within {patience_s:g} s", link=True)
            if self._lost:
                raise self._fault()
            _, arrival, message = self._messages[topic]
            return arrival, message

    def _listen(self, socket: ClientConnection) -> None:
        try:
            with urgent(self._realtime):  # what it hears, an urgent control loop waits for
                for text in socket:
                    self._hear(text)
            self._lose("it was closed")
        except (OSError, WebSocketException) as error:
            self._lose(str(error))

    def _hear(self, text: str | bytes) -> None:
        """One message of the bridge. What is no JSON object of the protocol is counted and left alone."""
        now = time.monotonic()
        try:
            message = json.loads(text)
            op = message["op"]
            with self._changed:
                if op == "publish" and isinstance(message["msg"], dict):
                    topic = str(message["topic"])
                    count = self._messages.get(topic, (0,))[0]
                    self._messages[topic] = (count + 1, now, message["msg"])
                elif op == "service_response":
                    if message.get("id") in self._waiting:
                        self._answers[message["id"]] = message
                elif op == "status" and message.get("level") == "error":
                    self.complaint = str(message.get("msg"))[:300]
                self._changed.notify_all()
        except (ValueError, KeyError, TypeError, RecursionError):
            self.errors += 1

    def _lose(self, why: str) -> None:
        with self._changed:
            if not self._lost:
                self._lost = why or "it was closed"
                self.errors += 1
            self._changed.notify_all()

    def _fault(self) -> RobotFault:
        return RobotFault(f"the link to the robot at {self._url} is lost ({self._lost or 'closed'})", link=True)


def stamp_s(message: Mapping[str, Any]) -> float:
    """Seconds of a header's stamp, as ROS 1 or as ROS 2 spells it; NaN where there is none."""
    try:
        stamp = message["header"]["stamp"]
        if "sec" in stamp:
            return float(stamp["sec"]) + float(stamp["nanosec"]) * 1e-9
        return float(stamp["secs"]) + float(stamp["nsecs"]) * 1e-9
    except (KeyError, TypeError, ValueError):
        return math.nan


def numbers(values: Any, names: list[str]) -> dict[str, float]:
    """{name: value} of one of a JointState's lists; a null, which is how JSON has NaN, becomes NaN."""
    if not isinstance(values, list) or len(values) != len(names):
        return {}
    try:
        return {name: math.nan if v is None else float(v) for name, v in zip(names, values, strict=True)}
    except (TypeError, ValueError):
        return {}
