"""What an operator asks of a live robot from another program: a request in a file, an answer in a file."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from robot import durable
from robot.interface import RobotError
from robot.latch import Latch, in_use

LOOK_S = 0.05
FOLDER = "requests"
Handler = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class Desk:
    """Watches a robot's folder for requests and answers each in a thread of its own, so that a hold never waits.

    `handlers` maps what is asked to a function of the request; a RobotError it raises becomes the answer.
    """

    def __init__(self, directory: Path | str, handlers: Mapping[str, Handler]) -> None:
        self._folder = Path(directory) / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._handlers = handlers
        for old in self._folder.iterdir():  # nobody waits for these any more
            old.unlink(missing_ok=True)
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="operator-desk", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._closing.wait(LOOK_S):
            with suppress(OSError):  # the folder was removed: then nobody asks
                for path in sorted(self._folder.glob("*.json")):
                    request = _read(path)
                    path.unlink(missing_ok=True)
                    if request:
                        threading.Thread(target=self._serve, args=(path, request), daemon=True).start()

    def _serve(self, path: Path, request: dict[str, Any]) -> None:
        handler = self._handlers.get(str(request.get("do")))
        try:
            if handler is None:
                raise RobotError(f"request: {request.get('do')!r} asked; accepted are {', '.join(self._handlers)}")
            answer = {"ok": True, **handler(request)}
        except (RobotError, ValueError, TypeError, KeyError) as error:
            answer = {"ok": False, "error": str(error)}
        with suppress(OSError):
            durable.write(path.with_suffix(".answer"), json.dumps(answer).encode())


def ask(directory: Path | str, do: str, timeout_s: float = 10.0, **arguments: Any) -> dict[str, Any]:
    """Put a request to the session that uses the robot of `directory`; returns its answer.

    Raises RobotError with the session's own sentence, when no session is live, or when none answers in time.
    """
    if not in_use(directory):
        raise RobotError(f"no session uses the robot of {directory} now")
    folder = Path(directory) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    question = folder / f"{time.time_ns()}.json"
    reply = question.with_suffix(".answer")
    durable.write(question, json.dumps({"do": do, **arguments}).encode())
    end = time.monotonic() + timeout_s
    try:
        while time.monotonic() < end:
            if answer := _read(reply):
                if not answer.pop("ok", False):
                    raise RobotError(str(answer.get("error", "refused")))
                return answer
            time.sleep(LOOK_S / 2)
    finally:
        question.unlink(missing_ok=True)
        reply.unlink(missing_ok=True)
    raise RobotError(f"{do}: the session of {directory} did not answer within {timeout_s:g} s")


def status(directory: Path | str) -> dict[str, Any]:
    """What the session of `directory` says of itself; of a robot that is not live, state and reason."""
    try:
        return ask(directory, "status", timeout_s=2.0)
    except RobotError as error:
        latched = Latch(directory).reason if not in_use(directory) else ""
        return {"state": "stopped" if latched else "not live", "reason": latched or str(error)}


def hold(directory: Path | str, operator: str) -> str:
    """Stop the robot now, live or not, and keep it stopped; returns a sentence of what was done."""
    if not operator.strip():
        raise RobotError("hold: no operator given; accepted is the name of who stops the robot")
    reason = f"{operator} held the robot"
    if in_use(directory):
        answer = ask(directory, "hold", reason=reason)
        return f"held; {answer['evidence']}"
    Latch(directory).stop(reason)
    return "no session is live, so its motors are off; it stays stopped until somebody recovers it"


def number(value: Any, what: str) -> float:
    """A finite float out of a request; raises RobotError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RobotError(f"{what}: {value!r} given; accepted is a finite number")
    return float(value)


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
