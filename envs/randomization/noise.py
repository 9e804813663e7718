"""Noise drawn for many control steps at once."""

from __future__ import annotations

import numpy as np

from envs.randomization.keyed import KeyedRandom

BLOCK_STEPS = 64  # a draw costs about as much for one step as for this many


class NoiseAhead:
    """Standard normals of one stream for n worlds, `width` columns a step.

    Draws are keyed by each world's own episode and step, so drawing ahead changes no value. Slot k of the
    block holds what the worlds need k control steps after the block began; a world that restarts in between
    gets the rest of its row drawn anew. `first_step` is the step number that belongs to the first slot of a
    new episode.
    """

    def __init__(self, stream: str, n: int, width: int, first_step: int) -> None:
        self._stream = stream
        self._first = first_step
        self._width = width
        self._block = np.zeros((BLOCK_STEPS, n, width))

    def __getitem__(self, slot: int) -> np.ndarray:
        """(n, width) normals of one slot."""
        return self._block[slot]

    def refill(self, random: KeyedRandom, world: np.ndarray, episode: np.ndarray, steps: np.ndarray) -> None:
        """Draw a whole block for all worlds; `steps` is how many control steps each has made."""
        ahead = np.arange(self._first, self._first + BLOCK_STEPS)[:, None] + steps
        self._block = random.normal(self._stream, world, episode, self._width, ahead)

    def restart(
        self, random: KeyedRandom, world: np.ndarray, episode: np.ndarray, rows: np.ndarray, slot: int
    ) -> np.ndarray:
        """Draw from `slot` to the block's end for worlds that begin an episode.

        Returns the (first_step, k, width) draws that come before the first slot.
        """
        ahead = np.arange(self._first + BLOCK_STEPS - slot)[:, None]
        draws = random.normal(self._stream, world, episode, self._width, ahead)
        self._block[slot:, rows] = draws[self._first :]
        return draws[: self._first]
