"""Replay of transitions as columns, and minibatches with an exact share of simulated rows.

Ball et al. 2023 (RLPD, arXiv:2302.02948) draw half of every batch from offline data; here the share of simulation is
any number, and exact in every minibatch, so that it is a controlled variable and not an expectation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

OBSERVATIONS = ("obs", "new_obs")
COLUMNS = (*OBSERVATIONS, "actions", "rewards", "terminateds")


class ColumnReplay:
    """A ring of the newest `capacity` transitions, one array a column, sampled uniformly with replacement.

    Columns (names as in RLlib): obs, new_obs (n, obs_size), actions (n, action_size), rewards (n,) float32 and
    terminateds (n,) bool.
    """

    def __init__(self, capacity: int, obs_size: int, action_size: int, seed: int):
        if capacity < 1:
            raise ValueError(f"The replay capacity is {capacity}; it must be at least 1.")
        self.capacity = capacity
        self.added = 0  # rows ever added
        self._next = 0  # where the next row goes
        self._size = 0
        self._random = np.random.default_rng(seed)
        self._columns = {
            "obs": np.zeros((capacity, obs_size), np.float32),
            "new_obs": np.zeros((capacity, obs_size), np.float32),
            "actions": np.zeros((capacity, action_size), np.float32),
            "rewards": np.zeros(capacity, np.float32),
            "terminateds": np.zeros(capacity, bool),
        }

    def __len__(self) -> int:
        return self._size

    def add(self, columns: Mapping[str, np.ndarray]) -> None:
        """Append rows, the oldest first. Observations may lack trailing columns, which are then zero."""
        rows = len(columns["rewards"])
        for name in COLUMNS:
            if len(columns[name]) != rows:
                raise ValueError(f"Column {name} has {len(columns[name])} rows; rewards has {rows}.")
        kept = min(rows, self.capacity)
        before_wrap = min(kept, self.capacity - self._next)
        for name in COLUMNS:
            new = np.asarray(columns[name])[rows - kept :]
            self._write(name, slice(self._next, self._next + before_wrap), new[:before_wrap])
            self._write(name, slice(0, kept - before_wrap), new[before_wrap:])
        self._next = (self._next + kept) % self.capacity
        self._size = min(self._size + kept, self.capacity)
        self.added += rows

    def draw(self, shape: int | tuple[int, ...]) -> np.ndarray:
        """Random row numbers, each row as likely as any other."""
        if self._size == 0:
            raise ValueError("The replay is empty; add transitions before sampling.")
        return self._random.integers(0, self._size, shape)

    def take(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Copies of these rows; the shape of `rows` leads in every column."""
        return {name: column.take(rows, axis=0) for name, column in self._columns.items()}

    def sample(self, count: int) -> dict[str, np.ndarray]:
        """`count` random rows."""
        return self.take(self.draw(count))

    def get_state(self) -> dict[str, Any]:
        """Everything, the random state included, as plain arrays and numbers."""
        return {
            "columns": {name: column[: self._size].copy() for name, column in self._columns.items()},
            "capacity": self.capacity,
            "next": self._next,
            "added": self.added,
            "random": self._random.bit_generator.state,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Restore. Into another capacity the newest rows that fit are kept, in their order."""
        columns, rows = state["columns"], len(state["columns"]["rewards"])
        for name in COLUMNS:
            if columns[name].shape[1:] != self._columns[name].shape[1:]:
                raise ValueError(
                    f"The saved replay column {name} has rows of shape {columns[name].shape[1:]}; this task's have"
                    f" {self._columns[name].shape[1:]}."
                )
        self._next = self._size = 0
        if state["capacity"] == self.capacity:
            self._size, self._next = rows, state["next"]
            for name in COLUMNS:
                self._columns[name][:rows] = columns[name]
        else:
            oldest_first = np.roll(np.arange(rows), -state["next"]) if rows == state["capacity"] else np.arange(rows)
            self.add({name: columns[name][oldest_first] for name in COLUMNS})
        self.added = state["added"]
        self._random.bit_generator.state = state["random"]

    def _write(self, name: str, rows: slice, values: np.ndarray) -> None:
        target = self._columns[name]
        if name in OBSERVATIONS:
            width = values.shape[1]
            target[rows, :width] = values
            target[rows, width:] = 0.0
        else:
            target[rows] = values.reshape(len(values), *target.shape[1:])


class MixedReplay:
    """Minibatches of which exactly `round(sim_ratio * batch_size)` rows are simulated and the rest real.

    A robot does not know the privileged columns: in real rows they are zero, the flag "known" with them. So that the
    critics learn to judge without them too, `privileged_dropout` of the simulated rows of every minibatch, rounded,
    have them zeroed alike.
    """

    def __init__(
        self,
        sim: ColumnReplay,
        real: ColumnReplay,
        batch_size: int,
        privileged: slice,
        privileged_dropout: float = 0.0,
    ):
        if not 0.0 <= privileged_dropout <= 1.0:
            raise ValueError(f"privileged_dropout is {privileged_dropout}; it must be between 0 and 1.")
        self.sim, self.real, self.batch_size = sim, real, batch_size
        self.privileged, self.privileged_dropout = privileged, privileged_dropout
        self.realised_ratio = float("nan")  # of the last minibatches
        self.dropped = 0

    def sample(self, updates: int, sim_ratio: float, min_real: int = 1) -> dict[str, np.ndarray]:
        """`updates` minibatches after each other: columns of `updates * batch_size` rows.

        While fewer than `min_real` real rows exist, all rows are simulated. `realised_ratio` then tells the share of
        simulated rows that each of these minibatches really has, and `dropped` how many of those were zeroed.
        """
        if not 0.0 <= sim_ratio <= 1.0:
            raise ValueError(f"sim_ratio is {sim_ratio}; it must be between 0 and 1.")
        size = self.batch_size
        simulated = round(sim_ratio * size) if len(self.real) >= max(min_real, 1) else size
        self.realised_ratio = simulated / size
        self.dropped = round(self.privileged_dropout * simulated)
        parts = [
            replay.take(replay.draw((updates, rows)))
            for replay, rows in ((self.sim, simulated), (self.real, size - simulated))
            if rows
        ]
        columns = parts[0]
        if len(parts) == 2:
            columns = {name: np.concatenate([part[name] for part in parts], axis=1) for name in COLUMNS}
        for name in OBSERVATIONS:  # rows are drawn independently, so the first ones are as random as any
            columns[name][:, : self.dropped, self.privileged] = 0.0
            columns[name][:, simulated:, self.privileged] = 0.0
        return {name: column.reshape(updates * size, *column.shape[2:]) for name, column in columns.items()}

    def get_state(self) -> dict[str, Any]:
        """What the last minibatches were made of; the two rings are saved by whoever owns them."""
        return {"realised_ratio": self.realised_ratio, "dropped": self.dropped}

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.realised_ratio, self.dropped = state["realised_ratio"], state["dropped"]
