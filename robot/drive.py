"""From a task's commands to those of the motors, and back to what a task would have called what was sent."""

from __future__ import annotations

import numpy as np

from envs.servo import CartesianServo, CartesianVelocity
from envs.task import Task
from robot.interface import Observation


class Drive:
    """The task commands the motors themselves."""

    def reset(self, seen: Observation) -> None:
        """An episode begins where `seen` was measured."""

    def motors(self, command: np.ndarray, seen: Observation) -> np.ndarray:
        """(u,) for the motors, in the order of `RobotSpec.actuated`, for a task's command (c,)."""
        return command

    def task(self, motors: np.ndarray) -> np.ndarray:
        """(c,) the task's command that motor commands (u,) amounted to, after the last call of `motors`."""
        return motors


class TipDrive(Drive):
    """The task commands velocities of the tip, and of fingers: the simulated arm's servo makes joint velocities."""

    def __init__(self, task: Task, velocity: CartesianVelocity) -> None:
        self._spec = velocity
        self._rows = [task.joints.index(joint) for joint in velocity.joints]
        self._servo = CartesianServo(velocity, 1, task.control_period_s)

    def reset(self, seen: Observation) -> None:
        self._servo.reset(np.array([0]), self._encoders(seen))

    def motors(self, command: np.ndarray, seen: Observation) -> np.ndarray:
        q = self._encoders(seen)
        self._command = np.asarray(command, float)
        arm = self._spec.chain.size
        self._jacobian = self._spec.chain.jacobian(q[:, :arm])[1][0, list(self._spec.axes)]
        self._asked = self._servo.velocities(self._command[None], q)[0]
        return self._asked

    def task(self, motors: np.ndarray) -> np.ndarray:
        """What was asked, less the velocities of tip and fingers that the joints were not sent."""
        missing, arm = motors - self._asked, self._spec.chain.size
        return self._command + np.concatenate([self._jacobian @ missing[:arm], missing[arm:]])

    def _encoders(self, seen: Observation) -> np.ndarray:
        return seen.joint_position[None, self._rows].astype(float)


def make_drive(task: Task) -> Drive:
    actuation = task.scene.actuation
    return TipDrive(task, actuation) if isinstance(actuation, CartesianVelocity) else Drive()
