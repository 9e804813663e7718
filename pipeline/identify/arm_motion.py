"""What an arm's joints did, out of noisy encoders: smooth positions, velocities and accelerations.

A spline through each joint's positions and velocities at once, weighted by their noise, and differentiated. It bends
slowly against the noise and quickly against the motion, so that what noise is left in the accelerations hardly bends a
regression on them (errors in variables). Torques, and all that is to explain them, then pass the same filter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.interpolate import BSpline
from scipy.linalg import solveh_banded
from scipy.signal import butter, sosfiltfilt
from scipy.sparse import csr_matrix, diags

DEGREE = 5
KNOTS_S = 0.06
CUT_HZ = 5.0  # what is kept of torques and of what explains them
EDGE_S = 0.4  # at either end, where neither spline nor filter is any good


@dataclass(frozen=True)
class Motion:
    """n rows of u joints, at the times of the recording."""

    position: np.ndarray  # (n, u) rad
    velocity: np.ndarray
    acceleration: np.ndarray
    position_noise: np.ndarray  # (u,) sd of the encoder
    velocity_noise: np.ndarray  # (u,) sd of the measured velocity


def smooth(time_s: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> Motion:
    """The motion behind (n, u) measured positions and velocities at rising times."""
    span = time_s[-1] - time_s[0]
    pieces = max(2, round(span / KNOTS_S))
    inner = np.linspace(time_s[0], time_s[-1], pieces + 1)
    knots = np.concatenate([[inner[0]] * DEGREE, inner, [inner[-1]] * DEGREE])
    design = [_derivative(time_s, knots, order) for order in range(3)]
    noise_q, noise_v = np.full(position.shape[1], 1e-3), np.full(position.shape[1], 1e-2)
    free = len(time_s) / (
        len(time_s) - (len(knots) - DEGREE - 1) / 2
    )  # each of two readings takes half of the unknowns
    out = np.empty((3, *position.shape))
    for _ in range(2):
        for j in range(position.shape[1]):
            weights = 1 / noise_q[j] ** 2, 1 / noise_v[j] ** 2
            normal = (design[0].T @ design[0]) * weights[0] + (design[1].T @ design[1]) * weights[1]
            right = design[0].T @ position[:, j] * weights[0] + design[1].T @ velocity[:, j] * weights[1]
            bands = np.zeros((DEGREE + 1, normal.shape[0]))
            for k in range(DEGREE + 1):
                diagonal = normal.diagonal(k)
                bands[DEGREE - k, k:] = diagonal
            bands[DEGREE] *= 1 + 1e-12
            coefficients = solveh_banded(bands, right)
            for order in range(3):
                out[order, :, j] = design[order] @ coefficients
        noise_q = np.sqrt(np.mean(np.square(position - out[0]), 0) * free) + 1e-9
        noise_v = np.sqrt(np.mean(np.square(velocity - out[1]), 0) * free) + 1e-9
    return Motion(out[0], out[1], out[2], noise_q, noise_v)


def low_pass(values: np.ndarray, rate_hz: float) -> np.ndarray:
    """(n, …) without what is faster than CUT_HZ, not shifted in time."""
    if CUT_HZ >= 0.45 * rate_hz:
        return values
    return sosfiltfilt(butter(3, CUT_HZ, fs=rate_hz, output="sos"), values, axis=0)


def _derivative(x: np.ndarray, knots: np.ndarray, order: int) -> csr_matrix:
    """(n, coefficients) that give a derivative of the spline at x."""
    matrix, degree, t = None, DEGREE, knots
    for _ in range(order):
        size = len(t) - degree - 1
        step = degree / (t[degree + 1 : degree + size] - t[1:size])
        differ = diags([-step, step], [0, 1], shape=(size - 1, size))  # pyright: ignore[reportArgumentType]
        matrix = differ if matrix is None else differ @ matrix
        t, degree = t[1:-1], degree - 1
    values = BSpline.design_matrix(np.clip(x, knots[0], knots[-1]), t, degree)
    return csr_matrix(values if matrix is None else values @ matrix)
