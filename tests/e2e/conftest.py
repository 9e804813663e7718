"""One tiny run that several tests look at."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.helpers import SEED, run, run_folder, write_config


@pytest.fixture(scope="session")
def tracking(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """One database for the other runs: MLflow takes seconds to make one."""
    return {"uri": f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"}


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of a training from start to end, left alone; nobody changes it."""
    folder = tmp_path_factory.mktemp("trained")
    done = run("train", write_config(folder), *SEED)
    assert done.returncode == 0, done.stdout + done.stderr
    return run_folder(folder)
