"""The physics of the pendulum reality: MuJoCo, with friction, cogging and a late motor that no simulator here has."""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math

import mujoco

from robot.twin.engine import Engine, quantised
from robot.twin.hidden import PendulumHidden
from robot.twin.rigs import STEP_S, find_rig

SLOW_RAD_S = 0.02  # below this, friction does not know a direction
GRAVITY_M_S2 = 9.81

MJCF = """
<mujoco model="pendulum reality">
  <option timestep="{step}" gravity="0 0 -{gravity}" integrator="implicitfast"/>
  <worldbody>
    <body name="arm">
      <joint name="pivot" type="hinge" axis="0 -1 0" frictionloss="{coulomb}" damping="{viscous}"/>
      <inertial pos="0 0 -{com}" mass="{mass}" diaginertia="{inertia} {inertia} 0.0005"/>
    </body>
  </worldbody>
  <actuator>
    <general name="drive" joint="pivot" dyntype="filterexact" dynprm="{lag}" actearly="true"/>
    <motor name="disturbance" joint="pivot"/>
  </actuator>
</mujoco>
"""


class PendulumModel(Engine):
    """One arm on one motor. Angle zero hangs, positive towards +x.

    A command passes latency with jitter, gain and a first-order lag; torque noise is drawn once for each control
    period. Coulomb friction differs with the direction, and the motor's magnets pull towards fixed angles.
    """

    def __init__(self, hidden: PendulumHidden) -> None:
        self._hidden = hidden
        self._asymmetry_nm = (hidden.coulomb_forward_nm - hidden.coulomb_backward_nm) / 2
        mass = 1.0  # only the inertia about the pivot and the torque of gravity show outside
        com = hidden.gravity_torque_nm / (mass * GRAVITY_M_S2)
        text = MJCF.format(
            step=STEP_S,
            gravity=GRAVITY_M_S2,
            coulomb=(hidden.coulomb_forward_nm + hidden.coulomb_backward_nm) / 2,
            viscous=hidden.viscous_nm_s,
            mass=mass,
            com=com,
            inertia=hidden.inertia_kg_m2 - mass * com**2,
            lag=max(hidden.lag_ms / 1e3, 1e-6),
        )
        model = mujoco.MjModel.from_xml_string(text)
        super().__init__(find_rig("pendulum"), model, hidden.latency_ms, hidden.latency_jitter_ms)

    def advance(self, steps: int) -> None:
        """Let `steps` milliseconds pass; friction and cogging follow the motion in each."""
        hidden, model, data = self._hidden, self._model, self._data
        control, extra, position, velocity = data.ctrl, data.qfrc_applied, data.qpos, data.qvel
        for _ in range(steps):
            if self._step % self._control_steps == 0:
                control[1] = self._motor_noise.standard_normal() * hidden.torque_noise_nm
            if (goals := self._arrived()) is not None:
                control[0] = goals[0] * hidden.gain
            moving = min(abs(velocity[0]) / SLOW_RAD_S, 1.0)
            cogging = hidden.cogging_nm * math.sin(hidden.cogging_periods * position[0])
            extra[0] = hidden.offset_nm - cogging - moving * self._asymmetry_nm
            mujoco.mj_step(model, data)
            self._step += 1

    def _sense(self, noise: list[float]) -> tuple[float, ...]:
        hidden = self._hidden
        angle = float(self._data.qpos[0]) + noise[0] * hidden.sensor_noise_rad
        rate = float(self._data.qvel[0]) + noise[1] * hidden.sensor_noise_rad_s
        return quantised(angle, hidden.angle_quantum_rad), rate
