"""Kalman filtering of errors: it turns what a model mispredicts into independent numbers of variance one.

A robot is pushed by forces nobody commanded and read by noisy sensors. Differences between a simulation and a recording
therefore add up and are far from independent; least squares on them weighs everything wrongly. The filter, linear
around the simulated motion, says which part of a difference is new at each row (the innovation), and how large it
should be (Ljung 1999, System Identification, ch. 7: prediction-error methods; Åström 1980, Automatica 16:551).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LONG = 5.5  # length of a whitened innovation beyond which it counts linearly (Huber), for m = 4 about 1 in 10^5


@dataclass(frozen=True)
class Linear:
    """The motion around which errors are linear, for W windows of T steps and m = 2j measured values."""

    transition: np.ndarray  # (W, T, m, m)
    push: np.ndarray  # (W, T, m, u) what an effort that acts all through the step does
    innovation: np.ndarray  # (W, T, m) measured less predicted, under these gains
    gain: np.ndarray  # (W, T, m, m)
    valid: np.ndarray  # (W, T)
    sliding: tuple[int, ...] = ()  # which measured values are velocities of joints with Coulomb friction


@dataclass(frozen=True)
class Gains:
    """What corrects a simulation after each row, and what makes its innovations independent with variance one."""

    gain: np.ndarray  # (W, T, m, m); zero where there is no row
    whiten: np.ndarray  # (W, T, m, m); zero where there is no row
    spread: np.ndarray  # (W, T, len(sliding), m + u + 1), see `sliding_spread`


@dataclass(frozen=True)
class Noise:
    """Standard deviations: of each measured value (m,), and of an unknown effort in each step (u,), SI."""

    sensor: np.ndarray
    effort: np.ndarray

    @property
    def logs(self) -> np.ndarray:
        return np.log(np.concatenate([self.sensor, self.effort]))

    @classmethod
    def from_logs(cls, logs: np.ndarray, measured: int) -> Noise:
        sd = np.exp(logs)
        return cls(sd[:measured], sd[measured:])


def update(before: np.ndarray, sensor: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(S, gain, covariance after) of a measurement of everything, from the covariance before, (..., m, m)."""
    spread = before + sensor
    gain = np.swapaxes(np.linalg.solve(spread, before), -1, -2)
    after = before - gain @ before
    return spread, gain, (after + np.swapaxes(after, -1, -2)) / 2


def sliding_spread(covariance: np.ndarray, push: np.ndarray, noise: Noise, sliding: tuple[int, ...]) -> np.ndarray:
    """(..., s, m + u + 1): how state and effort go with the velocity of a sliding joint in the middle of a step.

    For each, the change of the state (m) and of the unknown effort (u) that one sd of that velocity brings, and that
    sd. Where it may have either sign, Coulomb friction does on the average less than at the mean.
    """
    rows = list(sliding)
    half = push[..., rows, :] / 2  # (..., s, u)
    effort = half * noise.effort**2
    state = covariance[..., rows, :]
    sd = np.sqrt(covariance[..., rows, rows] + (half * effort).sum(-1))[..., None]
    sd = np.maximum(sd, 1e-12)
    return np.concatenate([state / sd, effort / sd, sd], axis=-1)


def gains(linear: Linear, noise: Noise) -> Gains:
    """The filter's gains and whitening for this noise."""
    size = len(noise.sensor)
    sensor, effort = np.diag(noise.sensor**2), np.diag(noise.effort**2)
    covariance = np.tile(sensor, (len(linear.valid), 1, 1))
    gain, whiten = np.zeros_like(linear.gain), np.zeros_like(linear.gain)
    spread_of = np.zeros((*linear.valid.shape, len(linear.sliding), size + len(noise.effort) + 1))
    eye = np.eye(size)
    for k in range(linear.valid.shape[1]):
        a, b = linear.transition[:, k], linear.push[:, k]
        spread_of[:, k] = sliding_spread(covariance, b, noise, linear.sliding)
        before = a @ covariance @ np.swapaxes(a, -1, -2) + b @ effort @ np.swapaxes(b, -1, -2)
        spread, now, covariance = update(before, sensor)
        rows = linear.valid[:, k, None, None]
        gain[:, k] = np.where(rows, now, 0.0)
        whiten[:, k] = np.where(rows, np.linalg.solve(np.linalg.cholesky(spread), eye), 0.0)
    return Gains(gain, whiten, spread_of)


