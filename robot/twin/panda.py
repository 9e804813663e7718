"""The physics of the Panda arm's reality: MuJoCo on the maker's URDF, under a joint-velocity controller of its own."""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math

import mujoco
import numpy as np

from envs import panda
from envs.kinematics import asset_path, urdf_text
from robot.twin.engine import Engine
from robot.twin.hidden import PandaHidden
from robot.twin.rigs import STEP_S, Rig, find_rig

BRAKE_NM, BRAKE_NM_S = 300.0, 1e4  # friction and damping of each joint while the motors are off
LEASH_RAD = 0.1  # how far the controller's reference may run ahead of a joint that is held back
COMPILER = '<mujoco><compiler discardvisual="true" strippath="false" fusestatic="true" balanceinertia="true"/></mujoco>'


class PandaModel(Engine):
    """Seven joints, gripper closed unless a subclass drives it, brakes on while the motors are off.

    A velocity passes latency with jitter, gain and a first-order lag; each joint follows the integral of it as a
    spring and a damper would, within its motor's torque, on top of most of gravity. Torque noise is drawn once for
    each control period.
    """

    locked = panda.FINGERS

    def __init__(self, hidden: PandaHidden, rig: Rig | None = None) -> None:
        self._hidden = hidden
        spec = load_arm(self.locked)
        spec.option.timestep = STEP_S
        spec.option.gravity = [0.0, 0.0, -hidden.gravity_m_s2]
        spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
        self._furnish(spec)
        self._dofs = slice(len(panda.JOINTS))
        model = self._compiled(spec)
        strong = np.array([1.0 if most > 50 else 0.5 for most in panda.MAX_EFFORT])
        self._stiffness, self._damping = hidden.stiffness_nm_rad * strong, hidden.damping_nm_s * strong
        self._torque = np.array(panda.MAX_EFFORT)
        self._current_sd = np.full(len(panda.JOINTS), hidden.sensor_noise_nm)
        self._blend = 1.0 - math.exp(-1e3 * STEP_S / hidden.lag_ms) if hidden.lag_ms else 1.0
        self._offsets = [hidden.encoder_offset_rad * (-1) ** i for i in range(len(panda.JOINTS))]
        super().__init__(rig or find_rig("reach"), model, hidden.latency_ms, hidden.latency_jitter_ms)

    def _compiled(self, spec: mujoco.MjSpec) -> mujoco.MjModel:
        """With the masses and the motors that are hidden."""
        model, hidden = spec.compile(), self._hidden
        for link in panda.LINKS:
            model.body(link).mass *= hidden.mass_scale
            model.body(link).inertia *= hidden.mass_scale
        model.dof_armature[self._dofs] = hidden.armature_kg_m2
        mujoco.mj_setConst(model, mujoco.MjData(model))
        return model

    def _furnish(self, spec: mujoco.MjSpec) -> None:
        """Add what stands around the arm; by default nothing, and nothing collides."""
        for geom in spec.geoms:
            geom.contype = geom.conaffinity = 0

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        super().reset(position, velocity, noise_seed)
        self._current_noise = np.random.default_rng(np.random.SeedSequence(noise_seed).spawn(5)[4])
        mujoco.mj_forward(self._model, self._data)
        self._noise = np.zeros(len(panda.JOINTS))
        self._brake()

    @property
    def efforts(self) -> list[float]:
        """N m, or N of a finger, that each motor gives, with gravity compensation, noise and its current sensor's."""
        if self._efforts_at != self._step:
            self._efforts_at = self._step
            noise = self._current_noise.standard_normal(self._joints) * self._current_sd
            self._efforts = self._data.qfrc_applied[: self._joints] + noise * self._driven
        return self._efforts.tolist()

    def push(self, *goals: float) -> None:
        if not self._driven:
            self._driven = True
            self._reference = self._data.qpos[: self._joints].copy()
            self._losses(self._hidden.coulomb_nm, self._hidden.viscous_nm_s)
        super().push(*goals)

    def cut(self) -> None:
        super().cut()
        self._brake()

    def _brake(self) -> None:
        self._driven = False
        self._efforts_at, self._efforts = -1, np.zeros(self._joints)  # of which step they are
        self._wanted = self._followed = np.zeros(self._joints)
        self._data.qfrc_applied[self._dofs] = 0.0
        self._losses(BRAKE_NM, BRAKE_NM_S)

    def _losses(self, coulomb_nm: float, viscous_nm_s: float) -> None:
        self._model.dof_frictionloss[self._dofs] = coulomb_nm
        self._model.dof_damping[self._dofs] = viscous_nm_s

    def advance(self, steps: int) -> None:
        for _ in range(steps):
            if self._step % self._control_steps == 0:
                self._noise = self._motor_noise.standard_normal(len(self._noise)) * self._hidden.torque_noise_nm
            if (goals := self._arrived()) is not None:
                self._wanted = np.array(goals) * self._hidden.gain
            if self._driven:
                self._control()
            mujoco.mj_step(self._model, self._data)
            self._step += 1
            self._stepped()

    def _control(self) -> None:
        """The torques of one step."""
        data, dofs = self._data, self._dofs
        q, speed = data.qpos[dofs], data.qvel[dofs]
        self._followed = self._followed + self._blend * (self._wanted - self._followed)
        reference, followed = self._reference[dofs] + self._followed[dofs] * STEP_S, self._followed[dofs]
        self._reference[dofs] = np.minimum(np.maximum(reference, q - LEASH_RAD), q + LEASH_RAD)
        torque = self._stiffness * (self._reference[dofs] - q) + self._damping * (followed - speed)
        torque += self._hidden.compensation * data.qfrc_bias[dofs] + self._noise
        data.qfrc_applied[dofs] = np.minimum(np.maximum(torque, -self._torque), self._torque)

    def _stepped(self) -> None:
        """What else happens in a step."""

    def _sense(self, noise: list[float]) -> tuple[float, ...]:
        return self._arm_sense(noise, *self.state)

    def _arm_sense(self, noise: list[float], position: list[float], velocity: list[float]) -> tuple[float, ...]:
        hidden, measured = self._hidden, []
        for i, (q, speed) in enumerate(zip(position[: len(self._offsets)], velocity, strict=False)):
            measured.append(q + self._offsets[i] + noise[2 * i] * hidden.sensor_noise_rad)
            measured.append(speed + noise[2 * i + 1] * hidden.sensor_noise_rad_s)
        return tuple(measured)


def load_arm(locked: tuple[str, ...]) -> mujoco.MjSpec:
    """The arm of pybullet_data on its pedestal, with the joints `locked` fixed at zero."""
    text = urdf_text(asset_path(panda.URDF), locked)
    end = text.index(">", text.index("<robot")) + 1
    spec = mujoco.MjSpec.from_string(text[:end] + COMPILER + text[end:])
    spec.worldbody.first_body().pos = panda.BASE
    return spec
