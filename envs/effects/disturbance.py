"""Forces of the surroundings on bodies of a scene: pushes, and wind with the drag it acts through.

A disturbance draws its force once a control period, and it acts at the body's centre of mass for all of it. It is no
part of any real robot's command path.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

from envs.effects.base import Effect
from envs.task import State


class Disturbance(Effect):
    """A force on `body`, a link or free body of the scene, in each of n worlds."""

    body: str

    def bind(self, n: int, period_s: float) -> None:
        """Prepare for n worlds with this control period."""
        self.n, self.period_s = n, period_s
        self._bind_worlds(n)

    @abstractmethod
    def force(self, state: State, noise: np.ndarray | None) -> np.ndarray:
        """(n, 3) N, world frame, over the next period from the true `state`; zero in worlds at the identity."""


class Pushes(Disturbance):
    """Now and then a knock: a force of the given size for `lasts_s`, in a random direction along `axes`.

    The parameter is the size in N; `rate_s` is how often a knock begins, 1/s.
    """

    identity = (0.0,)
    noisy = True

    def __init__(self, parameter: str, body: str, axes: str, rate_s: float = 0.5, lasts_s: float = 0.2) -> None:
        self.parameters, self.body = (parameter,), body
        self._axes = ["xyz".index(axis) for axis in axes]
        self._rate_s, self._lasts_s = rate_s, lasts_s
        self.noise_columns = 1 + len(axes)

    def bind(self, n: int, period_s: float) -> None:
        super().bind(n, period_s)
        self._lasts = max(1, round(self._lasts_s / period_s))
        self._threshold = ndtri(-np.expm1(-self._rate_s * period_s))
        self._remaining = np.zeros(n, np.int64)  # periods
        self._direction = np.zeros((n, 3))

    def _prepare(self, mask: np.ndarray) -> None:
        self._remaining[mask] = 0

    def force(self, state: State, noise: np.ndarray | None) -> np.ndarray:
        assert noise is not None
        begins = (noise[:, 0] < self._threshold) & (self._remaining == 0)
        if begins.any():
            way = noise[begins, 1:]
            self._direction[np.ix_(begins, self._axes)] = way / np.linalg.norm(way, axis=1, keepdims=True)
        self._remaining = np.where(begins, self._lasts, self._remaining)
        size = self.values[:, 0] * (self._remaining > 0)
        self._remaining = np.maximum(self._remaining - 1, 0)
        return self._direction * size[:, None]


class Wind(Disturbance):
    """Drag in moving air: F = c (w - v), with the air's velocity w a horizontal mean plus turbulence.

    Parameters in order: c in N s/m, mean speed m/s, its direction rad from x, sd of each component of the turbulence
    m/s, its correlation time s. The turbulence is an Ornstein-Uhlenbeck process (Uhlenbeck and Ornstein 1930), which
    is the Dryden model's along-wind component (MIL-F-8785C, 3.7.2.2) for all three axes; it starts stationary.
    `velocity` gives the body's (n, 3) m/s out of a state.
    """

    noisy = True
    noise_columns = 3

    def __init__(self, parameters: tuple[str, str, str, str, str], body: str, velocity: Callable[[State], np.ndarray]):
        self.parameters, self.body, self._velocity = parameters, body, velocity
        self.identity = (0.0,) * 5

    def bind(self, n: int, period_s: float) -> None:
        super().bind(n, period_s)
        self._turbulence = np.zeros((n, 3))
        self._fresh = np.ones(n, bool)

    def _prepare(self, mask: np.ndarray) -> None:
        _, speed, direction, self._sd, correlation_s = self.values.T
        self._mean = np.stack([speed * np.cos(direction), speed * np.sin(direction), np.zeros(self.n)], axis=1)
        self._kept = np.exp(-self.period_s / np.where(correlation_s > 0, correlation_s, 1.0))
        self._fresh |= mask

    def force(self, state: State, noise: np.ndarray | None) -> np.ndarray:
        assert noise is not None
        kept = np.where(self._fresh, 0.0, self._kept)[:, None]
        drawn = noise * (self._sd * np.sqrt(1.0 - kept[:, 0] ** 2))[:, None]
        self._turbulence = self._turbulence * kept + drawn
        self._fresh[:] = False
        return self.values[:, :1] * (self._mean + self._turbulence - self._velocity(state))
