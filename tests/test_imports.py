"""The direction of imports: envs knows nothing of the robot side, and neither knows of the learning side."""

from __future__ import annotations

import pkgutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import envs
import robot

ROOT = Path(__file__).parents[1]
# The one driver whose vendor SDK the development environment leaves out; where it is installed, it is checked too.
ABSENT = () if find_spec("rtde_control") else ("robot.drivers.ur_rtde",)


def modules(package, without: tuple[str, ...] = ()) -> list[str]:
    found = pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    names = [m.name for m in found if not m.name.startswith((*without, *ABSENT)) and not m.name.endswith("__main__")]
    return [package.__name__, *names]


def loaded_by(names: list[str]) -> set[str]:
    """Top-level modules that a new Python has loaded after importing `names`."""
    code = f"import importlib, sys\nfor n in {names!r}: importlib.import_module(n)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


@pytest.mark.parametrize(
    ("names", "forbidden"),
    [
        (modules(envs), {"ray", "torch", "mlflow", "mujoco", "onnxruntime", "robot", "pipeline"}),
        (modules(envs, ("envs.bullet",)), {"pybullet", "pybullet_data"}),
        (modules(robot), {"ray", "torch", "mlflow", "pybullet", "pipeline"}),
        (modules(robot, ("robot.twin",)), {"mujoco"}),
        (["pipeline.cli"], {"ray", "torch", "mlflow", "pybullet", "mujoco", "onnxruntime", "numpy"}),
        (["pipeline.config"], {"ray", "torch", "mlflow", "pybullet", "mujoco", "onnxruntime"}),
        (["pipeline.standalone"], {"ray", "torch", "mlflow"}),
    ],
    ids=["envs", "envs without pybullet", "robot", "robot without mujoco", "cli", "config", "evaluate"],
)
def test_nothing_is_imported_that_must_not_be(names, forbidden):
    assert loaded_by(names) & forbidden == set()
