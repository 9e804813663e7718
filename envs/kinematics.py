"""Kinematics of a serial chain of revolute joints, for many configurations at once, from its URDF."""

from __future__ import annotations

import os
import re
import xml.etree.ElementTree as ElementTree
from importlib.util import find_spec
from pathlib import Path

import numpy as np

ASSETS = Path(__file__).parent / "assets"
_PREFIX = "pybullet_data:"


class AssetError(ValueError):
    """A robot description that cannot be used; the message says what was wanted and what is there."""


def asset_path(name: str) -> Path:
    """A file of envs/assets, of the pybullet_data package ("pybullet_data:FILE"), or at an absolute path."""
    if not name.startswith(_PREFIX):
        return ASSETS / name  # an absolute path stays what it is
    spec = find_spec("pybullet_data")
    if spec is None or not spec.submodule_search_locations:
        raise AssetError(f"urdf: '{name}' needs the package pybullet_data; accepted is an environment that has it")
    return Path(next(iter(spec.submodule_search_locations))) / name.removeprefix(_PREFIX)


def urdf_text(path: Path, locked: tuple[str, ...] = ()) -> str:
    """A URDF with absolute paths of its meshes, and with the joints `locked` fixed at zero."""
    text = path.read_text(encoding="utf-8")
    for name in locked:
        text = re.sub(rf'(<joint\s+name="{re.escape(name)}"\s+type=)"\w+"', r'\1"fixed"', text)
    return text.replace("package://", f"{path.parent}{os.sep}")


