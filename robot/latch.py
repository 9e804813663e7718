"""A stop that stays until a person ends it."""

from __future__ import annotations

import json
import time
from pathlib import Path

from robot import durable
from robot.interface import RobotError


class Latch:
    """The stop of one robot, kept in `directory/stop.json`; every change is a line in `directory/safety.jsonl`.

    A session that ended without being closed leaves its mark behind, and the next one comes up stopped.
    """

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._stop = self._directory / "stop.json"
        self._mark = self._directory / "session.json"
        self._log = self._directory / "safety.jsonl"
        self._reason, self._kind = self._read()

    @property
    def reason(self) -> str:
        """Why the robot is stopped; empty when it is not."""
        return self._reason

    @property
    def kind(self) -> str:
        """unsafe | link | unclosed; empty when it is not stopped. An unreadable or unnamed stop counts as unsafe."""
        return self._kind

    def open(self, who: str) -> None:
        """A session begins to use the robot."""
        if self._mark.exists():
            self.stop(
                "the previous session ended without closing; look at the robot before it moves again",
                "unclosed",
            )
        durable.write(self._mark, json.dumps({"who": who, "at": time.time()}).encode())

    def close(self) -> None:
        """The session ends in order."""
        self._mark.unlink(missing_ok=True)

    def stop(self, reason: str, kind: str = "unsafe") -> None:
        """Latch; the first reason stays. Durable on return."""
        durable.append_line(self._log, {"at": time.time(), "event": "stop", "reason": reason, "kind": kind})
        if not self._reason:
            self._reason, self._kind = reason, kind
            record = {"reason": reason, "kind": kind, "at": time.time()}
            durable.write(self._stop, json.dumps(record).encode())

    def recover(self, operator: str) -> None:
        """End the stop; raises RobotError without a name to put in the log."""
        if not operator.strip():
            raise RobotError(
                "recover: no operator given; accepted is the name of the person who looked at the robot"
            )
        record = {"at": time.time(), "event": "recover", "operator": operator, "was": self._reason}
        durable.append_line(self._log, record)
        self._stop.unlink(missing_ok=True)
        durable.sync_directory(self._directory)
        self._reason = self._kind = ""

    def _read(self) -> tuple[str, str]:
        if not self._stop.exists():
            return "", ""
        try:
            stop = json.loads(self._stop.read_text())
            return str(stop["reason"]) or "stopped", str(stop["kind"])
        except (ValueError, KeyError, TypeError):
            return f"the stop file {self._stop} cannot be read, which counts as a stop", "unsafe"
