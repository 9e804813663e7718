"""Moving centres of mass in PyBullet, which has no setter for them: small masses on a link or body do it.

Two massless points are fixed at each side of the nominal centre, one pair for each axis along which it can move.
Mass that goes from the link to a point moves the common centre; the points' own moments of inertia, which may be
negative, make up for what the lever would add, so that the moments about the new centre are the nominal ones, products
included. All together is then exactly the body that one would load with another centre. Points without mass change
nothing, not even the last bit of a link's motion.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

AXES = "xyz"
_HALF = math.pi / 4
_TURN = math.sin(_HALF / 2), math.cos(_HALF / 2)


@dataclass
class Ballast:
    """The points on one link or body, and the parameters that say where its centre of mass is.

    Places and moments are in the axes of the link's or body's own frame, from the nominal centre.
    """

    name: str  # of the link or body
    centre: tuple[float, float, float] = (0.0, 0.0, 0.0)  # nominal, in its frame, m
    reach_m: float = 0.0  # from the centre to each point
    moved: dict[int, int] = field(default_factory=dict)  # axis -> column of the centre's place on it
    carried: dict[int, int] = field(default_factory=dict)  # axis -> column of the payload's place on it
    numbers: list[int] = field(default_factory=list)  # of the points' links in PyBullet, in the order of `points`

    @property
    def axes(self) -> list[int]:
        return sorted({*self.moved, *self.carried})

    @property
    def columns(self) -> list[int]:
        return [*self.moved.values(), *self.carried.values()]

    @property
    def points(self) -> list[tuple[list[float], tuple[int, int] | None]]:
        """Where each is, and of which two axes its moments make the product, if of any."""
        axes, products = self.axes, self._products()
        where = []
        for k, axis in enumerate(axes):
            for sign in (1.0, -1.0):
                place = [sign * self.reach_m * (axis == i) for i in range(3)]
                where.append((place, products[k] if sign < 0 and k < len(products) else None))
        return where

    def urdf(self) -> str:
        """Links and joints for the robot's description.

        A floating joint becomes a fixed one in PyBullet, and other than a fixed one it is not merged.
        """
        text = ""
        for k, (place, product) in enumerate(self.points):
            x, y, z = (centre + r for centre, r in zip(self.centre, place, strict=True))
            roll, pitch, yaw = ((_HALF if product and axis not in product else 0.0) for axis in range(3))
            text += (
                f'<link name="{self.point(k)}"><inertial><mass value="0"/>'
                '<inertia ixx="0" ixy="0" ixz="0" iyy="0" iyz="0" izz="0"/></inertial></link>'
                f'<joint name="{self.point(k)} joint" type="floating"><parent link="{self.name}"/>'
                f'<child link="{self.point(k)}"/><origin xyz="{x} {y} {z}" rpy="{roll} {pitch} {yaw}"/></joint>'
            )
        return text

    def point(self, k: int) -> str:
        return f"ballast {k} of {self.name}"

    def multi_body(self, fixed: int) -> dict[str, list]:
        """Arguments of createMultiBody; `fixed` is PyBullet's number of fixed joints."""
        points, turns = self.points, []
        for _, product in points:
            sine, cosine = _TURN if product else (0.0, 1.0)
            turns.append([sine if product and axis not in product else 0.0 for axis in range(3)] + [cosine])
        count = len(points)
        return {
            "linkMasses": [0.0] * count,
            "linkCollisionShapeIndices": [-1] * count,
            "linkVisualShapeIndices": [-1] * count,
            "linkPositions": [place for place, _ in points],
            "linkOrientations": turns,
            "linkInertialFramePositions": [[0.0] * 3] * count,
            "linkInertialFrameOrientations": [[0.0, 0.0, 0.0, 1.0]] * count,
            "linkParentIndices": [0] * count,
            "linkJointTypes": [fixed] * count,
            "linkJointAxis": [[0.0, 0.0, 1.0]] * count,
        }

    def shares(self, row, mass: float, payload: float) -> list[tuple[float, list[float]]]:
        """Mass and moments of each point for one world's values (d,); the link's own `mass` and its payload in kg."""
        c, r = self._places(row)
        first = mass * c + payload * r
        weights = [max(sign * first[axis] / self.reach_m, 0.0) for axis in self.axes for sign in (1.0, -1.0)]
        missing = mass * _spread(c) + payload * _spread(r)
        for weight, (place, _) in zip(weights, self.points, strict=True):
            missing -= weight * _spread(np.array(place))
        shares = []
        for k, (weight, (_, product)) in enumerate(zip(weights, self.points, strict=True)):
            moments = np.diag(missing).tolist() if k == 0 else [0.0] * 3
            if product:
                i, j = product
                moments[i], moments[j] = missing[i, j], -missing[i, j]
                if (i, j) == (0, 2):  # a turn about y goes from z to x
                    moments[i], moments[j] = moments[j], moments[i]
            shares.append((weight, moments))
        return shares

    def held(self, weights: list[float], applied, mass: float, payload: float, into: np.ndarray) -> None:
        """The places out of the points' masses, each as the other leaves it."""
        c, r = self._places(applied)
        for k, axis in enumerate(self.axes):
            first = (weights[2 * k] - weights[2 * k + 1]) * self.reach_m
            if axis in self.moved:
                into[self.moved[axis]] = (first - payload * r[axis]) / mass
            if axis in self.carried:
                into[self.carried[axis]] = (
                    (first - mass * c[axis]) / payload if payload else applied[self.carried[axis]]
                )

    def _places(self, row) -> tuple[np.ndarray, np.ndarray]:
        """(3,) the link's own centre and its payload."""
        c, r = np.zeros((2, 3))
        for places, columns in ((c, self.moved), (r, self.carried)):
            for axis, column in columns.items():
                places[axis] = row[column]
        return c, r

    def _products(self) -> list[tuple[int, int]]:
        axes = self.axes
        return [(i, j) for n, i in enumerate(axes) for j in axes[n + 1 :]]


def _spread(place: np.ndarray) -> np.ndarray:
    """(3, 3) moments of inertia of 1 kg there, about the origin."""
    return place @ place * np.eye(3) - np.outer(place, place)
