"""The `robot:` section of a configuration."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from robot.ledger import IN_USE

Mode = Literal["shadow", "confirm_each", "confirm_episode", "auto"]
MODES: tuple[Mode, ...] = get_args(Mode)  # the most careful first

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]

NO_LIMITS = (
    "limits: none given, and a robot without limits is refused; accepted is an entry for each actuated joint "
    "such as {slider: {position: [-0.75, 0.75], velocity: 3.0, effort: 10.0, effort_rate: 2000.0}}"
)

ROTORS = "accepted is an entry for each such as {rotor1: {thrust: [0.0, 2.5], thrust_rate: 200.0}}"
BOUNDARIES = ("dynamixel", "rosbridge")  # drivers that a twin can answer


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class JointLimits(_Frozen):
    """What one joint may do, in SI units; all but the position are magnitudes."""

    position: tuple[float, float] = Field(description="[low, high], m or rad; beyond it the robot is stopped")
    velocity: Positive = Field(description="m/s or rad/s; no effort that drives the joint faster")
    effort: float = Field(
        default=math.inf, gt=0, description="N or N m, never exceeded; mandatory for a motor, void for other joints"
    )
    effort_rate: Positive | None = Field(
        default=None, description="N/s or N m/s, where the motor takes efforts; removing effort is never limited"
    )
    acceleration: Positive | None = Field(
        default=None,
        description="m/s^2 or rad/s^2. Of efforts: none that adds to more, as measured (null: not watched). Of "
        "velocities: how fast a command may change",
    )
    jerk: Positive | None = Field(
        default=None, description="m/s^3 or rad/s^3 of a planned move (null: what robot.motion says)"
    )

    @field_validator("position")
    @classmethod
    def _interval(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not (math.isfinite(value[0]) and math.isfinite(value[1]) and value[0] < value[1]):
            raise ValueError(f"{list(value)} is no interval; accepted is [low, high] with low < high, both finite")
        return value


class RotorLimits(_Frozen):
    """What one rotor of a flying robot may be asked for."""

    thrust: tuple[float, float] = Field(description="[low, high] N")
    thrust_rate: Positive = Field(description="N/s, both ways: a rotor that lets go tips the machine over")

    @field_validator("thrust")
    @classmethod
    def _pushes(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not (0.0 <= value[0] < value[1] < math.inf):
            raise ValueError(f"{list(value)} given; accepted is [low, high] with 0 <= low < high, in N")
        return value


class ServoSettings(_Frozen):
    """How a joint is wired to one servo of the bus."""

    id: int = Field(ge=0, le=252, description="the servo's id on the bus")
    scale: float = Field(description="m or rad of the joint for one radian of the servo")
    zero_ticks: int = Field(default=0, description="encoder reading at joint position zero, of 4096 a revolution")
    effort_per_unit: Positive | None = Field(
        default=None, description="N or N m of one unit of current (null: the servo only measures)"
    )


class ReducedSpeed(_Frozen):
    """The first episodes of a new run's policies go slower."""

    scale: float = Field(default=0.5, gt=0, le=1, description="multiplies the velocity limits")
    episodes: int = Field(default=3, ge=0, description="how many, counted for each run and across restarts")


class MotionSettings(_Frozen):
    """How the robot moves by itself: homing, resets and jogging. A jerk-limited plan, followed through the filter."""

    velocity: Positive = Field(default=0.25, description="m/s or rad/s of a planned move, at most the joint's limit")
    acceleration: Positive = Field(default=0.5, description="m/s^2 or rad/s^2 of a planned move")
    jerk: Positive = Field(default=2.0, description="m/s^3 or rad/s^3 of a planned move")
    stiffness: Positive = Field(default=16.0, description="N/m or N m/rad: effort for each unit of position error")
    damping: float = Field(default=8.0, ge=0, description="N s/m or N m s/rad: effort for each unit of velocity error")
    integral: float = Field(default=8.0, ge=0, description="N/(m s) or N m/(rad s): what overcomes friction")
    tolerance: Positive = Field(default=0.05, description="m or rad from the target that counts as arrived")
    patience_s: Positive = Field(default=6.0, description="after the plan's end, how long to wait until it has arrived")


class TwinSettings(_Frozen):
    """The stand-in for reality that is started when no port is given."""

    hidden: Path | None = Field(
        default=None, description="YAML file of hidden values (null: the reality that ships with the project)"
    )
    restart: bool = Field(default=True, description="a twin that dies is started again and recovered")
    boundary: Literal["dynamixel", "rosbridge"] | None = Field(
        default=None, description="what it speaks (null: what the driver speaks; a driver of your own has to say)"
    )


def default_servos() -> dict[str, ServoSettings]:
    """The cartpole rig: a belt motor with a pulley of 20 mm radius, a free-turning servo as pole encoder."""
    return {
        "slider": ServoSettings(id=1, scale=0.02, effort_per_unit=0.005),
        "hinge": ServoSettings(id=2, scale=1.0, zero_ticks=2048),
    }


