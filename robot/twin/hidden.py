"""The hidden values of a reality. Only the twin's own process reads them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robot.interface import RobotError
from robot.twin.rigs import find_rig

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Values(BaseModel):
    """The hidden values of one reality. The defaults are the shipped one; a file may override any of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Hidden(Values):
    """A cartpole reality."""

    gravity_m_s2: Positive = 12.0
    cart_mass_kg: Positive = 1.5
    cart_coulomb_n: NotNegative = 0.8
    cart_viscous_n_s_m: NotNegative = 0.4
    pole_mass_kg: Positive = 0.2  # a thin rod of 0.4 m
    hinge_coulomb_nm: NotNegative = 0.001
    lag_ms: NotNegative = 30.0  # first-order lag of the motor
    latency_ms: NotNegative = 35.0  # from the bus to the motor, plus
    latency_jitter_ms: NotNegative = 6.0  # |standard normal| times this, for each command
    gain: Positive = 0.92  # delivered / commanded force
    dead_band_n: NotNegative = 0.3  # commands up to this do nothing
    force_noise_n: NotNegative = 2.0  # sd, one draw for each control step
    sensor_noise_sd: NotNegative = 0.02  # sd in SI units on positions and velocities alike
    angle_quantum_rad: NotNegative = 2 * math.pi / 2048  # resolution of the pole encoder; 0: none


class PendulumHidden(Values):
    """A pendulum reality. Angles and torques are positive towards +x."""

    inertia_kg_m2: Positive = 0.069  # about the pivot
    gravity_torque_nm: Positive = 1.08  # with the arm horizontal
    viscous_nm_s: NotNegative = 0.04
    coulomb_forward_nm: NotNegative = 0.31
    coulomb_backward_nm: NotNegative = 0.24
    cogging_nm: NotNegative = 0.04  # amplitude
    cogging_periods: Positive = 14.0  # a revolution
    offset_nm: Finite = 0.05  # torque that is always there
    lag_ms: NotNegative = 20.0  # first-order lag of the motor
    latency_ms: NotNegative = 28.0  # from the bus to the motor, plus
    latency_jitter_ms: NotNegative = 5.0  # |standard normal| times this, for each command
    gain: Positive = 0.93  # delivered / commanded torque
    torque_noise_nm: NotNegative = 0.03  # sd, one draw for each control step
    sensor_noise_rad: NotNegative = 0.01  # sd
    sensor_noise_rad_s: NotNegative = 0.05  # sd
    angle_quantum_rad: NotNegative = 2 * math.pi / 2048  # resolution of the encoder; 0: none

    @model_validator(mode="after")
    def _possible(self) -> PendulumHidden:
        least = (self.gravity_torque_nm / 9.81) ** 2  # of one kilogram at that distance; the twin's arm weighs that
        if self.inertia_kg_m2 <= least:
            raise ValueError(f"inertia_kg_m2 should be above {least:.4g} with this gravity_torque_nm")
        return self


class PandaHidden(Values):
    """A reality of the Panda arm, in joint-velocity control of its own."""

    gravity_m_s2: Positive = 9.81
    mass_scale: Positive = 1.25  # of all links against the maker's figures, inertias too
    armature_kg_m2: Positive = 0.25  # inertia of each motor, as seen from its joint
    viscous_nm_s: NotNegative = 2.0  # of each joint
    coulomb_nm: NotNegative = 1.5  # of each joint
    stiffness_nm_rad: Positive = 2000.0  # of the first joints' controllers; half at the others
    damping_nm_s: Positive = 120.0  # likewise
    compensation: NotNegative = 0.96  # share of gravity that the controller takes off the joints
    lag_ms: NotNegative = 20.0  # first-order lag of the velocity that the controller follows
    latency_ms: NotNegative = 30.0  # from the bus to the controller, plus
    latency_jitter_ms: NotNegative = 6.0  # |standard normal| times this, for each command
    gain: Positive = 0.94  # followed / commanded velocity
    torque_noise_nm: NotNegative = 0.4  # sd at each joint, one draw for each control step
    encoder_offset_rad: Finite = 0.004  # zero error, of alternating sign from joint to joint
    sensor_noise_rad: NotNegative = 0.0005  # sd
    sensor_noise_rad_s: NotNegative = 0.01  # sd
    sensor_noise_nm: NotNegative = 0.3  # sd of the torque that a motor's current tells


class CameraHidden(Values):
    """A camera above a table."""

    camera_hz: Positive = 30.0
    camera_latency_ms: NotNegative = 60.0  # from the exposure to whoever asks
    camera_noise_m: NotNegative = 0.003  # sd along each axis that it measures
    camera_offset_m: Finite = 0.004  # calibration error: too far in x, too near in y
    camera_drop_rate: Annotated[float, Field(ge=0, lt=1)] = 0.03  # share of pictures in which the body is not found


class PushHidden(CameraHidden, PandaHidden):
    """A reality of the Panda arm at a table with a puck, and a camera above that tracks the puck."""

    table_height_m: Annotated[float, Field(ge=0.72, le=0.772)] = 0.744
    puck_mass_kg: Positive = 0.3
    puck_friction: Positive = 0.32  # Coulomb, on the table
    puck_finger_friction: Positive = 0.6
    puck_damping_n_s_m: NotNegative = 0.1


