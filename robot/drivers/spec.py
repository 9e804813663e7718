"""What the drivers share: the constants of a robot out of its settings and its task."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Literal

from envs.task import Task
from robot.interface import RobotError, RobotSpec
from robot.settings import RobotSettings


def make_spec(
    settings: RobotSettings,
    task: Task,
    stop: Literal["torque_off", "hold", "damped", "land"],
    sends: tuple[str, ...] = ("effort",),
) -> RobotSpec:
    """Raises RobotError when the task's motors take what the driver does not send."""
    scene = task.scene
    if scene.motors_take not in sends:
        raise RobotError(
            f"robot.driver: {settings.speaks} sends no {scene.motors_take}, which the motors of {task.name} take; "
            "accepted is a driver that does, such as dynamixel"
        )
    return RobotSpec(
        name=settings.name,
        joints=task.joints,
        actuated=scene.motors,
        limits=settings.limits,
        control_hz=task.control_hz,
        max_age_s=settings.max_age_ms / 1e3,
        stop=stop,
        realtime=settings.mode == "realtime",
        takes=scene.motors_take,
    )


def find(key: str, target: str) -> Any:
    """What module:name stands for; raises RobotError naming the configuration key."""
    module, _, name = target.partition(":")
    if not name:
        raise RobotError(f"robot.driver_options.{key}: '{target}' names nothing; accepted is module:name")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise RobotError(f"robot.driver_options.{key}: '{target}' cannot be imported: {error}") from error
    except AttributeError as error:
        raise RobotError(f"robot.driver_options.{key}: module {module} has no {name}") from error


def each(key: str, given: dict[str, Any], wanted: tuple[str, ...]) -> None:
    """Raise RobotError unless `given` has exactly one entry for each wanted joint."""
    for joint in wanted:
        if joint not in given:
            raise RobotError(
                f"robot.driver_options.{key}: joint '{joint}' has no entry; accepted is one for each of "
                f"{', '.join(wanted)}"
            )
    for joint in given:
        if joint not in wanted:
            raise RobotError(f"robot.driver_options.{key}: unknown joint '{joint}'; accepted are {', '.join(wanted)}")


def only_realtime(settings: RobotSettings) -> None:
    if settings.mode != "realtime":
        raise RobotError(
            f"robot.mode: lockstep with the driver {settings.driver}, whose robot waits for nobody; "
            "accepted is realtime"
        )
