"""The World contract: what turns commands into states, be it an engine or a robot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from envs.task import State


class WorldError(RuntimeError):
    """A world that cannot be made or stepped; the message says what was wanted and what is there."""


class World(Protocol):
    """n worlds that advance together by one control period a step."""

    n: int
    substeps: int  # how finely a command may vary within a control period

    def reset(self, mask: np.ndarray, state: State, parameters: np.ndarray) -> None:
        """Put the worlds of `mask` (n,) into their rows of `state`, with those of `parameters` (n, d)."""
        ...

    def step(
        self,
        profile: np.ndarray,
        extra_s: np.ndarray | None = None,
        forces: Mapping[str, np.ndarray] | None = None,
    ) -> State:
        """Advance one control period under commands (n, substeps, u) in SI units, and return the true state.

        `extra_s` (n,) is by how much longer it lasts, where a task lets that vary; `forces` (n, 3) N in the world
        frame act meanwhile at the centres of mass of the links or bodies they are named after.
        """
        ...

    def close(self) -> None:
        """Release everything; safe to call twice."""
        ...
