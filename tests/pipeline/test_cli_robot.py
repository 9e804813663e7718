"""The operator's commands, each through the real program on a run's folder and its twin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from envs.tasks.cartpole import Cartpole
from pipeline import cli
from pipeline.config import load_experiment, save_experiment
from robot.open import open_session
from robot.settings import RobotSettings
from robot.technician import SocketTechnician
from robot.twin.process import TwinProcess
from tests.robot.policies import balancing_gains, linear_policy

PROGRAM = [sys.executable, "-c", "import sys; from pipeline.cli import main; sys.exit(main())"]


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run of the cartpole that has a policy."""
    save_experiment(load_experiment(None, ["robot.max_lateness_ms=1000"]), tmp_path / "config.yaml")
    (tmp_path / "policy.onnx").write_bytes(linear_policy(Cartpole(), balancing_gains(Cartpole())))
    (tmp_path / "robot").mkdir()
    return tmp_path


def robot(*arguments: str | Path) -> int:
    return cli.main(["robot", *map(str, arguments)])


def settings(run_dir: Path) -> RobotSettings:
    return load_experiment(run_dir / "config.yaml").robot


def test_a_robot_at_rest_is_held_recovered_and_driven_home(run_dir, capsys):
    assert robot("hold", run_dir, "--operator", "Ada") == 0
    assert robot("home", run_dir, "--operator", "Ada") == cli.EXIT_USER
    assert "Ada held the robot" in capsys.readouterr().err
    assert robot("recover", run_dir, "--operator", " ") == cli.EXIT_USER
    assert robot("recover", run_dir, "--operator", "Bob") == 0
    assert "recovered by Bob; it was stopped because Ada held" in capsys.readouterr().out
    assert robot("home", run_dir, "--operator", "Bob") == 0
    assert "home after" in capsys.readouterr().out
    assert robot("ledger", run_dir) == 0
    assert "reset" in capsys.readouterr().out


def test_a_live_robot_is_driven_home_held_and_recovered(run_dir, capsys):
    session = open_session(settings(run_dir), Cartpole(), run_dir / "robot")
    try:
        assert robot("home", run_dir, "--operator", "Ada") == 0
        assert robot("hold", run_dir, "--operator", "Ada") == 0
        assert session.status().reason == "Ada held the robot"
        assert robot("recover", run_dir, "--operator", "Bob") == 0
        assert session.status().state == "ok"
    finally:
        session.close()


def test_the_console_answers_keys_and_its_end_is_a_hold(run_dir):
    session = open_session(settings(run_dir), Cartpole(), run_dir / "robot")
    console = [*PROGRAM, "robot", "console", str(run_dir), "--operator", "Ada"]
    try:
        done = subprocess.run(console, input="]q", capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and session.status().state == "ok"
        assert session.ledger.totals()["reset"] > 0  # it was jogged
        done = subprocess.run(console, input="]", capture_output=True, text=True, timeout=60)
        assert done.returncode == cli.EXIT_INTERRUPTED and "Ada's console" in session.status().reason
    finally:
        session.close()


def test_latency_is_measured_and_offered_as_ranges(run_dir, capsys, monkeypatch):
    monkeypatch.setattr("robot.latency.RESAMPLES", 10)
    assert robot("latency", run_dir, "--write", run_dir / "ranges.yaml", "--repeats", "4") == 0
    assert "total" in capsys.readouterr().out
    ranges = yaml.safe_load((run_dir / "ranges.yaml").read_text())
    assert load_experiment(None, [f"randomization.ranges={ranges['randomization']['ranges']}"])


@pytest.fixture
def realtime() -> Iterator[TwinProcess]:
    with TwinProcess(mode="realtime") as twin:
        yield twin


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGHUP])
def test_ctrl_c_and_a_closed_terminal_leave_the_motors_off(run_dir, realtime, how):
    """In mid-episode, in real time; the twin's own recorder is asked."""
    where = [f"robot.port={realtime.port}", f"robot.technician={realtime.technician}", "robot.mode=realtime"]
    command = [*PROGRAM, "evaluate", str(run_dir), "--episodes", "100", *where]
    technician = SocketTechnician(realtime.technician)
    power = lambda: [e for e in technician.record()["events"] if e["event"] in ("motor on", "motor off")]  # noqa: E731
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ, text=True)
    end = time.monotonic() + 60
    while not power() or power()[-1]["event"] != "motor on":
        assert time.monotonic() < end and process.poll() is None, process.communicate()[1]
        time.sleep(0.02)
    process.send_signal(how)
    said = process.communicate(timeout=30)[1]
    assert process.returncode == cli.EXIT_INTERRUPTED and "Interrupted" in said and "Traceback" not in said
    assert power()[-1]["event"] == "motor off" and power()[-1]["why"] == "command"  # held, not only hung up
    technician.close()
