"""One JSON object a line over a unix socket: how the programs beside a robot are asked."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from robot.interface import RobotError, RobotFault


class JsonLine:
    """Questions and answers, opened when first asked, and again after an error.

    `key` is the configuration key of `path`, and `accepted` what should answer there: both for sentences.
    """

    def __init__(self, path: Path | str, key: str, accepted: str, timeout_s: float = 10.0) -> None:
        self._path, self._key, self._accepted = Path(path), key, accepted
        self._timeout_s = timeout_s
        self._socket: socket.socket | None = None
        self._buffer = b""

    def ask(self, **request: Any) -> dict[str, Any]:
        """The answer; raises RobotFault (link) when there is none, RobotError with the sentence of a refusal."""
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
                f"{self._key}: {self._path} does not answer ({error.strerror or error}); accepted is "
                f"the socket of {self._accepted}",
                link=True,
            ) from error
        line, _, self._buffer = self._buffer.partition(b"\n")
        try:
            answer = json.loads(line)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            self.close()
            raise RobotFault(f"{self._key}: {self._path} answered {line[:80]!r}; accepted is a JSON object", link=True)
        if "error" in answer:
            raise RobotError(f"{self._key}: {answer['error']}")
        return answer

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
