"""Stateless randomness: every draw is a function of what it is for, never of what was drawn before it.

A value is a 64-bit hash of (seed, stream, world, episode, step, column), so results do not depend on how many
workers there are, in what order worlds reset, or whether a worker was restarted. There is no state to save.
Two rounds of SplitMix64's finalizer (Steele, Lea & Flood 2014) hash first (world, episode), then (step,
column); within a round the two numbers are told apart by odd 64-bit multipliers without a short linear
relation.
"""

from __future__ import annotations

import hashlib

import numpy as np

_WORLD, _EPISODE = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD1B54A32D192ED03)
_STEP, _COLUMN = np.uint64(0xABC98388FB8FAC03), np.uint64(0x8CB92BA72F3D8DD7)
_M1, _M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_11, _27, _30, _31, _32 = (np.uint64(bits) for bits in (11, 27, 30, 31, 32))
_LOW_32 = np.uint64(0xFFFFFFFF)
_TWO_PI_32 = 2.0 * np.pi / 2.0**32

Integers = np.ndarray | int
Stream = tuple[str, int]  # its name, and how many columns are drawn of it


class KeyedRandom:
    """Vectorised draws keyed by (stream, world, episode, step); cheap to create, safe to share.

    `world`, `episode` and `step` are integers or integer arrays that broadcast to a shape S; a draw of `size`
    columns has shape S + (size,), usually (n, size).
    """

    def __init__(self, seed: int) -> None:
        self.seed = int(seed)
        self._layouts: dict[tuple[Stream, ...], tuple[np.ndarray, np.ndarray]] = {}

    def uniform(self, stream: str, world: Integers, episode: Integers, size: int, step: Integers = 0) -> np.ndarray:
        """Float64 uniforms in [0, 1) with 53 random bits."""
        bits = self._bits(((stream, size),), world, episode, step)
        bits >>= _11
        return bits * 2.0**-53

    def normal(self, stream: str, world: Integers, episode: Integers, size: int, step: Integers = 0) -> np.ndarray:
        """Float64 standard normals, by Box-Muller on the two halves of each hash (none lies beyond 6.8)."""
        return self.normals(((stream, size),), world, episode, step)

    def normals(
        self, streams: tuple[Stream, ...], world: Integers, episode: Integers, step: Integers = 0
    ) -> np.ndarray:
        """What `normal` draws of each stream, side by side, for about the price of one."""
        bits = self._bits(streams, world, episode, step)
        radius = (bits >> _32) * 2.0**-32
        radius += 2.0**-33  # in (0, 1)
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        bits &= _LOW_32
        angle = bits * _TWO_PI_32
        np.cos(angle, out=angle)
        radius *= angle
        return radius

    def _bits(self, streams: tuple[Stream, ...], world: Integers, episode: Integers, step: Integers) -> np.ndarray:
        layout = self._layouts.get(streams)
        if layout is None:
            layout = self._layouts[streams] = self._layout(streams)
        keys, columns = layout
        state = _mix((_unsigned(world) * _WORLD + _unsigned(episode) * _EPISODE)[..., None] + keys)
        if isinstance(step, np.ndarray) or step:
            state = state + _unsigned(step)[..., None] * _STEP
        return _mix(state + columns)

    def _layout(self, streams: tuple[Stream, ...]) -> tuple[np.ndarray, np.ndarray]:
        """The key of each column's stream (one for all of a single stream), and what tells it from its neighbours."""
        digests = [hashlib.blake2b(f"{self.seed}:{name}".encode(), digest_size=8).digest() for name, _ in streams]
        keys = np.array([int.from_bytes(digest, "little") for digest in digests], np.uint64)
        sizes = [size for _, size in streams]
        columns = np.concatenate([np.arange(size, dtype=np.uint64) * _COLUMN for size in sizes])
        return keys if len(streams) == 1 else np.repeat(keys, sizes), columns


def _unsigned(value: Integers) -> np.ndarray:
    """As an array of at least one dimension, whose arithmetic wraps silently modulo 2^64."""
    if isinstance(value, np.ndarray) and value.dtype == np.int64 and value.ndim:
        return value.view(np.uint64)
    return np.atleast_1d(value).astype(np.uint64)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer, in place: every input bit flips every output bit with probability about 1/2."""
    x ^= x >> _30
    x *= _M1
    x ^= x >> _27
    x *= _M2
    x ^= x >> _31
    return x
