"""Swing a 0.5 m pendulum up with a motor too weak to lift it, and keep it there.

The machine of Wiebe et al. 2023 (JOSS, doi 10.21105/joss.03884), whose identification tau = J q'' + m c g sin(q) +
Fv q' + Fc atan(100 q') + offset gives the nominal values: J = 0.06259 kg m^2, m c = 0.1022 kg m, Fv = 0.04707, Fc =
0.1839 (so a Coulomb friction of Fc pi/2), offset -0.07586 N m.

Frames: the angle is zero when the pendulum hangs and counts turns; the robot measures it and its rate, and takes a
torque. Gravity pulls with up to 1.0 N m, the motor gives 0.9 N m, friction takes 0.3 N m of it.
"""

from __future__ import annotations

import math

import numpy as np

from envs.effects.command import Delay, Gain, Lag, Noise, Offset
from envs.effects.disturbance import Pushes
from envs.effects.sensor import Bias, SensorNoise
from envs.randomization.parameters import Parameter, ParameterSpace
from envs.scene import Gravity, JointCoulomb, JointDamping, LinkMass, Scene
from envs.task import State, Task

MAX_TORQUE_NM = 0.9
SPEED_OF_FALL_RAD_S = 8.0  # at the bottom, after falling from upright: 2 sqrt(m c g / J)
UPRIGHT_RAD = 0.35  # from the vertical
CALM_RAD_S = 2.0
STILL_RAD_S = 0.5
CABLE_RAD = 4 * math.pi  # the motor's cable allows two turns either way
COULOMB_NM = 0.1839 * math.pi / 2

PARAMETERS = ParameterSpace(
    [
        Parameter("arm.mass_kg", "kg", 0.68, (0.2, 3.0), (0.58, 0.80), "log", "arm and weight; the inertia follows"),
        Parameter(
            "world.gravity_m_s2", "m/s^2", 9.81, (5.0, 20.0), (9.0, 11.0), description="gravity, or torque of gravity"
        ),
        Parameter("pivot.viscous_nm_s", "N m s/rad", 0.04707, (0.0, 0.3), (0.01, 0.07), description="viscous friction"),
        Parameter("pivot.coulomb_nm", "N m", COULOMB_NM, (0.0, 0.6), (0.15, 0.36), description="Coulomb friction"),
        Parameter("action.delay_ms", "ms", 0.0, (0.0, 120.0), (0.0, 50.0), description="from policy to motor"),
        Parameter("action.lag_ms", "ms", 0.0, (0.0, 120.0), (0.0, 40.0), description="first-order motor lag"),
        Parameter("action.gain", "1", 1.0, (0.4, 1.6), (0.85, 1.15), description="delivered / commanded torque"),
        Parameter(
            "action.offset_nm", "N m", 0.07586, (-0.3, 0.3), (-0.1, 0.1), description="torque that is always there"
        ),
        Parameter("action.noise_nm", "N m", 0.0, (0.0, 0.5), (0.0, 0.06), description="sd of the torque, each step"),
        Parameter("sensor.noise_sd", "SI", 0.0, (0.0, 0.3), (0.0, 0.05), description="sd on every measured channel"),
        Parameter("sensor.bias_rad", "rad", 0.0, (-0.2, 0.2), (-0.03, 0.03), description="zero error of the encoder"),
        Parameter("disturbance.push_n", "N", 0.0, (0.0, 5.0), (0.0, 0.0), description="knocks of 0.2 s, every 2 s"),
    ]
)


class Pendulum(Task):
    """Success: within 0.35 rad of upright and slower than 2 rad/s for all of the last second of 8 s at 50 Hz."""

    name = "pendulum"
    control_hz = 50.0
    max_steps = 400
    joints = ("pivot",)
    actuated = ("pivot",)
    action_size = 1
    initial_size = 2
    history = 5
    frame_names = ("cos_angle", "sin_angle", "angle_rad_s", "last_action")
    frame_scale = np.array([1.0, 1.0, 0.15, 1.0], np.float32)
    parameters = PARAMETERS
    adr_thresholds = (0.5, 0.9)  # episode success
    hold_steps = 50

    @property
    def scene(self) -> Scene:
        return Scene(
            urdf="pendulum.urdf",
            joints=self.joints,
            actuated=self.actuated,
            physics_hz=250.0,
            bindings={
                "arm.mass_kg": LinkMass("arm"),
                "world.gravity_m_s2": Gravity(),
                "pivot.viscous_nm_s": JointDamping("pivot"),
                "pivot.coulomb_nm": JointCoulomb("pivot"),
            },
        )

    @property
    def command_effects(self):
        return (
            Delay("action.delay_ms"),
            Gain("action.gain"),
            Lag("action.lag_ms"),
            Offset("action.offset_nm"),
            Noise("action.noise_nm"),
        )

    @property
    def sensor_effects(self):
        return (SensorNoise("sensor.noise_sd"), Bias("sensor.bias_rad", joint=0))

    @property
    def disturbances(self):
        return (Pushes("disturbance.push_n", "arm", "x"),)

    def initial(self, uniform: np.ndarray) -> State:
        spread = ((2.0 * uniform - 1.0) * np.array([0.2, 0.2])).astype(np.float32)  # angle and rate, hanging
        return State(joint_position=spread[:, :1], joint_velocity=spread[:, 1:])

    def command(self, action: np.ndarray) -> np.ndarray:
        return np.clip(action, -1.0, 1.0) * MAX_TORQUE_NM

    def action(self, command: np.ndarray) -> np.ndarray:
        return command / MAX_TORQUE_NM

    def features(self, state: State, last_action: np.ndarray) -> np.ndarray:
        angle = state.joint_position
        return np.concatenate([np.cos(angle), np.sin(angle), state.joint_velocity, last_action], axis=1)

    def true_state_scale(self) -> np.ndarray:
        return np.array([0.2, 0.15], np.float32)

    def reward(self, state: State, action: np.ndarray) -> np.ndarray:
        """In [-0.51, 1]: for having the energy that standing upright takes, and for the height of the tip.

        Friction lets a weak motor lean against gravity anywhere, and paid for height alone it stays there. So what
        it is paid for is energy, which turning round and pumping adds to, and standing still costs except upright.
        """
        angle, speed = state.joint_position[:, 0], state.joint_velocity[:, 0]
        height = 0.5 - 0.5 * np.cos(angle)
        energy = height + (speed / SPEED_OF_FALL_RAD_S) ** 2
        matched = 1.0 - np.minimum(np.abs(1.0 - energy), 1.0)
        stuck = (1.0 - height**12) * np.exp(-((speed / STILL_RAD_S) ** 2))
        effort = np.clip(action[:, 0], -1, 1) ** 2
        return (0.6 * matched + 0.4 * height**4 - 0.5 * stuck - 0.01 * effort).astype(np.float32)

    def failed(self, state: State) -> np.ndarray:
        return np.abs(state.joint_position[:, 0]) > CABLE_RAD

    def holding(self, state: State) -> np.ndarray:
        angle, speed = state.joint_position[:, 0], state.joint_velocity[:, 0]
        return (np.cos(angle) < -math.cos(UPRIGHT_RAD)) & (np.abs(speed) < CALM_RAD_S)

    def success(self, state: State, steps: np.ndarray) -> np.ndarray:
        return (steps >= self.max_steps) & self.holding(state) & ~self.failed(state)