class RobotSettings(_Frozen):
    """One robot: how to reach it, what it may do, what it costs."""

    limits: dict[str, JointLimits] = Field(description="what each joint may do; every actuated joint needs an entry")
    name: str = Field(
        default="robot0",
        pattern=r"^[A-Za-z0-9_.-]+$",
        description="names its episodes and the actor that owns it",
    )
    driver: str = Field(
        default="dynamixel",
        description="dynamixel, rosbridge, ur_rtde, lerobot, gymnasium, replay, faulty, one that an installed package "
        "adds, or your own module:Class",
    )
    driver_options: dict[str, Any] = Field(
        default_factory=dict, description="what only this driver knows; docs/drivers.md has the keys of each"
    )
    port: str | None = Field(
        default=None, description="serial device, ws:// address or host (null: a driver with a twin starts it)"
    )
    baud: int = Field(default=1_000_000, gt=0, description="bits/s of the serial line")
    servos: dict[str, ServoSettings] = Field(
        default_factory=default_servos, description="the servo of each joint (default: the cartpole rig)"
    )
    mode: Literal["lockstep", "realtime"] = Field(
        default="lockstep",
        description="lockstep (only a twin): the world waits for commands; realtime: the clock runs",
    )
    state_dir: Path | None = Field(
        default=None,
        description="where the robot's stops are kept; null: the user's state folder, or for a twin the run's",
    )
    technician: Path | None = Field(
        default=None,
        description="socket of who sets the starting state (null: the twin's own, or start as it stands)",
    )
    tracker: Path | None = Field(
        default=None, description="socket of what tracks the task's bodies, such as a camera (null: the twin's own)"
    )
    twin: TwinSettings | None = Field(
        default_factory=TwinSettings, description="the stand-in for a robot without a port (null: none)"
    )
    confirmation: Mode = Field(
        default="auto",
        description="shadow: observe, send nothing; confirm_each: a person agrees to each command; confirm_episode: to "
        "each episode; auto. A stage may ask for more care, never for less",
    )
    confirmation_timeout_s: Positive = Field(default=120.0, description="no answer by then means no")
    reduced_speed: ReducedSpeed = Field(
        default_factory=ReducedSpeed, description="the first episodes of a new run's policies go slower"
    )
    rotors: dict[str, RotorLimits] = Field(
        default_factory=dict, description="what each rotor may be asked for; a robot that flies needs an entry for each"
    )
    workspace: dict[str, tuple[float, float]] = Field(
        default_factory=dict,
        description="[low, high] m for the points the task derives from the joints (empty: the joints' limits alone)",
    )
    home: dict[str, float] | None = Field(
        default=None,
        description="m or rad of actuated joints; driven there before each episode (null: starts as it stands)",
    )
    motion: MotionSettings = Field(default_factory=MotionSettings, description="planned moves: homing and jogging")
    watchdog_ms: float = Field(default=100.0, ge=20, le=2540, description="no fresh command for so long: motors off")
    max_age_ms: Positive = Field(default=60.0, description="an older observation is answered with zero effort")
    max_lateness_ms: Positive = Field(
        default=10.0, description="in real time, an episode whose p99 lateness passes this is void"
    )
    cost_per_hour_usd: float = Field(default=100.0, ge=0, description="price of an hour of the robot, for the ledger")
    budget_s: dict[str, NotNegative] = Field(
        default_factory=dict,
        description="robot seconds a run may spend on collection, evaluation, identification, reset, and in total; "
        "nothing that would pass one begins (empty: no limit)",
    )
    budget_usd: NotNegative | None = Field(
        default=None, description="what a run's robot time may cost, idle and stopped time included (null: no limit)"
    )
    explore: float = Field(default=0.5, ge=0, description="scales the policy's own noise in collected episodes")

    @model_validator(mode="before")
    @classmethod
    def _limits_are_mandatory(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("limits"):
            raise ValueError(NO_LIMITS)
        return data

    @field_validator("budget_s")
    @classmethod
    def _purposes(cls, value: dict[str, float]) -> dict[str, float]:
        for purpose in value:
            if purpose not in (*IN_USE, "total"):
                raise ValueError(f"{purpose}: no such budget; accepted are {', '.join(IN_USE)} and total")
        return value

    @field_validator("workspace")
    @classmethod
    def _box(cls, value: dict[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
        for axis, (low, high) in value.items():
            if axis not in ("x", "y", "z"):
                raise ValueError(f"{axis}: no such axis; accepted are x, y and z")
            if not (math.isfinite(low) and math.isfinite(high) and low < high):
                raise ValueError(f"{axis}: [{low}, {high}] is no interval; accepted is [low, high] with low < high")
        return value

    @model_validator(mode="after")
    def _home_is_inside(self) -> RobotSettings:
        for joint, target in (self.home or {}).items():
            limit = self.limits.get(joint)
            if limit is None or not limit.position[0] <= target <= limit.position[1]:
                accepted = f"a position inside {list(limit.position)}" if limit else "a joint of robot.limits"
                raise ValueError(f"home.{joint}: {target} given; accepted is {accepted}")
        return self

    @model_validator(mode="after")
    def _reachable(self) -> RobotSettings:
        if self.port is None and self.twin is None and self.speaks in BOUNDARIES:
            raise ValueError("port: none given and twin is null; accepted is a serial device or a twin section")
        return self

    @property
    def speaks(self) -> str:
        """The driver that reaches the robot: the one inside, where faults are injected around it."""
        return str(self.driver_options.get("driver", "dynamixel")) if self.driver == "faulty" else self.driver

    @property
    def boundary(self) -> str | None:
        """What the twin has to speak where one stands in for the robot; None where none does."""
        if self.port is not None or self.twin is None:
            return None
        return self.twin.boundary or (self.speaks if self.speaks in BOUNDARIES else None)
