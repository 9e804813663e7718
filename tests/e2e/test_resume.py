"""A run killed in the middle and resumed gives the numbers of a run that was left alone."""

import json

import pytest

from robot.episodes import EpisodeStore
from tests.e2e.helpers import kill_at_iteration, numbers, results, run, run_folder, start, write_config


@pytest.mark.slow
def test_resume_after_kill_equals_the_uninterrupted_run(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    done = run("train", write_config(whole))
    assert done.returncode == 0, done.stdout + done.stderr
    process = start("train", write_config(broken))
    kill_at_iteration(process, broken, 17)
    before = {m.episode_id for m in EpisodeStore(run_folder(broken) / "robot" / "episodes").list()}

    resumed = run("resume", run_folder(broken))

    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    expected, got = results(run_folder(whole)), results(run_folder(broken))
    assert sorted(expected) == sorted(got)
    for iteration in sorted(expected):
        assert numbers(got[iteration]) == numbers(expected[iteration]), f"iteration {iteration}"
    store = EpisodeStore(run_folder(broken) / "robot" / "episodes")
    assert before and before <= {m.episode_id for m in store.list()}
    assert not [p for p, why in store.verify().items() if not why.startswith("torn")]
    a, b = (json.loads((run_folder(d) / "summary.json").read_text()) for d in (whole, broken))
    assert a["stages"] == b["stages"] and a["final"] == b["final"]
    assert a["robot_s"] == b["robot_s"]
