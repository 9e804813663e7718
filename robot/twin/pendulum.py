"""The physics of the pendulum reality: MuJoCo, with friction, cogging and a late motor that no simulator here has."""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
from collections import deque

import mujoco
import numpy as np

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


class PendulumModel:
    """One arm on one motor. Angle zero hangs, positive towards +x.

    A command passes latency with jitter, gain and a first-order lag; torque noise is drawn once for each control
    period. Coulomb friction differs with the direction, and the motor's magnets pull towards fixed angles.
    """

    def __init__(self, hidden: PendulumHidden) -> None:
        self._hidden = hidden
        rig = find_rig("pendulum")
        self._most, self._control_steps = rig.axes[0].most, rig.control_steps
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
        self._model = mujoco.MjModel.from_xml_string(text)
        self._data = mujoco.MjData(self._model)
        self.reset([0.0], [0.0], 0)

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        """Start over from pivot rad and rad/s, with everything random drawn from `noise_seed`."""
        mujoco.mj_resetData(self._model, self._data)
        self._data.qpos[:] = position
        self._data.qvel[:] = velocity
        streams = np.random.SeedSequence(noise_seed).spawn(3)
        self._bus_noise, self._torque_noise, self._sensor_noise = (np.random.default_rng(one) for one in streams)
        self._arrivals: deque[tuple[int, float]] = deque()  # (physics step, N m) on their way to the motor
        self._step = 0
        self._measured_at = -1
        self._measured = (0.0, 0.0)

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
        """A torque, N m, enters the bus now; it reaches the motor after the latency, in order."""
        hidden = self._hidden
        late_ms = hidden.latency_ms + abs(self._bus_noise.standard_normal()) * hidden.latency_jitter_ms
        arrival = self._step + math.ceil(late_ms / (1e3 * STEP_S) - 1e-6)
        self._arrivals.append((arrival, min(max(efforts[0], -self._most), self._most)))

    def cut(self) -> None:
        """The motor is switched off: nothing that is still on its way arrives."""
        self._arrivals.clear()
        self._data.ctrl[0] = 0.0

    def advance(self, steps: int) -> None:
        """Let `steps` milliseconds pass; friction and cogging follow the motion in each."""
        hidden, model, data = self._hidden, self._model, self._data
        control, extra, position, velocity = data.ctrl, data.qfrc_applied, data.qpos, data.qvel
        for _ in range(steps):
            if self._step % self._control_steps == 0:
                control[1] = self._torque_noise.standard_normal() * hidden.torque_noise_nm
            while self._arrivals and self._arrivals[0][0] <= self._step:
                control[0] = self._arrivals.popleft()[1] * hidden.gain
            moving = min(abs(velocity[0]) / SLOW_RAD_S, 1.0)
            cogging = hidden.cogging_nm * math.sin(hidden.cogging_periods * position[0])
            extra[0] = hidden.offset_nm - cogging - moving * self._asymmetry_nm
            mujoco.mj_step(model, data)
            self._step += 1

    def measure(self) -> tuple[float, float]:
        """Angle rad and rate rad/s as the sensors have them, once each millisecond."""
        if self._measured_at != self._step:
            data, hidden = self._data, self._hidden
            noise = self._sensor_noise.standard_normal(2).tolist()
            angle = float(data.qpos[0]) + noise[0] * hidden.sensor_noise_rad
            if hidden.angle_quantum_rad:
                angle = round(angle / hidden.angle_quantum_rad) * hidden.angle_quantum_rad
            self._measured = (angle, float(data.qvel[0]) + noise[1] * hidden.sensor_noise_rad_s)
            self._measured_at = self._step
        return self._measured
