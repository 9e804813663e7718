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
from pathlib import Path

from robot.interface import RobotError
from robot.twin.reality import Reality

UNHEARD_S = 0.005  # how often to look whether somebody opened the terminal


class TwinServer:
    """`directory/bus` is a link to the terminal, `directory/technician` a unix socket that speaks JSON lines.

    When the last program closes the terminal, or dies, the motors go off.
    """

    def __init__(self, reality: Reality, directory: Path, lifeline: int | None = None) -> None:
        self._reality = reality
        self._lifeline = lifeline  # a file descriptor; the twin ends when it closes
        self.port = directory / "bus"
        self.technician = directory / "technician"
        self._master, slave = pty.openpty()
        tty.setraw(slave)
        os.set_blocking(self._master, False)
        terminal = os.ttyname(slave)
        os.close(slave)
        fresh = directory / "bus.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(terminal)
        fresh.replace(self.port)
        self.technician.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX)
        try:
            self._door.bind(str(self.technician))
        except OSError as error:
            raise RobotError(
                f"the technician's socket {self.technician} cannot be made ({error.strerror or error}); "
                "accepted is a directory with a short path that can be written"
            ) from error
        self._door.listen(4)
        self._visitors: dict[int, tuple[socket.socket, bytearray]] = {}
        self._poll = select.poll()
        self._poll.register(self._door, select.POLLIN)
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
                    self._serve_technician(number)
            if reality.realtime:
                reality.catch_up(time.monotonic())
            if not self._heard:
                state = line.poll(0)
                if not state or not state[0][1] & select.POLLHUP or state[0][1] & select.POLLIN:
                    self._poll.register(master, select.POLLIN)
                    self._heard = True

    def close(self) -> None:
        self._reality.hang_up()
        for connection, _ in self._visitors.values():
            connection.close()
        self._door.close()
        os.close(self._master)
        for path in (self.port, self.technician):
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

    def _serve_technician(self, number: int) -> None:
        if number == self._door.fileno():
            connection, _ = self._door.accept()
            self._visitors[connection.fileno()] = (connection, bytearray())
            self._poll.register(connection, select.POLLIN)
            return
        connection, buffer = self._visitors[number]
        try:
            data = connection.recv(65536)
            buffer += data
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                connection.sendall(json.dumps(self._asked(line)).encode() + b"\n")
        except OSError:
            data = b""
        if not data:
            self._poll.unregister(number)
            del self._visitors[number]
            connection.close()

    def _asked(self, line: bytes) -> dict:
        """One request of the technician: {"do": "reset" | "ping" | "record", ...}."""
        reality = self._reality
        try:
            request = json.loads(line)
            do = request.pop("do")
            if reality.realtime:
                reality.catch_up(time.monotonic())
            if do == "reset":
                position = [float(value) for value in request["joint_position"]]
                velocity = [float(value) for value in request["joint_velocity"]]
                reality.reset(position, velocity, int(request["noise_seed"]))
                return {"ok": True}
            if do == "ping":
                return {
                    "ok": True,
                    "mode": "realtime" if reality.realtime else "lockstep",
                    "pid": os.getpid(),
                }
            if do == "record":
                position, velocity = reality.model.state
                state = {
                    "joint_position": position,
                    "joint_velocity": velocity,
                    "time_s": reality.model.time_s,
                }
                return {
                    "ok": True,
                    "events": [e for e in reality.events if e["at_s"] >= float(request.get("since_s", 0.0))],
                    "state": state,
                    "corrupt": reality.bus.corrupt,
                }
            return {"error": f"unknown request '{do}'; accepted are reset, ping, record"}
        except RobotError as error:
            return {"error": str(error)}
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            return {"error": f"request not understood ({type(error).__name__}: {error})"}
