"""What the contenders of the learner benchmark have in common: their settings, and how they are driven."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True)
class Settings:
    """The same for every contender. Times are seconds of training; what it took to get ready comes on top."""

    seed: int = 0
    seconds: float = 180.0  # a contender that has not reached the target by then is stopped
    least_seconds: float = 10.0  # trained for at least so long, so that the rates mean something
    hidden: tuple[int, ...] = (64, 64)
    batch_size: int = 256
    learning_rate: float = 7e-4
    tau: float = 0.01
    gamma: float = 0.99
    worlds: int = 16
    updates_per_env_step: float = 0.25
    warmup_steps: int = 1000
    replay: int = 200_000
    target: float = 0.95  # success on the twin
    judge_every_s: float = 2.0
    judge_episodes: int = 40
    confirm_episodes: int = 100

    @property
    def updates_per_vector_step(self) -> int:
        return max(1, round(self.updates_per_env_step * self.worlds))


def start_ray(num_cpus: int) -> None:
    """Ray on this machine without dashboard or advice on migration; contenders without Ray never import it."""
    import ray

    quiet_ray()
    ray.init(
        address="local",
        num_cpus=max(num_cpus, os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=512 * 1024**2,
    )


def quiet_ray() -> None:
    for name in ("ray", "ray.rllib"):
        logging.getLogger(name).setLevel(logging.ERROR)


class Contender(Protocol):
    """A training loop that can be run for a while, looked at, and run on."""

    updates: int  # gradient steps taken
    env_steps: int  # control steps taken, of all worlds together
    meter: Meter  # around what the contender calls an update

    def train(self, seconds: float) -> None:
        """Train for about so long."""
        ...

    def export(self) -> bytes:
        """The present policy as the file that the robot flies."""
        ...

    def close(self) -> None: ...


class Meter:
    """Counts and times the calls of one method of an object, from now on."""

    def __init__(self, owner: Any, name: str) -> None:
        self.calls, self.seconds = 0, 0.0
        self.first_at: float | None = None  # perf_counter at the end of the first call
        inner: Callable[..., Any] = getattr(owner, name)

        def timed(*args: Any, **kwargs: Any) -> Any:
            begun = time.perf_counter()
            result = inner(*args, **kwargs)
            now = time.perf_counter()
            self.calls += 1
            self.seconds += now - begun
            self.first_at = self.first_at or now
            return result

        setattr(owner, name, timed)
