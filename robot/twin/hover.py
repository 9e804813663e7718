"""The physics of the quadrotor reality: MuJoCo, with motors, air and sensors that no simulator here has.

On its bus the flight controller appears as ten nodes: four motors, whose goal current is a thrust, and six channels of
its estimator (motion capture and gyroscope), read like encoders. Who switches the motors off in flight only lets go of
them: the controller then lands by itself, and they stop on the ground.
"""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math
from collections import deque

import mujoco
import numpy as np

from robot.twin.engine import Engine
from robot.twin.hidden import HoverHidden
from robot.twin.rigs import STEP_S, find_rig

GRAVITY_M_S2 = 9.81
ARM_M = 0.12 / math.sqrt(2)
PLACES = ((1, 1), (-1, 1), (-1, -1), (1, -1))  # signs of x and y of each rotor
SPIN = (1, -1, 1, -1)  # of the torque on the frame, about z
RADIUS_M = 0.064
BELLY_M = 0.03  # from the centre down to what touches the ground
NOMINAL_KG = 0.5  # what its firmware believes
HOVER_N = NOMINAL_KG * GRAVITY_M_S2 / 4
DESCENT_M_S = 0.4
LANDED_M = 0.01  # above standing
GUSTS_S = 0.4  # how often one begins, 1/s

MJCF = """
<mujoco model="quadrotor reality">
  <option timestep="{step}" gravity="0 0 -{gravity}" integrator="implicitfast"/>
  <worldbody>
    <geom type="plane" size="10 10 1" friction="1 0.1 0.1"/>
    <body name="frame">
      <freejoint/>
      <inertial pos="{x} {y} {z}" mass="{mass}" diaginertia="{ix} {iy} {iz}"/>
      <geom type="box" size="0.12 0.12 {belly}"/>
      {sites}
    </body>
  </worldbody>
  <actuator>{motors}</actuator>
</mujoco>
"""


