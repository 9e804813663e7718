"""Worker actors: nothing is lost in silence, and a worker that died is replaced where it had come to."""

import os
import re
import signal
import time

import pytest
import ray
from ray._private import worker
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pipeline.actors.pool import ActorPool


class Counter:
    """Counts up from a start; `fail` raises."""

    def __init__(self, start: int) -> None:
        self.value = start

    def add(self, amount: int) -> int:
        self.value += amount
        return self.value

    def sleep_long(self) -> None:
        time.sleep(60)

    def fail(self) -> None:
        raise ArithmeticError("wrong on purpose")

    def close(self) -> None:
        self.value = -1


def collect(pool: ActorPool, count: int, timeout_s: float = 30) -> list:
    done, deadline = [], time.monotonic() + timeout_s
    while len(done) < count and time.monotonic() < deadline:
        done += pool.ready(0.05)
    return done


def test_local_worker_answers_in_this_process():
    pool = ActorPool(Counter, lambda index: (10,), 0, 0)
    assert pool.local is not None and pool.local.add(1) == 11
    assert pool.size == 0 and not pool.submit("add", 1)


def test_requests_are_bounded_and_all_answered(ray_session):
    pool = ActorPool(Counter, lambda index: (100 * index,), 2, 0, in_flight=2)
    accepted = [pool.submit("add", 1, tag=k) for k in range(6)]
    assert accepted == [True] * 4 + [False] * 2
    done = collect(pool, 4)
    assert sorted(d.tag for d in done) == [0, 1, 2, 3]
    assert sorted(d.result for d in done) == [1, 2, 101, 102]
    pool.close()


def test_killed_worker_is_replaced_and_its_requests_are_named(ray_session):
    starts = {0: 5}
    pool = ActorPool(Counter, lambda index: (starts[index],), 1, 0)
    assert pool.submit("add", 1) and collect(pool, 1)[0].result == 6
    starts[0] = 6
    (pid,) = pool.pids()
    pool.submit("sleep_long", tag="lost one")
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    lost = []
    while not lost and time.monotonic() < deadline:
        assert pool.ready(0.05) == []
        lost = pool.take_lost()
    assert lost == ["lost one"] and pool.deaths == 1
    while not pool.submit("add", 1):
        time.sleep(0.05)
    assert collect(pool, 1)[0].result == 7  # went on from where `build` said
    pool.close()


def test_an_error_in_a_worker_is_raised_here(ray_session):
    pool = ActorPool(Counter, lambda index: (0,), 1, 0)
    pool.submit("fail")
    with pytest.raises(ArithmeticError, match="wrong on purpose"):
        collect(pool, 1)
    pool.close()


def test_in_a_placement_group_every_worker_has_its_own_bundle(ray_session):
    """Else a small worker may take half of what is meant for a large one, which then never starts."""
    group = placement_group([{"CPU": 0.1}, {"CPU": 0.2}, {"CPU": 0.1}, {"CPU": 0.1}])
    place = PlacementGroupSchedulingStrategy(group, 0, placement_group_capture_child_tasks=True)

    @ray.remote(num_cpus=0.1, scheduling_strategy=place)
    def bundles() -> list[int]:
        pools = (
            ActorPool(Counter, lambda index: (0,), 2, 0.1, first_bundle=2),
            ActorPool(Counter, lambda index: (0,), 1, 0.2, first_bundle=1),
        )
        look = lambda _: list(getattr(worker.global_worker, "core_worker").resource_ids())  # noqa: B009, E731
        found = [ray.get(w.handle.__ray_call__.remote(look)) for pool in pools for w in pool._workers]
        for pool in pools:
            pool.close()
        return [int(next(m[1] for key in one if (m := re.match(r"CPU_group_(\d+)_", key)))) for one in found]

    try:
        assert ray.get(bundles.remote(), timeout=60) == [2, 3, 1]
    finally:
        remove_placement_group(group)
