"""A real robot that already is a Gymnasium environment.

Such an environment owns its robot: it moves it in `reset`, and its `step` may wait for its own clock. So two
things have to be said in the options: that its reset may move the robot, which no filter of this project
sees, and which of its methods stops the motors and tells whether they are off.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

import gymnasium
import numpy as np
from pydantic import Field, field_validator

from envs.task import Task
from robot.drivers.options import DriverOptions, parse
from robot.drivers.rest import STILL
from robot.drivers.spec import each, find, make_spec
from robot.interface import Held, Observation, RobotError, RobotFault, Sent, Status
from robot.settings import RobotSettings


class Channel(DriverOptions):
    """Where a joint is in the flattened observation, and its size in SI units."""

    position: int = Field(ge=0, description="column of its position in the flattened observation")
    velocity: int = Field(ge=0, description="column of its velocity")
    scale: float = Field(default=1.0, description="m or rad of one unit of the column; negative turns the sign")
    zero: float = Field(default=0.0, description="what the position column shows at joint position zero")


class Drive(DriverOptions):
    """Which entry of the action drives a joint."""

    column: int = Field(ge=0, description="entry of the environment's action")
    scale: float = Field(description="the command (SI) that one unit of the action stands for")

    @field_validator("scale")
    @classmethod
    def _not_nothing(cls, value: float) -> float:
        if value == 0:
            raise ValueError("0 is no scale; accepted is a number other than 0")
        return value


class GymnasiumOptions(DriverOptions):
    environment: str = Field(description="an environment's registered name, or module:callable that makes one")
    arguments: dict[str, Any] = Field(default_factory=dict, description="what it is made with")
    stop_method: str = Field(
        description="the environment's method that stops the motors and returns True once they are seen off"
    )
    allow_reset: bool = Field(
        default=False, description="the environment's reset may move the robot, past the safety filter"
    )
    joints: dict[str, Channel] = Field(description="where each joint is in the observation")
    drives: dict[str, Drive] = Field(description="what drives each actuated joint")


class GymnasiumRobot:
    """Satisfies `robot.interface.Robot`. There is nothing to observe before `arm`, which resets the environment."""

    Options = GymnasiumOptions

    def __init__(self, settings: RobotSettings, task: Task) -> None:
        self._options = options = parse(GymnasiumOptions, settings.driver_options)
        each("joints", options.joints, task.joints)
        each("drives", options.drives, task.actuated)
        if not options.allow_reset:
            raise RobotError(
                "robot.driver_options.allow_reset: an environment's own reset moves the robot past the safety "
                "filter; accepted is true, once you trust that motion"
            )
        self.spec = make_spec(settings, task, "torque_off")
        self._channels = [options.joints[joint] for joint in task.joints]
        self._drives = [options.drives[joint] for joint in task.actuated]
        self._rows = [task.joints.index(joint) for joint in task.actuated]
        self._lock = threading.RLock()  # a watchdog's hold waits for a step that is under way
        self._env: gymnasium.Env | None = None
        self._armed = False
        self._seen: Observation | None = None
        self._over = self._broken = ""

    def connect(self) -> None:
        """Make the environment; it is not reset, so nothing moves."""
        with self._lock:
            self.disconnect()
            name, arguments = self._options.environment, self._options.arguments
            try:
                if name.partition(":")[2].isidentifier():  # Gymnasium's own module:Name-v0 has a dash
                    env = find("environment", name)(**arguments)
                else:
                    env = gymnasium.make(name, **arguments)
            except RobotError:
                raise
            except Exception as error:  # an environment's constructor may raise anything
                raise RobotError(f"robot.driver_options.environment: {name} cannot be made: {error}") from error
            try:
                self._fits(env)
            except RobotError:
                env.close()
                raise
            self._env, self._seen, self._over, self._broken = env, None, "", ""

    def arm(self) -> None:
        """Reset the environment, which may move the robot (see `allow_reset`)."""
        with self._lock:
            env = self._line()
            try:
                observation, _ = env.reset()
            except Exception as error:
                raise RobotFault(f"the environment's reset failed: {error}", link=True) from error
            self._seen, self._armed, self._over, self._broken = self._read(observation), True, "", ""

    def observe(self) -> Observation:
        """What the last reset or step returned, with the time it returned at."""
        with self._lock:
            self._line()
            self._whole()
            if self._seen is None:
                raise RobotFault("nothing was observed yet: the environment is only reset when the robot is armed")
            return self._seen

    def command(self, command: np.ndarray) -> Sent:
        """Step the environment; the action is kept inside its space, and what that was is returned."""
        with self._lock:
            env = self._line()
            self._whole()
            if self._over:
                self._armed = False
                raise RobotFault(self._over)
            if not self._armed:
                raise RobotFault("the motors are off: the robot was held and must be armed before a command")
            box: Any = env.action_space
            action = np.zeros(box.shape, np.float64)
            for value, drive in zip(np.asarray(command, np.float64).tolist(), self._drives, strict=True):
                action[drive.column] = value / drive.scale
            inside = np.clip(action, box.low, box.high)
            at = time.monotonic()
            try:
                observation, _, terminated, truncated, _ = env.step(inside.astype(box.dtype))
            except Exception as error:
                self._armed, self._broken = False, f"the environment's step failed: {error}"
                raise RobotFault(self._broken, link=True) from error
            self._seen = self._read(observation)
            if terminated or truncated:
                self._over = "the environment ended the episode by itself; it takes no command before the next reset"
            sent = np.array([inside[drive.column] * drive.scale for drive in self._drives])
            return Sent(sent, at, () if np.array_equal(inside, action) else ("action_space",))

    def hold(self) -> Held:
        start = time.monotonic()
        with self._lock:
            self._armed = False
            env = self._line()
            try:
                off = bool(getattr(env.unwrapped, self._options.stop_method)())
            except Exception as error:
                raise RobotFault(f"the environment's {self._options.stop_method} failed: {error}", link=True) from error
            nothing = np.full(len(self._channels), np.nan, np.float32)
            velocity = nothing if self._seen is None else self._seen.joint_velocity
        still = self.spec.realtime and off and bool(np.all(np.abs(velocity[self._rows]) < STILL))
        return Held(off, still, velocity, time.monotonic() - start)

    def status(self) -> Status:
        return Status("ok") if self._env is not None else Status("disconnected")

    def recover(self, operator: str) -> None:
        """The environment has no error states that this project knows of; the stop is repeated."""
        if self._env is None:
            self.connect()
        if not self.hold().motors_off:
            raise RobotFault(f"the environment's {self._options.stop_method} did not see the motors off")

    def disconnect(self) -> None:
        with self._lock:
            env, self._env, self._armed, self._seen = self._env, None, False, None
            if env is not None:
                for end in (getattr(env.unwrapped, self._options.stop_method, None), env.close):
                    with contextlib.suppress(Exception):
                        if end is not None:
                            end()

    def _whole(self) -> None:
        if self._broken:
            raise RobotFault(self._broken, link=True)

    def _line(self) -> gymnasium.Env:
        if self._env is None:
            raise RobotFault("not connected to the environment", link=True)
        return self._env

    def _fits(self, env: gymnasium.Env) -> None:
        """Raise RobotError unless the spaces hold what the options name."""
        if not callable(getattr(env.unwrapped, self._options.stop_method, None)):
            raise RobotError(
                f"robot.driver_options.stop_method: the environment has no method {self._options.stop_method}, and a "
                "robot that cannot be stopped is refused"
            )
        space = env.action_space
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise RobotError(f"robot.driver_options.environment: its actions are {space}; accepted is a flat Box")
        try:
            width = gymnasium.spaces.flatdim(env.observation_space)
        except NotImplementedError as error:
            raise RobotError("robot.driver_options.environment: its observations cannot be flattened") from error
        for key, columns, size in (
            ("joints", [c for channel in self._channels for c in (channel.position, channel.velocity)], width),
            ("drives", [drive.column for drive in self._drives], space.shape[0]),
        ):
            for column in columns:
                if column >= size:
                    raise RobotError(f"robot.driver_options.{key}: column {column} is none of the {size} there are")

    def _read(self, observation: Any) -> Observation:
        now = time.monotonic()
        flat = np.asarray(gymnasium.spaces.flatten(self._line().observation_space, observation), np.float64)
        position = [(flat[c.position] - c.zero) * c.scale for c in self._channels]
        velocity = [flat[c.velocity] * c.scale for c in self._channels]
        return Observation(
            np.array(position, np.float32), np.array(velocity, np.float32), now, np.zeros(len(self._channels))
        )
