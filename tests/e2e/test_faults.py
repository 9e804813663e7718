"""A run outlives its worker processes: killed one after the other, they come back and no durable episode is lost."""

import json
import os
import signal
import time

import psutil
import pytest

from robot.episodes import EpisodeStore
from tests.e2e.helpers import CONFIG, results, run_folder, start, write_config

VICTIMS = ("ray::SimRunner", "ray::Evaluator", "robot.twin", "ray::RobotActor")


def find(root: int, name: str) -> int | None:
    """Pid of the process below `root` whose command line has `name` in it."""
    for process in psutil.Process(root).children(recursive=True):
        try:
            if name in " ".join(process.cmdline()) and process.status() != psutil.STATUS_ZOMBIE:
                return process.pid
        except psutil.Error:
            continue
    return None


def episodes(folder) -> set[str]:
    try:
        return {m.episode_id for m in EpisodeStore(run_folder(folder) / "robot" / "episodes").list()}
    except (FileNotFoundError, ValueError):
        return set()


@pytest.mark.slow
def test_killed_workers_come_back_and_no_durable_episode_is_lost(tracking, tmp_path):
    first, second = CONFIG["stages"]
    changes = {
        "deterministic": False,
        "stages": [first, {**second, "updates": 3000}],
        "rounds": {**CONFIG["rounds"], "final_episodes": 12},
        "tracking": tracking,
    }
    process = start("train", write_config(tmp_path, **changes))
    seen: set[str] = set()
    killed = []
    deadline = time.monotonic() + 300
    while len(killed) < len(VICTIMS) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
        started = bool(episodes(tmp_path)) if killed else (tmp_path / "runs").exists() and results_started(tmp_path)
        victim = find(process.pid, VICTIMS[len(killed)]) if started else None
        if victim is not None:
            seen |= episodes(tmp_path)
            os.kill(victim, signal.SIGKILL)
            killed.append(VICTIMS[len(killed)])
            time.sleep(0.5)
    output, _ = process.communicate(timeout=300)
    assert killed == list(VICTIMS), output
    assert process.returncode == 0, output
    store = EpisodeStore(run_folder(tmp_path) / "robot" / "episodes")
    assert seen and seen <= {m.episode_id for m in store.list()}
    assert all(why.startswith("torn") for why in store.verify().values())
    last = max(results(run_folder(tmp_path)).items())[1]
    assert last["done"] and last["progress"]["runner_deaths"] == 1
    summary = json.loads((run_folder(tmp_path) / "summary.json").read_text())
    assert summary["final"]["real"]["n"] == 12 and summary["final"]["sim"]["n"] == 12


def results_started(folder) -> bool:
    try:
        return bool(results(run_folder(folder)))
    except (FileNotFoundError, ValueError):
        return False
