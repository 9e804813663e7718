"""Asking a person before the robot moves: a question in a file, an answer in a file, and silence means no."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from robot import durable
from robot.interface import RobotError

LOOK_S = 0.1


class Confirmer:
    """Questions go to `directory/confirm_question.json`; `answer`, in any program, resolves them."""

    def __init__(self, directory: Path | str, timeout_s: float) -> None:
        self._question, self._answer = _files(directory)
        self._timeout_s = timeout_s

    def ask(self, question: str, interrupted: Callable[[], str] = lambda: "") -> str:
        """Wait for a yes and return who gave it; raises RobotError on a no, or if nobody answers in time.

        `interrupted` gives a reason to stop waiting, which also means no.
        """
        number = time.time_ns()
        self._answer.unlink(missing_ok=True)
        asked = {"number": number, "question": question, "until": time.time() + self._timeout_s}
        durable.write(self._question, json.dumps(asked).encode())
        end = time.monotonic() + self._timeout_s
        try:
            while time.monotonic() < end:
                reply = _read(self._answer)
                if reply.get("number") == number:
                    if reply.get("yes") is True:
                        return str(reply["operator"])
                    raise RobotError(f"{question}: {reply.get('operator', 'somebody')} said no")
                if why := interrupted():
                    raise RobotError(f"{question}: not answered, because {why}")
                time.sleep(LOOK_S)
        finally:
            self._question.unlink(missing_ok=True)
            self._answer.unlink(missing_ok=True)
        raise RobotError(f"{question}: nobody answered within {self._timeout_s:g} s, which means no")


@dataclass(frozen=True)
class Waiting:
    """A question that nobody has answered yet."""

    number: int
    question: str
    left_s: float  # until silence means no, on the wall clock


def waiting(directory: Path | str) -> Waiting | None:
    """The question that waits for an answer, if one does."""
    asked = _read(_files(directory)[0])
    if not asked:
        return None
    return Waiting(asked["number"], str(asked["question"]), max(0.0, float(asked["until"]) - time.time()))


def pending(directory: Path | str) -> str:
    """The words of the question that waits; empty when there is none."""
    asked = waiting(directory)
    return asked.question if asked else ""


def answer(directory: Path | str, yes: bool, operator: str, number: int | None = None) -> None:
    """Resolve the waiting question, or only the one of this `number`.

    Raises RobotError when there is none, when another one waits by now, or when no name is given.
    """
    question, reply = _files(directory)
    asked = _read(question)
    if not asked:
        raise RobotError(f"confirm: no question is waiting in {directory}")
    if number is not None and asked["number"] != number:
        raise RobotError(f"confirm: that question is over; what waits now is: {asked['question']}")
    if not operator.strip():
        raise RobotError("confirm: no operator given; accepted is the name of the person who answers")
    durable.write(reply, json.dumps({"number": asked["number"], "yes": yes, "operator": operator}).encode())


def _files(directory: Path | str) -> tuple[Path, Path]:
    return Path(directory) / "confirm_question.json", Path(directory) / "confirm_answer.json"


def _read(path: Path) -> dict:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
