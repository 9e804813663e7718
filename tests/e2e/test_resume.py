"""A run killed in the middle and resumed gives the numbers of a run that was left alone."""

import json

import pytest

from robot.episodes import EpisodeStore
from tests.e2e.helpers import SEED, kill_at_iteration, numbers, results, run, run_folder, start, write_config


@pytest.mark.slow
def test_resume_after_kill_equals_the_uninterrupted_run(trained, tracking, tmp_path):
    process = start("train", write_config(tmp_path, tracking=tracking), *SEED)
    kill_at_iteration(process, tmp_path, 17)
    broken = run_folder(tmp_path)
    before = {m.episode_id for m in EpisodeStore(broken / "robot" / "episodes").list()}

    resumed = run("resume", broken)

    assert resumed.returncode == 0, resumed.stdout + resumed.stderr
    expected, got = results(trained), results(broken)
    assert sorted(expected) == sorted(got)
    for iteration in sorted(expected):
        assert numbers(got[iteration]) == numbers(expected[iteration]), f"iteration {iteration}"
    store = EpisodeStore(broken / "robot" / "episodes")
    assert before and before <= {m.episode_id for m in store.list()}
    assert not [p for p, why in store.verify().items() if not why.startswith("torn")]
    a, b = (json.loads((folder / "summary.json").read_text()) for folder in (trained, broken))
    assert a["stages"] == b["stages"] and a["final"] == b["final"]
    assert a["robot_s"] == b["robot_s"]
