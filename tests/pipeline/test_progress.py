"""The display of a run: what it shows, when it speaks in a log, and that no gap in a result breaks it."""

from __future__ import annotations

import io
import re
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from envs.randomization.parameters import Parameter
from pipeline.config import load_experiment
from pipeline.progress import Progress, ProgressCallback, trial_label
from pipeline.progress_view import bar, duration
from tests.pipeline.carried import carried


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def experiment():
    return load_experiment()


@pytest.fixture
def clock() -> Clock:
    return Clock()


def console(terminal: bool, width: int = 130) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=width, height=40, highlight=False)


def text(screen: Console) -> str:
    """What was written, without colours and cursor movements."""
    assert isinstance(screen.file, io.StringIO)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen.file.getvalue())


def rate(success: float, n: int, updates: int) -> dict[str, Any]:
    return {"success": success, "n": n, "low": success - 0.1, "high": success + 0.1, "updates": updates}


def result(experiment, stage: int = 1, **changes: Any) -> dict[str, Any]:
    full = {
        "stage": {
            "index": stage,
            "count": 4,
            "name": f"stage{stage}",
            "sim_ratio": 0.7,
            "dr_strength": 0.8,
            "updates_in_stage": 1000,
            "updates_planned": 4000,
            "training": True,
        },
        "progress": {
            "env_steps": 41_234,
            "updates": 9_000,
            "env_steps_s": 3_456.7,
            "updates_s": 789.0,
            "fraction": 0.4,
            "eta_s": 75.0,
        },
        "sim": rate(0.85, 50, 9_000),
        "randomized": {},
        "real": rate(0.62, 20, 8_000),
        "gap": {"success": 0.23, "low": 0.01, "high": 0.45, "verdict": "not settled"},
        "adr": {"active": True, "version": 3, "ranges": experiment.ranges().to_dict(), "entropy": -0.84},
        "robot": {
            "state": "stopped",
            "reason": "the cart left the rail",
            "collection_s": 61.0,
            "evaluation_s": 200.0,
            "episodes": 27,
            "rounds_open": 1,
            "link_errors": 2,
        },
        "stages": [{"name": f"stage{i}", "why": f"gate {i} held"} for i in range(stage)],
    }
    return {**full, **changes}


def test_the_display_shows_what_the_run_is_doing(experiment, clock):
    screen = console(terminal=True)
    with Progress(screen, experiment, "run-1", clock) as progress:
        clock.now = 65
        progress.update(result(experiment))
    shown = text(screen)
    for words in [
        ("run-1", "seed 0", "2 of 4 stage1", "1,000 of 4,000 updates"),
        ("sim_ratio 0.70", "dr_strength 0.80", "3,457 env steps/s", "789 updates/s", "41,234 env steps"),
        ("0.85 [0.75, 0.95]", "0.62 [0.52, 0.72]", "0.23 [0.01, 0.45]", "not settled"),
        ("stopped (the cart left the rail)", "61 of 180 s collecting", "200 s evaluating", "27 episodes"),
        ("1 round under way", "2 link errors", "version 3", "entropy -0.84", "1:05 elapsed", "1:15 left"),
        ("cart.mass_kg", "0.7 to 1.8 kg", "action.delay_ms", "0 to 60 ms"),
    ]:
        assert [word for word in words if word not in shown] == [], shown
    assert "sensor.bias_rad" not in shown  # a range without width


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_display_fits_any_terminal(width, experiment, clock):
    screen = console(terminal=True, width=width)
    with Progress(screen, experiment, "run-1", clock) as progress:
        progress.update(result(experiment))
        screen.print(progress.render())
    lines = [line for line in text(screen).replace("\r", "\n").splitlines() if "cart.mass_kg" in line]
    assert lines and max(map(len, lines)) <= width


