"""Noise drawn for many control steps at once."""

from __future__ import annotations

import numpy as np

from envs.randomization.keyed import KeyedRandom, Stream

BLOCK_STEPS = 32  # a draw costs about as much for one step as for some; a reset draws all of them


class NoiseAhead:
    """Standard normals of some streams for n worlds, of the control step at which each world is.

    Draws are keyed by each world's own episode and step, so neither drawing ahead nor drawing other streams
    beside it changes a value. Slot k of the block holds what the worlds need k control steps after it began; a
    world that restarts in between gets the rest of its row drawn anew.

    `world`, `episode` and `step` are the (n,) numbers of all worlds, those that restart included.
    """

    def __init__(self) -> None:
        self._streams: tuple[Stream, ...] = ()
        self._columns: dict[Stream, slice] = {}
        self._slot = 0

    def __getitem__(self, stream: Stream) -> np.ndarray:
        """(n, size) normals of one of the streams."""
        return self._block[self._slot, :, self._columns[stream]]

    def begin(
        self,
        random: KeyedRandom,
        streams: tuple[Stream, ...],
        world: np.ndarray,
        episode: np.ndarray,
        step: np.ndarray,
        rows: np.ndarray,
    ) -> None:
        """The worlds `rows` begin an episode, and from now on it is `streams` that are asked for."""
        if streams != self._streams:
            ends = np.cumsum([size for _, size in streams]).tolist()
            self._columns = {one: slice(end - one[1], end) for one, end in zip(streams, ends, strict=True)}
            self._streams = streams
        elif len(rows) < len(world):
            if streams:
                ahead = np.arange(BLOCK_STEPS - self._slot)[:, None]
                self._block[self._slot :, rows] = random.normals(streams, world[rows], episode[rows], ahead)
            return
        self._draw(random, world, episode, step)

    def advance(self, random: KeyedRandom, world: np.ndarray, episode: np.ndarray, step: np.ndarray) -> None:
        """Go on to the next control step."""
        self._slot += 1
        if self._slot == BLOCK_STEPS:
            self._draw(random, world, episode, step)

    def _draw(self, random: KeyedRandom, world: np.ndarray, episode: np.ndarray, step: np.ndarray) -> None:
        self._slot = 0
        if self._streams:
            ahead = np.arange(BLOCK_STEPS)[:, None] + step
            self._block = random.normals(self._streams, world, episode, ahead)
