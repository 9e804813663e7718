"""A fault-tolerant set of worker actors with a bounded number of requests in flight.

Owned here because RLlib's actor manager silently drops requests beyond one in flight per tag (Ray 2.60). With no
remote workers the caller uses `local`, in this process and in order, which makes a run reproducible step by step.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import ray
from ray.exceptions import RayActorError
from ray.util.placement_group import get_current_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

RETRY_AFTER_S = 1.0
MAX_DEATHS_IN_A_ROW = 5


class Done(NamedTuple):
    """One finished request: which worker answered, the tag it was submitted under, and the answer."""

    worker: int
    tag: Any
    result: Any


@dataclass
class _Worker:
    index: int
    handle: Any
    pending: deque[tuple[ray.ObjectRef, Any]] = field(default_factory=deque)
    retry_at: float = 0.0
    deaths_in_a_row: int = 0


class ActorPool:
    """Workers of class `cls` made with the arguments `build(index)` returns.

    `build` is called again after a death, so that it can start the replacement where its predecessor had come to.
    Requests that died with a worker are found in `take_lost`. Raises RuntimeError when a worker dies again and again
    without answering once.

    Inside a placement group worker i lives in bundle `first_bundle` + i. Left to choose, Ray may put a small worker
    into the bundle that is meant for a larger one, which then never starts.
    """

    def __init__(
        self,
        cls: type,
        build: Callable[[int], tuple],
        size: int,
        num_cpus: float,
        in_flight: int = 2,
        first_bundle: int = 0,
    ) -> None:
        self._cls, self._build, self._num_cpus, self._in_flight = cls, build, num_cpus, in_flight
        self._first_bundle = first_bundle
        self._lost: list[Any] = []
        self.deaths = 0
        self.local = cls(*build(0)) if size == 0 else None
        self._workers = [_Worker(i, self._spawn(i)) for i in range(size)]

    @property
    def size(self) -> int:
        return len(self._workers)

    def submit(self, method: str, *args: Any, tag: Any = None) -> bool:
        """Send one request to the least busy worker; False when all are full."""
        now = time.monotonic()
        able = [w for w in self._workers if len(w.pending) < self._in_flight and now >= w.retry_at]
        if not able:
            return False
        worker = min(able, key=lambda w: len(w.pending))
        worker.pending.append((getattr(worker.handle, method).remote(*args), tag))
        return True

    def ready(self, timeout_s: float = 0.0) -> list[Done]:
        """What has finished, oldest first for each worker; waits up to `timeout_s` for the first."""
        refs = [w.pending[0][0] for w in self._workers if w.pending]
        if not refs:
            time.sleep(timeout_s)
            return []
        ray.wait(refs, num_returns=1, timeout=timeout_s)
        done: list[Done] = []
        for worker in self._workers:
            while worker.pending and ray.wait([worker.pending[0][0]], timeout=0)[0]:
                ref, tag = worker.pending[0]
                try:
                    done.append(Done(worker.index, tag, ray.get(ref)))
                except RayActorError as error:
                    self._replace(worker, error)
                else:
                    worker.pending.popleft()
                    worker.deaths_in_a_row = 0
        return done

    def take_lost(self) -> list[Any]:
        """Tags of the requests that died with their worker since the last call."""
        lost, self._lost = self._lost, []
        return lost

    def in_flight(self) -> list[Any]:
        """Tags of the requests that are being worked on."""
        return [tag for worker in self._workers for _, tag in worker.pending]

    def pids(self) -> list[int]:
        """Process ids of the workers, for fault tests."""
        return ray.get([w.handle.__ray_call__.remote(lambda _: os.getpid()) for w in self._workers])

    def restart(self) -> None:
        """Replace every worker by a new one; requests under way are dropped."""
        for worker in self._workers:
            ray.kill(worker.handle)
            worker.pending.clear()
            worker.handle = self._spawn(worker.index)

    def close(self) -> None:
        if self.local is not None:
            self.local.close()
        for worker in self._workers:
            ray.kill(worker.handle)

    def _spawn(self, index: int) -> Any:
        actor = ray.remote(num_cpus=self._num_cpus, max_restarts=0)(self._cls)
        group = get_current_placement_group()
        if group is not None:
            place = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=self._first_bundle + index)
            actor = actor.options(scheduling_strategy=place)
        return actor.remote(*self._build(index))

    def _replace(self, worker: _Worker, error: Exception) -> None:
        self.deaths += 1
        worker.deaths_in_a_row += 1
        if worker.deaths_in_a_row >= MAX_DEATHS_IN_A_ROW:
            raise RuntimeError(f"{self._cls.__name__} {worker.index} died {worker.deaths_in_a_row} times") from error
        self._lost += [tag for _, tag in worker.pending]
        worker.pending.clear()
        worker.retry_at = time.monotonic() + RETRY_AFTER_S
        worker.handle = self._spawn(worker.index)
