"""Bring the tip of the Panda arm to a point in the air and hold it there, gripper pointing down.

Frame: the arm stands at the origin, x forwards, z up, m; a table's top would be at z = 0.75. The robot measures
its joint angles; it takes a velocity of the tip.
"""

from __future__ import annotations

import numpy as np

from envs import panda
from envs.randomization.parameters import ParameterSpace
from envs.scene import Scene
from envs.task import State, Task

MAX_SPEED_M_S = 0.35
SUCCESS_M = 0.025
LOW, HIGH = (0.35, -0.25, 0.85), (0.60, 0.25, 1.15)  # starts and goals
WORKSPACE = (0.33, -0.28, 0.82), (0.62, 0.28, 1.18)  # no corner of it is near a singularity or a joint's limit


class Reach(Task):
    """Success: the tip is within 2.5 cm of the goal at the end of 2.5 s at 20 Hz."""

    name = "reach"
    control_hz = 20.0
    max_steps = 50
    joints = panda.JOINTS
    actuated = ("x", "y", "z")
    action_size = 3
    initial_size = 4
    goal_size = 3
    period_jitter = "action.period_jitter_ms"
    history = 5
    frame_names = ("x_m", "y_m", "z_m", "to_goal_x_m", "to_goal_y_m", "to_goal_z_m", "last_x", "last_y", "last_z")
    frame_scale = np.array([5, 5, 5, 10, 10, 10, 1, 1, 1], np.float32)
    parameters = ParameterSpace((*panda.PARAMETERS, *panda.MORE))
    adr_thresholds = (0.5, 0.9)  # episode success

    def __init__(self) -> None:
        self._starts = panda.starts(LOW, HIGH)
        self._chain = panda.chain()

    @property
    def scene(self) -> Scene:
        return Scene(
            urdf=panda.URDF,
            joints=self.joints,
            actuated=self.actuated,
            physics_hz=panda.PHYSICS_HZ,
            bindings=panda.BINDINGS,
            actuation=panda.servo("xyz", *WORKSPACE),
            base=panda.BASE,
            locked=panda.FINGERS,
            loading=panda.TUNED,
        )

    @property
    def command_effects(self):
        return panda.command_effects()

    @property
    def sensor_effects(self):
        return panda.encoders()

    @property
    def disturbances(self):
        return (panda.knocks(),)

    def initial(self, uniform: np.ndarray) -> State:
        position = panda.start_posture(self._starts, uniform[:, 0])
        goal = np.array(LOW) + uniform[:, 1:] * (np.array(HIGH) - np.array(LOW))
        return State(position, np.zeros_like(position), goal=goal.astype(np.float32))

    def command(self, action: np.ndarray) -> np.ndarray:
        return np.clip(action, -1.0, 1.0) * MAX_SPEED_M_S

    def action(self, command: np.ndarray) -> np.ndarray:
        return command / MAX_SPEED_M_S

    def features(self, state: State, last_action: np.ndarray) -> np.ndarray:
        tip = self._chain.position(state.joint_position)
        return np.concatenate([tip - (0.5, 0.0, 1.0), state.goal - tip, last_action], axis=1)

    def true_state_scale(self) -> np.ndarray:
        return np.ones(14, np.float32)

    def distance(self, state: State) -> np.ndarray:
        """(n,) m from the tip to the goal."""
        return np.linalg.norm(self._chain.position(state.joint_position) - state.goal, axis=1)

    def workspace_points(self, joint_position: np.ndarray) -> np.ndarray:
        return self._chain.position(joint_position)[:, None]

    def reward(self, state: State, action: np.ndarray) -> np.ndarray:
        """Near 1 at the goal, less for fast commands."""
        effort = np.square(np.clip(action, -1, 1)).sum(axis=1)
        return (1.0 - np.tanh(8.0 * self.distance(state)) - 0.05 * effort).astype(np.float32)

    def failed(self, state: State) -> np.ndarray:
        return np.zeros(len(state), bool)

    def success(self, state: State, steps: np.ndarray) -> np.ndarray:
        return (steps >= self.max_steps) & (self.distance(state) < SUCCESS_M)
