"""The last few frames as one observation; one class for simulation and robot alike."""

from __future__ import annotations

import numpy as np


class HistoryStack:
    """Keeps the last `frames` frames of n worlds. Arrays it returns are never changed afterwards."""

    def __init__(self, n: int, frames: int, size: int) -> None:
        self._frames, self._size = frames, size
        self.value = np.zeros((n, frames * size), np.float32)  # oldest frame first

    def reset(self, mask: np.ndarray, frame: np.ndarray) -> np.ndarray:
        """Fill the whole history of the worlds in `mask` (n,) with their rows of `frame` (n, size)."""
        value = self.value.copy()
        value.reshape(len(value), self._frames, self._size)[mask] = frame[mask][:, None]
        self.value = value
        return value

    def push(self, frame: np.ndarray) -> np.ndarray:
        """Append `frame` (n, size), drop the oldest, and return (n, frames * size)."""
        value = np.empty_like(self.value)
        value[:, : -self._size] = self.value[:, self._size :]
        value[:, -self._size :] = frame
        self.value = value
        return value
