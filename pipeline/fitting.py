"""Fits in the background: what is asked, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from pipeline.actors.fitter import Answer, Fitter
from pipeline.actors.pool import ActorPool
from pipeline.run import FIT_CPUS


@dataclass(frozen=True)
class Job:
    """One call of the Fitter."""

    method: Literal["plan", "fit"]
    arguments: tuple[Any, ...]


class FitService:
    """Does one job at a time in a process that lives no longer than its job.

    With `remote` False a job is done at once, in this process, so its outcome does not depend on timing. A job that
    died with its process is begun again.
    """

    def __init__(self, task_name: str, remote: bool, bundle: int = 0) -> None:
        self._task_name, self._remote, self._bundle = task_name, remote, bundle
        self._pool: ActorPool | None = None
        self._waiting: Job | None = None
        self._answer: Answer | None = None
        self.paused = False  # nothing new begins: a robot moves in real time on this machine

    @property
    def busy(self) -> bool:
        return self._waiting is not None or self._pool is not None or self._answer is not None

    def request(self, job: Job) -> None:
        """Begin a job; there must be none (`busy`)."""
        assert not self.busy
        if self._remote:
            self._waiting = job
        else:
            self._answer = getattr(Fitter(self._task_name, False), job.method)(*job.arguments)

    def poll(self) -> Answer | None:
        """The answer of the job, once; None while there is none."""
        try:
            self._go_on()
        except RuntimeError as error:  # its process died again and again
            self._close_pool()
            self._waiting, self._answer = None, Answer(None, 0.0, str(error))
        answer, self._answer = self._answer, None
        return answer

    def pids(self) -> list[int]:
        """Of the process that works, for fault tests."""
        return self._pool.pids() if self._pool else []

    def close(self) -> None:
        """Drop whatever is under way."""
        self._close_pool()
        self._waiting = self._answer = None

    def _go_on(self) -> None:
        if self._waiting is not None and not self.paused:
            if self._pool is None:
                build = lambda _: (self._task_name, True)  # noqa: E731
                self._pool = ActorPool(Fitter, build, 1, FIT_CPUS, in_flight=1, first_bundle=self._bundle)
            if self._pool.submit(self._waiting.method, *self._waiting.arguments, tag=self._waiting):
                self._waiting = None
        if self._pool is None:
            return
        for done in self._pool.ready():
            self._answer = done.result
        if lost := self._pool.take_lost():
            self._waiting = lost[0]
        elif self._answer is not None:
            self._close_pool()

    def _close_pool(self) -> None:
        if self._pool is not None:
            self._pool.close()
            self._pool = None
