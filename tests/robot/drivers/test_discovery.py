"""Where drivers come from, what their options may be, and what is imported until one is named."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint, EntryPoints

import pytest

from robot import drivers
from robot.drivers import make_robot
from robot.drivers.options import DriverOptions, parse
from robot.interface import RobotError


class Options(DriverOptions):
    colour: str
    legs: int = 2


class Walker:
    """A user's driver with options of its own."""

    Options = Options

    def __init__(self, settings, task):
        self.options = parse(Options, settings.driver_options)


class Plain:
    def __init__(self, settings, task): ...


@pytest.fixture
def added(monkeypatch):
    """Entry points as if packages had been installed."""

    def add(**values):
        points = EntryPoints(EntryPoint(n, v, drivers.GROUP) for n, all_ in values.items() for v in all_)
        monkeypatch.setattr(drivers, "entry_points", lambda group: points.select(group=group))

    return add


def test_an_installed_package_adds_a_driver(added, task, make_settings):
    added(walker=["tests.robot.drivers.test_discovery:Walker"])
    robot = make_robot(make_settings(driver="walker", driver_options={"colour": "red"}), task)
    assert isinstance(robot, Walker) and robot.options == Options(colour="red", legs=2)
    assert drivers.names() == (*drivers.DRIVERS, "walker")
    with pytest.raises(RobotError, match="unknown driver 'warp'.*faulty, walker"):
        make_robot(make_settings(driver="warp"), task)


def test_one_name_for_two_drivers_is_refused(added, task, make_settings):
    here = "tests.robot.drivers.test_discovery:"
    added(walker=[here + "Walker", here + "Plain"], dynamixel=[here + "Plain"])
    with pytest.raises(RobotError, match="more than one installed package.*Plain.*Walker"):
        make_robot(make_settings(driver="walker"), task)
    assert drivers.load("dynamixel").__name__ == "DynamixelRobot"  # what ships is not replaced behind anybody's back


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({}, r"robot\.driver_options\.colour: none given"),
        ({"colour": "red", "wings": 2}, r"robot\.driver_options\.wings: unknown key; accepted are colour, legs"),
        ({"colour": "red", "legs": "many"}, r"robot\.driver_options\.legs: 'many' is not accepted"),
    ],
)
def test_options_are_checked_by_the_drivers_own_class(task, make_settings, given, sentence):
    with pytest.raises(RobotError, match=sentence) as caught:
        make_robot(make_settings(driver="tests.robot.drivers.test_discovery:Walker", driver_options=given), task)
    assert "\n" not in str(caught.value)


def test_options_for_a_driver_without_any_are_refused(task, make_settings):
    with pytest.raises(RobotError, match="'dynamixel' has no options of its own, and 'colour' was given"):
        make_robot(make_settings(port="/dev/null", driver_options={"colour": "red"}), task)


@pytest.mark.parametrize(
    ("driver", "module", "extra"),
    [("rosbridge", "websockets", "rosbridge"), ("ur_rtde", "rtde_control", "ur-rtde")],
)
def test_a_missing_vendor_package_names_the_extra(task, make_settings, monkeypatch, driver, module, extra):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    for name in (f"robot.drivers.{driver}", f"robot.drivers.{driver}_link"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(RobotError, match=rf"'{driver}' needs the package {module}.*pip install 'sim2real\[{extra}\]'"):
        make_robot(make_settings(driver=driver, port="x"), task)


def test_nothing_of_a_vendor_is_imported_until_a_driver_is_named():
    code = (
        "import sys, robot.open, robot.drivers, robot.settings, robot.check\n"
        "print(robot.drivers.names()[0], sorted({m.split('.')[0] for m in sys.modules} & {'dynamixel_sdk', 'serial',"
        " 'websockets', 'rtde_control', 'rtde_receive', 'lerobot', 'mujoco', 'pybullet', 'ray', 'torch'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "dynamixel []\n"


def test_only_a_driver_that_a_twin_can_answer_starts_one(make_settings):
    assert make_settings().boundary == "dynamixel"
    assert make_settings(driver="rosbridge").boundary == "rosbridge"
    assert make_settings(driver="faulty", driver_options={"driver": "rosbridge"}).boundary == "rosbridge"
    assert make_settings(driver="lerobot").boundary is None
    assert make_settings(driver="my:Own").boundary is None
    assert make_settings(driver="my:Own", twin={"boundary": "dynamixel"}).boundary == "dynamixel"
    assert make_settings(port="/dev/ttyUSB0").boundary is None
