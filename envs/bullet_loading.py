"""Loading a scene into a PyBullet client."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from envs.bullet_ballast import Ballast
from envs.kinematics import asset_path, urdf_text
from envs.scene import Body, Rotors, Scene, Shape
from envs.world import WorldError


@contextmanager
def _silent(descriptor: int):
    """Nothing that C code writes to this file descriptor gets out."""
    saved, null = os.dup(descriptor), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, descriptor)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)
        os.close(null)


def _import_quietly():
    """Import pybullet without the build time it prints on the error stream."""
    with _silent(2):
        import pybullet
    return pybullet


p = _import_quietly()

PARKING_M = (0.0, 0.0, -100.0)  # where the variants of bodies wait that an episode has no use for
PARKED_APART_M = 10.0
GEAR_N = 100.0  # the most with which a joint that copies another is held to it
Seconds = TypeVar("Seconds", float, np.ndarray)


@dataclass(frozen=True)
class Handles:
    """PyBullet's numbers for what a scene names; the same in every client."""

    robot: int
    joints: dict[str, int]
    links: dict[str, int]  # the base included
    bodies: dict[str, int]  # free bodies and fixtures
    variants: dict[str, tuple[int, ...]]  # of each free body, itself first
    base: str  # the robot's base link

    def joint(self, name: str, urdf: str) -> int:
        return _number("joint", self.joints, name, urdf)

    def link(self, name: str, urdf: str) -> int:
        return _number("link", self.links, name, urdf)


def connect() -> int:
    client = p.connect(p.DIRECT)
    if client < 0:
        raise WorldError("PyBullet gives no more clients; accepted are at most about 1000 worlds in one process")
    return client


def time_step_s(wanted_s: Seconds, substeps: int) -> Seconds:
    """The time step to set so that an engine call makes exactly `substeps` physics steps.

    Bullet counts them by dividing times and carries the rest over to the next call, so the step must divide
    without rounding; this one does, and is within a picosecond a step.
    """
    if substeps == 1:
        return wanted_s
    ticks: Any = np.round(wanted_s / substeps * 2**40)
    return substeps * ticks * 2.0**-40


def load(client: int, scene: Scene, ballasts: Sequence[Ballast] = ()) -> Handles:
    """Load everything, with all motors off but those of locked joints, and no damping; `ballasts` as extra links."""
    loading = scene.loading
    engine = {"fixedTimeStep": time_step_s(loading.engine_substeps / scene.physics_hz, loading.engine_substeps)}
    if loading.engine_substeps > 1:
        engine["numSubSteps"] = loading.engine_substeps
    p.setPhysicsEngineParameter(
        **engine,
        numSolverIterations=loading.solver_iterations,
        solverResidualThreshold=loading.solver_residual,
        deterministicOverlappingPairs=1,  # contacts are solved in an order that does not depend on the past
        physicsClientId=client,
    )
    robot = _load_robot(client, scene, ballasts)
    bodies = {
        body.name: _make(client, body, Shape(body.shape, body.size), ballasts)
        for body in (*scene.fixtures, *scene.bodies)
    }
    variants = {
        body.name: (bodies[body.name], *(_make(client, body, shape, ()) for shape in body.others))
        for body in scene.bodies
    }
    count = range(p.getNumJoints(robot, client))
    infos = [p.getJointInfo(robot, j, client) for j in count]
    base = p.getBodyInfo(robot, client)[0].decode()
    links = {base: -1} | {info[12].decode(): info[0] for info in infos}
    handles = Handles(robot, {info[1].decode(): info[0] for info in infos}, links, bodies, variants, base)
    for body in (robot, *bodies.values(), *(one for each in variants.values() for one in each[1:])):
        p.changeDynamics(body, -1, linearDamping=0.0, angularDamping=0.0, physicsClientId=client)
    for joint, info in zip(count, infos, strict=True):
        force = info[10] if info[1].decode() in scene.locked else 0.0
        p.setJointMotorControl2(robot, joint, p.VELOCITY_CONTROL, force=force, physicsClientId=client)
    for copy, joint in scene.mimics.items():
        gear = p.createConstraint(
            robot,
            handles.joint(joint, scene.urdf),
            robot,
            handles.joint(copy, scene.urdf),
            p.JOINT_GEAR,
            (1, 0, 0),
            (0, 0, 0),
            (0, 0, 0),
            physicsClientId=client,
        )
        p.changeConstraint(gear, gearRatio=-1, erp=0.1, maxForce=GEAR_N, physicsClientId=client)
    for place, body in enumerate(one for each in variants.values() for one in each[1:]):
        p.setCollisionFilterGroupMask(body, -1, 0, 0, client)
        park(client, body, place)
    for link, contact in scene.link_contact.items():
        p.changeDynamics(robot, handles.link(link, scene.urdf), physicsClientId=client, **contact)
    return handles


