"""Fly a small quadrotor to a point and stay there, in wind, with four thrusts.

Frames: x forwards, y left, z up, the world's origin on the ground below the goal; roll, pitch, yaw as in
`envs.flight`. Motion capture measures position, velocity and attitude, a gyroscope the body rates; the goal is one
metre up. An episode begins in the air, off a launch stand, with the rotors at the nominal hover thrust.

The machine is of the size of a 250 mm frame. The wind is light air (up to 1.6 m/s, Beaufort 1 to 2), with a turbulence
of up to 0.6 m/s; reaction torque and rotor radius are those of 5 inch propellers.
"""

from __future__ import annotations

import math

import numpy as np

from envs.bindings import GroundEffect, LinkInertiaScale, PayloadMass, PayloadOffset
from envs.effects.command import Delay, Gain, Lag, Noise
from envs.effects.disturbance import Pushes, Wind
from envs.effects.groups import GroupBias, GroupDelay, GroupNoise
from envs.flight import FREE_JOINTS
from envs.randomization.parameters import Parameter, ParameterSpace
from envs.scene import Gravity, LinkMass, Rotors, Scene
from envs.task import State, Task

MASS_KG = 0.5
HOVER_N = MASS_KG * 9.81 / 4  # of each rotor
ARM_M = 0.12 / math.sqrt(2)
ROTORS = Rotors(
    points=((ARM_M, ARM_M, 0.0), (-ARM_M, ARM_M, 0.0), (-ARM_M, -ARM_M, 0.0), (ARM_M, -ARM_M, 0.0)),
    reaction_m=(0.016, -0.016, 0.016, -0.016),
    radius_m=0.064,
)
GOAL_M = (0.0, 0.0, 1.0)
SUCCESS_M = 0.25
FAR_M = 1.5
LOW_M = 0.1  # lower is a crash
TILT_RAD = 1.05
POSITION, ATTITUDE = slice(0, 3), slice(3, 6)  # columns of a free base's coordinates

PARAMETERS = ParameterSpace(
    [
        Parameter("world.gravity_m_s2", "m/s^2", 9.81, (8.0, 12.0), (9.7, 9.9), description="magnitude of gravity"),
        Parameter("frame.mass_kg", "kg", MASS_KG, (0.25, 1.0), (0.42, 0.62), "log", "of the machine; inertia follows"),
        Parameter("frame.inertia_scale", "1", 1.0, (0.3, 3.0), (0.7, 1.5), "log", "on the inertia, with the same mass"),
        Parameter("frame.drag_n_s_m", "N s/m", 0.1, (0.0, 1.0), (0.0, 0.3), description="drag of the air"),
        Parameter("payload.mass_kg", "kg", 0.0, (0.0, 0.3), (0.0, 0.08), description="a point mass on the frame"),
        Parameter("payload.x_m", "m", 0.0, (-0.1, 0.1), (-0.03, 0.03), description="forwards of the centre"),
        Parameter("payload.y_m", "m", 0.0, (-0.1, 0.1), (-0.03, 0.03), description="left of the centre"),
        Parameter("payload.z_m", "m", 0.0, (-0.2, 0.1), (-0.05, 0.0), description="above the centre"),
        Parameter("rotor1.gain", "1", 1.0, (0.7, 1.3), (0.95, 1.05), description="front left: thrust / commanded"),
        Parameter("rotor2.gain", "1", 1.0, (0.7, 1.3), (0.95, 1.05), description="back left: the same"),
        Parameter("rotor3.gain", "1", 1.0, (0.7, 1.3), (0.95, 1.05), description="back right: the same"),
        Parameter("rotor4.gain", "1", 1.0, (0.7, 1.3), (0.95, 1.05), description="front right: the same"),
        Parameter("rotors.ground_effect", "1", 1.0, (0.0, 3.0), (0.5, 1.5), description="0: none, 1: as published"),
        Parameter("action.gain", "1", 1.0, (0.5, 1.5), (0.85, 1.1), description="all rotors: thrust / commanded"),
        Parameter("action.delay_ms", "ms", 0.0, (0.0, 100.0), (0.0, 35.0), description="from policy to motors"),
        Parameter("action.lag_ms", "ms", 0.0, (0.0, 200.0), (0.0, 80.0), description="first-order lag of the motors"),
        Parameter("action.noise_n", "N", 0.0, (0.0, 0.5), (0.0, 0.05), description="sd of each thrust, each step"),
        Parameter("wind.speed_m_s", "m/s", 0.0, (0.0, 8.0), (0.0, 1.6), description="mean, horizontal"),
        Parameter("wind.direction_rad", "rad", 0.0, (-math.pi, math.pi), (-math.pi, math.pi), description="from x"),
        Parameter("wind.turbulence_m_s", "m/s", 0.0, (0.0, 3.0), (0.0, 0.6), description="sd of each component"),
        Parameter("wind.correlation_s", "s", 1.0, (0.1, 10.0), (0.3, 4.0), "log", "of the turbulence"),
        Parameter("disturbance.push_n", "N", 0.0, (0.0, 5.0), (0.0, 0.0), description="knocks of 0.2 s, every 2 s"),
        Parameter("sensor.position_noise_m", "m", 0.0, (0.0, 0.1), (0.0, 0.02), description="sd on each axis"),
        Parameter("sensor.velocity_noise_m_s", "m/s", 0.0, (0.0, 0.3), (0.0, 0.05), description="sd on each axis"),
        Parameter("sensor.attitude_noise_rad", "rad", 0.0, (0.0, 0.1), (0.0, 0.02), description="sd of each angle"),
        Parameter("sensor.gyro_noise_rad_s", "rad/s", 0.0, (0.0, 0.5), (0.0, 0.1), description="sd of each rate"),
        Parameter("sensor.roll_bias_rad", "rad", 0.0, (-0.2, 0.2), (-0.03, 0.03), description="level error"),
        Parameter("sensor.pitch_bias_rad", "rad", 0.0, (-0.2, 0.2), (-0.03, 0.03), description="level error"),
        Parameter("sensor.gyro_bias_x_rad_s", "rad/s", 0.0, (-0.5, 0.5), (-0.05, 0.05), description="zero error"),
        Parameter("sensor.gyro_bias_y_rad_s", "rad/s", 0.0, (-0.5, 0.5), (-0.05, 0.05), description="zero error"),
        Parameter("sensor.gyro_bias_z_rad_s", "rad/s", 0.0, (-0.5, 0.5), (-0.05, 0.05), description="zero error"),
        Parameter("sensor.delay_ms", "ms", 0.0, (0.0, 100.0), (0.0, 20.0), description="age of position and attitude"),
    ]
)


