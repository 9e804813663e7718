"""Drivers by name: classes called with (settings, task) that satisfy `robot.interface.Robot`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from robot.interface import Robot, RobotError

if TYPE_CHECKING:
    from envs.task import Task
    from robot.settings import RobotSettings

DRIVERS = {"dynamixel": "robot.drivers.dynamixel:DynamixelRobot"}
EXTRAS = {"dynamixel_sdk": "dynamixel", "serial": "dynamixel"}  # vendor module: the extra that installs it


def make_robot(settings: RobotSettings, task: Task) -> Robot:
    """The robot of `settings`, not yet connected; raises RobotError for a driver that cannot be loaded."""
    missing = [joint for joint in task.actuated if joint not in settings.limits]
    if missing:
        raise RobotError(
            f"robot.limits: the actuated joint '{missing[0]}' of {task.name} has no entry, and a robot "
            f"without limits is refused; accepted is an entry for each of {', '.join(task.actuated)}"
        )
    unknown = [joint for joint in settings.limits if joint not in task.joints]
    if unknown:
        raise RobotError(f"robot.limits: unknown joint '{unknown[0]}'; {task.name} has {', '.join(task.joints)}")
    target = DRIVERS.get(settings.driver, settings.driver)
    module, _, name = target.partition(":")
    if not name:
        known = ", ".join(DRIVERS)
        raise RobotError(f"robot.driver: unknown driver '{settings.driver}'; accepted is {known}, or module:Class")
    try:
        driver = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").split(".")[0])
        if extra:
            raise RobotError(
                f"robot.driver: '{settings.driver}' needs the package {error.name}, which is not installed; "
                f"pip install 'sim2real[{extra}]'"
            ) from error
        raise RobotError(f"robot.driver: '{settings.driver}' cannot be loaded: {error}") from error
    except AttributeError as error:
        raise RobotError(f"robot.driver: module {module} has no class {name}") from error
    return driver(settings, task)
