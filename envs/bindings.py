"""How a parameter acts on a simulated scene: one small class for each kind of physical quantity.

A scene maps parameter names to these; every engine interprets them. Scales multiply the values of the asset.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ContactQuantity = Literal[
    "lateralFriction", "rollingFriction", "spinningFriction", "restitution", "contactStiffness", "contactDamping"
]


@dataclass(frozen=True)
class Gravity:
    """The parameter is the magnitude of gravity along -z, m/s^2."""


@dataclass(frozen=True)
class LinkMass:
    """The parameter is a link's mass in kg; its inertia follows in proportion."""

    link: str


@dataclass(frozen=True)
class LinkMassScale:
    """The parameter multiplies the masses of these links; their inertias follow. Several on one link multiply."""

    links: tuple[str, ...]


@dataclass(frozen=True)
class LinkPayload:
    """The parameter is the mass in kg of a point that is fixed at a link's centre of mass."""

    link: str


@dataclass(frozen=True)
class LinkPayloadOffset:
    """The parameter is where that point is along one axis of the link's frame, m from the link's centre of mass."""

    link: str
    axis: Literal["x", "y", "z"]


@dataclass(frozen=True)
class CentreOfMass:
    """The parameter moves the centre of mass of a link or free body along one axis of its own frame, m.

    It counts from where the file has it (a link) or the middle (a body). The mass and the moments of inertia about the
    centre stay. It does not act on the base of a robot.
    """

    body: str
    axis: Literal["x", "y", "z"]


@dataclass(frozen=True)
class LinkInertiaScale:
    """The parameter multiplies a link's inertia, on top of what follows from its mass."""

    link: str


@dataclass(frozen=True)
class PayloadMass:
    """The parameter is the mass in kg of a point that hangs on a flying base; mass, centre and inertia follow."""


@dataclass(frozen=True)
class PayloadOffset:
    """The parameter is where that point is along one axis of the base's frame, m from its centre of mass."""

    axis: Literal["x", "y", "z"]


@dataclass(frozen=True)
class GroundEffect:
    """The parameter multiplies the square in the ground effect's formula (see `envs.flight.Rotors`); 0: none."""


@dataclass(frozen=True)
class JointDamping:
    """The parameter is a joint's viscous friction, N s/m or N m s/rad."""

    joint: str


@dataclass(frozen=True)
class JointDampingScale:
    """The parameter multiplies the viscous friction that these joints have nominally, N m s/rad."""

    joints: tuple[str, ...]
    nominal: tuple[float, ...]


@dataclass(frozen=True)
class JointCoulomb:
    """The parameter is a joint's Coulomb friction, N or N m. The joint must not have a velocity servo."""

    joint: str


@dataclass(frozen=True)
class ServoGain:
    """The parameter multiplies the gain by which an arm's joint controllers correct their position errors."""


@dataclass(frozen=True)
class ServoEffort:
    """The parameter multiplies the greatest efforts of the joint servos."""


@dataclass(frozen=True)
class BodyMass:
    """The parameter is a free body's mass in kg; its inertia follows in proportion."""

    body: str


@dataclass(frozen=True)
class BodyContact:
    """The parameter is one contact quantity of a body or of a link of the robot.

    PyBullet multiplies the frictions and restitutions of the two sides of a contact. Stiffness (N/m) and
    damping (N s/m) only act where both are bound.
    """

    body: str
    quantity: ContactQuantity


@dataclass(frozen=True)
class BodyDamping:
    """The parameter is a free body's viscous drag in N s/m; its rotation is damped at the same rate per second."""

    body: str


@dataclass(frozen=True)
class BodyVariant:
    """The parameter, a whole number, is which of its variants a free body is: its shape, its size and its inertia."""

    body: str


@dataclass(frozen=True)
class BodyHeight:
    """The parameter is the height of the top of a fixture, m."""

    body: str


Binding = (
    Gravity
    | LinkMass
    | LinkMassScale
    | LinkPayload
    | LinkPayloadOffset
    | CentreOfMass
    | LinkInertiaScale
    | PayloadMass
    | PayloadOffset
    | GroundEffect
    | JointDamping
    | JointDampingScale
    | JointCoulomb
    | ServoGain
    | ServoEffort
    | BodyMass
    | BodyContact
    | BodyDamping
    | BodyHeight
    | BodyVariant
)
