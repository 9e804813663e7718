"""Push a puck across a table to a goal with the closed gripper of the Panda arm (Peng et al. 2018).

Frame: the arm stands at the origin, x forwards, z up, m; the table's top is at z = 0.75. The robot measures its
joint angles, and a tracker the puck's position; it takes a horizontal velocity of the tip, whose height is held.
Peng et al. used a Fetch arm at 25 Hz. Theirs are the 7 cm, the randomized quantities with their ranges, and what
is log-uniform: masses, damping, friction, gains. Otherwise here: one factor is drawn for all links or all joints;
the mean extra time of a period is uniform, not its rate; noise has ranges in SI units instead of 5 % of a running
standard deviation; delay, lag and errors of the tracker are added.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from envs import panda
from envs.bindings import BodyContact, BodyDamping, BodyHeight, BodyMass, CentreOfMass
from envs.effects.disturbance import Pushes
from envs.randomization.parameters import Parameter, ParameterSpace
from envs.scene import Body, Scene
from envs.task import State, Task

MAX_SPEED_M_S = 0.35
SUCCESS_M = 0.07
APART_M = SUCCESS_M + 0.01  # least distance from puck to goal at the start
TABLE_M = 0.75
TIP_M = 0.782  # the fingertips then clear the highest table by 5 mm and still meet the puck on the lowest
PUCK_RADIUS_M, PUCK_HEIGHT_M = 0.05, 0.06
START = (0.36, -0.10, TIP_M), (0.41, 0.10, TIP_M)  # of the tip
PUCK = (0.48, -0.10), (0.56, 0.10)
GOAL = (0.52, -0.18), (0.68, 0.18)
WORKSPACE = (0.32, -0.30, TIP_M), (0.70, 0.30, TIP_M)  # no corner of it is near a singularity or a joint's limit
LOST_M = 0.10  # a puck so far outside the workspace is out of reach

PARAMETERS = ParameterSpace(
    [
        *panda.PARAMETERS,
        Parameter("puck.mass_kg", "kg", 0.2, (0.02, 1.0), (0.1, 0.4), "log", "puck; its inertia follows"),
        Parameter(
            "puck.friction", "1", 1.0, (0.05, 8.0), (0.1, 5.0), "log", "lateral; times the table's 0.2 where they touch"
        ),
        Parameter("puck.rolling_friction", "m", 0.0, (0.0, 0.01), (0.0, 0.0), description="against rolling over"),
        Parameter("puck.spinning_friction", "m", 0.0, (0.0, 0.05), (0.0, 0.0), description="against turning in place"),
        Parameter("puck.restitution", "1", 0.0, (0.0, 0.9), (0.0, 0.0), description="bounce, times that of the table"),
        Parameter("puck.damping_n_s_m", "N s/m", 0.05, (0.001, 1.0), (0.01, 0.2), "log", "drag on the moving puck"),
        Parameter("table.height_m", "m", TABLE_M, (0.72, 0.772), (0.73, 0.77), description="of the table's top"),
        Parameter(
            "table.stiffness_n_m", "N/m", 3e4, (3e3, 3e5), (3e4, 3e4), "log", "of the contact with the table's top"
        ),
        Parameter("table.contact_damping", "N s/m", 1e3, (1e2, 1e4), (1e3, 1e3), "log", "of the same contact"),
        *panda.tracked("puck", 0.03, 0.005),
        *panda.MORE,
        Parameter("puck.com_x_m", "m", 0.0, (-0.02, 0.02), (0.0, 0.0), description="centre of mass, from the middle"),
        Parameter("puck.com_y_m", "m", 0.0, (-0.02, 0.02), (0.0, 0.0), description="the same, across"),
        Parameter("disturbance.puck_push_n", "N", 0.0, (0.0, 5.0), (0.0, 0.0), description="knocks on the puck, 0.2 s"),
    ]
)


class Push(Task):
    """Success: the puck is within 7 cm of the goal at the end of 5 s at 20 Hz. A lost puck ends the episode."""

    name = "push"
    control_hz = 20.0
    max_steps = 100
    joints = panda.JOINTS
    bodies = ("puck",)
    actuated = ("x", "y")
    action_size = 2
    initial_size = 5
    goal_size = 2
    period_jitter = "action.period_jitter_ms"
    history = 4
    frame_names = (
        "tip_x_m",
        "tip_y_m",
        "to_puck_x_m",
        "to_puck_y_m",
        "to_goal_x_m",
        "to_goal_y_m",
        "last_x",
        "last_y",
    )
    frame_scale = np.array([5, 5, 8, 8, 8, 8, 1, 1], np.float32)
    parameters = PARAMETERS
    adr_thresholds = (0.5, 0.9)  # episode success

    def __init__(self) -> None:
        self._starts = panda.starts(*START)
        self._chain = panda.chain()
        self._height = PARAMETERS.index("table.height_m")

    @property
    def scene(self) -> Scene:
        return Scene(
            urdf=panda.URDF,
            joints=self.joints,
            actuated=self.actuated,
            physics_hz=panda.PHYSICS_HZ,
            bindings={
                **panda.BINDINGS,
                "puck.mass_kg": BodyMass("puck"),
                "puck.friction": BodyContact("puck", "lateralFriction"),
                "puck.rolling_friction": BodyContact("puck", "rollingFriction"),
                "puck.spinning_friction": BodyContact("puck", "spinningFriction"),
                "puck.restitution": BodyContact("puck", "restitution"),
                "puck.damping_n_s_m": BodyDamping("puck"),
                "puck.com_x_m": CentreOfMass("puck", "x"),
                "puck.com_y_m": CentreOfMass("puck", "y"),
                "table.height_m": BodyHeight("table"),
                "table.stiffness_n_m": BodyContact("table", "contactStiffness"),
                "table.contact_damping": BodyContact("table", "contactDamping"),
            },
            actuation=panda.servo("xy", *WORKSPACE),
            base=panda.BASE,
            locked=panda.FINGERS,
            link_contact={"panda_link7": panda.FINGERTIPS},  # the fingers are part of it
            bodies=(Body("puck", "cylinder", (2 * PUCK_RADIUS_M, PUCK_HEIGHT_M), 0.2),),
            fixtures=(Body("table", "box", (1.0, 1.2, 0.1), position=(0.7, 0.0, 0.7), lateral_friction=0.2),),
            loading=panda.TUNED,
        )

    @property
    def command_effects(self):
        return panda.command_effects()

    @property
    def sensor_effects(self):
        return (*panda.encoders(), *panda.tracker("puck"))

    @property
    def disturbances(self):
        return (
            panda.knocks(),
            Pushes("disturbance.puck_push_n", "puck", "xy"),
        )

    def initial(self, uniform: np.ndarray) -> State:
        n = len(uniform)
        position = panda.start_posture(self._starts, uniform[:, 0])
        place = np.array([0, 0, TABLE_M + PUCK_HEIGHT_M / 2, 0, 0, 0, 1], np.float32)
        pose = np.tile(place, (n, 1, 1))
        pose[:, 0, :2] = puck = _within(PUCK, uniform[:, 1:3])
        return State(
            joint_position=position,
            joint_velocity=np.zeros_like(position),
            body_pose=pose,
            body_twist=np.zeros((n, 1, 6), np.float32),
            goal=_apart(puck, _within(GOAL, uniform[:, 3:5])).astype(np.float32),
        )

    def settle(self, start: State, values: np.ndarray) -> State:
        """The puck lies on the table, however high that is."""
        pose = start.body_pose.copy()
        pose[:, 0, 2] += values[:, self._height] - TABLE_M
        return replace(start, body_pose=pose)

    def command(self, action: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(action, -1.0), 1.0) * MAX_SPEED_M_S

    def action(self, command: np.ndarray) -> np.ndarray:
        return command / MAX_SPEED_M_S

    def features(self, state: State, last_action: np.ndarray) -> np.ndarray:
        tip, puck = self._chain.position(state.joint_position)[:, :2], state.body_pose[:, 0, :2]
        return np.concatenate([tip - (0.5, 0.0), puck - tip, state.goal - puck, last_action], axis=1)

    def true_state_scale(self) -> np.ndarray:
        return np.array([1.0] * 14 + [2.0] * 3 + [1.0] * 4 + [2.0] * 3 + [0.1] * 3, np.float32)

    def distance(self, state: State) -> np.ndarray:
        """(n,) m from the puck to the goal."""
        return np.linalg.norm(state.goal - state.body_pose[:, 0, :2], axis=1)

    def workspace_points(self, joint_position: np.ndarray) -> np.ndarray:
        return self._chain.position(joint_position)[:, None]

    def reward(self, state: State, action: np.ndarray) -> np.ndarray:
        """Up to 1 with the puck at the goal; a quarter of it for the tip being behind the puck until then."""
        puck = state.body_pose[:, 0, :2]
        ahead = state.goal - puck
        distance = np.sqrt(np.square(ahead).sum(axis=1))
        behind = puck - ahead * (PUCK_RADIUS_M / np.maximum(distance, 1e-3))[:, None]
        to_behind = behind - self._chain.position(state.joint_position)[:, :2]
        near = 1.0 - np.tanh(5.0 * np.sqrt(np.square(to_behind).sum(axis=1)))
        near[distance < SUCCESS_M / 2] = 1.0
        effort = np.minimum(np.square(action), 1.0).sum(axis=1)
        return (0.75 * (1.0 - np.tanh(6.0 * distance)) + 0.25 * near - 0.01 * effort).astype(np.float32)

    def failed(self, state: State) -> np.ndarray:
        puck = state.body_pose[:, 0]
        (x0, y0, _), (x1, y1, _) = WORKSPACE
        x, y, z = puck[:, 0], puck[:, 1], puck[:, 2]
        return (
            (x < x0 - LOST_M) | (x > x1 + LOST_M) | (y < y0 - LOST_M) | (y > y1 + LOST_M) | (np.abs(z - TABLE_M) > 0.2)
        )

    def success(self, state: State, steps: np.ndarray) -> np.ndarray:
        return (steps >= self.max_steps) & (self.distance(state) < SUCCESS_M) & ~self.failed(state)


def _apart(puck: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """Goals (n, 2), of which those too near their puck are moved aside, by half the width of the field of goals."""
    (_, low), (_, high) = GOAL
    near = np.linalg.norm(goal - puck, axis=1) < APART_M
    aside = low + np.mod(goal[:, 1] - low + (high - low) / 2, high - low)
    return np.stack([goal[:, 0], np.where(near, aside, goal[:, 1])], axis=1)


def _within(box: tuple[tuple[float, ...], tuple[float, ...]], uniform: np.ndarray) -> np.ndarray:
    return np.array(box[0]) + uniform * (np.array(box[1]) - np.array(box[0]))
