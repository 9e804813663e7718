"""One rig for each driver: how to make its robot, what reached its motors, and how to pull its cable."""

from __future__ import annotations

import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from envs.task import State
from envs.tasks.cartpole import Cartpole
from robot.drivers import make_robot
from robot.interface import Robot
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.settings import RobotSettings
from robot.technician import SocketTechnician
from robot.twin.process import TwinProcess
from robot.twin.rosbridge import RosbridgeTwin
from tests.robot.conftest import LIMITS
from tests.robot.drivers import fakes
from tests.robot.policies import balancing_gains, linear_policy

Mode = Literal["lockstep", "realtime"]
RIGS = (
    "dynamixel",
    "dynamixel realtime",
    "rosbridge",
    "rosbridge realtime",
    "faulty",
    "gymnasium",
    "lerobot",
    "ur_rtde",
    "replay",
)


@dataclass
class Rig:
    settings: RobotSettings
    task: Cartpole
    motions: Callable[[], list[float]]  # every effort that reached the motors
    motors_on: Callable[[], bool]
    cut: Callable[[], None]  # the cable is pulled
    start: Callable[[], None] = lambda: None  # bring it into a starting state

    def make(self) -> Robot:
        return make_robot(self.settings, self.task)


def settings(**keys) -> RobotSettings:
    return RobotSettings.model_validate({"limits": LIMITS, **keys})


def twin_rig(twin: TwinProcess, mode: str, driver: str, options: dict) -> Rig:
    technician = SocketTechnician(twin.technician)
    before = len(technician.record()["events"])

    def events() -> list[dict]:
        return technician.record()["events"][before:]

    def powered() -> bool:
        power = [event["event"] for event in events() if event["event"] in ("motor on", "motor off")]
        return power[-1:] == ["motor on"]

    def cut() -> None:
        technician.close()
        twin._reap()

    return Rig(
        settings(driver=driver, driver_options=options, port=twin.port, mode=mode, watchdog_ms=1000.0),
        Cartpole(),
        lambda: [event["efforts"][0] for event in events() if event["event"] == "goal"],
        powered,
        cut,
        lambda: technician.reset(State(np.zeros((1, 2)), np.zeros((1, 2))), 1),
    )


@pytest.fixture(scope="session")
def twins() -> Iterator[Callable[[str, Mode], TwinProcess]]:
    """Twins by (boundary, mode), started when first asked for, and again after a test ended their process."""
    made: dict[tuple[str, str], TwinProcess] = {}

    def get(boundary: str, mode: Mode) -> TwinProcess:
        if (boundary, mode) not in made:
            made[boundary, mode] = (RosbridgeTwin if boundary == "rosbridge" else TwinProcess)(mode=mode)
        made[boundary, mode].start()
        return made[boundary, mode]

    yield get
    for twin in made.values():
        twin.close()


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of one episode that the balancing policy flew on a twin."""
    directory, task = tmp_path_factory.mktemp("recorded"), Cartpole()
    session = open_session(settings(), task, directory)
    policy = ExportedPolicy(linear_policy(task, balancing_gains(task)))
    session.run_episode(policy, purpose="evaluation", seed=3, world=2)
    session.close()
    return directory / "episodes"


@pytest.fixture
def vendor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand-ins for ur_rtde's two modules, whether or not they are installed."""
    for name, attribute, kind in (
        ("rtde_receive", "RTDEReceiveInterface", fakes.FakeReceive),
        ("rtde_control", "RTDEControlInterface", fakes.FakeControl),
    ):
        module = types.ModuleType(name)
        setattr(module, attribute, kind)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "robot.drivers.ur_rtde", raising=False)


@pytest.fixture(params=RIGS)
def rig(request: pytest.FixtureRequest) -> Rig:
    driver, _, realtime = request.param.partition(" ")
    mode: Mode = "realtime" if realtime else "lockstep"
    if driver in ("dynamixel", "rosbridge", "faulty"):
        boundary = "rosbridge" if driver == "rosbridge" else "dynamixel"
        return twin_rig(request.getfixturevalue("twins")(boundary, mode), mode, driver, {})
    if driver == "replay":
        return replay_rig(request.getfixturevalue("recorded"))
    cart = fakes.fresh_cart()
    options = {"gymnasium": fakes.ENVIRONMENT, "lerobot": fakes.LEROBOT, "ur_rtde": fakes.UR}[driver]
    if driver == "ur_rtde":
        request.getfixturevalue("vendor")
    keys = {"mode": "lockstep" if driver == "gymnasium" else "realtime", "port": "arm" if driver == "ur_rtde" else None}

    def cut() -> None:
        cart.cut = True

    return Rig(
        settings(driver=driver, driver_options=options, **keys),
        Cartpole(),
        lambda: cart.motions,
        lambda: cart.on,
        cut,
    )


def replay_rig(store: Path) -> Rig:
    """Nothing can move, and there is no cable."""
    return Rig(
        settings(driver="replay", driver_options={"store": str(store), "tolerance": None}),
        Cartpole(),
        lambda: [],
        lambda: False,
        lambda: pytest.skip("a recording has no cable"),
    )
