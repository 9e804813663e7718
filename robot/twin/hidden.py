"""The hidden values of a reality. Only the twin's own process reads them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from robot.interface import RobotError

DEFAULT = Path(__file__).parent / "hidden" / "cartpole.yaml"

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Hidden(BaseModel):
    """A cartpole reality. The defaults are the shipped one; a file may override any of them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

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


def load(path: Path | str | None) -> Hidden:
    """The values of a YAML file over the shipped ones; raises RobotError naming file and key."""
    path = DEFAULT if path is None else Path(path)
    known = ", ".join(Hidden.model_fields)
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
        return Hidden.model_validate({str(key): _number(value) for key, value in data.items()})
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise RobotError(f"robot.twin.hidden: {path}: unknown key '{key}'; accepted are {known}") from error
        wanted = first["msg"].removeprefix("Input should be ")
        raise RobotError(
            f"robot.twin.hidden: {path}: {key}: {first['input']!r} is not accepted; it should be {wanted}"
        ) from error


def _number(value: object) -> object:
    """Whole numbers are fine where a float is wanted; strings and booleans are not."""
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value
