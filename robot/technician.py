"""Whoever brings the robot into its starting state: never over the robot's own bus."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, Protocol

from envs.task import State
from robot.interface import RobotError, RobotFault


class Technician(Protocol):
    def reset(self, state: State, noise_seed: int) -> None:
        """Bring the robot into `state` (n = 1) and re-arm it; `noise_seed` means something to a twin only.

        Raises RobotFault with `link` set when there is no answer.
        """
        ...

    def close(self) -> None: ...


class SocketTechnician:
    """The lab technician of a twin: a unix socket that speaks one JSON object a line."""

    def __init__(self, path: Path | str, timeout_s: float = 10.0) -> None:
        self._path = Path(path)
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._buffer = b""

    def reset(self, state: State, noise_seed: int) -> None:
        self._ask(
            do="reset",
            joint_position=state.joint_position[0].tolist(),
            joint_velocity=state.joint_velocity[0].tolist(),
            noise_seed=noise_seed,
        )

    def ping(self) -> dict[str, Any]:
        return self._ask(do="ping")

    def record(self, since_s: float = 0.0) -> dict[str, Any]:
        """What the twin itself recorded: events of the motors and the true state, for tests and demos.

        `since_s`: only events from then on, of the monotonic clock.
        """
        return self._ask(do="record", since_s=since_s)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _ask(self, **request: Any) -> dict[str, Any]:
        try:
            if self._socket is None:
                self._buffer = b""
                self._socket = socket.socket(socket.AF_UNIX)
                self._socket.settimeout(self._timeout_s)
                self._socket.connect(str(self._path))
            self._socket.sendall(json.dumps(request).encode() + b"\n")
            while b"\n" not in self._buffer:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionResetError("it hung up")
                self._buffer += data
        except OSError as error:
            self.close()
            raise RobotFault(
                f"robot.technician: {self._path} does not answer ({error.strerror or error}); accepted is "
                "the socket of a running twin",
                link=True,
            ) from error
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        if "error" in answer:
            raise RobotError(f"robot.technician: {answer['error']}")
        return answer
