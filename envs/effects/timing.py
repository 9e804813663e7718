"""A control period that is not always of the same length."""

from __future__ import annotations

import numpy as np

from envs.effects.base import Effect

LONGEST = 3.0  # times the nominal period


class PeriodJitter(Effect):
    """Each period lasts an exponentially distributed time longer than nominal (Peng et al. 2018).

    The parameter is the mean of that extra time in ms. Half the sum of two squared standard normals is such a
    draw; a period never lasts more than three times the nominal one.
    """

    identity = (0.0,)
    noisy = True
    noise_columns = 2

    def __init__(self, parameter: str, n: int, period_s: float) -> None:
        self.parameters, self._period_s = (parameter,), period_s
        self._bind_worlds(n)

    def extra_s(self, noise: np.ndarray) -> np.ndarray:
        """(n,) extra time of a step, from (n, 2) standard normals."""
        extra = 0.5e-3 * np.square(noise).sum(axis=1) * self.values[:, 0]
        return np.minimum(extra, (LONGEST - 1.0) * self._period_s)
