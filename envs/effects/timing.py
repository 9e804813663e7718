"""A control period that is not always of the same length."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.randomization.noise import NoiseAhead

LONGEST = 3.0  # times the nominal period


class PeriodJitter:
    """Each period lasts an exponentially distributed time longer than nominal (Peng et al. 2018).

    The parameter is the mean of that extra time in ms. Half the sum of two squared standard normals is such a
    draw; a period never lasts more than three times the nominal one.
    """

    def __init__(self, parameter: str, n: int, period_s: float) -> None:
        self._parameter, self._period_s = parameter, period_s
        self.noise = NoiseAhead(f"noise:{parameter}", n, 2, 0)

    def active(self, values: Mapping[str, np.ndarray]) -> bool:
        """Whether any world's period varies now."""
        return bool(values[self._parameter].any())

    def extra_s(self, slot: int, values: Mapping[str, np.ndarray]) -> np.ndarray | None:
        """(n,) extra time of the step that has this noise slot; None if all periods are nominal."""
        if not self.active(values):
            return None
        extra = 0.5e-3 * np.square(self.noise[slot]).sum(axis=1) * values[self._parameter]
        return np.minimum(extra, (LONGEST - 1.0) * self._period_s)
