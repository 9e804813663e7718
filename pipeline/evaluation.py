"""Asynchronous evaluation in simulation: what is asked, and what became of it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from pipeline.actors.evaluator import Evaluation, Evaluator, Scenario
from pipeline.actors.pool import ActorPool


@dataclass(frozen=True)
class Request:
    """One scenario for one policy. `tag` says what the outcome is for."""

    tag: str
    policy: bytes
    policy_version: int
    scenario: Scenario


class EvaluationService:
    """Hands scenarios to evaluator actors and gives back their outcomes with the tag they were asked under.

    With no remote evaluators a scenario runs at once in this process, so its outcome does not depend on timing. A
    request that died with its evaluator is asked again.
    """

    def __init__(
        self, task_name: str, worlds: int, seed: int, evaluators: int, num_cpus: float, first_bundle: int = 0
    ) -> None:
        build = lambda index: (task_name, worlds, seed)  # noqa: E731
        self._pool = ActorPool(Evaluator, build, evaluators, num_cpus, in_flight=1, first_bundle=first_bundle)
        self._queue: deque[Request] = deque()
        self._done: list[tuple[str, Evaluation]] = []
        self.paused = False  # nothing new begins: a robot moves in real time on this machine

    @property
    def pool(self) -> ActorPool:
        return self._pool

    def request(self, request: Request) -> None:
        if self._pool.local is not None:
            outcome = self._pool.local.run(request.policy, request.policy_version, request.scenario)
            self._done.append((request.tag, outcome))
        else:
            self._queue.append(request)
            self._feed()

    def outstanding(self, prefix: str = "") -> int:
        """Requests whose tag starts with `prefix` and whose outcome has not been fetched."""
        tags = [r.tag for r in (*self._queue, *self._pool.in_flight())] + [tag for tag, _ in self._done]
        return sum(tag.startswith(prefix) for tag in tags)

    def poll(self) -> list[tuple[str, Evaluation]]:
        """(tag, outcome) of everything that finished since the last call."""
        self._done += [(done.tag.tag, done.result) for done in self._pool.ready()]
        self._queue.extendleft(self._pool.take_lost())
        self._feed()
        done, self._done = self._done, []
        return done

    def close(self) -> None:
        self._pool.close()

    def _feed(self) -> None:
        while self._queue and not self.paused:
            r = self._queue[0]
            if not self._pool.submit("run", r.policy, r.policy_version, r.scenario, tag=r):
                return
            self._queue.popleft()
