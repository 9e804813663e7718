"""Tiny runs through the real command line, and how to compare two of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "deterministic": True,
    "stages": [
        {"name": "first", "sim_ratio": 1.0, "dr_strength": 0.5, "updates": 500, "evaluate_episodes": 3},
        {
            "name": "second",
            "sim_ratio": 0.5,
            "dr_strength": 1.0,
            "updates": 700,
            "adr": True,
            "collect_episodes": 4,
            "evaluate_episodes": 3,
        },
    ],
    "learner": {"updates_per_iteration": 50, "updates_per_call": 10, "warmup_steps": 500, "min_real": 16},
    "evaluation": {"episodes": 4, "boundary_episodes": 8, "worlds": 8, "every_updates": 100},
    "rounds": {"final_episodes": 4, "collect_round_episodes": 2},
    "checkpoint": {"every_iterations": 3},
    "randomization": {"adr": {"m": 1}},
    "robot": {
        "limits": {"slider": {"position": [-0.75, 0.75], "velocity": 3.0, "effort": 10.0, "effort_rate": 2000.0}}
    },
}
SEED = ("--seed", "3")
COMPARED = ("stage", "sim", "randomized", "real", "gap", "adr", "stages", "final", "losses", "done")


def write_config(folder: Path, **changes: Any) -> Path:
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump({**CONFIG, "run_dir": str(folder / "runs"), **changes}))
    return path


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "pipeline.cli", *map(str, arguments)]


def run(*arguments: str | Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*arguments), capture_output=True, text=True, timeout=timeout)


def start(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def run_folder(folder: Path) -> Path:
    (path,) = [p for p in (folder / "runs").iterdir() if (p / "config.yaml").exists()]
    return path


def results(run_dir: Path) -> dict[int, dict[str, Any]]:
    """The newest result of each training iteration, across resumes."""
    found = {}
    for file in run_dir.glob("tune/*/result.json"):
        for line in file.read_text().splitlines():
            try:
                result = json.loads(line)
            except ValueError:  # the line being written when the run was killed
                continue
            found[result["training_iteration"]] = result
    return found


def numbers(result: dict[str, Any]) -> str:
    """What must be the same in a resumed and in an uninterrupted run, as text."""
    return json.dumps({key: result[key] for key in COMPARED}, sort_keys=True)


def kill_at_iteration(process: subprocess.Popen, folder: Path, iteration: int, timeout_s: float = 300) -> int:
    """SIGKILL the program once that result is written; returns the last iteration it had reached."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if max(results(run_folder(folder)), default=0) >= iteration:
                os.kill(process.pid, signal.SIGKILL)
                process.wait()
                return max(results(run_folder(folder)))
        except (FileNotFoundError, ValueError):
            pass
        time.sleep(0.02)
    raise AssertionError(f"iteration {iteration} was not reached: {process.communicate()[0]}")
