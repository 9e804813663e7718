"""Where a camera is: from one picture of a board at a known place, or from poses of a robot beside many pictures."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation
from scipy.stats import t

from pipeline.identify.camera.board import Board, View, opencv
from pipeline.identify.camera.optics import Optics, matrix_of, spread_by_picture
from robot.interface import RobotError

LEAST_POSES = 6
LEAST_TURN_DEG = 15.0  # of the robot, about at least two axes
POSE_COLUMNS = ("image", "x", "y", "z", "qx", "qy", "qz", "qw")
ONE_WAY_UP = "accepted is a board with an odd number of inner corners one way and an even one the other, such as 9x6"


@dataclass(frozen=True)
class Pose:
    """A rigid motion: what stands in the frame after `from` is taken to the one before it."""

    rotation: Rotation
    position_m: np.ndarray  # (3,)

    def __matmul__(self, other: Pose) -> Pose:
        return Pose(self.rotation * other.rotation, self.rotation.apply(other.position_m) + self.position_m)

    def inverse(self) -> Pose:
        back = self.rotation.inv()
        return Pose(back, -back.apply(self.position_m))

    @staticmethod
    def of(vector: np.ndarray) -> Pose:
        """From (6,) rotation vector and position."""
        return Pose(Rotation.from_rotvec(vector[:3]), np.asarray(vector[3:], float))

    @property
    def vector(self) -> np.ndarray:
        return np.concatenate([self.rotation.as_rotvec(), self.position_m])


@dataclass(frozen=True)
class Place:
    """The camera's pose in a frame: z ahead, x right, y down as in its picture. Intervals are 95 %."""

    frame: str  # task | base | flange
    pose: Pose
    position_95_m: np.ndarray  # (3,) half widths
    rotation_95_deg: float
    rms_px: float


def parse_pose(text: str) -> Pose:
    """From `x,y,z,yaw_deg` of a board that lies flat, or `x,y,z,qx,qy,qz,qw`."""
    try:
        numbers = np.array([float(part) for part in text.split(",")])
    except ValueError:
        numbers = np.zeros(0)
    if len(numbers) == 4 and np.isfinite(numbers).all():
        return Pose(Rotation.from_euler("z", numbers[3], degrees=True), numbers[:3])
    if len(numbers) == 7 and np.isfinite(numbers).all() and 0.9 < np.linalg.norm(numbers[3:]) < 1.1:
        return Pose(Rotation.from_quat(numbers[3:]), numbers[:3])
    raise RobotError(
        f"board-pose: {text!r} is not understood; accepted is X,Y,Z,YAW in m and degrees for a board that lies face "
        "up, or X,Y,Z,QX,QY,QZ,QW"
    )


def from_one(view: View, board: Board, optics: Optics, task_from_board: Pose) -> Place:
    """The camera in the task's frame, from a picture of a board whose pose in it is known."""
    _check(board, view.size, optics, view.source)
    cv2 = opencv()
    corners = view.corners.astype(np.float64)
    _, r, s = cv2.solvePnP(board.points_m, corners, optics.matrix, optics.distortion, flags=cv2.SOLVEPNP_IPPE)
    r, s = cv2.solvePnPRefineLM(board.points_m, corners, optics.matrix, optics.distortion, r, s)
    seen, slope = cv2.projectPoints(board.points_m, r, s, optics.matrix, optics.distortion)
    error = (corners - seen[:, 0]).ravel()
    inverse = np.linalg.inv(slope[:, :6].T @ slope[:, :6])
    taken = -inverse @ slope[:, :6].T @ slope[:, 6:15]  # how the pose follows the optics
    covariance = inverse * (error @ error / (len(error) - 6)) + taken @ optics.covariance @ taken.T
    vector = np.concatenate([np.ravel(r), np.ravel(s)])
    pose = task_from_board @ Pose.of(vector).inverse()
    return _place("task", pose, vector, covariance, lambda v: task_from_board @ Pose.of(v).inverse(), 1.96, error)


def hand_eye(
    views: Sequence[View], poses: Sequence[Pose], board: Board, optics: Optics, on_robot: bool
) -> tuple[Place, Pose]:
    """The camera, and the board where it is held, from `poses` (base from flange) of a robot at each view.

    The camera stands and the flange holds the board: the camera in the robot's base frame. With `on_robot` the
    flange holds the camera and the board stands: the camera in the flange's frame. Closed form first (Shah 2013,
    J. Mechanisms Robotics 5:031007), then the smallest error in the pictures.
    """
    if len(views) < LEAST_POSES:
        raise RobotError(f"robot-poses: {len(views)} pictures have a pose, and at least {LEAST_POSES} are needed")
    for view in views:
        _check(board, view.size, optics, view.source)
    _check_turns(poses)
    moved = [pose.inverse() if on_robot else pose for pose in poses]
    seen = [_seen(view, board, optics) for view in views]
    start = _closed_form(moved, seen)

    def residual(x: np.ndarray, lens: np.ndarray = optics.value) -> np.ndarray:
        camera, held = Pose.of(x[:6]).inverse(), Pose.of(x[6:])
        return np.concatenate([_error(camera @ m @ held, v, board, lens) for m, v in zip(moved, views, strict=True)])

    found = least_squares(residual, start, x_scale="jac")
    error = found.fun.reshape(len(views), -1)
    slope = found.jac.reshape(len(views), -1, 12)
    information, pull = np.einsum("vki,vkj->vij", slope, slope), np.einsum("vki,vk->vi", slope, error)
    covariance = spread_by_picture(information, pull, error)
    e = 1e-4 * np.maximum(optics.sd, 1e-9)
    by_lens = np.stack(
        [(residual(found.x, optics.value + row) - found.fun) / size for row, size in zip(np.diag(e), e, strict=True)], 1
    )
    taken = -np.linalg.pinv(found.jac) @ by_lens  # how both poses follow the optics
    covariance = (covariance + taken @ optics.covariance @ taken.T)[:6, :6]
    wide = float(t.ppf(0.975, len(views) - 1))
    camera = Pose.of(found.x[:6])
    frame = "flange" if on_robot else "base"
    return _place(frame, camera, found.x[:6], covariance, Pose.of, wide, found.fun), Pose.of(found.x[6:])


