"""What a fresh machine needs: pinned versions, files inside the packages, a cluster Ray accepts."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.fixture(scope="module")
def pins() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_every_pin_is_an_exact_public_version(pins):
    assert [p for p in pins.items() if not re.fullmatch(r"[0-9]+(\.[0-9a-z]+)*", p[1])] == []
    assert pins["torch"] == "2.13.0"


def test_every_requirement_is_pinned(pins):
    extras = PROJECT["optional-dependencies"].values()
    wanted = [requirement for group in (PROJECT["dependencies"], *extras) for requirement in group]
    names = {canonical(re.split(r"[\[<>=!~ ]", requirement)[0]) for requirement in wanted}
    assert names - {canonical(name) for name in pins} == {"sim2real"}


@pytest.mark.parametrize(
    "file",
    [
        "envs/assets/cartpole.urdf",
        "envs/assets/pendulum.urdf",
        "robot/twin/hidden/pendulum.yaml",
        "robot/twin/hidden/push.yaml",
        "robot/twin/hidden/reach.yaml",
        "tune_configs/cartpole.yaml",
        "tune_configs/pendulum.yaml",
        "tune_configs/push.yaml",
        "tune_configs/reach.yaml",
        "LICENSE",
    ],
)
def test_files_that_ship_are_there(file):
    assert (ROOT / file).stat().st_size > 0


def test_ray_accepts_the_cluster_file():
    from ray.autoscaler._private.util import prepare_config, validate_config

    cluster = yaml.safe_load((ROOT / "cluster.yaml").read_text())
    prepared = prepare_config(cluster)
    validate_config(prepared)
    assert prepared["max_workers"] == len(cluster["provider"]["worker_ips"])
    # The robot's host is one of the workers, and every start command shows the token.
    start = prepared["worker_start_ray_commands"][-1]
    host = re.search(r"ROBOT_HOST=(\S+)", start)
    assert host and host[1] in cluster["provider"]["worker_ips"] and '"robot":1' in start
    assert "RAY_AUTH_MODE=token" in start and "RAY_AUTH_MODE=token" in prepared["head_start_ray_commands"][-1]
    with pytest.raises(Exception, match="max_wrokers"):
        validate_config({**prepared, "max_wrokers": 3})
