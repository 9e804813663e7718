"""What a simulator loads for a task, said without a simulator.

A scene names an asset, the joints that are driven and measured, the bodies around it, and how each parameter
acts. A world of any engine interprets it; `envs.bullet` does so for PyBullet. Adding a randomized physical
parameter is one line here.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Literal

from envs.bindings import Binding, ContactQuantity, Gravity, JointCoulomb, JointDamping, LinkMass
from envs.flight import Rotors
from envs.servo import CartesianVelocity

__all__ = [
    "Binding",
    "Body",
    "Effort",
    "Gravity",
    "JointCoulomb",
    "JointDamping",
    "JointVelocity",
    "LinkMass",
    "Loading",
    "Rotors",
    "STOCK",
    "Scene",
    "Shape",
]


@dataclass(frozen=True)
class Shape:
    """One primitive: `size` is (length, width, height) of a box or (diameter, height) of an upright cylinder, m."""

    kind: str  # "box" or "cylinder"
    size: tuple[float, ...]

    @property
    def height_m(self) -> float:
        return self.size[-1]


@dataclass(frozen=True)
class Body:
    """A rigid body made of one primitive, free to move unless its mass is zero.

    `shape` and `size` are as in `Shape`. `position` is where its centre is loaded, m in the world frame. A free body
    may have other shapes to choose from: a parameter bound to `BodyVariant` says which, and 0 is the body itself.
    """

    name: str
    shape: str  # "box" or "cylinder"
    size: tuple[float, ...]
    mass_kg: float = 0.0
    position: tuple[float, float, float] = (0.0, 0.0, 0.0)
    lateral_friction: float = 0.5
    others: tuple[Shape, ...] = ()  # its variants 1, 2, ... of the same mass

    @property
    def variants(self) -> tuple[Shape, ...]:
        return (Shape(self.shape, self.size), *self.others)

    @property
    def height_m(self) -> float:
        return self.size[-1]


@dataclass(frozen=True)
class Effort:
    """Commands are efforts on the actuated joints, N or N m."""


@dataclass(frozen=True)
class JointVelocity:
    """Commands are velocities of the actuated joints, held by servos of limited effort."""

    max_effort: tuple[float, ...]  # N m
    max_velocity: tuple[float, ...]  # rad/s


Actuation = Effort | JointVelocity | CartesianVelocity | Rotors


@dataclass(frozen=True)
class Loading:
    """Choices that change a simulator's speed and, a little, its results; the defaults are the engine's own."""

    engine_substeps: int = 1  # physics steps in one engine call, through which a command is constant
    solver_iterations: int = 50
    solver_residual: float = 1e-7  # the contact solver stops early below it
    merge_fixed: bool = False  # make links behind fixed joints part of their parents
    visuals: bool = False


STOCK = Loading(visuals=True)  # what a plain script has


@dataclass(frozen=True)
class Scene:
    """One robot on a fixed base, what lies around it, and how parameters act on both.

    With `Rotors` the base flies, and `joints` are its `FREE_JOINTS`.
    """

    urdf: str  # a file name in envs/assets, "pybullet_data:FILE", or an absolute path
    joints: tuple[str, ...]  # measured, in the order of State.joint_position
    actuated: tuple[str, ...]  # the joints a command drives, or the axes of a Cartesian velocity
    physics_hz: float  # must be a multiple of the task's control rate
    bindings: Mapping[str, Binding] = field(default_factory=dict)  # parameter name -> where it acts
    actuation: Actuation = field(default_factory=Effort)
    base: tuple[float, float, float] = (0.0, 0.0, 0.0)  # of the robot, m
    locked: tuple[str, ...] = ()  # joints that never move
    mimics: Mapping[str, str] = field(default_factory=dict)  # joint -> the one of `joints` that it copies by a gear
    link_contact: Mapping[str, Mapping[ContactQuantity, float]] = field(default_factory=dict)  # of links it names
    bodies: tuple[Body, ...] = ()  # free, in the order of State.body_pose
    fixtures: tuple[Body, ...] = ()  # immovable
    loading: Loading = field(default_factory=Loading)

    @property
    def motors(self) -> tuple[str, ...]:
        """The joints that motors drive: `actuated`, or for velocities of the tip all that move it."""
        return self.actuation.joints if isinstance(self.actuation, CartesianVelocity) else self.actuated

    @property
    def fingers(self) -> tuple[str, ...]:
        """Motors that move apart from the others, which move the tip together."""
        return self.actuation.fingers if isinstance(self.actuation, CartesianVelocity) else ()

    @property
    def motors_take(self) -> Literal["effort", "velocity", "thrust"]:
        """What a command of these motors is."""
        if isinstance(self.actuation, Rotors):
            return "thrust"
        return "velocity" if isinstance(self.actuation, JointVelocity | CartesianVelocity) else "effort"

    @property
    def limited(self) -> tuple[str, ...]:
        """The joints that must not move without limits: those of motors, or all coordinates of a flying base."""
        return self.joints if isinstance(self.actuation, Rotors) else self.motors

    def unlimited_rotors(self, given: Container[str]) -> list[str]:
        """The rotors that are not among the given names."""
        return [name for name in self.motors if isinstance(self.actuation, Rotors) and name not in given]
