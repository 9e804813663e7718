"""Grasp an object on a table with the Panda's gripper and raise it by 10 cm, whatever its size, shape and friction.

Frame: the arm stands at the origin, x forwards, z up, m; the table's top is at z = 0.75. The robot measures its
joint angles and the opening of its gripper, and a tracker the object's position; it takes a velocity of the tip and one
of the fingers. The gripper points down and closes along y.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from envs import panda
from envs.bindings import BodyContact, BodyHeight, BodyMass, BodyVariant
from envs.randomization.parameters import Parameter, ParameterSpace
from envs.scene import Body, Scene, Shape
from envs.task import State, Task

MAX_SPEED_M_S = 0.25
MAX_FINGER_M_S = 0.1  # of each finger
TABLE_M, HIGHEST_TABLE_M = 0.75, 0.755
RISE_M = 0.10
NOMINAL_M = 0.05  # edge of the nominal cube

OBJECTS = (  # the first is nominal
    Shape("box", (NOMINAL_M, NOMINAL_M, NOMINAL_M)),
    Shape("box", (0.042, 0.042, 0.042)),
    Shape("cylinder", (0.05, 0.05)),
    Shape("box", (0.06, 0.055, 0.05)),
    Shape("cylinder", (0.042, 0.056)),
    Shape("box", (0.045, 0.036, 0.056)),
    # held out
    Shape("box", (0.038, 0.047, 0.06)),
    Shape("cylinder", (0.058, 0.046)),
    Shape("box", (0.07, 0.04, 0.044)),
    Shape("cylinder", (0.038, 0.06)),
)
HELD_OUT = 6  # the first variant that training never sees
HEIGHTS_M = np.array([shape.height_m for shape in OBJECTS])
# The centre is there once any of the objects is raised by RISE_M from any of the tables.
LIFTED_M = HIGHEST_TABLE_M + float(HEIGHTS_M.max()) / 2 + RISE_M

LOWEST_TIP_M = TABLE_M + 0.015  # the fingertips, 7 mm further, clear the highest table by 3 mm
START = (0.44, -0.12, 0.87), (0.58, 0.12, 0.95)  # of the tip
GRASP = (0.46, -0.10, LOWEST_TIP_M), (0.56, 0.10, LOWEST_TIP_M + 0.015)  # of the tip where an episode begins around it
PLACE = (0.46, -0.10), (0.56, 0.10)  # of the object
CLEAR_M = 0.06  # with which fingers pass over every object
YAW_RAD = 0.2  # turned by up to so much from the fingers
WORKSPACE = (0.38, -0.22, LOWEST_TIP_M), (0.64, 0.22, 1.02)
LOST_M = 0.06  # an object so far outside the workspace is out of reach

# With fewer iterations fingers sink 4 to 6 mm into what they hold, and creep.
GRIPPING = replace(panda.TUNED, engine_substeps=24, solver_iterations=50, solver_residual=1e-7)

NOT_HERE = "arm.payload_offset_m"  # a link that fingers follow keeps its centre of mass

PARAMETERS = ParameterSpace(
    [
        *panda.PARAMETERS,
        Parameter(
            "object.variant", "", 0.0, (0.0, len(OBJECTS) - 1.0), (0.0, HELD_OUT - 1.0), "integer", "shape and size"
        ),
        Parameter("object.mass_kg", "kg", 0.1, (0.02, 0.5), (0.05, 0.25), description="its inertia follows"),
        Parameter(
            "object.friction",
            "1",
            0.8,
            (0.2, 2.0),
            (0.5, 1.2),
            "log",
            "lateral; times 1.0 of the fingers and the table",
        ),
        Parameter("object.spinning_friction", "m", 0.002, (0.0, 0.05), (0.001, 0.01), description="against turning"),
        Parameter("object.rolling_friction", "m", 0.0, (0.0, 0.01), (0.0, 0.0), description="against rolling"),
        Parameter("table.height_m", "m", TABLE_M, (0.745, HIGHEST_TABLE_M), (0.745, 0.755), description="of its top"),
        Parameter(
            "start.around", "1", 0.0, (-1.0, 1.0), (-1.0, 1.0), description="above 0: it begins between the fingers"
        ),
        *panda.tracked("object", 0.02, 0.004),
        *(parameter for parameter in panda.MORE if parameter.name != NOT_HERE),
    ]
)


class Lift(Task):
    """Success: the object's centre is LIFTED_M high for the last half second of 4 s at 10 Hz.

    A lost object ends the episode.
    """

    name = "lift"
    control_hz = 10.0
    max_steps = 40
    hold_steps = 5
    joints = (*panda.JOINTS, panda.GRIPPER)
    bodies = ("object",)
    actuated = ("x", "y", "z", "fingers")
    action_size = 4
    initial_size = 4
    period_jitter = "action.period_jitter_ms"
    of_the_start = ("start.around",)
    history = 3
    frame_names = (
        "tip_x_m",
        "tip_y_m",
        "tip_z_m",
        "finger_m",
        "to_object_x_m",
        "to_object_y_m",
        "to_object_z_m",
        "object_z_m",
        "last_x",
        "last_y",
        "last_z",
        "last_fingers",
    )
    frame_scale = np.array([5, 5, 5, 40, 12, 12, 10, 8, 1, 1, 1, 1], np.float32)
    parameters = PARAMETERS
    adr_thresholds = (0.5, 0.9)  # episode success

    def __init__(self) -> None:
        self._starts, self._around = panda.starts(*START), panda.starts(*GRASP)
        self._chain = panda.chain()
        self._columns = [PARAMETERS.index(name) for name in ("object.variant", "table.height_m", "start.around")]

    @property
    def scene(self) -> Scene:
        return Scene(
            urdf=panda.URDF,
            joints=self.joints,
            actuated=self.actuated,
            physics_hz=panda.PHYSICS_HZ,
            bindings={
                **{name: binding for name, binding in panda.BINDINGS.items() if name != NOT_HERE},
                "object.variant": BodyVariant("object"),
                "object.mass_kg": BodyMass("object"),
                "object.friction": BodyContact("object", "lateralFriction"),
                "object.spinning_friction": BodyContact("object", "spinningFriction"),
                "object.rolling_friction": BodyContact("object", "rollingFriction"),
                "table.height_m": BodyHeight("table"),
            },
            actuation=panda.gripping_servo(*WORKSPACE),
            base=panda.BASE,
            mimics={panda.FINGERS[1]: panda.GRIPPER},
            bodies=(Body("object", OBJECTS[0].kind, OBJECTS[0].size, 0.1, others=OBJECTS[1:]),),
            fixtures=(Body("table", "box", (1.0, 1.2, 0.1), position=(0.7, 0.0, 0.7), lateral_friction=1.0),),
            loading=GRIPPING,
        )

    @property
    def command_effects(self):
        return panda.command_effects()

    @property
    def sensor_effects(self):
        return (*panda.encoders(), *panda.tracker("object"))

    @property
    def disturbances(self):
        return (panda.knocks(),)

    def initial(self, uniform: np.ndarray) -> State:
        n = len(uniform)
        position = np.concatenate(
            [panda.start_posture(self._starts, uniform[:, 0]), np.full((n, 1), panda.STROKE[1], np.float32)], axis=1
        )
        pose = np.zeros((n, 1, 7), np.float32)
        low, high = np.array(PLACE)
        pose[:, 0, :2], pose[:, 0, 2] = low + uniform[:, 1:3] * (high - low), TABLE_M + NOMINAL_M / 2
        yaw = YAW_RAD * (2 * uniform[:, 3] - 1)
        pose[:, 0, 5], pose[:, 0, 6] = np.sin(yaw / 2), np.cos(yaw / 2)
        return State(position, np.zeros_like(position), pose, np.zeros((n, 1, 6), np.float32))

    def settle(self, start: State, values: np.ndarray) -> State:
        """The object stands on the table, whatever it is and however high that is; or the arm begins around it."""
        variant, table, around = values[:, self._columns].T
        pose, position = start.body_pose.copy(), start.joint_position.copy()
        pose[:, 0, 2] = table + HEIGHTS_M[variant.astype(np.int64)] / 2
        rows = np.flatnonzero(around > 0.0)
        if len(rows):
            (low, high), place = np.array(PLACE), pose[rows, 0, 0]
            arm = panda.start_posture(self._around, np.minimum((place - low[0]) / (high[0] - low[0]), 1 - 1e-6))
            position[rows, :7], pose[rows, 0, :2] = arm, self._chain.position(arm)[:, :2]
        return replace(start, joint_position=position, body_pose=pose)

    def command(self, action: np.ndarray) -> np.ndarray:
        return np.clip(action, -1.0, 1.0) * _FULL

    def action(self, command: np.ndarray) -> np.ndarray:
        return command / _FULL

    def tip(self, joint_position: np.ndarray) -> np.ndarray:
        """(n, 3) m, for joint positions (n, 8)."""
        return self._chain.position(joint_position[:, :7])

    def features(self, state: State, last_action: np.ndarray) -> np.ndarray:
        tip, place = self.tip(state.joint_position), state.body_pose[:, 0, :3]
        finger = state.joint_position[:, 7:] - 0.02
        height = place[:, 2:] - TABLE_M
        return np.concatenate([tip - (0.5, 0.0, 0.85), finger, place - tip, height, last_action], axis=1)

    def true_state_scale(self) -> np.ndarray:
        return np.array(
            [1.0] * 7 + [30.0] + [1.0] * 7 + [5.0] + [2.0] * 3 + [1.0] * 4 + [2.0] * 3 + [0.1] * 3, np.float32
        )

    def height(self, state: State) -> np.ndarray:
        """(n,) m of the object's centre above where success begins."""
        return state.body_pose[:, 0, 2] - LIFTED_M

    def workspace_points(self, joint_position: np.ndarray) -> np.ndarray:
        return self.tip(joint_position)[:, None]

    def reward(self, state: State, action: np.ndarray) -> np.ndarray:
        """Up to 1: for coming from above, for fingers open on the way and closing there, the most for height.

        Less for effort, above all for moving sideways.
        """
        place = state.body_pose[:, 0, :3]
        to_object = place - self.tip(state.joint_position)
        away, aside = np.linalg.norm(to_object, axis=1), np.linalg.norm(to_object[:, :2], axis=1)
        above = CLEAR_M * np.clip((aside - 0.012) / 0.03, 0.0, 1.0)  # so much, until the tip is over the object
        reach = 1.0 - np.tanh(8.0 * np.hypot(aside, to_object[:, 2] + above))
        near = np.clip((0.035 - away) / 0.015, 0.0, 1.0)
        opening = state.joint_position[:, 7] / panda.STROKE[1]
        closed = np.clip((1.0 - opening) / 0.45, 0.0, 1.0)  # nothing is gained by closing on less than an object
        fingers = near * closed + (1.0 - near) * np.clip(opening, 0.0, 1.0) * 0.3
        rest = TABLE_M + 0.02  # below every object's centre, so that the first millimetre counts
        rise = np.clip((place[:, 2] - rest) / (LIFTED_M + 0.01 - rest), 0.0, 1.0)
        effort = np.square(np.clip(action, -1, 1)) @ _EFFORT
        held = np.clip((0.07 - away) / 0.03, 0.0, 1.0) * rise  # what is seen of it is late, and lags behind the tip
        return (0.15 * reach + 0.15 * fingers + 0.5 * held + 0.2 * (held >= 0.95) - effort).astype(np.float32)

    def failed(self, state: State) -> np.ndarray:
        low, high = np.array(WORKSPACE)
        place = state.body_pose[:, 0, :2]
        outside = ((place < low[:2] - LOST_M) | (place > high[:2] + LOST_M)).any(axis=1)
        return outside | (state.body_pose[:, 0, 2] < TABLE_M - 0.1)

    def holding(self, state: State) -> np.ndarray:
        return self.height(state) > 0.0

    def success(self, state: State, steps: np.ndarray) -> np.ndarray:
        return (steps >= self.max_steps) & self.holding(state) & ~self.failed(state)


_EFFORT = np.array([0.03, 0.03, 0.005, 0.005])  # sideways the most: who hurries off drops what it has not gripped yet
_FULL = np.array([MAX_SPEED_M_S] * 3 + [MAX_FINGER_M_S])
