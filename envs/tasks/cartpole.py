"""Balance a 0.4 m pole on a cart on a 1.2 m rail for ten seconds.

Frames: x along the rail in metres, angle from upright in radians, positive towards +x. The robot measures
both and their rates, and takes a horizontal force on the cart.
"""

from __future__ import annotations

import math

import numpy as np

from envs.bindings import CentreOfMass
from envs.effects.command import DeadBand, Delay, Gain, Lag, Noise
from envs.effects.disturbance import Pushes
from envs.effects.sensor import Bias, Quantization, SensorNoise
from envs.randomization.parameters import Parameter, ParameterSpace
from envs.scene import Gravity, JointCoulomb, JointDamping, LinkMass, Scene
from envs.task import State, Task

MAX_FORCE_N = 10.0
RAIL_M = 0.6
MAX_ANGLE_RAD = 0.35

PARAMETERS = ParameterSpace(
    [
        Parameter("world.gravity_m_s2", "m/s^2", 9.81, (5.0, 20.0), (9.0, 13.0), description="magnitude of gravity"),
        Parameter("cart.mass_kg", "kg", 1.0, (0.3, 4.0), (0.7, 1.8), description="cart with its share of the belt"),
        Parameter("cart.viscous_n_s_m", "N s/m", 0.0, (0.0, 4.0), (0.0, 1.0), description="viscous rail friction"),
        Parameter("cart.coulomb_n", "N", 0.0, (0.0, 4.0), (0.0, 1.5), description="Coulomb rail friction"),
        Parameter("pole.mass_kg", "kg", 0.1, (0.02, 0.8), (0.05, 0.25), description="pole; its inertia follows"),
        Parameter("hinge.damping_nm_s", "N m s/rad", 0.0, (0.0, 0.02), (0.0, 0.003), description="hinge friction"),
        Parameter("action.delay_ms", "ms", 0.0, (0.0, 120.0), (0.0, 60.0), description="from policy to motor"),
        Parameter("action.lag_ms", "ms", 0.0, (0.0, 120.0), (0.0, 50.0), description="first-order motor lag"),
        Parameter("action.gain", "1", 1.0, (0.4, 1.6), (0.8, 1.15), description="delivered / commanded force"),
        Parameter("action.noise_n", "N", 0.0, (0.0, 6.0), (0.0, 2.5), description="sd of the force noise, each step"),
        Parameter("sensor.noise_sd", "SI", 0.0, (0.0, 0.15), (0.0, 0.05), description="sd on every measured channel"),
        # Modelled, and left at their identity unless a configuration gives them a range.
        Parameter("action.dead_band_n", "N", 0.0, (0.0, 3.0), (0.0, 0.0), description="commands below it do nothing"),
        Parameter(
            "sensor.bias_rad",
            "rad",
            0.0,
            (-0.1, 0.1),
            (0.0, 0.0),
            description="zero error of the pole encoder",
        ),
        Parameter("sensor.quantum_rad", "rad", 0.0, (0.0, 0.05), (0.0, 0.0), description="pole encoder resolution"),
        Parameter("pole.com_m", "m", 0.0, (-0.1, 0.1), (0.0, 0.0), description="its centre of mass, along it"),
        Parameter("disturbance.push_n", "N", 0.0, (0.0, 10.0), (0.0, 0.0), description="knocks of 0.2 s, every 2 s"),
    ]
)


class Cartpole(Task):
    """Success: upright (|angle| < 0.35 rad) and on the rail (|x| < 0.6 m) for all of 10 s at 50 Hz."""

    name = "cartpole"
    control_hz = 50.0
    max_steps = 500
    joints = ("slider", "hinge")
    actuated = ("slider",)
    action_size = 1
    initial_size = 4
    history = 5
    frame_names = ("x_m", "angle_rad", "x_m_s", "angle_rad_s", "last_action")
    frame_scale = np.array([1.5, 4.0, 1.0, 0.5, 1.0], np.float32)
    parameters = PARAMETERS
    adr_thresholds = (0.5, 0.9)  # episode success
    rest = (0.0, math.pi)  # the pole hangs

    @property
    def scene(self) -> Scene:
        return Scene(
            urdf="cartpole.urdf",
            joints=self.joints,
            actuated=self.actuated,
            physics_hz=250.0,
            bindings={
                "world.gravity_m_s2": Gravity(),
                "cart.mass_kg": LinkMass("cart"),
                "cart.viscous_n_s_m": JointDamping("slider"),
                "cart.coulomb_n": JointCoulomb("slider"),
                "pole.mass_kg": LinkMass("pole"),
                "hinge.damping_nm_s": JointDamping("hinge"),
                "pole.com_m": CentreOfMass("pole", "z"),
            },
        )

    @property
    def command_effects(self):
        return (
            Delay("action.delay_ms"),
            DeadBand("action.dead_band_n"),
            Gain("action.gain"),
            Lag("action.lag_ms"),
            Noise("action.noise_n"),
        )

    @property
    def sensor_effects(self):
        return (
            SensorNoise("sensor.noise_sd"),
            Bias("sensor.bias_rad", joint=1),
            Quantization("sensor.quantum_rad", joint=1),
        )

    @property
    def disturbances(self):
        return (Pushes("disturbance.push_n", "cart", "x"),)

    def initial(self, uniform: np.ndarray) -> State:
        spread = (2.0 * uniform - 1.0) * np.array([0.1, 0.05, 0.1, 0.1])  # x, angle, and their rates
        spread = spread.astype(np.float32)
        return State(joint_position=spread[:, :2], joint_velocity=spread[:, 2:])

    def command(self, action: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(action, -1.0), 1.0) * MAX_FORCE_N

    def action(self, command: np.ndarray) -> np.ndarray:
        return command / MAX_FORCE_N

    def features(self, state: State, last_action: np.ndarray) -> np.ndarray:
        return np.concatenate([state.joint_position, state.joint_velocity, last_action], axis=1)

    def true_state_scale(self) -> np.ndarray:
        return np.array([1.5, 4.0, 1.0, 0.5], np.float32)

    def workspace_points(self, joint_position: np.ndarray) -> np.ndarray:
        """The cart: the rail is the x axis."""
        points = np.zeros((len(joint_position), 1, 3))
        points[:, 0, 0] = joint_position[:, 0]
        return points

    def reward(self, state: State, action: np.ndarray) -> np.ndarray:
        x, angle = state.joint_position[:, 0], state.joint_position[:, 1]
        return (1.0 - x**2 - angle**2 - 0.05 * np.minimum(action[:, 0] ** 2, 1.0)).astype(np.float32)

    def failed(self, state: State) -> np.ndarray:
        x, angle = state.joint_position[:, 0], state.joint_position[:, 1]
        return (np.abs(angle) > MAX_ANGLE_RAD) | (np.abs(x) > RAIL_M)

    def success(self, state: State, steps: np.ndarray) -> np.ndarray:
        return (steps >= self.max_steps) & ~self.failed(state)
