"""A robot's configuration: what is refused, and in which words."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from robot.drivers import make_robot
from robot.interface import RobotError
from robot.settings import RobotSettings
from tests.robot.conftest import LIMITS


def sentence(**keys) -> str:
    with pytest.raises(ValidationError) as caught:
        RobotSettings.model_validate(keys)
    return str(caught.value)


@pytest.mark.parametrize("keys", [{}, {"limits": {}}, {"limits": None}])
def test_a_robot_without_limits_is_refused(keys):
    text = sentence(**keys)
    assert "without limits is refused" in text and "effort_rate" in text


def test_unknown_keys_bad_intervals_and_unreachable_robots_are_refused():
    assert "colour" in sentence(limits=LIMITS, colour="red")
    slider = LIMITS["slider"]
    assert "low < high" in sentence(limits={"slider": {**slider, "position": (1.0, -1.0)}})
    assert "velocity" in sentence(limits={"slider": {**slider, "velocity": float("inf")}})
    assert "twin" in sentence(limits=LIMITS, twin=None)


def test_a_joint_without_limits_and_an_unknown_joint_are_refused(task, make_settings):
    hinge = {"hinge": LIMITS["slider"]}
    with pytest.raises(RobotError, match="actuated joint 'slider'"):
        make_robot(make_settings(port="/dev/null", limits=hinge), task)
    with pytest.raises(RobotError, match="unknown joint 'elbow'"):
        make_robot(make_settings(port="/dev/null", limits={**LIMITS, "elbow": LIMITS["slider"]}), task)


def test_drivers_come_by_name_or_by_class(task, make_settings):
    with pytest.raises(RobotError, match="unknown driver 'warp'.*dynamixel"):
        make_robot(make_settings(driver="warp"), task)
    with pytest.raises(RobotError, match="no class Nothing"):
        make_robot(make_settings(driver="tests.robot.test_settings:Nothing"), task)
    with pytest.raises(RobotError, match="cannot be loaded"):
        make_robot(make_settings(driver="no_such_module:Robot"), task)
    own = make_robot(make_settings(driver="tests.robot.test_settings:Own"), task)
    assert isinstance(own, Own) and own.settings.name == "robot0"


def test_a_missing_vendor_package_names_the_extra(task, make_settings, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "dynamixel_sdk", None)
    for module in ("robot.drivers.dynamixel", "robot.drivers.dynamixel_link"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(RobotError, match=r"pip install 'sim2real\[dynamixel\]'"):
        make_robot(make_settings(port="/dev/null"), task)


class Own:
    """A user's driver, as far as this test needs one."""

    def __init__(self, settings, task):
        self.settings, self.task = settings, task
