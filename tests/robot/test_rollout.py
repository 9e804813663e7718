"""The end of an episode: what ended it, and which readings count."""

from __future__ import annotations

import numpy as np
import pytest

from envs.tasks.cartpole import Cartpole
from robot.clock import Clock
from robot.interface import Held, Observation, RobotSpec, Sent, Status
from robot.policy import ExportedPolicy
from robot.rollout import rollout
from robot.safety import SafetyFilter
from robot.settings import JointLimits
from tests.robot.policies import balancing_gains, linear_policy

LIMITS = {
    "slider": JointLimits(position=(-0.75, 0.75), velocity=3.0, effort=10.0, effort_rate=2000.0),
    "hinge": JointLimits(position=(-1.0, 1.0), velocity=8.0, effort=1.0, effort_rate=1.0),
}


class Scripted:
    """Stands still upright, and shows `readings` (slider m, hinge rad) one after the other."""

    def __init__(self, task: Cartpole, readings: list[tuple[float, float]]) -> None:
        self.spec = RobotSpec("r", task.joints, task.actuated, LIMITS, task.control_hz, 1.0, "torque_off", False)
        self._readings, self.sent = list(readings), 0

    def observe(self) -> Observation:
        at = np.array(self._readings.pop(0) if self._readings else (0.0, 0.0), np.float32)
        return Observation(at, np.zeros(2, np.float32), 0.0, np.zeros(2))

    def command(self, command: np.ndarray) -> Sent:
        self.sent += 1
        return Sent(command, 0.0)

    def connect(self) -> None: ...
    def arm(self) -> None: ...
    def hold(self) -> Held:
        return Held(True, True, np.zeros(2), 0.0)

    def status(self) -> Status:
        return Status("ok")

    def recover(self, operator: str) -> None: ...
    def disconnect(self) -> None: ...


def fly(task: Cartpole, readings: list[tuple[float, float]]):
    robot = Scripted(task, readings)
    policy = ExportedPolicy(linear_policy(task, balancing_gains(task)))
    safety = SafetyFilter(LIMITS, task.joints, task.actuated, task.control_period_s)
    return rollout(robot, task, policy, safety, Clock(task.control_period_s, False), None, None, 0.0), robot


def test_what_the_limits_allow_and_the_task_does_not_is_a_failure_of_the_task(task):
    record, _ = fly(task, [(0.0, 0.0), (0.0, 0.0), (0.0, 0.5)])
    assert record.terminated and not record.stop and len(record) == 2
    assert record.columns(task)["terminated"].tolist() == [False, True]


@pytest.mark.parametrize("absurd", [(1e6, 0.0), (0.0, 1e6), (-0.76, 0.0)])
def test_a_reading_beyond_the_limits_is_a_stop_and_no_failure_of_the_task(task, absurd):
    record, _ = fly(task, [(0.0, 0.0), (0.0, 0.0), absurd])
    assert "position" in record.stop and not record.terminated and not record.columns(task)["terminated"].any()


@pytest.mark.parametrize("absurd", [(np.nan, 0.0), (0.0, np.inf)])
def test_a_reading_that_is_no_number_has_no_outcome(task, absurd):
    record, robot = fly(task, [(0.0, 0.0), (0.0, 0.0), absurd])
    assert "not finite" in record.stop and len(record) == 1 and robot.sent == 2
    assert all(np.isfinite(values).all() for name, values in record.columns(task).items() if name != "intervention")
    record, robot = fly(task, [absurd])
    assert "not finite" in record.stop and robot.sent == 0


def test_a_joint_without_an_entry_in_the_limits_must_be_measured_all_the_same(task):
    safety = SafetyFilter({"slider": LIMITS["slider"]}, task.joints, task.actuated, task.control_period_s)
    seen = Observation(np.array([0.0, np.nan]), np.zeros(2), 0.0, np.zeros(2))
    assert "hinge" in safety.unsafe(seen)