def _misfit(linear: Linear, logs: np.ndarray) -> np.ndarray:
    """(N, W) minus twice the log likelihood for N settings of the noise (N, m + u), up to a constant."""
    size = linear.gain.shape[-1]
    variance = np.exp(2 * logs)[:, None]  # (N, 1, m + u)
    eye = np.eye(size)
    sensor, effort = variance[..., :size, None] * eye, variance[..., size:]
    covariance = np.broadcast_to(sensor, (len(logs), len(linear.valid), size, size))
    behind = np.zeros((len(logs), len(linear.valid), size, 1))  # of the state under these gains to that of `linear`
    total = np.zeros((len(logs), len(linear.valid)))
    for k in range(linear.valid.shape[1]):
        a, b = linear.transition[:, k], linear.push[:, k]
        before = a @ covariance @ np.swapaxes(a, -1, -2) + (b * effort[:, :, None]) @ np.swapaxes(b, -1, -2)
        behind = a @ behind
        old = linear.innovation[:, k, :, None]
        new = old - behind
        spread, gain, covariance = update(before, sensor)
        behind = behind + gain @ new - linear.gain[:, k] @ old
        root = np.linalg.cholesky(spread)
        square = np.square(np.linalg.solve(root, new)).sum((-1, -2))
        length = np.where(square > LONG**2, 2 * LONG * np.sqrt(square) - LONG**2, square)
        size_of = 2 * np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(-1)
        total += (size_of + length) * linear.valid[:, k]
    return total


def log_likelihood(linear: Linear, noise: Noise) -> float:
    """Of everything that was measured, given what came before, in nats; rows far out count as in `fit_noise`."""
    rows = float(linear.valid.sum()) * len(noise.sensor)
    return -0.5 * (float(_misfit(linear, noise.logs[None]).sum()) + rows * np.log(2 * np.pi))


def fit_noise(linear: Linear, start: Noise, exact: bool = True) -> tuple[Noise, np.ndarray]:
    """The most likely noise, and the covariance (m + u, m + u) of its logarithms; not `exact` is a first guess.

    The covariance is the larger of the likelihood's own and the sandwich over windows (White 1982, Econometrica 50:1),
    which holds where the noise is not quite as assumed.
    """
    from scipy.optimize import minimize  # only now: a crew's other processes need no optimiser

    size, step = len(start.sensor), 1e-3

    def each(logs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = _misfit(linear, np.concatenate([logs[None], logs + step * np.eye(len(logs))]))
        return found[0], (found[1:] - found[0]) / step

    def whole(logs: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = each(logs)
        return float(value.sum()), slope.sum(-1)

    low = start.logs - 4.0
    found = minimize(
        whole,
        start.logs,
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(low, start.logs + 4.0, strict=True)),
        options={"maxiter": 20 if exact else 8, "ftol": 1e-6 if exact else 1e-4},
    ).x
    if not exact:
        return Noise.from_logs(found, size), np.eye(len(found))
    slope = each(found)[1] / 2
    hessian = np.stack([whole(found + 0.05 * row)[1] / 2 - slope.sum(-1) for row in np.eye(len(found))]) / 0.05
    values, vectors = np.linalg.eigh((hessian + hessian.T) / 2)
    own = (vectors / np.maximum(values, 1.0)) @ vectors.T  # no log sd is known worse than to ±1
    slope = slope - slope.mean(-1, keepdims=True)
    count = slope.shape[-1]
    sandwich = own @ slope @ slope.T @ own * count / max(count - len(found), 1)
    wider = np.sqrt(np.maximum(np.diag(sandwich) / np.diag(own), 1.0))
    return Noise.from_logs(found, size), own * np.outer(wider, wider)