def test_a_log_gets_a_line_now_and_then_and_at_every_new_stage(experiment, clock):
    screen = console(terminal=False)
    with Progress(screen, experiment, "run-1", clock) as progress:
        for second in range(11):
            clock.now = float(second)
            progress.update(result(experiment, stage=1))
        clock.now = 10.5
        progress.update(result(experiment, stage=2))
        progress.update(result(experiment, stage=2))
        lines = [line for line in text(screen).splitlines() if line.startswith("[")]
        assert [line.split("]")[0] for line in lines] == ["[0:00", "[0:05", "[0:10", "[0:10"]
    assert "2 of 4 stage1 25%" in lines[0] and "3 of 4 stage2 25%" in lines[3]
    for words in ("3,457 env steps/s", "789 updates/s", "sim 0.85 [0.75, 0.95]", "robot 0.62", "1:15 left"):
        assert words in lines[0]
    assert text(screen).splitlines()[-1].startswith("[0:10")  # the state at the end is told


def test_the_end_of_a_stage_is_told_once(experiment, clock):
    screen = console(terminal=False)
    with Progress(screen, experiment, "run-1", clock) as progress:
        for stage in (0, 1, 1, 3):
            progress.update(result(experiment, stage=stage))
    told = [line for line in text(screen).splitlines() if " ended" in line]
    assert told == [f"stage stage{i} ended: gate {i} held" for i in range(3)]


@pytest.mark.parametrize("terminal", [True, False])
def test_results_with_gaps_are_shown_too(terminal, experiment, clock):
    nan = float("nan")
    sparse = [
        {},
        {
            "stage": {"name": "a"},
            "progress": {"eta_s": nan, "updates_s": nan},
            "adr": {"entropy": -float("inf")},
        },
        result(experiment, sim={}, real={}, gap={}, robot={}, stages=[]),
        result(experiment, stage=1, progress={"eta_s": None}),
    ]
    screen = console(terminal)
    with Progress(screen, experiment, "run-1", clock) as progress:
        for each in sparse:
            clock.now += 6
            progress.update(each)
            screen.print(progress.render())
    assert "nan" not in text(screen)


def test_a_sweep_has_a_line_for_each_trial(clock):
    experiment = load_experiment("cartpole_dr_sweep")
    screen = console(terminal=True)
    with Progress(screen, experiment, "sweep", clock) as progress:
        callback = ProgressCallback(progress)
        for strength in (0.0, 0.5):
            trial = SimpleNamespace(evaluated_params={"sweep/randomization.strength": strength})
            callback.on_trial_result(1, [], trial, result(experiment, stage=0, done=strength == 0.5))
    shown = text(screen)
    rows = {line.split()[0]: line for line in shown.splitlines() if line.startswith("randomization")}
    assert set(rows) == {"randomization.strength=0", "randomization.strength=0.5"}
    assert "789" in rows["randomization.strength=0"] and "done" in rows["randomization.strength=0.5"]


def test_a_single_trial_has_no_label():
    assert trial_label(SimpleNamespace(evaluated_params={})) == ""


def test_a_pickled_callback_leaves_the_display_behind(experiment, clock):
    with Progress(console(terminal=True), experiment, "run-1", clock) as progress:
        copy = carried(ProgressCallback(progress))
    trial = SimpleNamespace(evaluated_params={}, trial_id="t", path="p")
    copy.on_trial_result(1, [], trial, result(experiment))
    copy.on_trial_error(1, [], trial)


def test_a_failed_trial_is_named(experiment, clock):
    screen = console(terminal=False)
    with Progress(screen, experiment, "run-1", clock) as progress:
        trial = SimpleNamespace(evaluated_params={}, trial_id="abc", path="runs/x/abc")
        ProgressCallback(progress).on_trial_error(1, [], trial)
    assert "trial abc failed; see runs/x/abc" in text(screen)


def test_a_bar_shows_the_range_within_the_bounds():
    linear = Parameter("a", "m", 0.0, (-8.0, 8.0), (0.0, 0.0))
    assert bar(linear, -8.0, 8.0) == "━━━━━━━━│━━━━━━━"
    assert bar(linear, 0.0, 3.5) == "········│━━━····"
    log = Parameter("b", "m", 1.2, (0.01, 100.0), (1.2, 1.2), "log")
    assert bar(log, 0.12, 8.0) == "····━━━━│━━━····"


def test_durations():
    assert [duration(s) for s in (0, 59.9, 61, 3661, -1)] == ["0:00", "0:59", "1:01", "1:01:01", "0:00"]
    assert duration(None) == duration(float("nan")) == "–"