class LiftHidden(CameraHidden, PandaHidden):
    """A reality of the Panda arm with its gripper at a table, an object on it, and a camera that tracks the object."""

    objects: Literal["training", "held_out"] = "training"  # which the technician puts there, one for each episode
    table_height_m: Annotated[float, Field(ge=0.745, le=0.755)] = 0.752
    object_scale: Annotated[float, Field(ge=0.9, le=1.05)] = 0.98  # of every object's size
    object_mass_kg: Positive = 0.13
    object_friction: Positive = 0.6  # Coulomb, against the fingers
    table_friction: Positive = 0.5  # Coulomb, of the object on the table
    grip_force_n: Positive = 14.0  # of each finger, the most
    grip_stiffness_n_m: Positive = 2500.0  # of the fingers' controller
    grip_damping_n_s_m: Positive = 150.0
    grip_coulomb_n: NotNegative = 1.0  # friction in each finger's drive
    grip_noise_n: NotNegative = 0.1  # sd of the force as the motor's current tells it
    finger_offset_m: Finite = 0.0004  # zero error
    finger_noise_m: NotNegative = 0.0001  # sd
    camera_noise_m: NotNegative = 0.002
    camera_offset_m: Finite = 0.003


class HoverHidden(Values):
    """A quadrotor reality."""

    mass_kg: Positive = 0.555  # all in all
    inertia_x_kg_m2: Positive = 0.0028
    inertia_y_kg_m2: Positive = 0.0026
    inertia_z_kg_m2: Positive = 0.0046
    com_x_m: Finite = 0.004  # from the middle of the rotors
    com_y_m: Finite = -0.003
    com_z_m: Finite = -0.01
    reaction_m: NotNegative = 0.018  # torque for each newton of thrust
    rotor1_gain: Positive = 0.97
    rotor2_gain: Positive = 0.92
    rotor3_gain: Positive = 0.95
    rotor4_gain: Positive = 0.93
    ground_effect: NotNegative = 1.0  # on the square in the formula of Cheeseman and Bennett
    battery_sag: Annotated[float, Field(ge=0, le=0.4)] = 0.02  # share of the thrust lost at hover
    lag_up_ms: NotNegative = 45.0  # first-order lag of the motors towards more thrust
    lag_down_ms: NotNegative = 65.0  # and towards less
    latency_ms: NotNegative = 18.0  # from the bus to the motors, plus
    jitter_ms: NotNegative = 3.0  # |standard normal| times this, for each command
    thrust_noise_n: NotNegative = 0.02  # sd at each rotor, one draw for each control step
    drag_n_s2_m2: NotNegative = 0.04  # of the frame
    rotor_drag_n_s_m: NotNegative = 0.08  # of the rotors at hover thrust, sideways
    wind_m_s: NotNegative = 1.0  # horizontal, from a direction drawn for each episode
    gust_m_s: NotNegative = 1.0  # peak on top of it, in a random direction
    capture_latency_ms: NotNegative = 10.0  # from the cameras to whoever asks
    position_noise_m: NotNegative = 0.005  # sd
    velocity_noise_m_s: NotNegative = 0.02  # sd
    attitude_noise_rad: NotNegative = 0.008  # sd
    gyro_noise_rad_s: NotNegative = 0.04  # sd
    roll_bias_rad: Finite = 0.02  # level error
    pitch_bias_rad: Finite = -0.015
    gyro_bias_x_rad_s: Finite = 0.02
    gyro_bias_y_rad_s: Finite = -0.03
    gyro_bias_z_rad_s: Finite = 0.01


def load(path: Path | str | None, task: str = "cartpole") -> Any:
    """The values of a YAML file over the shipped ones of a task's reality; raises RobotError naming file and key."""
    rig = find_rig(task)
    kind = rig.hidden_class()
    path = rig.file if path is None else Path(path)
    known = ", ".join(kind.model_fields)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not text"
        raise RobotError(
            f"robot.twin.hidden: {path} cannot be read ({why}); accepted is a YAML file with any of {known}"
        ) from error
    except yaml.YAMLError as error:
        raise RobotError(f"robot.twin.hidden: {path} is not YAML; accepted is a mapping of {known}") from error
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise RobotError(f"robot.twin.hidden: {path} holds a {type(data).__name__}; accepted is a mapping of {known}")
    try:
        return kind.model_validate({str(key): _number(value) for key, value in data.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise RobotError(f"robot.twin.hidden: {path}: unknown key '{key}'; accepted are {known}") from error
        if not key:
            wanted = first["msg"].removeprefix("Value error, ")
            raise RobotError(f"robot.twin.hidden: {path}: {wanted}") from error
        wanted = first["msg"].removeprefix("Input should be ")
        raise RobotError(
            f"robot.twin.hidden: {path}: {key}: {first['input']!r} is not accepted; it should be {wanted}"
        ) from error


def _number(value: object) -> object:
    """Whole numbers are fine where a float is wanted; strings and booleans are not."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
