"""The twin's process: one loop over the bus (a pseudo-terminal), the technician's socket and a clock."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import pty
import select
import socket
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

from robot.interface import RobotError
from robot.twin.reality import Reality

Answer = Callable[[str, dict[str, Any]], dict[str, Any]]  # what is asked for, and the rest of the request
UNHEARD_S = 0.005  # how often to look whether somebody opened the terminal


class TwinServer:
    """`directory/bus` is a link to the terminal; `technician` and `tracker` there are unix sockets for JSON lines.

    When the last program closes the terminal, or dies, the motors go off.
    """

    def __init__(self, reality: Reality, directory: Path, lifeline: int | None = None) -> None:
        self._reality = reality
        self._lifeline = lifeline  # a file descriptor; the twin ends when it closes
        self.port = directory / "bus"
        self.technician = directory / "technician"
        self.tracker = directory / "tracker"
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        terminal = os.ttyname(slave)
        os.close(slave)
        fresh = directory / "bus.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(terminal)
        fresh.replace(self.port)
        self._poll = select.poll()
        self._doors: dict[int, tuple[socket.socket, Answer]] = {}
        self._open(self.technician, self._asked)
        self._open(self.tracker, self._looked)
        self._visitors: dict[int, tuple[socket.socket, bytearray, Answer]] = {}
        if lifeline is not None:
            self._poll.register(lifeline, select.POLLIN)
        self._heard = False  # somebody has the terminal open

    def run(self) -> None:
        """Serve until the lifeline closes or KeyboardInterrupt."""
        reality, master = self._reality, self._master
        line = select.poll()
        line.register(master, select.POLLIN)
        while True:
            for number, what in self._poll.poll(self._timeout_ms()):
                if number == master:
                    self._serve_bus()
                elif number == self._lifeline:
                    if what & (select.POLLHUP | select.POLLERR) or not os.read(number, 4096):
                        return
                else:
                    self._serve_visitor(number)
            if reality.realtime:
                reality.catch_up(time.monotonic())
            if not self._heard:
                state = line.poll(0)
                if not state or not state[0][1] & select.POLLHUP or state[0][1] & select.POLLIN:
                    self._poll.register(master, select.POLLIN)
                    self._heard = True

    def close(self) -> None:
        self._reality.hang_up()
        for connection, *_ in (*self._visitors.values(), *self._doors.values()):
            connection.close()
        os.close(self._master)
        for path in (self.port, self.technician, self.tracker):
            path.unlink(missing_ok=True)

    def _timeout_ms(self) -> float | None:
        unheard = None if self._heard else UNHEARD_S * 1e3
        if not self._reality.realtime:
            return unheard
        patience = self._reality.patience_s(time.monotonic()) * 1e3
        return patience if unheard is None else min(patience, unheard)

    def _serve_bus(self) -> None:
        try:
            data = os.read(self._master, 4096)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            data = b""
        if not data:
            self._reality.hang_up()
            self._poll.unregister(self._master)
            self._heard = False
            return
        answer = self._reality.handle(data)
        if answer:
            with contextlib.suppress(BlockingIOError, OSError):  # a serial line drops what nobody takes
                os.write(self._master, answer)

    def _open(self, path: Path, answer: Answer) -> None:
        path.unlink(missing_ok=True)
        door = socket.socket(socket.AF_UNIX)
        try:
            door.bind(str(path))
        except OSError as error:
            raise RobotError(
                f"the {path.name}'s socket {path} cannot be made ({error.strerror or error}); "
                "accepted is a directory with a short path that can be written"
            ) from error
        door.listen(4)
        self._doors[door.fileno()] = (door, answer)
        self._poll.register(door, select.POLLIN)

    def _serve_visitor(self, number: int) -> None:
        if number in self._doors:
            door, answer = self._doors[number]
            connection, _ = door.accept()
            self._visitors[connection.fileno()] = (connection, bytearray(), answer)
            self._poll.register(connection, select.POLLIN)
            return
        connection, buffer, answer = self._visitors[number]
        try:
            data = connection.recv(65536)
            buffer += data
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                connection.sendall(json.dumps(self._answered(line, answer)).encode() + b"\n")
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(number)
            del self._visitors[number]
            connection.close()

    def _answered(self, line: bytes, answer: Answer) -> dict[str, Any]:
        """One request, {"do": ..., ...}; what cannot be understood is answered with an error."""
        try:
            request = json.loads(line)
            do = request.pop("do")
            if self._reality.realtime:
                self._reality.catch_up(time.monotonic())
            return answer(do, request)
        except RobotError as error:
            return {"error": str(error)}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return {"error": f"request not understood ({type(error).__name__}: {error})"}

    def _asked(self, do: str, request: dict[str, Any]) -> dict[str, Any]:
        """The technician's requests: reset, ping and record."""
        reality = self._reality
        if do == "reset":
            position = [float(value) for value in request["joint_position"]]
            velocity = [float(value) for value in request["joint_velocity"]]
            poses = [[float(value) for value in pose] for pose in request.get("body_pose", [])]
            reality.reset(position, velocity, int(request["noise_seed"]), poses)
            return {"ok": True}
        if do == "ping":
            mode = "realtime" if reality.realtime else "lockstep"
            return {"ok": True, "mode": mode, "pid": os.getpid()}
        if do == "record":
            position, velocity = reality.model.state
            state = {"joint_position": position, "joint_velocity": velocity, "time_s": reality.model.time_s}
            events = [e for e in reality.events if e["at_s"] >= float(request.get("since_s", 0.0))]
            return {"ok": True, "events": events, "state": state, "corrupt": reality.bus.corrupt}
        return {"error": f"unknown request '{do}'; accepted are reset, ping, record"}

    def _looked(self, do: str, request: dict[str, Any]) -> dict[str, Any]:
        """The tracker's request: look."""
        if do != "look" or request:
            return {"error": f"unknown request '{do}'; accepted is look"}
        poses, age_s = self._reality.look()
        return {"poses": poses, "age_s": age_s}
