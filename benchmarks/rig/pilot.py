"""A policy in a few lines, without a network: it balances, until it is told to go wrong."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from envs.task import Task
from envs.tasks.cartpole import Cartpole

GAINS = (0.3, 4.0, 0.45, 0.75)  # action per m, rad, m/s, rad/s


class ShortCartpole(Cartpole):
    """Episodes of two seconds: a fault needs no more."""

    max_steps = 100


class Pilot:
    """Has the shape of an ExportedPolicy. From step `when` on, `wrong` makes its action out of the right one."""

    version, run = 1, "faults"

    def __init__(
        self, task: Task, when: int = -1, wrong: Callable[[np.ndarray], np.ndarray] | None = None, once: bool = False
    ) -> None:
        self._gains = np.array(GAINS) / task.frame_scale[:4]
        self._newest = task.policy_size - task.frame_size
        self._when, self._wrong, self._once, self._step = when, wrong, once, 0
        self.injected = False

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None, explore: float = 1.0) -> np.ndarray:
        step, self._step = self._step, self._step + 1
        state = observation[:, self._newest : self._newest + 4]
        action = np.tanh(state @ self._gains)[:, None].astype(np.float32)
        if self._wrong and (step == self._when if self._once else step >= self._when >= 0):
            self.injected = True
            return self._wrong(action)
        return action

    def check(self, task: Task) -> None:
        """Made for this task by construction."""


def wrongs(random: np.random.Generator) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """One randomized way of each kind to go wrong."""

    def not_finite(action: np.ndarray) -> np.ndarray:
        return np.full_like(action, random.choice([np.nan, np.inf, -np.inf]))

    def out_of_range(action: np.ndarray) -> np.ndarray:
        return (action * 0 + random.choice([-1, 1]) * 10 ** random.uniform(0.1, 30)).astype(np.float32)

    def dead(action: np.ndarray) -> np.ndarray:
        raise (ValueError, RuntimeError, MemoryError, ZeroDivisionError)[int(random.integers(4))]("the policy died")

    def late(action: np.ndarray) -> np.ndarray:
        time.sleep(float(random.uniform(0.15, 0.4)))
        return action

    def newtons(action: np.ndarray) -> np.ndarray:
        return action * 10 ** float(random.uniform(1, 4))

    return {"nan_action": not_finite, "out_of_range": out_of_range, "dead_policy": dead} | {
        "late_policy": late,
        "wrong_units": newtons,
    }