class HoverModel(Engine):
    """One quadrotor, its wind, its motion capture. Coordinates are those of the task's free base.

    A command passes latency with jitter, the battery's sag, a lag that is longer for less thrust, and each rotor's own
    gain. Drag is quadratic plus that of the rotors; the wind is steady for an episode and has gusts of the shape
    1 - cos (MIL-F-8785C, 3.7.3). After `reset` the rotors turn at the nominal hover thrust.
    """

    def __init__(self, hidden: HoverHidden) -> None:
        self._hidden = hidden
        self._gains = [getattr(hidden, f"rotor{i}_gain") for i in range(1, 5)]
        self._sites = [(ARM_M * x, ARM_M * y) for x, y in PLACES]
        text = MJCF.format(
            step=STEP_S,
            gravity=GRAVITY_M_S2,
            x=hidden.com_x_m,
            y=hidden.com_y_m,
            z=hidden.com_z_m,
            mass=hidden.mass_kg,
            ix=hidden.inertia_x_kg_m2,
            iy=hidden.inertia_y_kg_m2,
            iz=hidden.inertia_z_kg_m2,
            belly=BELLY_M,
            sites="".join(f'<site name="rotor{i}" pos="{x} {y} 0"/>' for i, (x, y) in enumerate(self._sites)),
            motors="".join(
                f'<motor site="rotor{i}" gear="0 0 1 0 0 {spin * hidden.reaction_m}"/>' for i, spin in enumerate(SPIN)
            ),
        )
        late = round(hidden.capture_latency_ms / (1e3 * STEP_S))
        self._seen: deque[tuple] = deque(maxlen=late + 1)  # what the motion capture saw, oldest first
        super().__init__(find_rig("hover"), mujoco.MjModel.from_xml_string(text), hidden.latency_ms, hidden.jitter_ms)

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        """Put it into coordinates and velocities of a free base, in a wind of its own."""
        super().reset(position, velocity, noise_seed)
        data = self._data
        data.qpos[:3], data.qpos[3:] = position[:3], _quaternion(*position[3:])
        data.qvel[:3], data.qvel[3:] = velocity[:3], velocity[3:]
        self._goal = [HOVER_N] * 4  # N, of each motor
        self._thrust = [HOVER_N] * 4
        self._lands = False
        self._summed = [0.0] * 3  # the firmware's integrals: roll and pitch error rad s, error of the climb m
        random = np.random.default_rng(np.random.SeedSequence(noise_seed).spawn(4)[3])
        towards = random.uniform(-math.pi, math.pi)
        speed = self._hidden.wind_m_s
        self._wind = (speed * math.cos(towards), speed * math.sin(towards), 0.0)
        self._weather, self._gust, self._gust_until, self._gust_s = random, (0.0, 0.0, 0.0), 0, 1.0
        self._seen.clear()
        self._look()

    @property
    def state(self) -> tuple[list[float], list[float]]:
        position, angles, speed, rates = self._truth()
        return [*position, *angles], [*speed, *rates]

    @property
    def thrusts(self) -> list[float]:
        """N, what each motor gives."""
        return list(self._thrust)

    @property
    def landing(self) -> bool:
        """Nobody commands the motors, and they still turn."""
        return self._lands and any(self._thrust)

    def push(self, *goals: float) -> None:
        self._lands = False
        super().push(*(max(goal, 0.0) for goal in goals))

    def cut(self) -> None:
        """Nobody commands any more: the firmware lands, from the nominal hover thrust."""
        self._arrivals.clear()
        if not self._lands:
            self._lands, self._summed = True, [0.0] * 3

    def advance(self, steps: int) -> None:
        hidden, model, data = self._hidden, self._model, self._data
        down, up = (STEP_S / max(lag / 1e3, STEP_S) for lag in (hidden.lag_down_ms, hidden.lag_up_ms))
        for _ in range(steps):
            if (goals := self._arrived()) is not None:
                self._goal = list(goals)
            if self._lands:
                self._goal = self._landing()
            if self._step % self._control_steps == 0:
                self._error = (self._motor_noise.standard_normal(4) * hidden.thrust_noise_n).tolist()
            sag = 1.0 - hidden.battery_sag * sum(self._thrust) / (4 * HOVER_N)
            frame = data.xmat[1].reshape(3, 3)
            for i, goal in enumerate(self._goal):
                wanted, now = goal * sag, self._thrust[i]
                now += (wanted - now) * (up if wanted > now else down)
                self._thrust[i] = now if now > 1e-3 or goal else 0.0
                x, y = self._sites[i]
                above = max(data.qpos[2] + frame[2, 0] * x + frame[2, 1] * y, RADIUS_M / 2)
                near = 1.0 - hidden.ground_effect * (RADIUS_M / 4 / above) ** 2
                data.ctrl[i] = max(now * self._gains[i] + (self._error[i] if goal else 0.0), 0.0) / near
            data.xfrc_applied[1, :3] = self._drag()
            mujoco.mj_step(model, data)
            self._step += 1
            self._look()

    def _drag(self) -> list[float]:
        """N, of the air on the frame and on the rotors."""
        if self._step >= self._gust_until:
            calm = self._weather.exponential(1.0 / GUSTS_S)
            self._gust_s = self._weather.uniform(0.3, 1.2)
            begins = self._step + round(calm / STEP_S)
            self._gust_from, self._gust_until = begins, begins + round(self._gust_s / STEP_S)
            way = self._weather.standard_normal(3) * (1.0, 1.0, 0.4)
            self._gust = tuple((way / np.linalg.norm(way) * self._hidden.gust_m_s).tolist())
        through = max(self._step - self._gust_from, 0) * STEP_S / self._gust_s
        share = 0.5 - 0.5 * math.cos(2 * math.pi * through)
        relative = [
            wind + share * gust - speed
            for wind, gust, speed in zip(self._wind, self._gust, self._data.qvel[:3].tolist(), strict=True)
        ]
        hidden = self._hidden
        size = hidden.drag_n_s2_m2 * math.hypot(*relative)
        turning = hidden.rotor_drag_n_s_m * sum(self._thrust) / (4 * HOVER_N)
        return [(size + turning) * relative[0], (size + turning) * relative[1], size * relative[2]]

    def _landing(self) -> list[float]:
        """N, the firmware's own goals: level, slowly down, off once on the ground."""
        if self._data.qpos[2] < BELLY_M + LANDED_M:
            return [0.0] * 4
        _, (roll, pitch, yaw), (vx, vy, vz), (p, q, r) = self._truth()
        ahead, left = vx * math.cos(yaw) + vy * math.sin(yaw), vy * math.cos(yaw) - vx * math.sin(yaw)
        sinking = -DESCENT_M_S - vz
        errors = _within(0.2 * left, 0.35) - roll, _within(-0.2 * ahead, 0.35) - pitch, sinking
        self._summed = [_within(old + new * STEP_S, 1.0) for old, new in zip(self._summed, errors, strict=True)]
        level = max(math.cos(roll) * math.cos(pitch), 0.5)
        lift = NOMINAL_KG / 4 * (GRAVITY_M_S2 + 6.0 * sinking + 8.0 * self._summed[2]) / level
        x = 0.10 * errors[0] + 0.15 * self._summed[0] - 0.035 * p
        y = 0.10 * errors[1] + 0.15 * self._summed[1] - 0.035 * q
        z = -0.05 * r
        most = self._most[0]
        return [
            min(max(lift + 4 * HOVER_N * (sy * x - sx * y + spin * z), 0.0), most)
            for (sx, sy), spin in zip(PLACES, SPIN, strict=True)
        ]

    def _truth(self) -> tuple[list[float], list[float], list[float], list[float]]:
        """Position m, roll, pitch and yaw rad, velocity m/s, body rates rad/s."""
        place, moving = self._data.qpos.tolist(), self._data.qvel.tolist()
        return place[:3], list(_angles(*place[3:])), moving[:3], moving[3:]

    def _look(self) -> None:
        place, moving = self._data.qpos.tolist(), self._data.qvel.tolist()
        self._seen.append((place, moving[:3]))

    def _sense(self, noise: list[float]) -> tuple[float, ...]:
        hidden = self._hidden
        place, speed = self._seen[0]
        rates = self._data.qvel[3:].tolist()
        level = (hidden.roll_bias_rad, hidden.pitch_bias_rad, 0.0)
        zero = (hidden.gyro_bias_x_rad_s, hidden.gyro_bias_y_rad_s, hidden.gyro_bias_z_rad_s)
        seen: list[float] = []
        for i in range(3):
            seen += [
                place[i] + noise[2 * i] * hidden.position_noise_m,
                speed[i] + noise[2 * i + 1] * hidden.velocity_noise_m_s,
            ]
        for i, angle in enumerate(_angles(*place[3:])):
            seen += [
                angle + level[i] + noise[6 + 2 * i] * hidden.attitude_noise_rad,
                rates[i] + zero[i] + noise[7 + 2 * i] * hidden.gyro_noise_rad_s,
            ]
        return tuple(seen)


def _within(value: float, most: float) -> float:
    return min(max(value, -most), most)


def _angles(w: float, x: float, y: float, z: float) -> tuple[float, float, float]:
    """Roll, pitch and yaw of MuJoCo's quaternion."""
    pitch = math.asin(_within(2 * (w * y - z * x), 1.0))
    return (
        math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y)),
        pitch,
        math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z)),
    )


def _quaternion(roll: float, pitch: float, yaw: float) -> list[float]:
    """MuJoCo's (w, x, y, z): turns about z, then y, then x, each in the frame turned before."""
    turn = np.array([1.0, 0.0, 0.0, 0.0])
    for axis, angle in ((2, yaw), (1, pitch), (0, roll)):
        more, about = np.zeros(4), np.zeros(3)
        about[axis] = 1.0
        mujoco.mju_axisAngle2Quat(more, about, angle)
        mujoco.mju_mulQuat(turn, turn.copy(), more)
    return turn.tolist()
