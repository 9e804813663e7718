"""BulletWorlds: n PyBullet worlds in one process.

Every world has a client of its own, because many robots in one client slow each other down. Nothing is loaded
or saved after construction: a reset sets joint states and parameters, always from the values cached at
loading.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from envs.scene import Gravity, JointCoulomb, JointDamping, LinkMass, Scene
from envs.task import State, Task
from envs.world import WorldError


def _import_quietly():
    """Import pybullet without the build time it prints on the error stream."""
    saved, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        import pybullet
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(null)
    return pybullet


p = _import_quietly()

ASSETS = Path(__file__).parent / "assets"


@dataclass
class _Link:
    """One link of the asset, the parameters that act on it, and its values at loading."""

    index: int
    mass_kg: float
    inertia: tuple[float, float, float]  # principal moments, kg m^2
    mass_column: int | None = None
    damping_column: int | None = None
    coulomb_column: int | None = None


@dataclass
class _Model:
    """What the scene means in PyBullet's numbers; the same in every client."""

    body: int
    joints: list[int]
    actuated: list[int]
    links: list[_Link]
    gravity_column: int | None


class BulletWorlds:
    """n worlds of a task's scene. A command is an effort on each actuated joint, constant over a physics
    substep.

    Default motors are off and default damping is zero; inertia is what the file says. Coulomb friction is a
    velocity motor at target zero whose greatest effort is the friction.
    """

    def __init__(self, task: Task, n: int) -> None:
        scene = task.scene
        ratio = scene.physics_hz / task.control_hz
        self.n = n
        self.substeps = round(ratio)
        if self.substeps < 1 or abs(ratio - self.substeps) > 1e-9:
            raise WorldError(
                f"physics_hz: {scene.physics_hz:g} does not fit task '{task.name}'; "
                f"accepted is a multiple of its {task.control_hz:g} Hz control rate"
            )
        self._space = task.parameters
        self._clients: list[int] = []
        try:
            for _ in range(n):
                self._clients.append(_connect())
                body = _load(self._clients[-1], scene)
            self._model = _interpret(self._clients[0], body, scene, task)
        except BaseException:
            self.close()
            raise
        for client in self._clients:
            self._prepare(client)

    def reset(self, mask: np.ndarray, state: State, parameters: np.ndarray) -> None:
        """Joint states and parameters of the worlds in `mask`; the others go on undisturbed."""
        model = self._model
        for i in np.flatnonzero(mask).tolist():
            client = self._clients[i]
            self._apply(client, parameters[i].tolist())
            position, velocity = state.joint_position[i].tolist(), state.joint_velocity[i].tolist()
            for joint, q, dq in zip(model.joints, position, velocity, strict=True):
                p.resetJointState(model.body, joint, q, dq, physicsClientId=client)

    def step(self, profile: np.ndarray) -> State:
        """One physics step for each substep of the profile (n, substeps, u)."""
        model, torque = self._model, p.TORQUE_CONTROL
        body, joints, actuated = model.body, model.joints, model.actuated
        set_motors, advance, read = p.setJointMotorControlArray, p.stepSimulation, p.getJointStates
        flat: list[float] = []
        for client, efforts in zip(self._clients, profile.tolist(), strict=True):
            for effort in efforts:
                set_motors(body, actuated, torque, forces=effort, physicsClientId=client)
                advance(client)
            for joint in read(body, joints, client):
                flat += joint[:2]
        states = np.array(flat, np.float32).reshape(self.n, len(joints), 2)
        return State(joint_position=states[:, :, 0], joint_velocity=states[:, :, 1])

    def read_parameters(self) -> np.ndarray:
        """(n, d) parameter values as PyBullet holds them; NaN for those that are no part of the scene.

        Coulomb friction has no getter, so it is seen at work on a joint that moves; joint states are put
        back.
        """
        model = self._model
        values = np.full((self.n, len(self._space)), np.nan)
        for row, client in zip(values, self._clients, strict=True):
            p.syncBodyInfo(physicsClientId=client)  # getJointInfo answers from a cache
            if model.gravity_column is not None:
                row[model.gravity_column] = -p.getPhysicsEngineParameters(client)["gravityAccelerationZ"]
            for link in model.links:
                if link.mass_column is not None:
                    row[link.mass_column] = p.getDynamicsInfo(model.body, link.index, client)[0]
                if link.damping_column is not None:
                    row[link.damping_column] = p.getJointInfo(model.body, link.index, client)[6]
                if link.coulomb_column is not None:
                    row[link.coulomb_column] = self._measure_coulomb(client, link.index)
        return values

    def read_inertia(self, link: str) -> np.ndarray:
        """(n, 3) principal moments of inertia of a link as PyBullet holds them, kg m^2."""
        index = _link_numbers(self._clients[0], self._model.body)[link]
        return np.array([p.getDynamicsInfo(self._model.body, index, client)[2] for client in self._clients])

    def close(self) -> None:
        """Disconnect all clients."""
        while self._clients:
            p.disconnect(self._clients.pop())

    def _prepare(self, client: int) -> None:
        body = self._model.body
        p.changeDynamics(body, -1, linearDamping=0.0, angularDamping=0.0, physicsClientId=client)
        for joint in range(p.getNumJoints(body, client)):
            p.setJointMotorControl2(body, joint, p.VELOCITY_CONTROL, force=0.0, physicsClientId=client)
        self._apply(client, self._space.nominal.tolist())

    def _apply(self, client: int, row: list[float]) -> None:
        model = self._model
        if model.gravity_column is not None:
            p.setGravity(0.0, 0.0, -row[model.gravity_column], client)
        for link in model.links:
            change: dict = {}
            if link.mass_column is not None:
                mass = row[link.mass_column]
                # changeDynamics(mass) alone would reset the inertia, so both always go together.
                scale = mass / link.mass_kg
                change = {"mass": mass, "localInertiaDiagonal": [scale * moment for moment in link.inertia]}
            if link.damping_column is not None:
                change["jointDamping"] = row[link.damping_column]
            if change:
                p.changeDynamics(model.body, link.index, physicsClientId=client, **change)
            if link.coulomb_column is not None:
                p.setJointMotorControl2(
                    model.body,
                    link.index,
                    p.VELOCITY_CONTROL,
                    targetVelocity=0.0,
                    force=row[link.coulomb_column],
                    physicsClientId=client,
                )

    def _measure_coulomb(self, client: int, joint: int) -> float:
        """The effort by which the friction motor brakes a joint too fast to be stopped in one step."""
        body, joints = self._model.body, range(p.getNumJoints(self._model.body, client))
        before = p.getJointStates(body, joints, client)
        p.resetJointState(body, joint, before[joint][0], 100.0, physicsClientId=client)
        p.stepSimulation(client)
        effort = abs(p.getJointState(body, joint, client)[3])
        for index, (q, dq, *_) in enumerate(before):
            p.resetJointState(body, index, q, dq, physicsClientId=client)
        return effort


