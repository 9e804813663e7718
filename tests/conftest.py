"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch or NumPy: two test processes share few cores
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's 15, tests beside them leave its processes next to nothing
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

settings.register_profile("loaded machine", deadline=None)
settings.load_profile("loaded machine")


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "tests that keep to real time, which nothing else should run beside: with the others, without, or only they"
    parser.addoption("--real-time", choices=("with", "without", "only"), default="with", help=told)


def pytest_configure(config: pytest.Config) -> None:
    """What tests start must hear signals, also where nohup or a background shell has them ignored (it is inherited)."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)  # still ignored here


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What was asked by --real-time: of tests marked so, and of those with a twin or a driver in real time."""
    asked = config.getoption("--real-time")
    if asked == "with":
        return
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        marked = item.get_closest_marker("real_time") is not None
        alone = marked or "realtime" in item.nodeid or "realtime" in getattr(item, "fixturenames", ())
        (kept if alone == (asked == "only") else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Of two files at a time, no two start Ray: each of those fills both cores."""
    from xdist.scheduler import LoadFileScheduling

    @cache
    def starts_ray(file: str) -> bool:
        return file.startswith("tests/e2e") or "ray_session" in (config.rootpath / file).read_text()

    class RayOnce(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return "ray" if starts_ray(file) else file

    return RayOnce(config, log) if config.getvalue("dist") == "loadfile" else None


@pytest.fixture(autouse=True)
def own_state_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test finds, or leaves behind, the stop of a robot in the user's own folder."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))


@pytest.fixture(autouse=True)
def own_interrupt() -> Iterator[None]:
    """A Tuner leaves its own handler of Ctrl-C behind."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One small Ray cluster for the whole session; actors and trials of all tests share it."""
    import ray

    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        configure_logging=False,
        log_to_driver=False,
        namespace="sim2real-tests",
        object_store_memory=150 * 2**20,
    )
    yield
    ray.shutdown()
