"""A task, settings and sessions on twins of their own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from envs.tasks.cartpole import Cartpole
from robot.drivers import dynamixel
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.session import RobotSession
from robot.settings import RobotSettings
from robot.twin.process import TwinProcess
from tests.robot.policies import balancing_gains, linear_policy

LIMITS = {"slider": {"position": (-0.75, 0.75), "velocity": 3.0, "effort": 10.0, "effort_rate": 2000.0}}


@pytest.fixture
def task() -> Cartpole:
    return Cartpole()


@pytest.fixture
def make_settings() -> Callable[..., RobotSettings]:
    return lambda **keys: RobotSettings.model_validate({"limits": LIMITS, **keys})


@pytest.fixture
def balancer(task: Cartpole) -> ExportedPolicy:
    """Keeps the pole up for seconds at least."""
    return ExportedPolicy(linear_policy(task, balancing_gains(task)))


@pytest.fixture(scope="module")
def served() -> Iterator[TwinProcess]:
    with TwinProcess(mode="lockstep") as twin:
        yield twin


@pytest.fixture
def lockstep(served: TwinProcess) -> TwinProcess:
    """One twin for the tests of a file, started anew if a test ended it."""
    served.start()
    return served


@pytest.fixture
def realtime() -> Iterator[TwinProcess]:
    with TwinProcess(mode="realtime") as twin:
        yield twin


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """In real time, a bus that a loaded machine answers late is no broken one."""
    monkeypatch.setattr(dynamixel, "REALTIME_PATIENCE_S", 3.0)


@pytest.fixture
def session(tmp_path: Path, task: Cartpole, make_settings: Callable[..., RobotSettings]) -> Iterator[RobotSession]:
    """A lockstep session that owns its twin."""
    opened = open_session(make_settings(), task, tmp_path)
    yield opened
    opened.close()
