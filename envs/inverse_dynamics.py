"""Inverse dynamics of a serial arm from its URDF, for many instants at once and for each body apart.

Torques are linear in the mass of each body when its inertia follows, so what single bodies ask for are the columns of
a regression (Atkeson, An and Hollerbach 1986, Int. J. Robotics Research 5:101). Newton and Euler forwards, and the
wrench of each body projected on the joints before it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.kinematics import AssetError, Chain, _named, _numbers, _onto_z, _origin, asset_path
from envs.scene import Scene


@dataclass(frozen=True)
class _Body:
    """A link, in the frame of the joint that carries it."""

    link: str
    joint: int
    mass_kg: float
    centre: np.ndarray  # (3,) m
    inertia: np.ndarray  # (3, 3) kg m^2 about the centre


class ArmDynamics:
    """What the bodies of an arm on a fixed base ask of its joints; base upright, gravity along -z."""

    def __init__(self, urdf: Path, joints: tuple[str, ...], merged: bool = True) -> None:
        """`joints` from the base outwards, revolute; `merged`: bodies behind fixed joints are part of their parents.

        Raises AssetError where the joints are no such chain.
        """
        root = ElementTree.parse(urdf).getroot()
        by_name = {element.get("name"): element for element in root.findall("joint")}
        if unknown := [name for name in joints if name not in by_name]:
            raise AssetError(f"joints: {unknown[0]} is not in {urdf.name}; accepted are {', '.join(map(str, by_name))}")
        self.joints, self._merged = joints, merged
        self._chain = Chain.from_urdf(urdf, joints, _named(by_name[joints[-1]], "child", "link"))
        links = {element.get("name", ""): element for element in root.findall("link")}
        self._carried: dict[str, list[_Body]] = {}  # by the link that is moved, what moves with it
        for number, name in enumerate(joints):
            link = _named(by_name[name], "child", "link")
            frame = np.eye(4)
            frame[:3, :3] = _onto_z(by_name[name])[:3, :3].T
            self._carried[link] = _carried(links, root, joints, link, number, frame)

    @classmethod
    def from_scene(cls, scene: Scene) -> ArmDynamics:
        return cls(asset_path(scene.urdf), scene.motors, scene.loading.merge_fixed)

    @property
    def links(self) -> tuple[str, ...]:
        """The moving links, from the base outwards."""
        return tuple(self._carried)

    def torques(self, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray, gravity_m_s2: float = 9.81) -> np.ndarray:
        """(l, n, k) N m that each of `links`, with what is fixed to it, asks of the joints in (n, k) motions, SI."""
        frames = self._chain.joint_frames(q)  # (k, n, 4, 4)
        axis, place = frames[..., :3, 2], frames[..., :3, 3]
        spin, turn, pull = self._motion(axis, place, dq, ddq, gravity_m_s2)
        out = np.zeros((len(self._carried), *q.shape))
        for row, bodies in enumerate(self._carried.values()):
            for body in bodies:
                i = body.joint
                out[row] += self._wrench(body, frames[i, :, :3, :3], place, axis, spin[i], turn[i], pull[i])
        return out

    def payload(self, link: str, q: np.ndarray, dq: np.ndarray, ddq: np.ndarray, gravity_m_s2: float) -> np.ndarray:
        """(n, k) N m for one kilogram at the centre of mass of a moving link, with what is fixed to it."""
        bodies = self._carried[link] if self._merged else self._carried[link][:1]
        mass = sum(body.mass_kg for body in bodies)
        centre = sum(body.mass_kg * body.centre for body in bodies) / mass
        frames = self._chain.joint_frames(q)
        axis, place = frames[..., :3, 2], frames[..., :3, 3]
        spin, turn, pull = self._motion(axis, place, dq, ddq, gravity_m_s2)
        point = _Body(link, i := bodies[0].joint, 1.0, np.asarray(centre), np.zeros((3, 3)))
        return self._wrench(point, frames[i, :, :3, :3], place, axis, spin[i], turn[i], pull[i])

    def _motion(
        self, axis: np.ndarray, place: np.ndarray, dq: np.ndarray, ddq: np.ndarray, gravity_m_s2: float
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(k, n, 3) each: angular velocity and acceleration of each joint's frame, and acceleration of its origin."""
        spin, turn, pull = (np.zeros((len(axis), len(dq), 3)) for _ in range(3))
        before_w, before_a = np.zeros((len(dq), 3)), np.zeros((len(dq), 3))
        at, lift = np.zeros((len(dq), 3)), np.tile([0.0, 0.0, gravity_m_s2], (len(dq), 1))
        for i in range(len(axis)):
            way = place[i] - at if i else np.zeros_like(at)  # the base does not turn: where it stands is nothing
            lift = lift + np.cross(before_a, way) + np.cross(before_w, np.cross(before_w, way))
            rate = axis[i] * dq[:, i : i + 1]
            before_a = before_a + axis[i] * ddq[:, i : i + 1] + np.cross(before_w, rate)
            before_w = before_w + rate
            at = place[i]
            spin[i], turn[i], pull[i] = before_w, before_a, lift
        return spin, turn, pull

    @staticmethod
    def _wrench(
        body: _Body,
        rotation: np.ndarray,
        place: np.ndarray,
        axis: np.ndarray,
        spin: np.ndarray,
        turn: np.ndarray,
        pull: np.ndarray,
    ) -> np.ndarray:
        """(n, k) N m at the joints that carry the body."""
        arm = rotation @ body.centre
        acceleration = pull + np.cross(turn, arm) + np.cross(spin, np.cross(spin, arm))
        force = body.mass_kg * acceleration
        inertia = rotation @ body.inertia @ rotation.transpose(0, 2, 1)
        moment = (inertia @ turn[:, :, None])[..., 0] + np.cross(spin, (inertia @ spin[:, :, None])[..., 0])
        out = np.zeros((len(arm), len(place)))
        at = place[body.joint] + arm
        for j in range(body.joint + 1):
            out[:, j] = np.einsum("nc,nc->n", axis[j], moment + np.cross(at - place[j], force))
        return out


def _carried(
    links: dict[str, ElementTree.Element],
    root: ElementTree.Element,
    joints: tuple[str, ...],
    link: str,
    number: int,
    frame: np.ndarray,
) -> list[_Body]:
    """A link and everything behind it up to the next of `joints`; other joints stay at zero."""
    bodies = []
    inertial = links[link].find("inertial") if link in links else None
    mass = inertial.find("mass") if inertial is not None else None
    if inertial is not None and mass is not None and float(mass.get("value", "0")) > 0:  # massless links are frames
        own = frame @ _origin(inertial)
        bodies.append(_Body(link, number, float(mass.get("value", "0")), own[:3, 3], _inertia(inertial, own[:3, :3])))
    for joint in root.findall("joint"):
        if _named(joint, "parent", "link") == link and joint.get("name") not in joints:
            child = _named(joint, "child", "link")
            bodies += _carried(links, root, joints, child, number, frame @ _origin(joint))
    return bodies


def _inertia(inertial: ElementTree.Element, rotation: np.ndarray) -> np.ndarray:
    element = inertial.find("inertia")
    xx, xy, xz, yy, yz, zz = (_numbers(element, f"i{name}", "0")[0] for name in ("xx", "xy", "xz", "yy", "yz", "zz"))
    return rotation @ np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]) @ rotation.T
