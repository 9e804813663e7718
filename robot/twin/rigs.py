"""The rigs a twin can stand in for: how each is wired to its bus, and where its hidden values and physics are.

Adding a reality is one entry here, a file of physics and a YAML file of hidden values.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from robot.interface import RobotError

STEP_S = 0.001  # physics step of every reality
FOLDER = Path(__file__).parent / "hidden"


class Model(Protocol):
    """The physics behind a bus, with own effects between bus and motor and behind the sensors."""

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        """Start over from joint positions and velocities, SI, with everything random from `noise_seed`."""
        ...

    @property
    def step_count(self) -> int: ...

    @property
    def time_s(self) -> float: ...

    @property
    def state(self) -> tuple[list[float], list[float]]:
        """True joint positions and velocities, for the technician."""
        ...

    def push(self, *goals: float) -> None:
        """A command of one effort or velocity, SI, for each motor enters the bus now."""
        ...

    def cut(self) -> None:
        """The motors are switched off: nothing that is still on its way arrives."""
        ...

    def advance(self, steps: int) -> None: ...

    def measure(self) -> Sequence[float]:
        """Position and velocity of each joint in turn, as the sensors have them, once each step."""
        ...


class Servoed(Model, Protocol):
    """A model whose motors follow velocities with efforts of their own, and sense those."""

    @property
    def efforts(self) -> Sequence[float]:
        """N or N m of each motor as its current sensor has it, once each step; 0 while it is off."""
        ...


class Table(Model, Protocol):
    """A model with bodies around the robot, and something that tracks them."""

    def place(self, poses: list[list[float]]) -> None:
        """After `reset`: put the bodies there, x, y, z, m, and xyzw, at rest on whatever is below."""
        ...

    def look(self) -> tuple[list[list[float]], float]:
        """The poses of the newest picture, and its age in s."""
        ...


class Flyer(Model, Protocol):
    """A model that flies, and lands by itself when its motors are cut."""

    @property
    def thrusts(self) -> list[float]:
        """N, what each rotor gives."""
        ...

    @property
    def landing(self) -> bool:
        """The motors are cut, and the rotors still turn."""
        ...


@dataclass(frozen=True)
class Axis:
    """A joint and its servo. The encoder reads `zero` at joint position zero."""

    servo: int
    scale: float  # m or rad of the joint for one radian of the servo
    zero: int = 0  # ticks
    unit: float = 0.0  # N or N m of one unit of current; 0: the servo only measures
    most: float = 0.0  # N or N m that the motor can do
    fastest: float = 0.0  # m/s or rad/s of a motor in velocity control; 0: it is in current control


@dataclass(frozen=True)
class Rig:
    """One reality: joints in the order of the task's, its physics and the model of its hidden values."""

    name: str
    axes: tuple[Axis, ...]  # one for each joint
    control_steps: int  # physics steps in one control period of the task
    model: str  # module:Class, called with the hidden values
    hidden: str  # module:Class
    rotors: tuple[Axis, ...] = ()  # motors that move no joint of their own; the model is then a Flyer
    bodies: tuple[str, ...] = ()  # tracked, in the order of the task's; the model is then a Table

    @property
    def file(self) -> Path:
        """The hidden values that ship."""
        return FOLDER / f"{self.name}.yaml"

    def hidden_class(self) -> Any:
        return _load(self.hidden)

    def make_model(self, hidden: Any) -> Model:
        return _load(self.model)(hidden)


PANDA = (  # seven servos behind gears of 10:1; the first four are the stronger ones
    *(Axis(i, 0.1, unit=0.05, most=87.0, fastest=2.175) for i in range(1, 5)),
    *(Axis(i, 0.1, unit=0.01, most=12.0, fastest=2.61) for i in range(5, 8)),
)

GRIPPER = Axis(8, 0.01, unit=0.02, most=20.0, fastest=0.2)  # one spindle of 63 mm a turn drives both fingers

RIGS = {
    rig.name: rig
    for rig in (
        Rig(  # a belt with a pulley of 20 mm radius, and a free-turning servo as pole encoder
            "cartpole",
            (Axis(1, 0.02, unit=0.005, most=10.0), Axis(2, 1.0, zero=2048)),
            control_steps=20,
            model="robot.twin.model:CartpoleModel",
            hidden="robot.twin.hidden:Hidden",
        ),
        Rig(  # a quasi-direct drive
            "pendulum",
            (Axis(1, 1.0, zero=2048, unit=0.002, most=0.9),),
            control_steps=20,
            model="robot.twin.pendulum:PendulumModel",
            hidden="robot.twin.hidden:PendulumHidden",
        ),
        Rig(
            "reach",
            PANDA,
            control_steps=50,
            model="robot.twin.panda:PandaModel",
            hidden="robot.twin.hidden:PandaHidden",
        ),
        Rig(
            "push",
            PANDA,
            control_steps=50,
            model="robot.twin.panda_table:PushModel",
            hidden="robot.twin.hidden:PushHidden",
            bodies=("puck",),
        ),
        Rig(
            "lift",
            (*PANDA, GRIPPER),
            control_steps=100,
            model="robot.twin.panda_gripper:LiftModel",
            hidden="robot.twin.hidden:LiftHidden",
            bodies=("object",),
        ),
        Rig(  # the channels of a flight controller's estimator, and its motors
            "hover",
            tuple(Axis(i, 0.1) for i in range(11, 17)),
            control_steps=20,
            model="robot.twin.hover:HoverModel",
            hidden="robot.twin.hidden:HoverHidden",
            rotors=tuple(Axis(i, 1.0, unit=0.002, most=2.4525) for i in range(1, 5)),
        ),
    )
}


def find_rig(task: str) -> Rig:
    """The rig of a task; raises RobotError naming those there are."""
    if task not in RIGS:
        raise RobotError(f"robot.twin: no twin knows the task {task}; accepted is {', '.join(RIGS)}, or a port")
    return RIGS[task]


def _load(target: str) -> Any:
    module, _, name = target.partition(":")
    return getattr(import_module(module), name)
