"""SimSampler: keeps simulation runners busy at the rate the learner consumes, and counts what they deliver."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.actors.pool import ActorPool
from pipeline.actors.sim_runner import Chunk, Randomization, SimRunner

SLACK_FRAGMENTS = 4  # runners may be this far ahead of the update-to-data ratio, so that neither side waits


class SimSampler:
    """Simulation runners, remote or (with `runners` = 0) in this process.

    `episodes` holds, for each world, the number of the next episode. With the seed it is the whole random state of
    the simulated side, so a replaced runner or a resumed run goes on with the same streams.
    """

    def __init__(
        self,
        task_name: str,
        *,
        runners: int,
        worlds: int,
        fragment_steps: int,
        seed: int,
        num_cpus: float,
        first_bundle: int = 0,
    ) -> None:
        self._worlds, self._fragment_steps = worlds, fragment_steps
        self._episodes = [np.zeros(worlds, np.int64) for _ in range(max(1, runners))]
        build = lambda i: (task_name, worlds, seed, i * worlds, self._episodes[i])  # noqa: E731
        self.pool = ActorPool(SimRunner, build, runners, num_cpus, first_bundle=first_bundle)
        self.env_steps = 0
        self.paused = False  # no new requests: a robot moves in real time on this machine
        self.ranges_version = -1  # of the newest data that arrived

    @property
    def is_local(self) -> bool:
        return self.pool.local is not None

    @property
    def fragment_rows(self) -> int:
        return self._worlds * self._fragment_steps

    def request(self, weights: Any, policy_version: int, randomization: Randomization, wanted_steps: float) -> None:
        """Ask remote runners for more while what is here and under way is below `wanted_steps`, plus some slack."""
        if self.paused:
            return
        limit = wanted_steps + SLACK_FRAGMENTS * self.fragment_rows
        while self.env_steps + len(self.pool.in_flight()) * self.fragment_rows < limit:
            if not self.pool.submit("sample", weights, policy_version, randomization, self._fragment_steps):
                return

    def collect(self, timeout_s: float = 0.0) -> list[Chunk]:
        """Chunks that remote runners have finished."""
        chunks = []
        for done in self.pool.ready(timeout_s):
            chunks.append(self._count(done.worker, done.result))
        self.pool.take_lost()  # transitions never delivered; the replacement runs those episodes again
        return chunks

    def sample(self, weights: Any, policy_version: int, randomization: Randomization) -> Chunk:
        """One fragment, sampled in this process."""
        assert self.pool.local is not None
        return self._count(0, self.pool.local.sample(weights, policy_version, randomization, self._fragment_steps))

    def begin_new_episodes(self) -> None:
        """Cut the running episodes of a local runner: what makes a checkpoint complete without world states."""
        if self.pool.local is not None:
            self.pool.local.restart_episodes(self._episodes[0])

    def get_state(self) -> dict[str, Any]:
        return {"episodes": [e.copy() for e in self._episodes], "env_steps": self.env_steps}

    def set_state(self, state: dict[str, Any]) -> None:
        """Continue counting where a checkpoint was; runners added since start at episode zero."""
        self.env_steps = state["env_steps"]
        for i, episodes in enumerate(state["episodes"][: len(self._episodes)]):
            self._episodes[i] = episodes.copy()
        if self.pool.local is not None:
            self.begin_new_episodes()
        else:
            self.pool.restart()

    def close(self) -> None:
        self.pool.close()

    def _count(self, worker: int, chunk: Chunk) -> Chunk:
        self.env_steps += len(chunk)
        self._episodes[worker] = chunk.next_episodes
        self.ranges_version = max(self.ranges_version, chunk.ranges_version)
        return chunk
