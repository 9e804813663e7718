"""The physics of the cartpole reality: MuJoCo, with own effects between bus and motor and behind the sensors."""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco

from robot.twin.engine import Engine, quantised
from robot.twin.hidden import Hidden
from robot.twin.rigs import STEP_S, find_rig

RIG = find_rig("cartpole")
POLE_M = 0.4
BUFFER_M = 0.8  # rubber buffers at the ends of the rail, beyond the 0.6 m that the task allows

MJCF = """
<mujoco model="cartpole reality">
  <option timestep="{step}" gravity="0 0 -{gravity}" integrator="implicitfast"/>
  <worldbody>
    <body name="cart">
      <joint name="slider" type="slide" axis="1 0 0" frictionloss="{coulomb}" damping="{viscous}"
             limited="true" range="-{buffer} {buffer}"/>
      <inertial pos="0 0 0" mass="{cart}" diaginertia="0.02 0.02 0.02"/>
      <body name="pole">
        <joint name="hinge" type="hinge" axis="0 1 0" frictionloss="{hinge}"/>
        <inertial pos="0 0 {com}" mass="{pole}" diaginertia="{inertia} {inertia} 0.0001"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <general name="belt" joint="slider" dyntype="filterexact" dynprm="{lag}" actearly="true"/>
    <motor name="disturbance" joint="slider"/>
  </actuator>
</mujoco>
"""


class CartpoleModel(Engine):
    """One cart, one pole, one belt motor. Angle zero is upright, positive towards +x.

    A command passes latency with jitter, dead band, gain and a first-order lag; force noise is drawn once for
    each control period. The lag is MuJoCo's exact filter, stepped at 1 ms, so between two events many steps
    are one call.
    """

    def __init__(self, hidden: Hidden) -> None:
        self._hidden = hidden
        text = MJCF.format(
            step=STEP_S,
            gravity=hidden.gravity_m_s2,
            coulomb=hidden.cart_coulomb_n,
            viscous=hidden.cart_viscous_n_s_m,
            cart=hidden.cart_mass_kg,
            hinge=hidden.hinge_coulomb_nm,
            pole=hidden.pole_mass_kg,
            inertia=hidden.pole_mass_kg * POLE_M**2 / 12,  # a thin rod
            com=POLE_M / 2,
            lag=max(hidden.lag_ms / 1e3, 1e-6),
            buffer=BUFFER_M,
        )
        model = mujoco.MjModel.from_xml_string(text)
        super().__init__(RIG, model, hidden.latency_ms, hidden.latency_jitter_ms)

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        super().reset(position, velocity, noise_seed)
        self._noise_until = 0

    def advance(self, steps: int) -> None:
        """Let `steps` milliseconds pass, in as few engine calls as there are events."""
        end = self._step + steps
        control = self._data.ctrl
        while self._step < end:
            if self._step >= self._noise_until:
                control[1] = self._motor_noise.standard_normal() * self._hidden.force_noise_n
                self._noise_until = self._step + self._control_steps
            if (goals := self._arrived()) is not None:
                force = goals[0]
                control[0] = force * self._hidden.gain if abs(force) > self._hidden.dead_band_n else 0.0
            until = min(end, self._noise_until, self._arrivals[0][0] if self._arrivals else end)
            mujoco.mj_step(self._model, self._data, until - self._step)
            self._step = until

    def _sense(self, noise: list[float]) -> tuple[float, ...]:
        (x, angle), (speed, rate) = self._data.qpos.tolist(), self._data.qvel.tolist()
        sd = self._hidden.sensor_noise_sd
        angle = quantised(angle + noise[2] * sd, self._hidden.angle_quantum_rad)
        return x + noise[0] * sd, speed + noise[1] * sd, angle, rate + noise[3] * sd
