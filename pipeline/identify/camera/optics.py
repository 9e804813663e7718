"""Focal lengths, centre and distortion of a camera from views of a checkerboard, with intervals.

The model is OpenCV's (Zhang 2000, IEEE PAMI 22:1330, with Brown's distortion); k3 is fitted only where the views tell
it. Corners of one picture share its errors (a board that is not flat, blur), so intervals come from how much the
pictures disagree (a sandwich estimate by picture), and are never narrower than independent corners would give.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import chi2, t

from pipeline.identify.camera.board import Board, View, opencv
from robot.interface import RobotError

NAMES = ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3")
UNITS = dict.fromkeys(NAMES[:4], "px") | dict.fromkeys(NAMES[4:], "1")
LEAST_VIEWS = 6
OUTLIER, OUTLIER_PX = 3.0, 0.3  # times the median error of all pictures, and at least so much more
TELLS_K3 = 0.001  # chance that an improvement so large comes without k3
LEAST_TOLD = 0.03  # of the focal length: with a wider interval it was not told


@dataclass(frozen=True)
class Optics:
    """`value` (9,) and its `covariance` (9, 9) in the order of NAMES; k3 is 0 ± 0 where it was not fitted."""

    size: tuple[int, int]  # width, height, px
    value: np.ndarray
    covariance: np.ndarray
    views: tuple[View, ...]
    rotation: np.ndarray  # (v, 3) Rodrigues vectors, board to camera
    translation_m: np.ndarray  # (v, 3)
    residual_px: np.ndarray  # (v, corners, 2) found less predicted

    @property
    def sd(self) -> np.ndarray:
        return np.sqrt(np.diag(self.covariance))

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3)"""
        return matrix_of(self.value)

    @property
    def distortion(self) -> np.ndarray:
        """(5,) k1, k2, p1, p2, k3"""
        return self.value[4:].copy()

    @property
    def interval(self) -> np.ndarray:
        """(9, 2) 95 %"""
        wide = t.ppf(0.975, len(self.views) - 1) * self.sd
        return np.stack([self.value - wide, self.value + wide], 1)

    @property
    def rms_px(self) -> float:
        return float(np.sqrt(np.square(self.residual_px).sum(-1).mean()))

    @property
    def view_rms_px(self) -> np.ndarray:
        """(v,)"""
        return np.sqrt(np.square(self.residual_px).sum(-1).mean(1))

    @property
    def tilt_deg(self) -> np.ndarray:
        """(v, 2) of each board about the camera's vertical and horizontal axis; 0 when it faces the camera."""
        cv2 = opencv()
        normal = np.array([cv2.Rodrigues(r)[0][:, 2] for r in self.rotation])
        return np.degrees(np.arcsin(np.clip(normal[:, :2], -1, 1)))


def matrix_of(value: np.ndarray) -> np.ndarray:
    """(3, 3) of fx, fy, cx, cy"""
    fx, fy, cx, cy = value[:4]
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])


def calibrate(views: Sequence[View], board: Board) -> tuple[Optics, list[str]]:
    """The optics, and sentences on views left out because all others contradict them.

    Raises RobotError where the views are too few or too alike.
    """
    if len(views) < LEAST_VIEWS:
        raise RobotError(
            f"images: {len(views)} can be used, and at least {LEAST_VIEWS} are needed, better 15: "
            "the board at different places of the picture, near and far, tilted by 20 to 45 degrees each way"
        )
    found, refused = _fit(views, board), []
    error = found.view_rms_px
    odd = (error > OUTLIER * np.median(error)) & (error > np.median(error) + OUTLIER_PX)
    if odd.any() and (~odd).sum() >= LEAST_VIEWS:
        refused = [
            f"{view.source}: its corners lie {e:.2g} px from where the other pictures put them (they: "
            f"{np.median(error):.2g}); was the board bent or moving, or the focus changed?"
            for view, e in zip(found.views, error, strict=True)
            if e in error[odd]
        ]
        found = _fit([view for view, bad in zip(views, odd, strict=True) if not bad], board)
    low, high = found.interval[0]
    if not (high - low) / 2 < LEAST_TOLD * found.value[0]:
        raise RobotError(
            f"images: the focal length is {found.value[0]:.0f} ± {(high - low) / 2:.0f} px, which tells nothing: the "
            "views are too alike; tilt the board by 20 to 45 degrees, left, right, forwards and backwards"
        )
    return found, refused


def _fit(views: Sequence[View], board: Board) -> Optics:
    cv2 = opencv()
    without = _solve(views, board, cv2.CALIB_FIX_K3)
    with_k3 = _solve(views, board, 0)
    costs = [float(np.square(found.residual_px).sum()) for found in (without, with_k3)]
    freedom = without.residual_px.size - 6 * len(views) - 9
    gain = (costs[0] - costs[1]) / (costs[1] / freedom)
    # Corners of a picture share errors: the gain is held against the spread of k3 between pictures as well.
    told = gain > chi2.ppf(1 - TELLS_K3, 1) and abs(with_k3.value[-1]) > 3 * with_k3.sd[-1]
    return with_k3 if told else without


def _solve(views: Sequence[View], board: Board, flags: int) -> Optics:
    cv2 = opencv()
    points = board.points_m.astype(np.float32)
    found = [view.corners.astype(np.float32) for view in views]
    try:
        _, matrix, distortion, rotation, translation = cv2.calibrateCamera(
            [points] * len(views), found, views[0].size, np.eye(3), np.zeros(5), flags=flags
        )
    except cv2.error as error:
        raise RobotError("images: no camera fits these views; are --board and its orientation right?") from error
    rotation, translation = (np.array(x, float).reshape(-1, 3) for x in (rotation, translation))
    value = np.concatenate([matrix[[0, 1, 0, 1], [0, 1, 2, 2]], np.ravel(distortion)[:5]])
    free = np.arange(8 if flags & cv2.CALIB_FIX_K3 else 9)
    residual, information, pull = [], [], []
    for view, r, s in zip(views, rotation, translation, strict=True):
        seen, slope = cv2.projectPoints(board.points_m, r, s, matrix, value[4:])
        own, shared = slope[:, :6], slope[:, 6 + free]
        error = (view.corners - seen[:, 0]).ravel()
        shared = shared - own @ np.linalg.lstsq(own, shared, rcond=None)[0]  # the picture's own place taken out
        residual.append(error.reshape(-1, 2))
        information.append(shared.T @ shared)
        pull.append(shared.T @ error)
    residual = np.array(residual)
    covariance = np.zeros((9, 9))
    covariance[np.ix_(free, free)] = spread_by_picture(np.array(information), np.array(pull), residual)
    return Optics(views[0].size, value, covariance, tuple(views), rotation, translation, residual)


def spread_by_picture(information: np.ndarray, pull: np.ndarray, residual: np.ndarray) -> np.ndarray:
    """(F, F) covariance from (v, F, F) and (v, F) of each picture: never less than of independent corners."""
    v, f = pull.shape
    inverse = np.linalg.pinv(information.sum(0), hermitian=True)
    spread = float(np.square(residual).sum()) / max(residual.size - 6 * v - f, 1)
    together = inverse @ (pull.T @ pull) @ inverse * v / max(v - 1, 1)
    own = np.diag(together)
    wider = np.sqrt(np.maximum(1.0, spread * np.diag(inverse) / np.where(own > 0, own, np.inf)))
    return together * np.outer(wider, wider)