def read_poses(path: Path) -> dict[str, Pose]:
    """{picture's file name: base from flange} from CSV with the columns of POSE_COLUMNS, m and a quaternion xyzw."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in POSE_COLUMNS if name not in (reader.fieldnames or ())]
            if missing:
                raise RobotError(
                    f"{path.name}: no column {', '.join(missing)}; accepted is a header {','.join(POSE_COLUMNS)}, "
                    "the flange in the base frame, m"
                )
            found = {}
            for row in reader:
                numbers = np.array([_number(row[name]) for name in POSE_COLUMNS[1:]])
                if not np.isfinite(numbers).all() or not 0.9 < np.linalg.norm(numbers[3:]) < 1.1:
                    raise RobotError(
                        f"{path.name}: line {reader.line_num} is no pose; accepted are m and a unit quaternion"
                    )
                found[Path(str(row["image"])).name] = Pose(Rotation.from_quat(numbers[3:]), numbers[:3])
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise RobotError(f"{path} cannot be read: {error}") from error
    return found


def _number(text: str | None) -> float:
    try:
        return float(text or "nan")
    except ValueError:
        return float("nan")


def _check(board: Board, size: tuple[int, int], optics: Optics, source: str) -> None:
    if not board.has_one_way_up:
        raise RobotError(
            f"board: {board.columns}x{board.rows} looks the same upside down, so no frame is told; {ONE_WAY_UP}"
        )
    if size != optics.size:
        raise RobotError(
            f"{source}: {size[0]} x {size[1]} pixels; accepted is the calibrated {optics.size[0]} x {optics.size[1]}"
        )


def _check_turns(poses: Sequence[Pose]) -> None:
    turns = np.array([(poses[0].rotation.inv() * pose.rotation).as_rotvec() for pose in poses])
    size = np.degrees(np.sqrt(np.linalg.eigvalsh(turns.T @ turns / len(turns))))
    if size[1] < LEAST_TURN_DEG / 2:
        raise RobotError(
            f"robot-poses: the flange turns about one axis only (by {size[1]:.0f} degrees about others), which leaves "
            f"the place of the camera open; turn it by {LEAST_TURN_DEG:g} degrees and more about two axes"
        )


def _seen(view: View, board: Board, optics: Optics) -> Pose:
    cv2 = opencv()
    corners = view.corners.astype(np.float64)
    _, r, s = cv2.solvePnP(board.points_m, corners, optics.matrix, optics.distortion, flags=cv2.SOLVEPNP_IPPE)
    return Pose.of(np.concatenate([np.ravel(r), np.ravel(s)]))


def _error(camera_from_board: Pose, view: View, board: Board, lens: np.ndarray) -> np.ndarray:
    vector = camera_from_board.vector
    seen, _ = opencv().projectPoints(board.points_m, vector[:3], vector[3:], matrix_of(lens), lens[4:])
    return (seen[:, 0] - view.corners).ravel()


def _closed_form(moved: Sequence[Pose], seen: Sequence[Pose]) -> np.ndarray:
    """X, Z (12,) of moved_i Z = X seen_i: the rotations by singular values, then the positions by least squares."""
    rows = [np.kron(m.rotation.as_matrix(), np.eye(3)) for m in moved]
    columns = [-np.kron(np.eye(3), s.rotation.as_matrix().T) for s in seen]
    null = np.linalg.svd(np.concatenate([np.concatenate(rows), np.concatenate(columns)], 1))[2][-1]
    z, x = null[:9].reshape(3, 3), null[9:].reshape(3, 3)
    if np.linalg.det(x) < 0:
        z, x = -z, -x
    z, x = (u @ np.diag([1, 1, np.linalg.det(u @ v)]) @ v for u, _, v in map(np.linalg.svd, (z, x)))
    left = np.concatenate([np.concatenate([m.rotation.as_matrix(), -np.eye(3)], 1) for m in moved])
    right = np.concatenate([x @ s.position_m - m.position_m for m, s in zip(moved, seen, strict=True)])
    places = np.linalg.lstsq(left, right, rcond=None)[0]
    return np.concatenate(
        [Rotation.from_matrix(x).as_rotvec(), places[3:], Rotation.from_matrix(z).as_rotvec(), places[:3]]
    )


def _place(frame: str, pose: Pose, vector: np.ndarray, covariance: np.ndarray, of, wide: float, error) -> Place:
    """Spread of the camera's position and rotation, by differences about the estimate."""
    e = 1e-6
    moved = [of(vector + e * row) for row in np.eye(6)]
    place = np.array([(m.position_m - pose.position_m) / e for m in moved]).T
    turn = np.array([(m.rotation * pose.rotation.inv()).as_rotvec() / e for m in moved]).T
    sd = np.sqrt(np.diag(place @ covariance @ place.T))
    angle = float(np.sqrt(np.trace(turn @ covariance @ turn.T)))
    rms = float(np.sqrt(2 * np.mean(np.square(error))))
    return Place(frame, pose, wide * sd, float(np.degrees(wide * angle)), rms)
