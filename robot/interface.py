"""What every robot looks like to the rest of the project, and the errors it may raise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

import numpy as np

if TYPE_CHECKING:
    from robot.settings import JointLimits


class RobotError(Exception):
    """Something about a robot a person has to change; the message is one sentence saying what."""


class RobotFault(RobotError):
    """The robot or its link failed while in use. `link`: communication, not the robot, is to blame."""

    def __init__(self, message: str, link: bool = False) -> None:
        super().__init__(message)
        self.link = link


@dataclass(frozen=True)
class RobotSpec:
    """Constants of one robot. Joint arrays follow the order of `joints`, commands that of `actuated`."""

    name: str
    joints: tuple[str, ...]
    actuated: tuple[str, ...]
    limits: Mapping[str, JointLimits]  # SI units; every actuated joint, or coordinate of what flies, has an entry
    control_hz: float
    max_age_s: float  # an older observation must not be acted on
    stop: Literal["torque_off", "hold", "damped", "land"]  # what `hold` does
    realtime: bool  # False: the world waits for commands, and no clock or watchdog applies
    takes: Literal["effort", "velocity", "thrust"] = "effort"  # what a command of each actuated joint is


def only_efforts(spec: RobotSpec, what: str) -> None:
    """Raise RobotError unless the motors take efforts, which is all that `what` knows to send."""
    if spec.takes != "effort":
        raise RobotError(
            f"{what}: it sends efforts, and each motor of {spec.name} takes a {spec.takes}; accepted is a robot whose "
            "motors take efforts"
        )


@dataclass(frozen=True)
class Observation:
    """One measured instant, stamped when it was captured, never with a nominal time."""

    joint_position: np.ndarray  # (j,) m or rad
    joint_velocity: np.ndarray  # (j,) m/s or rad/s
    captured_s: float  # monotonic clock, when the reading was complete
    age_s: np.ndarray  # (j,) at captured_s, how old each source may be
    body_pose: np.ndarray = field(default_factory=lambda: np.zeros((0, 7), np.float32))  # (b, 7) m, xyzw, as tracked
    joint_effort: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (j,) N or N m that the motors
    # say they give, 0 where a joint has none; (0,) where the robot does not say

    @property
    def finite(self) -> bool:
        """Whether everything that decides about motion was measured at all."""
        return all(np.isfinite(one).all() for one in (self.joint_position, self.joint_velocity, self.body_pose))


@dataclass(frozen=True)
class Sent:
    """What really went to the motors, and why it differs from what was asked."""

    command: np.ndarray  # (u,) as commanded, after the motor's resolution
    sent_s: float  # monotonic clock
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Held:
    """What was observed of the motors after `hold`."""

    motors_off: bool  # read back from the motors, not assumed; False where the stop is to hold still, or not yet landed
    still: bool  # the actuated joints were seen at rest (always False where the world waits for commands)
    joint_velocity: np.ndarray  # (j,) the last reading; NaN where none was possible
    elapsed_s: float


@dataclass(frozen=True)
class Status:
    state: Literal["ok", "degraded", "stopped", "emergency_stop", "disconnected"]
    reason: str = ""
    link_errors: int = 0


class Robot(Protocol):
    """A robot as a driver presents it: SI units, explicit stop, no prompts.

    Everything but `status` may raise RobotFault. `hold` may be called from another thread at any time.
    """

    spec: RobotSpec

    def connect(self) -> None:
        """Open the link. Never moves, never prompts; raises RobotError with a sentence."""
        ...

    def arm(self) -> None:
        """Energise the motors at zero effort or velocity. Nothing moves before the first `command`."""
        ...

    def observe(self) -> Observation: ...

    def command(self, command: np.ndarray) -> Sent:
        """Send a filtered (u,) command in SI units; raises RobotFault when the motors are not armed."""
        ...

    def hold(self) -> Held:
        """This robot's safe stop; returns observed evidence. The motors stay off until `arm`."""
        ...

    def status(self) -> Status:
        """Cheap, never touches the bus, never raises."""
        ...

    def recover(self, operator: str) -> None:
        """Clear error states of the motors after a stop; moves nothing."""
        ...

    def disconnect(self) -> None:
        """Leave the robot safe and close the link; never raises."""
        ...
