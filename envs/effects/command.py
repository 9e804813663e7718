"""Effects on the effort a motor delivers. Times are in milliseconds, efforts in N or N m."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from envs.effects.base import CommandEffect

LONG = 1000  # substeps of a profile from which on a loop over them in Python is slow


class Delay(CommandEffect):
    """Commands arrive d ms late, held (zero-order) until the next; before the first the motors get nothing.

    Any d >= 0: a fraction of a substep mixes the two commands that share it, so that the impulse is exact. `rest`
    is the effort before the first command.
    """

    identity = (0.0,)

    def __init__(self, parameter: str, rest: float = 0.0) -> None:
        self.parameters, self._rest = (parameter,), rest

    def bind(self, n: int, width: int, substeps: int, period_s: float) -> None:
        super().bind(n, width, substeps, period_s)
        self._past = np.full((n, 1, width), self._rest)  # the efforts of the last substeps, newest last
        self._rows = np.arange(n)[:, None]

    def _prepare(self, mask: np.ndarray) -> None:
        late = self.values[:, 0] * 1e-3 / self.substep_s  # in substeps
        whole = np.floor(late).astype(np.int64)
        self._fraction = (late - whole)[:, None, None]
        self._past[mask] = self._rest
        missing = int(whole.max()) + 1 - self._past.shape[1]
        if missing > 0:
            self._past = np.concatenate([np.full((self.n, missing, self.width), self._rest), self._past], axis=1)
        kept = self._past.shape[1]
        self._index = kept - whole[:, None] + np.arange(-1, self.substeps)

    def _transform(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        timeline = np.concatenate([self._past, profile], axis=1)
        self._past = timeline[:, self.substeps :]
        window = timeline[self._rows, self._index]  # (n, 1 + substeps, u), one substep early
        late = window[:, :-1] - window[:, 1:]
        late *= self._fraction
        late += window[:, 1:]
        return late


class DeadBand(CommandEffect):
    """Efforts of no more than the given size do nothing."""

    identity = (0.0,)

    def __init__(self, parameter: str) -> None:
        self.parameters = (parameter,)

    def _prepare(self, mask: np.ndarray) -> None:
        self._size = self.values[:, :1, None]

    def _transform(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        return np.where(np.abs(profile) > self._size, profile, 0.0)


class Gain(CommandEffect):
    """A motor delivers a constant multiple of its command: one parameter for all motors, or one for each."""

    def __init__(self, *parameters: str) -> None:
        self.parameters, self.identity = parameters, (1.0,) * len(parameters)

    def _prepare(self, mask: np.ndarray) -> None:
        self._gain = self.values[:, None]

    def _transform(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        return profile * self._gain


class Offset(CommandEffect):
    """A constant effort is always there, N or N m: a motor with a zero error, or a cable that pulls."""

    identity = (0.0,)

    def __init__(self, parameter: str) -> None:
        self.parameters = (parameter,)

    def _prepare(self, mask: np.ndarray) -> None:
        self._offset = self.values[:, :1, None]

    def _transform(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        return profile + self._offset


class Lag(CommandEffect):
    """First-order motor: tau df/dt = u - f with tau in ms, from f = `rest` at the start of the episode.

    Solved exactly for a piecewise constant u; a substep gets the mean of f over it, so that the impulse is
    exact.
    """

    identity = (0.0,)

    def __init__(self, parameter: str, rest: float = 0.0) -> None:
        self.parameters, self._rest = (parameter,), rest

    def bind(self, n: int, width: int, substeps: int, period_s: float) -> None:
        super().bind(n, width, substeps, period_s)
        self._effort = np.full((n, width), self._rest)

    def _prepare(self, mask: np.ndarray) -> None:
        tau = self.values[:, :1] * 1e-3
        ratio = self.substep_s / np.where(tau > 0, tau, self.substep_s)
        self._decay = np.exp(-ratio)  # what is left of f - u after a substep
        self._mean = -np.expm1(-ratio) / ratio  # the mean of what is left over the substep
        self._effort[mask] = self._rest

    def _transform(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        if self.substeps > LONG:
            return self._filtered(profile)
        changed = np.empty_like(profile)
        effort = self._effort
        for s in range(self.substeps):
            target = profile[:, s]
            left = effort - target
            np.add(target, left * self._mean, out=changed[:, s])
            left *= self._decay
            left += target
            effort = left
        self._effort = effort
        return changed

    def _filtered(self, profile: np.ndarray) -> np.ndarray:
        """The same for a profile of very many substeps, such as a whole recording."""
        from scipy.signal import lfilter

        before = np.empty_like(profile)  # f at the start of each substep
        for i, decay in enumerate(self._decay[:, 0].tolist()):
            before[i, 0] = self._effort[i]
            after, _ = lfilter([1.0 - decay], [1.0, -decay], profile[i], axis=0, zi=decay * self._effort[i][None])
            before[i, 1:], self._effort[i] = after[:-1], after[-1]
        return profile + (before - profile) * self._mean[:, None]


class Noise(CommandEffect):
    """Gaussian error of the effort, one draw a control step; the parameter is its sd, N or N m."""

    identity = (0.0,)
    noisy = True

    def __init__(self, parameter: str) -> None:
        self.parameters = (parameter,)

    def _prepare(self, mask: np.ndarray) -> None:
        self._sd = self.values[:, :1]

    def _transform(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        assert noise is not None
        return profile + (noise * self._sd)[:, None]


class Dropped(CommandEffect):
    """A command gets lost with the probability given by the parameter, and the one before goes on.

    One draw a control step. Before the first command that arrives the motors get nothing.
    """

    identity = (0.0,)
    noisy = True

    def __init__(self, parameter: str) -> None:
        self.parameters = (parameter,)

    def bind(self, n: int, width: int, substeps: int, period_s: float) -> None:
        super().bind(n, width, substeps, period_s)
        self._last = np.zeros((n, width))

    def _prepare(self, mask: np.ndarray) -> None:
        self._last[mask] = 0.0
        self._threshold = ndtri(self.values[:, 0])

    def _transform(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        assert noise is not None
        lost = noise[:, 0] < self._threshold
        changed = np.where(lost[:, None, None], self._last[:, None], profile)
        self._last = changed[:, -1]
        return changed


class Backlash(CommandEffect):
    """Play between a commanded velocity and what moves; the parameter is its width, m or rad.

    What moves follows the commanded displacement within half the width on either side, starting in the middle,
    so after each reversal the whole width is crossed without motion.
    """

    identity = (0.0,)

    def __init__(self, parameter: str) -> None:
        self.parameters = (parameter,)

    def bind(self, n: int, width: int, substeps: int, period_s: float) -> None:
        super().bind(n, width, substeps, period_s)
        self._play = np.zeros((n, width))  # commanded minus actual displacement

    def _prepare(self, mask: np.ndarray) -> None:
        self._play[mask] = 0.0
        self._half = self.values[:, :1] / 2

    def _transform(self, profile: np.ndarray, noise: np.ndarray | None) -> np.ndarray:
        changed = np.empty_like(profile)
        play = self._play
        for s in range(self.substeps):
            moved = play + profile[:, s] * self.substep_s
            play = np.minimum(np.maximum(moved, -self._half), self._half)
            changed[:, s] = (moved - play) / self.substep_s
        self._play = play
        return changed
