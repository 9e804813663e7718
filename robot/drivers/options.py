"""The part of a robot's configuration that only its driver understands."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from robot.interface import RobotError


class DriverOptions(BaseModel):
    """Base of a driver's own section: frozen, unknown keys are errors. The class is the driver's `Options`."""

    model_config = ConfigDict(frozen=True, extra="forbid")


OptionsType = TypeVar("OptionsType", bound=BaseModel)


def parse(options: type[OptionsType], given: dict[str, Any]) -> OptionsType:
    """The validated section; raises RobotError with one sentence that names the key and what is accepted."""
    try:
        return options.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["robot.driver_options", *map(str, first["loc"])])
        if first["type"] == "extra_forbidden":
            known = ", ".join(options.model_fields)
            raise RobotError(f"{key}: unknown key; accepted are {known}") from error
        if first["type"] == "missing":
            what = options.model_fields[str(first["loc"][0])].description if len(first["loc"]) == 1 else None
            raise RobotError(f"{key}: none given; accepted is {what or 'a value for it'}") from error
        message = first["msg"].removeprefix("Value error, ")
        raise RobotError(f"{key}: {first['input']!r} is not accepted: {message}") from error
