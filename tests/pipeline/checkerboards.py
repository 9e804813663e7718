"""Pictures of a checkerboard, rendered with a camera that is known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from scipy.spatial.transform import Rotation

from pipeline.identify.camera.board import Board
from pipeline.identify.camera.place import Pose

BOARD = Board(9, 6, 0.025)
SIZE = (480, 360)
MATRIX = np.array([[431.0, 0, 247.3], [0, 428.5, 171.8], [0, 0, 1]])
DISTORTION = np.array([-0.21, 0.07, 0.0012, -0.0008, 0.0])
FINE = 2  # rays a pixel, each way


class Camera:
    """Renders with Brown's distortion: the rays of all pixels are found once."""

    def __init__(self) -> None:
        width, height = SIZE
        across, down = ((np.arange(n * FINE) + 0.5) / FINE - 0.5 for n in SIZE)
        pixels = np.stack(np.meshgrid(across, down), -1).reshape(-1, 1, 2)
        self._rays = cv2.undistortPoints(
            pixels, MATRIX, DISTORTION, criteria=(cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 50, 1e-9)
        ).reshape(height * FINE, width * FINE, 2)

    def picture(self, board: Pose, random: np.random.Generator, blur_px: float = 0.6, noise: float = 2.0) -> np.ndarray:
        """(h, w) grey levels of the board at camera-from-board, on a grey ground."""
        r, s = board.rotation.as_matrix(), board.position_m
        direction = np.concatenate([self._rays, np.ones((*self._rays.shape[:2], 1))], -1)
        far = (r[:, 2] @ s) / (direction @ r[:, 2])
        place = (far[..., None] * direction - s) @ r / BOARD.square_m  # in squares; x right, y up
        column, row = np.floor(place[..., 0]).astype(int), np.floor(-place[..., 1]).astype(int)
        border = (column >= -2) & (column <= BOARD.columns) & (row >= -2) & (row <= BOARD.rows) & (far > 0)
        inside = (column >= -1) & (column < BOARD.columns) & (row >= -1) & (row < BOARD.rows) & border
        grey = np.where(border, 225.0, 120.0)
        grey[inside & ((column + row) % 2 == 0)] = 30.0
        grey = grey.reshape(SIZE[1], FINE, SIZE[0], FINE).mean((1, 3))
        grey = cv2.GaussianBlur(grey, (0, 0), blur_px)
        return np.clip(grey + random.normal(0, noise, grey.shape), 0, 255).astype(np.uint8)


def facing(x: float, y: float, z: float, left: float = 0.0, up: float = 0.0, turn: float = 0.0) -> Pose:
    """Camera from board: its middle at x, y, z m, tilted and turned by degrees. Flat on, x runs right and y up."""
    flat = Rotation.from_euler("x", 180, degrees=True)
    rotation = Rotation.from_euler("yxz", [left, up, turn], degrees=True) * flat
    middle = BOARD.points_m.mean(0)
    return Pose(rotation, np.array([x, y, z]) - rotation.apply(middle))


def spread_poses(count: int, random: np.random.Generator, tilt_deg: float = 35.0) -> list[Pose]:
    """Boards all over the picture, near and far, tilted each way, whole in the picture."""
    poses = []
    while len(poses) < count:
        z = random.uniform(0.26, 0.5)
        x, y = random.uniform(-0.5, 0.5) * z, random.uniform(-0.36, 0.36) * z
        tilt = random.uniform(-tilt_deg, tilt_deg, 2)
        pose = facing(x, y, z, tilt[0], tilt[1], random.uniform(-25, 25))
        corners = project(pose)
        if (corners > 24).all() and (corners < np.array(SIZE) - 24).all():
            poses.append(pose)
    return poses


def project(board: Pose) -> np.ndarray:
    """(corners, 2) px"""
    vector = board.vector
    return cv2.projectPoints(BOARD.points_m, vector[:3], vector[3:], MATRIX, DISTORTION)[0][:, 0]


def write(folder: Path, name: str, picture: np.ndarray) -> Path:
    path = folder / name
    cv2.imwrite(str(path), picture)
    return path
