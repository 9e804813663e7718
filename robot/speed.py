"""The first episodes of a new run's policies go slower."""

from __future__ import annotations

import json
from pathlib import Path

from robot import durable
from robot.settings import ReducedSpeed


class SpeedBook:
    """Counts the episodes of each run in `path`, across restarts; a book that cannot be read counts anew."""

    def __init__(self, path: Path, settings: ReducedSpeed) -> None:
        self._path, self._settings = path, settings

    def scale(self, run: str) -> float:
        """What multiplies the velocity limits in the next episode of a policy of this run."""
        return self._settings.scale if self._read().get(run, 0) < self._settings.episodes else 1.0

    def count(self, run: str) -> None:
        """An episode of this run was flown."""
        counts = self._read()
        if counts.get(run, 0) < self._settings.episodes:
            counts[run] = counts.get(run, 0) + 1
            durable.write(self._path, json.dumps(counts).encode())

    def _read(self) -> dict[str, int]:
        if not self._path.exists():
            return {}
        try:
            return {str(run): int(count) for run, count in json.loads(self._path.read_text()).items()}
        except (ValueError, AttributeError, TypeError):
            return {}  # counting anew only means going slower