class Hover(Task):
    """Success: within 0.25 m of the goal for all of the last second of 6 s at 50 Hz.

    It fails more than 1.5 m away, below 0.1 m, or tilted by more than 60 degrees.
    """

    name = "hover"
    control_hz = 50.0
    max_steps = 300
    joints = FREE_JOINTS
    actuated = ("rotor1", "rotor2", "rotor3", "rotor4")
    action_size = 4
    initial_size = 12
    history = 5
    frame_names = (
        "ahead_m",
        "left_m",
        "up_m",
        "ahead_m_s",
        "left_m_s",
        "up_m_s",
        "roll_rad",
        "pitch_rad",
        "yaw_rad",
        "rate_x_rad_s",
        "rate_y_rad_s",
        "rate_z_rad_s",
        "last_1",
        "last_2",
        "last_3",
        "last_4",
    )
    frame_scale = np.array([1.5] * 3 + [1.0] * 3 + [3.0, 3.0, 1.0] + [0.3] * 3 + [1.0] * 4, np.float32)
    parameters = PARAMETERS
    adr_thresholds = (0.5, 0.9)  # episode success
    hold_steps = 50

    @property
    def scene(self) -> Scene:
        return Scene(
            urdf="hover.urdf",
            joints=self.joints,
            actuated=self.actuated,
            physics_hz=250.0,
            bindings={
                "world.gravity_m_s2": Gravity(),
                "frame.mass_kg": LinkMass("frame"),
                "frame.inertia_scale": LinkInertiaScale("frame"),
                "payload.mass_kg": PayloadMass(),
                "payload.x_m": PayloadOffset("x"),
                "payload.y_m": PayloadOffset("y"),
                "payload.z_m": PayloadOffset("z"),
                "rotors.ground_effect": GroundEffect(),
            },
            actuation=ROTORS,
        )

    @property
    def command_effects(self):
        return (
            Delay("action.delay_ms", rest=HOVER_N),
            Gain("action.gain"),
            Gain("rotor1.gain", "rotor2.gain", "rotor3.gain", "rotor4.gain"),
            Lag("action.lag_ms", rest=HOVER_N),
            Noise("action.noise_n"),
        )

    @property
    def sensor_effects(self):
        return (
            GroupDelay("sensor.delay_ms", "joint_position"),
            GroupBias(("sensor.roll_bias_rad", "sensor.pitch_bias_rad"), "joint_position", slice(3, 5)),
            GroupBias(
                ("sensor.gyro_bias_x_rad_s", "sensor.gyro_bias_y_rad_s", "sensor.gyro_bias_z_rad_s"),
                "joint_velocity",
                ATTITUDE,
            ),
            GroupNoise("sensor.position_noise_m", "joint_position", POSITION),
            GroupNoise("sensor.attitude_noise_rad", "joint_position", ATTITUDE),
            GroupNoise("sensor.velocity_noise_m_s", "joint_velocity", POSITION),
            GroupNoise("sensor.gyro_noise_rad_s", "joint_velocity", ATTITUDE),
        )

    @property
    def disturbances(self):
        wind = (
            "frame.drag_n_s_m",
            "wind.speed_m_s",
            "wind.direction_rad",
            "wind.turbulence_m_s",
            "wind.correlation_s",
        )
        return (
            Wind(wind, "frame", lambda state: state.joint_velocity[:, :3]),
            Pushes("disturbance.push_n", "frame", "xyz"),
        )

    def initial(self, uniform: np.ndarray) -> State:
        spread = (2.0 * uniform - 1.0) * np.array([0.4] * 3 + [0.15] * 3 + [0.2] * 6)
        spread[:, POSITION] += GOAL_M
        spread = spread.astype(np.float32)
        return State(joint_position=spread[:, :6], joint_velocity=spread[:, 6:])

    def command(self, action: np.ndarray) -> np.ndarray:
        return (1.0 + np.clip(action, -1.0, 1.0)) * HOVER_N

    def action(self, command: np.ndarray) -> np.ndarray:
        return command / HOVER_N - 1.0

    def features(self, state: State, last_action: np.ndarray) -> np.ndarray:
        """Position from the goal and velocity along the heading, so that the same sight asks for the same thrusts."""
        error, speed = state.joint_position[:, POSITION] - GOAL_M, state.joint_velocity[:, POSITION]
        cos, sin = np.cos(state.joint_position[:, 5]), np.sin(state.joint_position[:, 5])
        level = [
            np.stack([cos * v[:, 0] + sin * v[:, 1], cos * v[:, 1] - sin * v[:, 0], v[:, 2]], axis=1)
            for v in (error, speed)
        ]
        attitude, rates = state.joint_position[:, ATTITUDE], state.joint_velocity[:, ATTITUDE]
        return np.concatenate([*level, attitude, rates, last_action], axis=1)

    def true_state_scale(self) -> np.ndarray:
        return np.array([1.5] * 3 + [3.0, 3.0, 1.0] + [1.0] * 3 + [0.3] * 3, np.float32)

    def distance(self, state: State) -> np.ndarray:
        """(n,) m from the goal."""
        return np.linalg.norm(state.joint_position[:, POSITION] - GOAL_M, axis=1)

    def reward(self, state: State, action: np.ndarray) -> np.ndarray:
        """Up to 1.7 at the goal, less for distance, tilt, heading, motion and thrust off the nominal hover."""
        distance, attitude = self.distance(state), state.joint_position[:, ATTITUDE]
        speed, rates = (np.square(state.joint_velocity[:, part]).sum(axis=1) for part in (POSITION, ATTITUDE))
        effort = np.square(np.clip(action, -1, 1)).mean(axis=1)
        lean = 1.0 - np.cos(attitude[:, 0]) * np.cos(attitude[:, 1])
        near = np.exp(-2.0 * distance**2) + 0.4 * np.exp(-20.0 * distance**2) - 0.3 * distance
        calm = 0.1 * lean + 0.05 * attitude[:, 2] ** 2 + 0.02 * speed + 0.004 * np.minimum(rates, 50.0) + 0.02 * effort
        return (0.3 + near - calm).astype(np.float32)

    def failed(self, state: State) -> np.ndarray:
        low = state.joint_position[:, 2] < LOW_M
        tilted = np.cos(state.joint_position[:, 3]) * np.cos(state.joint_position[:, 4]) < math.cos(TILT_RAD)
        return low | tilted | (self.distance(state) > FAR_M)

    def holding(self, state: State) -> np.ndarray:
        return self.distance(state) < SUCCESS_M

    def success(self, state: State, steps: np.ndarray) -> np.ndarray:
        return (steps >= self.max_steps) & self.holding(state) & ~self.failed(state)

    def workspace_points(self, joint_position: np.ndarray) -> np.ndarray:
        """The centre of the frame, for a geofence."""
        return joint_position[:, None, POSITION]
