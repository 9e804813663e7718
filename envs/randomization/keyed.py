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


class KeyedRandom:
    """Vectorised draws keyed by (stream, world, episode, step); cheap to create, safe to share.

    `world`, `episode` and `step` are integers or integer arrays that broadcast to a shape S; a draw of `size`
    columns has shape S + (size,), usually (n, size).
    """

    def __init__(self, seed: int) -> None:
        self.seed = int(seed)
        self._stream_keys: dict[str, np.uint64] = {}
        self._columns: dict[int, np.ndarray] = {}

    def uniform(self, stream: str, world: Integers, episode: Integers, size: int, step: Integers = 0) -> np.ndarray:
        """Float64 uniforms in [0, 1) with 53 random bits."""
        bits = self._bits(stream, world, episode, size, step)
        bits >>= _11
        return bits * 2.0**-53

    def normal(self, stream: str, world: Integers, episode: Integers, size: int, step: Integers = 0) -> np.ndarray:
        """Float64 standard normals, by Box-Muller on the two halves of each hash (none lies beyond 6.8)."""
        bits = self._bits(stream, world, episode, size, step)
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

    def _bits(self, stream: str, world: Integers, episode: Integers, size: int, step: Integers) -> np.ndarray:
        key = self._stream_keys.get(stream)
        if key is None:
            digest = hashlib.blake2b(f"{self.seed}:{stream}".encode(), digest_size=8).digest()
            key = self._stream_keys[stream] = np.uint64(int.from_bytes(digest, "little"))
        columns = self._columns.get(size)
        if columns is None:
            columns = self._columns[size] = np.arange(size, dtype=np.uint64) * _COLUMN
        state = _unsigned(world) * _WORLD + _unsigned(episode) * _EPISODE
        state += key
        state = _mix(state)
        if isinstance(step, np.ndarray) or step:
            state = state + _unsigned(step) * _STEP
        return _mix(state[..., None] + columns)


def _unsigned(value: Integers) -> np.ndarray:
    """As an array of at least one dimension, whose arithmetic wraps silently modulo 2^64."""
    return np.atleast_1d(np.asarray(value)).astype(np.uint64)


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer, in place: every input bit flips every output bit with probability about 1/2."""
    x ^= x >> _30
    x *= _M1
    x ^= x >> _27
    x *= _M2
    x ^= x >> _31
    return x
