"""The Panda arm's reality with its gripper, at a table with an object that it can grasp."""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco
import numpy as np

from envs import panda
from envs.tasks.lift import HELD_OUT, OBJECTS
from robot.twin.hidden import LiftHidden
from robot.twin.panda_table import Camera, TableModel, touch
from robot.twin.rigs import STEP_S, find_rig

ARM = len(panda.JOINTS)
FINGERS = slice(ARM, ARM + 2)
HAND = ("panda_link7", *(f"panda_{side}finger" for side in ("left", "right")))  # the hand is fused into the link
DRIVE_KG = 0.3  # the spindle's inertia, as seen from each finger
FASTEST_M_S = 0.15  # of a finger: where the motor's own voltage leaves nothing to drive it with
BACK_DRIVEN_N_S_M = 1000.0  # damping of each finger while it moves against its motor: the spindle hardly lets it
SELF_LOCKING_N, SELF_LOCKING_N_S_M = 200.0, 1e6  # friction and damping of each finger while the motors are off
LEASH_M = 0.006  # how far the fingers' reference may run ahead of fingers that are held back
KINDS = {"box": mujoco.mjtGeom.mjGEOM_BOX, "cylinder": mujoco.mjtGeom.mjGEOM_CYLINDER}


class LiftModel(TableModel):
    """The arm with fingers that one motor drives, a table, and one of several objects, drawn anew for each episode.

    The gripper's spindle is self-locking: what is held when the motors go off stays held, and does not fall. Its motor
    has less force the faster it turns, none at FASTEST_M_S, and brakes beyond, and what pushes at a finger has to drive
    the spindle backwards: fingers that lose an object, or are struck, do not snap.
    """

    locked = ()
    body = "object"

    def __init__(self, hidden: LiftHidden) -> None:
        self._table = hidden
        self._models: dict[int, mujoco.MjModel] = {}  # for each object
        self._object = 0
        super().__init__(hidden, find_rig("lift"), Camera(hidden, (1.0, -1.0, 0.5)), hidden.table_height_m)
        self._current_sd = np.append(self._current_sd, hidden.grip_noise_n)

    def _height_m(self) -> float:
        return self._table.object_scale * OBJECTS[self._object].height_m

    def _furnish(self, spec: mujoco.MjSpec) -> None:
        super()._furnish(spec)
        hidden, self._spec = self._table, spec
        spec.option.cone = mujoco.mjtCone.mjCONE_ELLIPTIC
        spec.option.impratio = 10.0  # what is held does not creep
        plane = mujoco.mjtGeom.mjGEOM_PLANE
        place = [0.0, 0.0, hidden.table_height_m]
        spec.worldbody.add_geom(name="table", type=plane, size=[1.0, 1.0, 0.1], pos=place, contype=0, conaffinity=0)
        body = spec.worldbody.add_body(name="object", pos=[0.5, 0.0, 1.0])
        body.add_freejoint(name="object")
        body.add_geom(name="object", mass=hidden.object_mass_kg, contype=0, conaffinity=0)
        self._give_shape(0)
        geoms = [geom for link in HAND for geom in spec.body(link).geoms]
        for i, geom in enumerate(geoms):
            geom.name = f"hand{i}"
            touch(spec, geom.name, "object", hidden.object_friction)
            touch(spec, geom.name, "table", hidden.object_friction)
        touch(spec, "object", "table", hidden.table_friction)
        one, two = panda.FINGERS
        spec.add_equality(type=mujoco.mjtEq.mjEQ_JOINT, name1=two, name2=one, data=[0.0, 1.0, *[0.0] * 10])

    def _give_shape(self, number: int) -> None:
        shape, geom = OBJECTS[number], self._spec.geom("object")
        size = [self._table.object_scale * length / 2 for length in shape.size]
        geom.type, geom.size = KINDS[shape.kind], [*size, 0.0][:3]

    def _compiled(self, spec: mujoco.MjSpec) -> mujoco.MjModel:
        model = super()._compiled(spec)
        model.dof_armature[FINGERS] = DRIVE_KG
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        """The technician also takes one of the objects."""
        numbers = np.arange(HELD_OUT) if self._table.objects == "training" else np.arange(HELD_OUT, len(OBJECTS))
        random = np.random.default_rng(np.random.SeedSequence(noise_seed).spawn(6)[5])
        self._object = int(random.choice(numbers))
        if self._object not in self._models:
            self._give_shape(self._object)
            self._models[self._object] = self._compiled(self._spec)
        self._model = self._models[self._object]
        self._data = mujoco.MjData(self._model)
        super().reset(position, velocity, noise_seed)

    def place(self, poses: list[list[float]]) -> None:
        """Fingers move as one; where the first is put, the second goes as well."""
        position, velocity = self._data.qpos, self._data.qvel
        position[ARM + 1], velocity[ARM + 1] = position[ARM], velocity[ARM]
        super().place(poses)

    def _brake(self) -> None:
        super()._brake()
        self._data.qfrc_applied[FINGERS] = 0.0
        self._friction(SELF_LOCKING_N, SELF_LOCKING_N_S_M)

    def push(self, *goals: float) -> None:
        if not self._driven:
            self._friction(self._table.grip_coulomb_n, 0.0)
        super().push(*goals)

    def _friction(self, coulomb_n: float, viscous_n_s_m: float) -> None:
        self._model.dof_frictionloss[FINGERS] = coulomb_n
        self._model.dof_damping[FINGERS] = viscous_n_s_m

    def _control(self) -> None:
        """Both fingers get the same force, outwards if positive."""
        super()._control()
        hidden, q, speed = self._table, self._data.qpos[ARM], self._data.qvel[ARM]
        followed = self._followed[ARM]
        reference = self._reference[ARM] + followed * STEP_S
        self._reference[ARM] = min(max(reference, q - LEASH_M), q + LEASH_M)
        force = hidden.grip_stiffness_n_m * (self._reference[ARM] - q) + hidden.grip_damping_n_s_m * (followed - speed)
        most, turning = hidden.grip_force_n, speed / FASTEST_M_S
        force = min(max(force, -most * (1.0 + turning)), most * (1.0 - turning))
        self._data.qfrc_applied[FINGERS] = force
        self._model.dof_damping[FINGERS] = BACK_DRIVEN_N_S_M if force * speed < 0 else 0.0

    def _sense(self, noise: list[float]) -> tuple[float, ...]:
        hidden, (position, velocity) = self._table, self.state
        measured = list(self._arm_sense(noise, position, velocity))
        measured.append(position[ARM] + hidden.finger_offset_m + noise[2 * ARM] * hidden.finger_noise_m)
        measured.append(velocity[ARM] + noise[2 * ARM + 1] * hidden.finger_noise_m)
        return tuple(measured)
