"""A stop that stays until a person ends it."""

from __future__ import annotations

import fcntl
import json
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

from robot import durable
from robot.interface import RobotError

LOCK = "session.lock"


def in_use(directory: Path | str) -> bool:
    """Whether a live session has the robot whose stop is kept in `directory`."""
    try:
        with open(Path(directory) / LOCK, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


class Latch:
    """The stop of one robot, kept in `directory/stop.json`; each change is a line in `safety.jsonl`.

    A session that ended without being closed leaves its mark behind, and the next one comes up stopped.
    """

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._stop = self._directory / "stop.json"
        self._mark = self._directory / "session.json"
        self._log = self._directory / "safety.jsonl"
        self._lock: BinaryIO | None = None
        self._turn = threading.Lock()  # the operator, the watchdog and the control loop may all stop at once
        self._reason, self._kind = self._read()

    @property
    def reason(self) -> str:
        """Why the robot is stopped; empty when it is not."""
        return self._reason

    @property
    def kind(self) -> str:
        """unsafe | link | unclosed; empty when not stopped. A stop that cannot be read counts as unsafe."""
        return self._kind

    def open(self, who: str) -> None:
        """A session begins to use the robot; raises RobotError while another one does."""
        lock = open(self._directory / LOCK, "wb")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # the system lets go of it when the process dies
        except OSError as error:
            lock.close()
            raise RobotError(
                f"the robot of {self._directory} is in use by another session; end that one first"
            ) from error
        self._lock = lock
        if self._mark.exists():
            self.stop(
                "the previous session ended without closing; look at the robot before it moves again",
                "unclosed",
            )
        durable.write(self._mark, json.dumps({"who": who, "at": time.time()}).encode())

    def close(self) -> None:
        """The session ends in order. A stop that could not be written is left to the mark, which is one as well."""
        if not self._reason or self._stop.exists():
            self._mark.unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def stop(self, reason: str, kind: str = "unsafe") -> None:
        """Latch; the first reason stays. Durable on return.

        Never raises: a stop that cannot be written is latched all the same, says so, and the next session comes up
        stopped, because this one is never closed in order.
        """
        line = {"at": time.time(), "event": "stop", "reason": reason, "kind": kind}
        with self._turn:
            if not self._reason:
                self._reason, self._kind = reason, kind
            record = {"reason": self._reason, "kind": self._kind, "at": time.time()}
            try:
                if not self._stop.exists():
                    durable.write(self._stop, json.dumps(record).encode())
                durable.append_line(self._log, line)
            except OSError as error:
                self._reason += f" (and {self._directory} cannot be written: {error.strerror or error})"

    def note(self, event: str, **details: Any) -> None:
        """A line in the safety log that changes nothing: moves outside episodes, and who agreed to what."""
        with self._turn:
            durable.append_line(self._log, {"at": time.time(), "event": event, **details})

    def recover(self, operator: str) -> None:
        """End the stop; raises RobotError without a name to put in the log."""
        if not operator.strip():
            raise RobotError("recover: no operator given; accepted is the name of the person who looked at the robot")
        with self._turn:
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
