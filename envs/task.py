"""The Task contract: one description of the job, shared by simulation and robot.

A task is written once and never knows which world it runs in. It is made of constants and pure functions of
batch-first arrays, so what differs between simulation and reality is the world and nothing else.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from envs.randomization.parameters import ParameterSpace

if TYPE_CHECKING:
    from envs.effects.base import CommandEffect, SensorEffect
    from envs.effects.disturbance import Disturbance
    from envs.scene import Scene


@dataclass(frozen=True)
class State:
    """What n worlds are doing at one instant: batch-first float32 arrays in SI units, quaternions xyzw.

    A robot is n = 1. Joints come in the order of `Task.joints`, bodies in the order of `Task.bodies`. The goal
    is no measurement: it is what `Task.initial` drew for the episode.
    """

    joint_position: np.ndarray  # (n, j) m or rad
    joint_velocity: np.ndarray  # (n, j) m/s or rad/s
    body_pose: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 7), np.float32))  # (n, b, 7) m, xyzw
    body_twist: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 6), np.float32))  # (n, b, 6) m/s, rad/s
    goal: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))  # (n, g) the same all episode

    def __len__(self) -> int:
        return len(self.joint_position)


class Task(ABC):
    """A job for a robot. Subclasses fill in the constants and the pure functions; nothing here keeps state.

    Only what the robot can measure may be used: `features`, `reward` and `failed` receive the measured state
    in simulation and on the robot alike.
    """

    name: str
    control_hz: float
    max_steps: int  # an episode that lasts this long is truncated, and bootstraps
    joints: tuple[str, ...]  # names, in the order of State.joint_position
    actuated: tuple[str, ...]  # the joints or axes a command drives, in the order of the command's columns
    bodies: tuple[str, ...] = ()  # tracked bodies, in the order of State.body_pose
    goal_size: int = 0  # columns of State.goal
    period_jitter: str | None = None  # the parameter that is the mean extra length of a control period, ms
    of_the_start: tuple[str, ...] = ()  # the parameters that only `settle` uses
    action_size: int
    initial_size: int  # how many unit uniforms `initial` consumes
    history: int  # frames in the policy observation
    frame_names: tuple[str, ...]  # one name per column of `features`
    frame_scale: np.ndarray  # (f,) multiplies `features` to give values of order one
    parameters: ParameterSpace  # everything that can be randomized, with the default ranges
    adr_thresholds: tuple[float, float]  # (t_low, t_high) of `performance`, in its units
    rest: tuple[float, ...] = ()  # joint positions at which the unpowered robot stands still; empty: all zero
    hold_steps: int = 0  # success also asks that `holding` was true for so many last steps

    @property
    def control_period_s(self) -> float:
        return 1.0 / self.control_hz

    @property
    def frame_size(self) -> int:
        return len(self.frame_names)

    @property
    def policy_size(self) -> int:
        """Columns of the `policy` observation group: `history` frames, oldest first."""
        return self.history * self.frame_size

    @property
    def privileged_size(self) -> int:
        """Columns of the `privileged` group: a flag (1 = known), scaled parameters, scaled true state."""
        return 1 + len(self.parameters) + self.state_size

    @property
    def state_size(self) -> int:
        """Columns of a flat true state: joint positions and velocities, body poses and twists."""
        return 2 * len(self.joints) + 13 * len(self.bodies)

    @property
    @abstractmethod
    def scene(self) -> Scene:
        """What a simulator loads and how parameters act on it."""

    @property
    @abstractmethod
    def command_effects(self) -> tuple[CommandEffect, ...]:
        """New instances of the effects between command and simulated motors, in order."""

    @property
    @abstractmethod
    def sensor_effects(self) -> tuple[SensorEffect, ...]:
        """New instances of the effects between the true and the measured state, in order."""

    @property
    def disturbances(self) -> tuple[Disturbance, ...]:
        """New instances of the forces that the surroundings exert on bodies; by default none."""
        return ()

    @abstractmethod
    def initial(self, uniform: np.ndarray) -> State:
        """Map (n, initial_size) numbers in [0, 1) to n starting states, goals included."""

    def settle(self, start: State, values: np.ndarray) -> State:
        """The starting states as they are in worlds with parameter values (n, d); by default the same."""
        return start

    @abstractmethod
    def command(self, action: np.ndarray) -> np.ndarray:
        """Map (n, action_size) actions in [-1, 1] to (n, len(actuated)) commands in SI units."""

    @abstractmethod
    def action(self, command: np.ndarray) -> np.ndarray:
        """The inverse of `command`: the action that would have sent this (learners use what was sent)."""

    @abstractmethod
    def features(self, state: State, last_action: np.ndarray) -> np.ndarray:
        """(n, frame_size) unscaled features of one measured instant, in SI units."""

    @abstractmethod
    def true_state_scale(self) -> np.ndarray:
        """(state_size,) multiplies joint positions and velocities, and for each body its pose and twist (13).

        It gives privileged values of order one.
        """

    @abstractmethod
    def reward(self, state: State, action: np.ndarray) -> np.ndarray:
        """(n,) reward for arriving in `state` by `action`."""

    @abstractmethod
    def failed(self, state: State) -> np.ndarray:
        """(n,) bool: the episode terminates here and does not bootstrap."""

    @abstractmethod
    def success(self, state: State, steps: np.ndarray) -> np.ndarray:
        """(n,) bool for episodes that end in `state` after `steps` steps."""

    def holding(self, state: State) -> np.ndarray:
        """(n,) bool: the goal is met in this state, as success asks of each of the last `hold_steps` steps."""
        return np.ones(len(state), bool)

    def workspace_points(self, joint_position: np.ndarray) -> np.ndarray:
        """Forward kinematics for the robot's workspace box: (n, j) joints to (n, p, 3) m in the task's frame.

        By default no points, and `robot.workspace` bounds nothing.
        """
        return np.zeros((len(joint_position), 0, 3))

    def performance(self, success: np.ndarray, returns: np.ndarray) -> np.ndarray:
        """(n,) what ADR compares with `adr_thresholds`; by default the success of the episode."""
        return success.astype(np.float32)

    def frame(self, state: State, last_action: np.ndarray) -> np.ndarray:
        """(n, frame_size) scaled float32 frame, ready for the history stack."""
        return (self.features(state, last_action) * self.frame_scale).astype(np.float32, copy=False)