class Chain:
    """Forward kinematics and Jacobian of a tip, float64, in the frame in which `base` is given.

    Angles are rad, lengths m. The last answer of `position` is remembered for the very same array, because
    features, reward and success ask for it in turn; arrays given must not be changed afterwards.

    A turn about z multiplies x + iy by a complex number, and an offset, the same for all worlds, is one product
    with all of their rows: both cost less than a product of two frames for each world.
    """

    def __init__(self, offsets: np.ndarray, tip: np.ndarray) -> None:
        """`offsets` (k, 4, 4) lead from each joint to the next, whose axis is then z; `tip` (4, 4) to the tip."""
        self._offsets, self._tip = np.ascontiguousarray(offsets), np.ascontiguousarray(tip)
        self._back = [np.ascontiguousarray(offset.T) for offset in offsets]
        self.size = len(offsets)
        self._last: tuple[np.ndarray | None, np.ndarray] = None, np.zeros((0, 3))  # what was asked, and the answer

    @classmethod
    def from_urdf(cls, path: Path, joints: tuple[str, ...], tip: str, base=(0.0, 0.0, 0.0)) -> Chain:
        """The chain of `joints`, in this order from the base, to the link `tip`; other joints stay at zero."""
        by_child = {}
        for element in ElementTree.parse(path).getroot().findall("joint"):
            by_child[_named(element, "child", "link")] = element
        elements, link = [], tip
        while link in by_child:
            elements.append(by_child[link])
            link = _named(by_child[link], "parent", "link")
        elements.reverse()
        found = [element.get("name") for element in elements if element.get("name") in joints]
        if tuple(found) != joints:
            raise AssetError(f"joints: {list(joints)} do not lead to '{tip}'; accepted are those that do: {found}")
        offsets, frame = [], np.eye(4)
        frame[:3, 3] = base
        for element in elements:
            frame = frame @ _origin(element)
            if element.get("name") in joints:
                turn = _onto_z(element)
                offsets.append(frame @ turn)
                frame = turn.T  # back from the joint's own axis
        return cls(np.array(offsets), frame)

    def forward(self, q: np.ndarray) -> np.ndarray:
        """(n, 4, 4) tip frames at joint positions (n, k)."""
        return self._frames(q)[1]

    def position(self, q: np.ndarray) -> np.ndarray:
        """(n, 3) tip positions: one point is carried from the tip down to the base."""
        asked, answer = self._last
        if q is asked:
            return answer
        turns = _turns(q)
        point, across = np.empty((2, max(len(q), 2), 4))  # a product with one row would be rounded otherwise
        point[:] = self._tip[:, 3]
        for i in range(self.size - 1, -1, -1):
            plane = point.view(np.complex128)[:, 0]
            np.multiply(plane, turns[i], out=plane)
            np.dot(point, self._back[i], out=across)
            point, across = across, point
        self._last = q, point[: len(q), :3]
        return self._last[1]

    def jacobian(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tip frames (n, 4, 4) and Jacobians (n, 6, k): linear velocity above angular, in the base's axes."""
        frames, tip = self._frames(q)
        ax, ay, az = np.ascontiguousarray(frames[:, :, :3, 2].transpose(2, 1, 0))  # each (n, k)
        rx, ry, rz = (tip[:, :3, 3] - frames[:, :, :3, 3]).transpose(2, 1, 0)
        jacobian = np.empty((len(q), 6, self.size))
        jacobian[:, 0] = ay * rz - az * ry
        jacobian[:, 1] = az * rx - ax * rz
        jacobian[:, 2] = ax * ry - ay * rx
        jacobian[:, 3], jacobian[:, 4], jacobian[:, 5] = ax, ay, az
        return tip, jacobian

    def solve(self, q: np.ndarray, frames: np.ndarray, iterations: int = 100) -> np.ndarray:
        """Joint positions (n, k) whose tips are at `frames` (n, 4, 4), by damped Newton steps from `q` (n, k).

        Raises AssetError if one cannot be had within 0.1 mm and 1 mrad.
        """
        q = np.array(q, np.float64)
        error = np.zeros((len(q), 6))
        for _ in range(iterations):
            tip, jacobian = self.jacobian(q)
            error = pose_error(frames, tip)
            if np.abs(error[:, :3]).max() < 1e-6 and np.abs(error[:, 3:]).max() < 1e-5:
                break
            q += np.clip(damped(jacobian, error, 0.01), -0.2, 0.2)
        if np.abs(error[:, :3]).max() > 1e-4 or np.abs(error[:, 3:]).max() > 1e-3:
            worst = int(np.abs(error).max(axis=1).argmax())
            raise AssetError(f"frames: {frames[worst, :3, 3].tolist()} is out of reach; accepted are reachable poses")
        return q

    def _frames(self, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(k, n, 4, 4) frames of the joints, turned by them, and (n, 4, 4) of the tip."""
        frames = np.empty((self.size, len(q), 4, 4))
        rows, planes = frames.reshape(self.size, -1, 4), frames.view(np.complex128)[..., 0]
        turns = _turns(q).conj()[:, :, None]
        frames[0] = self._offsets[0]
        for i, plane in enumerate(planes):
            if i:
                np.dot(rows[i - 1], self._offsets[i], out=rows[i])
            np.multiply(plane, turns[i], out=plane)
        return frames, np.dot(rows[-1], self._tip).reshape(-1, 4, 4)


def _turns(q: np.ndarray) -> np.ndarray:
    """(k, n) cos + i sin of the joint positions (n, k)."""
    angle = q.T.astype(np.float64)
    turns = np.empty(angle.shape, np.complex128)
    np.cos(angle, out=turns.real)
    np.sin(angle, out=turns.imag)
    return turns


def pose_error(wanted: np.ndarray, frame: np.ndarray) -> np.ndarray:
    """(n, 6) what is missing from `frame` (n, 4, 4) to `wanted`: translation, and for small angles rotation."""
    error = np.empty((len(frame), 6))
    error[:, :3] = wanted[:, :3, 3] - frame[:, :3, 3]
    turn = wanted[:, :3, :3] @ frame[:, :3, :3].transpose(0, 2, 1)
    error[:, 3] = turn[:, 2, 1] - turn[:, 1, 2]
    error[:, 4] = turn[:, 0, 2] - turn[:, 2, 0]
    error[:, 5] = turn[:, 1, 0] - turn[:, 0, 1]
    error[:, 3:] *= 0.5
    return error


def damped(jacobian: np.ndarray, wanted: np.ndarray, damping: float) -> np.ndarray:
    """(n, k) smallest joint velocities for tip velocities `wanted` (n, 6), by damped least squares.

    Nakamura and Hanafusa 1986; `damping` bounds them near singularities.
    """
    square = jacobian @ jacobian.transpose(0, 2, 1)
    square[:, np.arange(6), np.arange(6)] += damping**2
    return (np.linalg.solve(square, wanted[:, :, None]).transpose(0, 2, 1) @ jacobian)[:, 0]


def _named(element: ElementTree.Element, child: str, attribute: str) -> str:
    found = element.find(child)
    return "" if found is None else found.get(attribute, "")


def _numbers(element: ElementTree.Element | None, attribute: str, default: str) -> np.ndarray:
    text = default if element is None else element.get(attribute, default)
    return np.array([float(word) for word in text.split()])


def _origin(joint: ElementTree.Element) -> np.ndarray:
    """(4, 4) of a URDF origin: roll, pitch, yaw about fixed axes."""
    element = joint.find("origin")
    roll, pitch, yaw = _numbers(element, "rpy", "0 0 0")
    frame = np.eye(4)
    frame[:3, :3] = _turn(2, yaw) @ _turn(1, pitch) @ _turn(0, roll)
    frame[:3, 3] = _numbers(element, "xyz", "0 0 0")
    return frame


def _turn(axis: int, angle: float) -> np.ndarray:
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[j, i], turn[i, j] = np.sin(angle), -np.sin(angle)
    return turn


def _onto_z(joint: ElementTree.Element) -> np.ndarray:
    """(4, 4) rotation whose z axis is the joint's axis."""
    axis = _numbers(joint.find("axis"), "xyz", "1 0 0")
    z = axis / np.linalg.norm(axis)
    if z[2] == 1.0:
        return np.eye(4)
    x = np.eye(3)[np.abs(z).argmin()]
    x -= (x @ z) * z
    x /= np.linalg.norm(x)
    frame = np.eye(4)
    frame[:3, :3] = np.stack([x, np.cross(z, x), z], axis=1)
    return frame
