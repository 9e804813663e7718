"""The physics of the cartpole reality: MuJoCo, with own effects between bus and motor and behind the sensors.

Nothing here is shared with the simulator's effects: another engine and other code are the point of a twin.
"""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
from collections import deque

import mujoco
import numpy as np

from robot.twin.hidden import Hidden
from robot.twin.rigs import STEP_S, find_rig

RIG = find_rig("cartpole")
CONTROL_STEPS = RIG.control_steps
MAX_FORCE_N = RIG.axes[0].most  # what the motor can do, whoever asks
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


class CartpoleModel:
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
        self._model = mujoco.MjModel.from_xml_string(text)
        self._data = mujoco.MjData(self._model)
        self.reset([0.0, 0.0], [0.0, 0.0], 0)

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        """Start over from (slider m, hinge rad) and rates, with everything random drawn from `noise_seed`."""
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = position
        self._data.qvel[:] = velocity
        streams = np.random.SeedSequence(noise_seed).spawn(3)
        self._bus_noise, self._force_noise, self._sensor_noise = (np.random.default_rng(one) for one in streams)
        self._arrivals: deque[tuple[int, float]] = deque()  # (physics step, N) on their way to the motor
        self._step = 0
        self._noise_until = 0
        self._measured_at = -1
        self._measured = (0.0, 0.0, 0.0, 0.0)

    @property
    def step_count(self) -> int:
        """Physics steps of 1 ms since the reset."""
        return self._step

    @property
    def time_s(self) -> float:
        return self._step * STEP_S

    @property
    def state(self) -> tuple[list[float], list[float]]:
        """True position and velocity: for the technician, never for the bus."""
        return self._data.qpos.tolist(), self._data.qvel.tolist()

    def push(self, *efforts: float) -> None:
        """A force, N, enters the bus now; it reaches the motor after the latency, in order."""
        hidden, force_n = self._hidden, efforts[0]
        late_ms = hidden.latency_ms + abs(self._bus_noise.standard_normal()) * hidden.latency_jitter_ms
        arrival = self._step + math.ceil(late_ms / (1e3 * STEP_S) - 1e-6)
        self._arrivals.append((arrival, min(max(force_n, -MAX_FORCE_N), MAX_FORCE_N)))

    def cut(self) -> None:
        """The motor is switched off: nothing that is still on its way arrives."""
        self._arrivals.clear()
        self._data.ctrl[0] = 0.0

    def advance(self, steps: int) -> None:
        """Let `steps` milliseconds pass, in as few engine calls as there are events."""
        end = self._step + steps
        control = self._data.ctrl
        while self._step < end:
            if self._step >= self._noise_until:
                control[1] = self._force_noise.standard_normal() * self._hidden.force_noise_n
                self._noise_until = self._step + CONTROL_STEPS
            while self._arrivals and self._arrivals[0][0] <= self._step:
                force = self._arrivals.popleft()[1]
                control[0] = force * self._hidden.gain if abs(force) > self._hidden.dead_band_n else 0.0
            until = min(end, self._noise_until, self._arrivals[0][0] if self._arrivals else end)
            mujoco.mj_step(self._model, self._data, until - self._step)
            self._step = until

    def measure(self) -> tuple[float, float, float, float]:
        """Slider m, slider m/s, hinge rad, hinge rad/s as the sensors have them, once each millisecond."""
        if self._measured_at != self._step:
            data, hidden = self._data, self._hidden
            noise = (self._sensor_noise.standard_normal(4) * hidden.sensor_noise_sd).tolist()
            (x, angle), (speed, rate) = data.qpos.tolist(), data.qvel.tolist()
            angle += noise[2]
            if hidden.angle_quantum_rad:
                angle = round(angle / hidden.angle_quantum_rad) * hidden.angle_quantum_rad
            self._measured = (x + noise[0], speed + noise[1], angle, rate + noise[3])
            self._measured_at = self._step
        return self._measured
