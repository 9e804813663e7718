"""A robot that goes wrong on purpose: another driver, with faults injected by a seeded schedule."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from envs.task import Task
from robot import drivers
from robot.drivers.options import DriverOptions, parse
from robot.interface import Held, Observation, Robot, RobotFault, Sent, Status
from robot.settings import RobotSettings

Kind = Literal[
    "nan",  # a reading that is not finite
    "out_of_range",  # a reading far outside the limits
    "wrong_units",  # degrees or millimetres where SI is due
    "corrupted",  # one reading is a random number of the right size
    "dropped",  # no reading came
    "duplicated",  # the reading before, with its own stamp
    "frozen",  # the values of the reading before, stamped as fresh, for `steps` readings
    "late_command",  # the command goes out `delay_ms` later
    "lost_command",  # reported as sent, and never sent
    "twice_command",  # sent two times
    "link_closed",  # nothing passes until the robot is connected anew
    "exception",  # an error that no driver should raise
    "clock_jump",  # stamps are off by `jump_s` from here on, until connected anew
]
AT_COMMAND = ("late_command", "lost_command", "twice_command")


class Fault(DriverOptions):
    """One kind of fault, at given steps or at random."""

    kind: Kind = Field(description="what goes wrong")
    at: tuple[int, ...] = Field(default=(), description="steps (observations or commands since connect) it happens at")
    rate: float = Field(default=0.0, ge=0, le=1, description="chance at each step")
    steps: int = Field(default=10, ge=1, description="how many readings stay frozen")
    delay_ms: float = Field(default=200.0, ge=0, le=10_000, description="how late a late command is")
    jump_s: float = Field(default=-3600.0, description="how far the clock jumps")

    @model_validator(mode="after")
    def _happens(self) -> Fault:
        if not self.at and not self.rate:
            raise ValueError("it never happens; accepted is `at`, a list of steps, or `rate`, a chance above 0")
        return self


class FaultyOptions(DriverOptions):
    driver: str = Field(default="dynamixel", description="the driver that faults are injected around")
    driver_options: dict[str, Any] = Field(default_factory=dict, description="that driver's own options")
    seed: int = Field(default=0, ge=0, description="what is random follows from it")
    faults: tuple[Fault, ...] = Field(default=(), description="what goes wrong, and when")


class FaultyRobot:
    """Satisfies `robot.interface.Robot`. `hold`, `recover` and `disconnect` always reach the robot inside.

    `injected` lists (step, kind) of what happened; steps count observations, and for faults of commands the
    commands, since the last connect.
    """

    Options = FaultyOptions

    def __init__(self, settings: RobotSettings, task: Task) -> None:
        options = parse(FaultyOptions, settings.driver_options)
        update = {"driver": options.driver, "driver_options": options.driver_options}
        self.inner: Robot = drivers.make_robot(settings.model_copy(update=update), task)
        self.spec = self.inner.spec
        self.injected: list[tuple[int, str]] = []
        self._options = options
        self._random = np.random.default_rng(options.seed)
        self._forget()

    def connect(self) -> None:
        self._forget()
        self.inner.connect()

    def arm(self) -> None:
        self._line()
        self.inner.arm()

    def observe(self) -> Observation:
        self._line()
        self._observed += 1
        faults = self._due(self._observed, command=False)
        for fault in faults:
            if fault.kind == "link_closed":
                self._closed = True
                self._line()
            if fault.kind == "dropped":
                raise RobotFault("no observation came (an injected fault)", link=True)
            if fault.kind == "exception":
                raise RuntimeError("an injected fault that no driver should raise")
            if fault.kind == "clock_jump":
                self._jump_s += fault.jump_s
            if fault.kind == "frozen":
                self._frozen = fault.steps
        seen = self._read(duplicated=any(fault.kind == "duplicated" for fault in faults))
        for fault in faults:
            seen = self._spoilt(fault.kind, seen)
        return replace(seen, captured_s=seen.captured_s + self._jump_s) if self._jump_s else seen

    def command(self, command: np.ndarray) -> Sent:
        self._line()
        self._commanded += 1
        faults = {fault.kind: fault for fault in self._due(self._commanded, command=True)}
        if "late_command" in faults:
            time.sleep(faults["late_command"].delay_ms / 1e3)
        if "lost_command" in faults:
            return Sent(np.asarray(command, np.float64).copy(), time.monotonic())
        if "twice_command" in faults:
            self.inner.command(command)
        return self.inner.command(command)

    def hold(self) -> Held:
        return self.inner.hold()

    def status(self) -> Status:
        inner = self.inner.status()
        if self._closed:
            return Status("disconnected", "the link is closed (an injected fault)", inner.link_errors + 1)
        return inner

    def recover(self, operator: str) -> None:
        if self._closed:
            self.inner.disconnect()
            self.connect()
        self.inner.recover(operator)

    def disconnect(self) -> None:
        self.inner.disconnect()

    def _forget(self) -> None:
        self._observed = self._commanded = self._frozen = 0
        self._closed, self._jump_s = False, 0.0
        self._last: Observation | None = None

    def _line(self) -> None:
        if self._closed:
            raise RobotFault("the link to the robot is closed (an injected fault)", link=True)

    def _due(self, step: int, command: bool) -> list[Fault]:
        """The faults of this step, in the order of the options; each random one costs one draw whatever happens."""
        due = []
        for fault in self._options.faults:
            if (fault.kind in AT_COMMAND) != command:
                continue
            chance = bool(fault.rate) and self._random.random() < fault.rate
            if chance or step in fault.at:
                due.append(fault)
                self.injected.append((step, fault.kind))
        return due

    def _read(self, duplicated: bool) -> Observation:
        """The robot is read in any case; what is handed on may be older than that."""
        fresh, last = self.inner.observe(), self._last
        if last is not None and duplicated:
            return last
        if last is not None and self._frozen:
            self._frozen -= 1
            return replace(fresh, joint_position=last.joint_position, joint_velocity=last.joint_velocity)
        self._frozen, self._last = 0, fresh
        return fresh

    def _spoilt(self, kind: Kind, seen: Observation) -> Observation:
        position, velocity = seen.joint_position.copy(), seen.joint_velocity.copy()
        row = int(self._random.integers(len(position)))
        if kind == "nan":
            (position if self._random.random() < 0.5 else velocity)[row] = np.nan
        elif kind == "out_of_range":
            position[row] = 1e4 * self._random.choice([-1.0, 1.0])
        elif kind == "wrong_units":
            position, velocity = np.degrees(position), np.degrees(velocity)
        elif kind == "corrupted":
            position[row], velocity[row] = self._random.normal(size=2)
        else:
            return seen
        return replace(seen, joint_position=position, joint_velocity=velocity)
