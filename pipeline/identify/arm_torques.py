"""Masses, motor inertias and frictions of an arm from measured torques, by linear regression.

    torque_i = sum_k scale_k ID_k,i(q, q', q'') + inertia_i q''_i + viscous_i q'_i + Coulomb_i sign(q'_i) + offset_i

ID_k is what the bodies of group k ask for as the maker's file has them (`envs.inverse_dynamics`), gravity known.
Rows in which a joint hardly moves are left out of its own equation: the sign of its friction is not known there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from envs.inverse_dynamics import ArmDynamics
from pipeline.identify.arm_motion import EDGE_S, Motion, low_pass
from robot.response import widening

OWN = ("armature_kg_m2", "viscous_nm_s", "coulomb_nm", "offset_nm")  # of each joint
KEPT_HZ = 20.0  # rows a second that are kept behind the filter
OUTLIER = 3.0  # residuals beyond so many sds count linearly
# Where a joint hardly moves it sticks or creeps, and its friction is no Coulomb friction. Slow is what is below so many
# rad/s or, where a joint moves less than that all the time, such a share of its rms velocity; and what noise may be.
SLOW_RAD_S, SLOW_OF_RMS, SLOW_SDS = 0.05, 0.3, 5.0
SLOW_SHARE = 0.1  # of the filter's weight that may lie on such rows
ROUNDS = 6


@dataclass(frozen=True)
class Groups:
    """Which unknown scales which bodies; what is left is known."""

    names: tuple[str, ...]  # the unknown factors or masses, in the order of their columns
    links: tuple[tuple[tuple[str, float], ...], ...]  # (link, factor) of each; () is the payload
    known: tuple[tuple[str, float], ...] = ()
    payload_link: str = ""
    payload_kg: float = 0.0  # if it is known


@dataclass(frozen=True)
class TorqueFit:
    """The coefficients: those of `Groups.names`, then OWN of each joint, one joint after the other."""

    coefficients: np.ndarray  # (P,)
    draws: np.ndarray  # (b, P) bootstrap
    noise_nm: np.ndarray  # (u,) sd of what is left
    rows: int
    measured: tuple[np.ndarray, ...]  # for each piece (n, u) filtered
    predicted: tuple[np.ndarray, ...]

    def own(self, joint: int, name: str) -> int:
        """Which coefficient is a joint's own `name`."""
        shared = len(self.coefficients) - len(OWN) * len(self.noise_nm)
        return shared + len(OWN) * joint + OWN.index(name)


@dataclass(frozen=True)
class Piece:
    """A stretch without a gap."""

    time_s: np.ndarray  # (n,)
    motion: Motion
    torque: np.ndarray  # (n, u)


def fit_torques(
    dynamics: ArmDynamics,
    groups: Groups,
    pieces: Sequence[Piece],
    blocks: np.ndarray,
    weights: np.ndarray,
    gravity_m_s2: float,
) -> TorqueFit:
    """`blocks` (rows of all pieces,) and `weights` (b, blocks) as for `robot.response.fit_response`."""
    designs, targets, wholes, keeps, marks = [], [], [], [], []
    first = 0
    for piece in pieces:
        design, target, slow = _equations(dynamics, groups, piece, gravity_m_s2)
        rate = 1.0 / float(np.median(np.diff(piece.time_s)))
        step = max(1, round(rate / KEPT_HZ))
        inside = (piece.time_s - piece.time_s[0] >= EDGE_S) & (piece.time_s[-1] - piece.time_s >= EDGE_S)
        kept = np.flatnonzero(inside & (np.arange(len(piece.time_s)) % step == 0))
        wholes.append((design, target))
        designs.append(design[kept])
        targets.append(target[kept])
        keeps.append(~slow[kept])
        marks.append(blocks[first + kept])
        first += len(piece.time_s)
    design, target, keep = np.concatenate(designs), np.concatenate(targets), np.concatenate(keeps)
    mark = np.concatenate(marks)
    x, noise, weight = _robust(design, target, keep)
    rooted = np.sqrt(weight) / noise  # (n, u), 0 where a row is left out
    a, y = design * rooted[..., None], target * rooted
    count, size = weights.shape[1], design.shape[-1]
    information, pull = np.zeros((count, size, size)), np.zeros((count, size))
    for k in range(count):
        mine = mark == k
        information[k] = np.einsum("nua,nub->ab", a[mine], a[mine])
        pull[k] = np.einsum("nua,nu->a", a[mine], y[mine] - a[mine] @ x)
    ridge = np.diag(1e-9 * np.diag(information.sum(0)) + 1e-12)
    drawn = np.linalg.solve(np.tensordot(weights, information, 1) + ridge, (weights @ pull)[..., None])[..., 0]
    return TorqueFit(
        coefficients=x,
        draws=x + widening(count) * drawn,
        noise_nm=noise,
        rows=int(keep.sum()),
        measured=tuple(whole[1] for whole in wholes),
        predicted=tuple(whole[0] @ x for whole in wholes),
    )