def _connect() -> int:
    client = p.connect(p.DIRECT)
    if client < 0:
        raise WorldError("PyBullet gives no more clients; accepted are at most about 1000 worlds in one process")
    return client


def _load(client: int, scene: Scene) -> int:
    path = ASSETS / scene.urdf  # an absolute path stays what it is
    if not path.is_file():
        raise WorldError(f"urdf: '{scene.urdf}' is not there; accepted is a file in {ASSETS} or an absolute path")
    p.setTimeStep(1.0 / scene.physics_hz, client)
    flags = p.URDF_USE_INERTIA_FROM_FILE | p.URDF_IGNORE_VISUAL_SHAPES
    try:
        return p.loadURDF(str(path), useFixedBase=True, flags=flags, physicsClientId=client)
    except p.error as error:
        raise WorldError(f"urdf: PyBullet cannot load '{path}' ({error}); accepted is a valid URDF file") from None


def _joint_numbers(client: int, body: int) -> dict[str, int]:
    return {p.getJointInfo(body, j, client)[1].decode(): j for j in range(p.getNumJoints(body, client))}


def _link_numbers(client: int, body: int) -> dict[str, int]:
    return {p.getJointInfo(body, j, client)[12].decode(): j for j in range(p.getNumJoints(body, client))}


def _interpret(client: int, body: int, scene: Scene, task: Task) -> _Model:
    """Resolve the scene's names to PyBullet's numbers, and cache nominal masses and inertias."""
    joints, links = _joint_numbers(client, body), _link_numbers(client, body)

    def number(kind: str, table: dict[str, int], name: str) -> int:
        if name not in table:
            raise WorldError(f"{kind}: '{name}' is not in {scene.urdf}; accepted is one of {', '.join(table)}")
        return table[name]

    bound: dict[int, _Link] = {}

    def link(index: int) -> _Link:
        if index not in bound:
            info = p.getDynamicsInfo(body, index, client)
            bound[index] = _Link(index, info[0], info[2])
        return bound[index]

    gravity_column = None
    for name, binding in scene.bindings.items():
        column = task.parameters.index(name)
        if isinstance(binding, Gravity):
            gravity_column = column
        elif isinstance(binding, LinkMass):
            link(number("link", links, binding.link)).mass_column = column
        elif isinstance(binding, JointDamping):
            link(number("joint", joints, binding.joint)).damping_column = column
        elif isinstance(binding, JointCoulomb):
            link(number("joint", joints, binding.joint)).coulomb_column = column
    return _Model(
        body=body,
        joints=[number("joint", joints, name) for name in scene.joints],
        actuated=[number("joint", joints, name) for name in scene.actuated],
        links=list(bound.values()),
        gravity_column=gravity_column,
    )