def park(client: int, body: int, place: int) -> None:
    """Let a body fall from where nothing is. Asleep it would cost no less, and not be the same body once awake."""
    x, y, z = PARKING_M
    p.resetBasePositionAndOrientation(body, (x, y + PARKED_APART_M * place, z), (0.0, 0.0, 0.0, 1.0), client)
    p.resetBaseVelocity(body, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0), client)


def _load_robot(client: int, scene: Scene, ballasts: Sequence[Ballast]) -> int:
    path = asset_path(scene.urdf)
    if not path.is_file():
        raise WorldError(f"urdf: '{scene.urdf}' is not there; accepted is a file in envs/assets or an absolute path")
    flags = p.URDF_USE_INERTIA_FROM_FILE
    if not scene.loading.visuals:
        flags |= p.URDF_IGNORE_VISUAL_SHAPES
    fixed = not isinstance(scene.actuation, Rotors)
    free = [body.name for body in scene.bodies]
    extra = "".join(ballast.urdf() for ballast in ballasts if ballast.name not in free)
    if not scene.loading.merge_fixed and not extra:
        return _load_urdf(client, str(path), scene.base, flags, fixed)
    if scene.loading.merge_fixed:
        flags |= p.URDF_MERGE_FIXED_LINKS
    text = urdf_text(path, scene.locked if scene.loading.merge_fixed else ()).replace("</robot>", extra + "</robot>")
    with tempfile.TemporaryDirectory() as folder:
        changed = os.path.join(folder, path.name)
        with open(changed, "w", encoding="utf-8") as file:
            file.write(text)
        return _load_urdf(client, changed, scene.base, flags, fixed)


def _load_urdf(client: int, path: str, base, flags: int, fixed: bool) -> int:
    try:
        sys.stdout.flush()
        with _silent(1):  # it tells what it merges
            return p.loadURDF(path, base, useFixedBase=fixed, flags=flags, physicsClientId=client)
    except p.error as error:
        raise WorldError(f"urdf: PyBullet cannot load '{path}' ({error}); accepted is a valid URDF file") from None


def _make(client: int, body: Body, form: Shape, ballasts: Sequence[Ballast]) -> int:
    if form.kind == "box":
        half = [length / 2 for length in form.size]
        shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=half, physicsClientId=client)
    elif form.kind == "cylinder":
        diameter, height = form.size
        shape = p.createCollisionShape(p.GEOM_CYLINDER, radius=diameter / 2, height=height, physicsClientId=client)
    else:
        raise WorldError(f"shape: '{form.kind}' of body '{body.name}' is unknown; accepted is box or cylinder")
    extra = next((b.multi_body(p.JOINT_FIXED) for b in ballasts if b.name == body.name), {})
    number = p.createMultiBody(body.mass_kg, shape, basePosition=body.position, physicsClientId=client, **extra)
    p.changeDynamics(number, -1, lateralFriction=body.lateral_friction, physicsClientId=client)
    return number


def _number(kind: str, table: dict[str, int], name: str, urdf: str) -> int:
    if name not in table:
        raise WorldError(f"{kind}: '{name}' is not in {urdf}; accepted is one of {', '.join(table)}")
    return table[name]