def _equations(
    dynamics: ArmDynamics, groups: Groups, piece: Piece, gravity_m_s2: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(n, u, P), (n, u) and the rows of each joint (n, u) bool in which it was too slow."""
    motion = piece.motion
    q, v, a = motion.position, motion.velocity, motion.acceleration
    links = dict(zip(dynamics.links, dynamics.torques(q, v, a, gravity_m_s2), strict=True))
    payload = dynamics.payload(groups.payload_link, q, v, a, gravity_m_s2) if groups.payload_link else 0.0
    target = piece.torque - sum((factor * links[link] for link, factor in groups.known), np.zeros_like(q))
    target = target - groups.payload_kg * payload
    n, u = q.shape
    shared = len(groups.names)
    design = np.zeros((n, u, shared + len(OWN) * u))
    for k, members in enumerate(groups.links):
        design[:, :, k] = sum((factor * links[link] for link, factor in members), 0.0) if members else payload
    least = np.minimum(SLOW_RAD_S, SLOW_OF_RMS * np.sqrt(np.mean(np.square(v), 0)))
    least = np.maximum(SLOW_SDS * _spread(motion, piece.time_s), least)
    slow = np.abs(v) < least
    for j in range(u):
        at = shared + len(OWN) * j
        design[:, j, at], design[:, j, at + 1], design[:, j, at + 3] = a[:, j], v[:, j], 1.0
        design[:, j, at + 2] = np.clip(v[:, j] / least[j], -1.0, 1.0)
    rate = 1.0 / float(np.median(np.diff(piece.time_s)))
    filtered = low_pass(np.concatenate([design.reshape(n, -1), target, slow], axis=1), rate)
    return filtered[:, : -2 * u].reshape(design.shape), filtered[:, -2 * u : -u], filtered[:, -u:] > SLOW_SHARE


def _spread(motion: Motion, time_s: np.ndarray) -> np.ndarray:
    """(u,) sd of the smoothed velocity: of a reading, over as many as there are between two knots."""
    from pipeline.identify.arm_motion import KNOTS_S

    readings = max(1.0, KNOTS_S / float(np.median(np.diff(time_s))))
    return motion.velocity_noise / np.sqrt(readings)


def _robust(design: np.ndarray, target: np.ndarray, keep: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Coefficients, sd of each joint's residuals, and weights (n, u), by reweighting (Huber)."""
    weight, noise = keep.astype(float), np.ones(target.shape[1])
    x = np.zeros(design.shape[-1])
    for _ in range(ROUNDS):
        rooted = np.sqrt(weight) / noise
        a, y = (design * rooted[..., None]).reshape(-1, design.shape[-1]), (target * rooted).ravel()
        size = np.linalg.norm(a, axis=0)
        size = np.where(size > 0, size, 1.0)
        x = np.linalg.lstsq(a / size, y, rcond=1e-9)[0] / size
        left = target - design @ x
        for j in range(len(noise)):
            mine = left[keep[:, j], j]
            noise[j] = max(1.4826 * float(np.median(np.abs(mine))) if len(mine) else 1.0, 1e-6)
        weight = keep * np.minimum(1.0, OUTLIER * noise / np.maximum(np.abs(left), 1e-12))
    return x, noise, weight
