"""The same object in several processes, each with its part of the work."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

from robot.interface import RobotError

ENDED = (
    "identify: one of its processes ended before its work was done; accepted is enough memory, and in a script of your "
    "own that the work begins under 'if __name__ == \"__main__\":'"
)


class Workers:
    """`make(*part)` for each of `parts`: the first here, the others in processes of their own."""

    def __init__(self, make: Callable[..., Any], parts: Sequence[tuple[Any, ...]]) -> None:
        self._others: list[tuple[Any, Connection]] = []
        context = multiprocessing.get_context("spawn")  # a forked PyBullet would share its parent's worlds
        for _ in parts[1:]:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make), daemon=True)
            process.start()
            theirs.close()
            self._others.append((process, ours))
        self._own = make(*parts[0])
        for (_, pipe), part in zip(self._others, parts[1:], strict=True):
            _send(pipe, part)  # as arguments they would hang if the process had died

    def close(self) -> None:
        """Close what is here, and the pipes, which ends the processes; end those that do not hear it."""
        self._own.close()
        for process, pipe in self._others:
            pipe.close()
            process.join(5.0)
            if process.is_alive():
                process.terminate()

    def call(self, method: str, arguments: Sequence[tuple[Any, ...]]) -> list[Any]:
        """The answers to a method's arguments for each; raises what one raised, or RobotError if a process ended."""
        for (_, pipe), own in zip(self._others, arguments[1:], strict=True):
            _send(pipe, (method, own))
        answers = [getattr(self._own, method)(*arguments[0])]
        for _, pipe in self._others:
            answers.append(_receive(pipe))
        return answers


def _send(pipe: Connection, what: object) -> None:
    try:
        pipe.send(what)
    except ConnectionError as error:
        raise RobotError(ENDED) from error


def _receive(pipe: Connection) -> Any:
    try:
        answer = pipe.recv()
    except (EOFError, ConnectionError) as error:
        raise RobotError(ENDED) from error
    if isinstance(answer, BaseException):
        raise answer
    return answer


def _serve(pipe: Connection, make: Callable[..., Any]) -> None:
    """The other processes: one answer for each call, until who asks is gone."""
    with suppress(EOFError, OSError, KeyboardInterrupt):
        own = make(*pipe.recv())
        try:
            while True:
                method, arguments = pipe.recv()
                try:
                    answer = getattr(own, method)(*arguments)
                except Exception as error:  # it belongs to whoever asked
                    answer = error
                pipe.send(answer)
        finally:
            own.close()
