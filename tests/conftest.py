"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch or NumPy: two test processes share few cores
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
os.environ.setdefault("RAY_worker_niceness", "0")  # at Ray's 15, tests beside them leave its processes next to nothing
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")

settings.register_profile("loaded machine", deadline=None)
settings.load_profile("loaded machine")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` runs two files at a time, but those that start Ray one after the other: each fills both cores."""
    with_ray = {item.path for item in items if "ray_session" in getattr(item, "fixturenames", ())}
    for item in items:
        ray = item.path in with_ray or "e2e" in item.path.parts
        item.add_marker(pytest.mark.xdist_group("ray" if ray else item.nodeid.partition("::")[0]))


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
