"""A robot whose base flies: its six coordinates, its rotors, and the rotations between them.

A free base counts as six joints, `FREE_JOINTS`: position in the world frame (m) and roll, pitch, yaw (rad), turned
about the body's x last and about the world's z first. Their velocities are the linear velocity in the world frame
(m/s) and the body rates (rad/s), as a gyroscope has them; so the last three are no derivatives of the angles.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

FREE_JOINTS = ("x", "y", "z", "roll", "pitch", "yaw")
NEAREST_RADII = 0.5  # the ground effect's formula holds from this height on, in rotor radii


@dataclass(frozen=True)
class Rotors:
    """Commands are thrusts along the base's z axis, N, at `points` (m, base frame); a rotor only pushes.

    `reaction_m` is the torque about +z that each newton of a rotor's thrust brings. Near the ground a rotor gives
    1 / (1 - (r / 4 z)^2) of its thrust for radius r at height z (Cheeseman and Bennett 1955, ARC R&M 3021).
    """

    points: tuple[tuple[float, float, float], ...]
    reaction_m: tuple[float, ...]
    radius_m: float


class RotorForces:
    """The wrench of the rotors of n bodies; `ground` scales the ground effect, 1 as published."""

    def __init__(self, spec: Rotors, n: int) -> None:
        self._points, self._reaction = np.array(spec.points), np.array(spec.reaction_m)
        self._quarter_m = spec.radius_m / 4
        self._lowest_m = NEAREST_RADII * spec.radius_m
        self.offset = np.zeros((n, 3))  # of the centre of mass, m in the base frame
        self.ground = np.zeros(n)

    def wrench(self, thrust: np.ndarray, height: np.ndarray, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, 3) force N and torque N m about the centre of mass, world frame, of thrusts (n, u).

        `height` (n,) m and `rotation` (n, 3, 3) are the centre of mass's and the body's.
        """
        arms = self._points - self.offset[:, None]  # (n, u, 3)
        if self.ground.any():
            above = height[:, None] + np.einsum("nj,nuj->nu", rotation[:, 2], arms)
            near = self._quarter_m / np.maximum(above, self._lowest_m)
            thrust = thrust / (1.0 - np.minimum(self.ground[:, None] * near**2, 0.9))
        total = thrust.sum(axis=1)
        torque = np.stack(
            [
                (arms[:, :, 1] * thrust).sum(axis=1),
                -(arms[:, :, 0] * thrust).sum(axis=1),
                thrust @ self._reaction,
            ],
            axis=1,
        )
        return rotation[:, :, 2] * total[:, None], np.einsum("nij,nj->ni", rotation, torque)


def rotations(quaternion: np.ndarray) -> np.ndarray:
    """(n, 3, 3) rotation matrices, body to world, of unit quaternions (n, 4) xyzw."""
    x, y, z, w = quaternion.T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def angles(rotation: np.ndarray) -> np.ndarray:
    """(n, 3) roll, pitch, yaw in rad of rotation matrices; pitch in [-pi/2, pi/2], the others in [-pi, pi]."""
    roll = np.arctan2(rotation[:, 2, 1], rotation[:, 2, 2])
    pitch = -np.arcsin(np.clip(rotation[:, 2, 0], -1.0, 1.0))
    yaw = np.arctan2(rotation[:, 1, 0], rotation[:, 0, 0])
    return np.stack([roll, pitch, yaw], axis=1)


def quaternions(angle: np.ndarray) -> np.ndarray:
    """(n, 4) xyzw of roll, pitch, yaw (n, 3) in rad."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(angle / 2).T, np.sin(angle / 2).T
    parts = [
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    ]
    return np.stack(parts, axis=1)
