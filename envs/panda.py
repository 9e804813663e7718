"""The Franka Panda arm of pybullet_data as the arm tasks use it: hand closed, gripper pointing down."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from envs.bindings import (
    Binding,
    ContactQuantity,
    Gravity,
    JointDampingScale,
    LinkMassScale,
    LinkPayload,
    LinkPayloadOffset,
    ServoEffort,
    ServoGain,
)
from envs.effects.base import CommandEffect, SensorEffect
from envs.effects.command import Backlash, DeadBand, Delay, Dropped, Gain, Lag, Noise
from envs.effects.disturbance import Pushes
from envs.effects.groups import (
    Drift,
    DroppedSamples,
    FrozenSamples,
    GroupBias,
    GroupDelay,
    GroupNoise,
    GroupQuantization,
)
from envs.kinematics import Chain, asset_path
from envs.randomization.keyed import KeyedRandom
from envs.randomization.parameters import Parameter
from envs.scene import Loading
from envs.servo import CartesianVelocity

URDF = "pybullet_data:franka_panda/panda.urdf"
JOINTS = tuple(f"panda_joint{i}" for i in range(1, 8))
LINKS = tuple(f"panda_link{i}" for i in range(1, 8))
FINGERS = ("panda_finger_joint1", "panda_finger_joint2")
GRIPPER = FINGERS[0]  # the other finger is geared to it
STROKE = (0.0, 0.04)  # m of each finger, closed and open
FINGER_SLACK_M = 0.005  # by which their limits on the robot lie beyond the stroke
GRIPPER_EFFORT_N, GRIPPER_VELOCITY_M_S, GRIPPER_ACCELERATION_M_S2 = 20.0, 0.2, 2.0  # of each finger
TIP = "panda_grasptarget"  # between the fingertips, which reach 7 mm further
BASE = (0.0, 0.0, 0.75)  # on a pedestal as high as the nominal table
POSTURE = (0.0, -0.215, 0.0, -2.57, 0.0, 2.356, 0.785)
MAX_EFFORT = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
MAX_VELOCITY = (2.175, 2.175, 2.175, 2.175, 2.61, 2.61, 2.61)
MAX_ACCELERATION = (13.5, 6.75, 9.0, 11.25, 13.5, 18.0, 18.0)  # nine tenths of what the maker allows
JOINT_DAMPING = (0.1,) * 7  # N m s/rad; the file has none
FINGERTIPS: dict[ContactQuantity, float] = {  # as in the file, where merging links would lose them
    "lateralFriction": 1.0,
    "spinningFriction": 0.1,
    "contactStiffness": 3e4,
    "contactDamping": 1e3,
}
PHYSICS_HZ = 240.0
STARTS = 256  # how many starting postures there are

# Measured against STOCK by benchmarks/sampling.py. Fewer iterations or a larger residual move objects elsewhere.
TUNED = Loading(engine_substeps=12, solver_iterations=10, solver_residual=1e-4, merge_fixed=True)

PARAMETERS = (
    Parameter("world.gravity_m_s2", "m/s^2", 9.81, (5.0, 15.0), (9.81, 9.81), description="magnitude of gravity"),
    Parameter(
        "arm.mass_scale", "1", 1.0, (0.2, 5.0), (0.25, 4.0), "log", "on the masses of all links; inertias follow"
    ),
    Parameter("arm.damping_scale", "1", 1.0, (0.1, 40.0), (0.2, 20.0), "log", "on the damping of all joints"),
    Parameter("arm.gain_scale", "1", 1.0, (0.25, 4.0), (0.5, 2.0), "log", "on the gain of the arm's own controller"),
    Parameter("arm.effort_scale", "1", 1.0, (0.3, 2.0), (1.0, 1.0), "log", "on the greatest joint torques"),
    Parameter("action.delay_ms", "ms", 0.0, (0.0, 200.0), (0.0, 80.0), description="from policy to controller"),
    Parameter("action.lag_ms", "ms", 0.0, (0.0, 200.0), (0.0, 60.0), description="first-order lag of the controller"),
    Parameter("action.gain", "1", 1.0, (0.5, 1.5), (0.9, 1.1), description="actual / commanded velocity"),
    Parameter(
        "action.period_jitter_ms", "ms", 0.0, (0.0, 20.0), (1.0, 8.0), description="mean extra time, drawn each step"
    ),
    Parameter("action.drop_rate", "1", 0.0, (0.0, 0.5), (0.0, 0.0), description="share of commands that never arrive"),
    Parameter("action.backlash_m", "m", 0.0, (0.0, 0.02), (0.0, 0.0), description="play felt when motion reverses"),
    Parameter("sensor.joint_noise_rad", "rad", 0.0, (0.0, 0.02), (0.0, 0.004), description="sd on every joint encoder"),
)

MORE = (  # modelled, and left at their identity unless a configuration gives them a range
    *(
        Parameter(f"arm.link{i}_mass_scale", "1", 1.0, (0.2, 5.0), (1.0, 1.0), "log", "on one link's, besides")
        for i in range(1, 8)
    ),
    Parameter("arm.payload_kg", "kg", 0.0, (0.0, 3.0), (0.0, 0.0), description="a point mass at the hand's centre"),
    Parameter("arm.payload_offset_m", "m", 0.0, (-0.1, 0.2), (0.0, 0.0), description="from there, out of the flange"),
    Parameter("action.noise_m_s", "m/s", 0.0, (0.0, 0.3), (0.0, 0.0), description="sd of the velocity, each step"),
    Parameter("action.dead_band_m_s", "m/s", 0.0, (0.0, 0.1), (0.0, 0.0), description="commands below it do nothing"),
    *(
        Parameter(f"sensor.joint{i}_offset_rad", "rad", 0.0, (-0.1, 0.1), (0.0, 0.0), description="calibration error")
        for i in range(1, 8)
    ),
    Parameter("sensor.joint_quantum_rad", "rad", 0.0, (0.0, 0.02), (0.0, 0.0), description="encoder resolution"),
    Parameter("sensor.joint_delay_ms", "ms", 0.0, (0.0, 200.0), (0.0, 0.0), description="age of the joint angles"),
    Parameter("sensor.joint_drift_rad", "rad/s^0.5", 0.0, (0.0, 0.01), (0.0, 0.0), description="walk of their zeros"),
    Parameter("sensor.joint_drop_rate", "1", 0.0, (0.0, 0.5), (0.0, 0.0), description="share of their samples lost"),
    Parameter("sensor.joint_freeze_s", "1/s", 0.0, (0.0, 2.0), (0.0, 0.0), description="freezes of 0.2 s, rate"),
    Parameter("disturbance.push_n", "N", 0.0, (0.0, 100.0), (0.0, 0.0), description="knocks on the hand, 0.2 s"),
)

BINDINGS: dict[str, Binding] = {
    **{f"arm.link{i}_mass_scale": LinkMassScale((link,)) for i, link in enumerate(LINKS, 1)},
    "arm.payload_kg": LinkPayload(LINKS[-1]),
    "arm.payload_offset_m": LinkPayloadOffset(LINKS[-1], "z"),
    "world.gravity_m_s2": Gravity(),
    "arm.mass_scale": LinkMassScale(LINKS),
    "arm.damping_scale": JointDampingScale(JOINTS, JOINT_DAMPING),
    "arm.gain_scale": ServoGain(),
    "arm.effort_scale": ServoEffort(),
}


def command_effects() -> tuple[CommandEffect, ...]:
    """Between the policy's velocity of the tip and the arm's controller."""
    return (
        Dropped("action.drop_rate"),
        Delay("action.delay_ms"),
        DeadBand("action.dead_band_m_s"),
        Gain("action.gain"),
        Lag("action.lag_ms"),
        Backlash("action.backlash_m"),
        Noise("action.noise_m_s"),
    )


def encoders() -> tuple[SensorEffect, ...]:
    """Between the true joint angles and those that are measured; fingers, where they are measured, are left alone."""
    group, arm = "joint_position", slice(len(JOINTS))
    return (
        GroupDelay("sensor.joint_delay_ms", group, arm),
        GroupBias(tuple(f"sensor.joint{i}_offset_rad" for i in range(1, 8)), group, arm),
        Drift("sensor.joint_drift_rad", group, arm),
        GroupNoise("sensor.joint_noise_rad", group, arm),
        GroupQuantization("sensor.joint_quantum_rad", group, arm),
        DroppedSamples("sensor.joint_drop_rate", group, arm),
        FrozenSamples("sensor.joint_freeze_s", group, 0.2, arm),
    )


def tracked(body: str, most_m: float, noise_m: float) -> tuple[Parameter, ...]:
    """What may be wrong with where a tracker sees `body`: noise up to `noise_m` by default and `most_m` at all."""
    name = f"sensor.{body}"
    return (
        Parameter(f"{name}_noise_m", "m", 0.0, (0.0, most_m), (0.0, noise_m), description="sd of its tracked place"),
        Parameter(f"{name}_delay_ms", "ms", 0.0, (0.0, 300.0), (0.0, 100.0), description="age of what is tracked"),
        Parameter(f"{name}_drift_m", "m/s^0.5", 0.0, (0.0, 0.02), (0.0, 0.0), description="walk of its zero"),
        Parameter(f"{name}_drop_rate", "1", 0.0, (0.0, 0.5), (0.0, 0.0), description="share of samples lost"),
        Parameter(f"{name}_freeze_s", "1/s", 0.0, (0.0, 2.0), (0.0, 0.0), description="freezes of 0.5 s, rate"),
    )


def tracker(body: str) -> tuple[SensorEffect, ...]:
    """Between where bodies are and where they are seen, from the parameters `tracked`."""
    name, group = f"sensor.{body}", "body_position"
    return (
        GroupDelay(f"{name}_delay_ms", group),
        Drift(f"{name}_drift_m", group),
        GroupNoise(f"{name}_noise_m", group),
        DroppedSamples(f"{name}_drop_rate", group),
        FrozenSamples(f"{name}_freeze_s", group, hold_s=0.5),
    )


def knocks() -> Pushes:
    return Pushes("disturbance.push_n", LINKS[-1], "xyz")


@cache
def chain() -> Chain:
    """From the base to the tip."""
    return Chain.from_urdf(asset_path(URDF), JOINTS, TIP, BASE)


def servo(axes: str, low: tuple[float, float, float], high: tuple[float, float, float]) -> CartesianVelocity:
    """Velocity of the tip along `axes` ("xy") inside the workspace [low, high], m in the world frame."""
    columns = tuple("xyz".index(axis) for axis in axes)
    limits = MAX_EFFORT, MAX_VELOCITY, MAX_ACCELERATION
    return CartesianVelocity(chain(), JOINTS, columns, low, high, POSTURE, *limits)


def gripping_servo(low: tuple[float, float, float], high: tuple[float, float, float]) -> CartesianVelocity:
    """Velocity of the tip along x, y, z inside the workspace, and of the fingers (positive opens)."""
    arm = servo("xyz", low, high)
    return replace(
        arm,
        joints=(*JOINTS, GRIPPER),
        max_effort=(*MAX_EFFORT, GRIPPER_EFFORT_N),
        max_velocity=(*MAX_VELOCITY, GRIPPER_VELOCITY_M_S),
        max_acceleration=(*MAX_ACCELERATION, GRIPPER_ACCELERATION_M_S2),
        wall_per_s=3.0,  # below 0.81 m slower than the safety filter's 2.5 from a border 1 cm lower
        stroke=STROKE,
        finger_ends=(STROKE[0] - FINGER_SLACK_M, STROKE[1] + FINGER_SLACK_M),
    )


@cache
def starts(low: tuple[float, float, float], high: tuple[float, float, float]) -> np.ndarray:
    """(STARTS, 7) joint positions with the tip inside the box [low, high] and the gripper pointing down."""
    spread = KeyedRandom(0).uniform("starts", np.arange(STARTS), 0, 3)
    frames = np.tile(np.diag([1.0, -1.0, -1.0, 1.0]), (STARTS, 1, 1))
    frames[:, :3, 3] = np.array(low) + spread * (np.array(high) - np.array(low))
    return chain().solve(np.tile(POSTURE, (STARTS, 1)), frames)


def start_posture(table: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """(n, 7) rows of `table` for n numbers in [0, 1)."""
    return table[(uniform * len(table)).astype(np.int64)].astype(np.float32)
