"""Drivers by name: classes called with (settings, task) that satisfy `robot.interface.Robot`.

A package adds one with an entry point in the group `sim2real.drivers`. None is imported until it is named.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING

from robot.drivers.options import parse
from robot.interface import Robot, RobotError
from robot.settings import ROTORS

if TYPE_CHECKING:
    from envs.task import Task
    from robot.settings import RobotSettings

GROUP = "sim2real.drivers"
DRIVERS = {
    "dynamixel": "robot.drivers.dynamixel:DynamixelRobot",
    "rosbridge": "robot.drivers.rosbridge:RosbridgeRobot",
    "ur_rtde": "robot.drivers.ur_rtde:UrRobot",
    "lerobot": "robot.drivers.lerobot:LeRobotRobot",
    "gymnasium": "robot.drivers.gymnasium:GymnasiumRobot",
    "replay": "robot.drivers.replay:ReplayRobot",
    "faulty": "robot.drivers.faulty:FaultyRobot",
}
EXTRAS = {  # vendor module: the extra that installs it
    "dynamixel_sdk": "dynamixel",
    "serial": "dynamixel",
    "websockets": "rosbridge",
    "rtde_control": "ur-rtde",
    "rtde_receive": "ur-rtde",
}


def make_robot(settings: RobotSettings, task: Task) -> Robot:
    """The robot of `settings`, not yet connected; raises RobotError for a driver that cannot be loaded."""
    limited = task.scene.limited
    missing = [joint for joint in limited if joint not in settings.limits]
    if missing:
        raise RobotError(
            f"robot.limits: the actuated joint '{missing[0]}' of {task.name} has no entry, and a robot "
            f"without limits is refused; accepted is an entry for each of {', '.join(limited)}"
        )
    if missing := task.scene.unlimited_rotors(settings.rotors):
        raise RobotError(f"robot.rotors: none given for {missing[0]}, and {task.name} flies; {ROTORS}")
    unknown = [joint for joint in settings.limits if joint not in task.joints]
    if unknown:
        raise RobotError(f"robot.limits: unknown joint '{unknown[0]}'; {task.name} has {', '.join(task.joints)}")
    driver = load(settings.driver)
    section = getattr(driver, "Options", None)
    if section is not None:
        parse(section, settings.driver_options)
    elif settings.driver_options:
        raise RobotError(
            f"robot.driver_options: the driver '{settings.driver}' has no options of its own, and "
            f"'{next(iter(settings.driver_options))}' was given; accepted is an empty section"
        )
    return driver(settings, task)


def names() -> tuple[str, ...]:
    """Every driver that can be named: those that ship, then those that installed packages add."""
    added = {point.name for point in entry_points(group=GROUP)} - set(DRIVERS)
    return (*DRIVERS, *sorted(added))


def load(name: str) -> Callable[[RobotSettings, Task], Robot]:
    """The class behind a name or module:Class; raises RobotError saying what to install or to correct."""
    target = DRIVERS.get(name) or (name if ":" in name else _added(name).value)
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute.strip())
    except ModuleNotFoundError as error:
        raise missing_package(name, error) from error
    except ImportError as error:
        raise RobotError(f"robot.driver: '{name}' cannot be loaded: {error}") from error
    except AttributeError as error:
        raise RobotError(f"robot.driver: module {module} has no class {attribute}") from error


def missing_package(driver: str, error: ModuleNotFoundError) -> RobotError:
    """The sentence for a package that is not there: which extra has it, where one does."""
    extra = EXTRAS.get((error.name or "").split(".")[0])
    if extra:
        return RobotError(
            f"robot.driver: '{driver}' needs the package {error.name}, which is not installed; "
            f"pip install 'sim2real[{extra}]'"
        )
    return RobotError(f"robot.driver: '{driver}' cannot be loaded: {error}")


def _added(name: str) -> EntryPoint:
    """The entry point of an installed package; one name must not mean two drivers."""
    found = {point.value: point for point in entry_points(group=GROUP) if point.name == name}
    if not found:
        raise RobotError(f"robot.driver: unknown driver '{name}'; accepted is {', '.join(names())}, or module:Class")
    if len(found) > 1:
        raise RobotError(
            f"robot.driver: '{name}' is added by more than one installed package ({', '.join(sorted(found))}); "
            "accepted is the module:Class of the one you mean"
        )
    return next(iter(found.values()))
