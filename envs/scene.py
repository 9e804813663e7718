"""What a simulator loads for a task, said without a simulator.

A scene names an asset, the joints that are driven and measured, and how each parameter acts on it. A world of
any engine interprets it; `envs.bullet` does so for PyBullet. Adding a randomized physical parameter is one
line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Gravity:
    """The parameter is the magnitude of gravity along -z, m/s^2."""


@dataclass(frozen=True)
class LinkMass:
    """The parameter is a link's mass in kg; its inertia follows in proportion."""

    link: str


@dataclass(frozen=True)
class JointDamping:
    """The parameter is a joint's viscous friction, N s/m or N m s/rad."""

    joint: str


@dataclass(frozen=True)
class JointCoulomb:
    """The parameter is a joint's Coulomb friction, N or N m."""

    joint: str


Binding = Gravity | LinkMass | JointDamping | JointCoulomb


@dataclass(frozen=True)
class Scene:
    """One robot asset and how parameters act on it. Commands are efforts (N, N m) on the actuated joints."""

    urdf: str  # a file name in envs/assets, or an absolute path
    joints: tuple[str, ...]  # measured, in the order of State.joint_position
    actuated: tuple[str, ...]
    physics_hz: float  # must be a multiple of the task's control rate
    bindings: Mapping[str, Binding] = field(default_factory=dict)  # parameter name -> where it acts
