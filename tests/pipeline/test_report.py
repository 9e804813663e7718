"""The summary has the documented keys, is written whole, and the figure and table show it."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from envs.tasks.cartpole import PARAMETERS
from pipeline import figure, report
from pipeline.report import build_summary, posterior_table, stage_table, write_report, write_summary
from tests.pipeline.synthetic import stage_row, synthetic_run

KEYS = "run task seed wall_s env_steps updates robot_s robot_episodes robot_ledger budgets_spent stages final".split()
KEYS += ["versions"]
ROW_KEYS = "name sim_ratio dr_strength ranges_version sim real gap".split()
BLOCK = {"success": 1.0, "n": 3, "low": 0.4, "high": 1.0, "mean_return": 5.0}
GAP = {"success": 0.0, "low": -0.1, "high": 0.05, "verdict": "good"}


@pytest.fixture(scope="module")
def run() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    return synthetic_run(PARAMETERS)


def image(path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)


def test_summary_has_exactly_the_documented_keys(run):
    _, summary = run
    assert list(summary) == KEYS
    assert list(summary["robot_s"]) == ["collection", "evaluation"]
    assert [list(row) for row in summary["stages"]] == [ROW_KEYS] * 4
    for row in (*summary["stages"], summary["final"]):
        assert list(row["sim"]) == list(row["real"]) == list(BLOCK)
        assert list(row["gap"]) == list(GAP)
    assert list(summary["final"]) == ["sim", "real", "gap"]
    assert {"python", "ray", "numpy"} <= set(summary["versions"])


def summary_of(**changes: Any) -> dict[str, Any]:
    whole: dict[str, Any] = dict(
        run="r",
        task="t",
        seed=3,
        wall_s=1.5,
        env_steps=10,
        updates=5,
        robot_s={"collection": 1.23456, "maintenance": 9.0},
        robot_episodes=0,
        stages=[],
        final={"sim": BLOCK, "real": BLOCK, "gap": GAP},
        versions={"python": "3"},
    )
    return build_summary(**{**whole, **changes})


def test_extra_keys_of_blocks_are_cut_and_missing_blocks_are_empty():
    row = stage_row("nominal", 1.0, 0.0, 4, {**BLOCK, "updates": 7}, None, {**GAP, "paired": True})
    (kept,) = summary_of(stages=[{**row, "why": "12000 updates are spent"}])["stages"]
    assert kept == {
        "name": "nominal",
        "sim_ratio": 1.0,
        "dr_strength": 0.0,
        "ranges_version": 4,
        "sim": BLOCK,
        "real": {},
        "gap": GAP,
        "why": "12000 updates are spent",
    }
    assert summary_of(final={})["final"] == {"sim": {}, "real": {}, "gap": {}}


def test_summary_is_plain_json(tmp_path):
    numbers = summary_of(
        seed=np.int64(3),
        wall_s=np.float32(1.5),
        final={"sim": {**BLOCK, "mean_return": float("nan")}, "real": None, "gap": None},
    )
    read = json.loads(write_summary(tmp_path, numbers).read_text())
    assert read == numbers
    assert read["robot_s"] == {"collection": 1.235, "evaluation": 0.0}
    assert read["final"] == {"sim": {**BLOCK, "mean_return": None}, "real": {}, "gap": {}}
    assert (read["seed"], read["wall_s"]) == (3, 1.5)


def test_a_failed_write_leaves_the_old_files(tmp_path, run, monkeypatch):
    results, summary = run
    write_summary(tmp_path, summary)
    with pytest.raises(TypeError):
        write_summary(tmp_path, {**summary, "run": object()})
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    (tmp_path / "report.png").write_bytes(b"old")
    monkeypatch.setattr(figure, "_title", lambda summary: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_report(tmp_path, results, summary)
    assert (tmp_path / "report.png").read_bytes() == b"old"


def test_table_shows_every_stage_and_the_verdicts(run):
    _, summary = run
    console = Console(width=160, record=True, file=open("/dev/null", "w"))
    console.print(stage_table(summary))
    text = console.export_text()
    for word in (
        "sim_only",
        "strong_dr",
        "mixed",
        "real_focused",
        "final",
        "poor",
        "good",
        "158 s collecting",
    ):
        assert word in text
    real = summary["final"]["real"]
    assert f"{real['success']:.2f} [{real['low']:.2f}, {real['high']:.2f}] n=100" in text
    unmeasured = stage_row("nominal", 1.0, 0.0, 0, None, None, None)
    console.print(stage_table(summary_of(stages=[unmeasured], final={})))
    assert "nominal" in console.export_text()


# -- the figure --


def test_figure_is_drawn_with_and_without_ranges_or_robot(tmp_path, run):
    results, summary = run
    whole = image(write_report(tmp_path, results, summary))
    assert whole.shape[1] > 1200 and not list(tmp_path.glob("*.partial*"))
    nominal = copy.deepcopy(results)
    for result in nominal:
        result["stage"]["dr_strength"] = 0.0
    without_ranges = image(write_report(tmp_path, nominal, summary))
    assert without_ranges.shape[0] < whole.shape[0] and without_ranges.shape[1] == whole.shape[1]
    nothing = {**summary, "final": {"sim": {}, "real": {}, "gap": {}}, "updates": 0}
    assert image(write_report(tmp_path, [], nothing)).size
    assert image(write_report(tmp_path, [{"training_iteration": 1}], nothing)).size


def test_figure_shows_the_robot(tmp_path, run):
    """There is red only where there are robot evaluations."""
    results, summary = run
    blind = [{**r, "real": {}} for r in results]
    nothing = {**summary, "final": {"sim": {}, "real": {}, "gap": {}}}
    red = lambda x: int(np.sum((x[..., 0] > 0.7) & (x[..., 1] < 0.35) & (x[..., 2] < 0.3)))  # noqa: E731
    assert red(image(write_report(tmp_path, blind, nothing))) == 0
    only_rounds = red(image(write_report(tmp_path, results, nothing)))
    assert 0 < only_rounds < red(image(write_report(tmp_path, results, summary)))


def test_curves_take_each_evaluation_once_at_its_own_updates(run):
    results, _ = run
    robot = figure.curve(results, "real")
    expected = sorted({r["real"]["updates"] for r in results if r["real"]})
    assert robot.x.tolist() == expected and np.all(robot.low <= robot.success)
    assert figure.curve(results, "nothing").x.size == 0
    unnamed = [{"progress": {"updates": u}, "sim": {**BLOCK, "success": s}} for u, s in ((1, 0.1), (2, 0.1), (3, 0.4))]
    assert figure.curve(unnamed, "sim").x.tolist() == [1.0, 3.0]


def test_spans_follow_promotion_and_demotion():
    at = lambda u, name: {"progress": {"updates": u}, "stage": {"name": name, "sim_ratio": 1.0}}  # noqa: E731
    visits = figure.spans([at(10, "a"), at(20, "a"), at(30, "b"), at(40, "a")])
    assert [(v.name, v.start, v.end) for v in visits] == [("a", 0, 20), ("b", 20, 30), ("a", 30, 40)]


def test_a_resumed_run_replaces_what_it_ran_again(run):
    results, _ = run
    resumed = [*results[:20], *({**r, "resumed": True} for r in results[12:])]
    kept = figure.superseded_removed(resumed)
    assert [r["progress"]["updates"] for r in kept] == [r["progress"]["updates"] for r in results]
    assert [r.get("resumed", False) for r in kept] == [False] * 12 + [True] * (len(results) - 12)


def test_ranges_without_a_width_and_beyond_the_panels_are_left_out(run):
    results, _ = run
    x, ranges = figure.range_history(results)
    assert x.size == len(results) and "action.dead_band_n" not in ranges and len(ranges) == 11
    still, moving = np.array([[0.0, 1.0]] * 2), np.array([[0.0, 1.0], [0.0, 2.0]])
    many = {**{f"still{i}": still for i in range(30)}, "moving": moving}
    chosen = figure._most_moved(many)
    assert len(chosen) == figure.MOST_RANGES and "moving" in chosen


def test_importing_the_report_draws_in_no_matplotlib():
    import subprocess
    import sys

    code = "import sys, pipeline.report; print('matplotlib' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
    assert report.PACKAGES[0] == "sim2real"


def test_what_was_identified_is_told_by_fit():
    entry = {"value": 1.5, "low": 1.4, "high": 1.6, "unit": "kg", "known": "told"}
    given, vague = {**entry, "known": "given"}, {**entry, "low": 1.0, "known": "open"}
    found = {"at_updates": 5, "why": "before strong_dr", "recorded_s": 60.0, "flown_s": 0.0, "fit_s": 9.0}
    findings = [{**found, "values": {"cart.mass_kg": vague}}, {**found, "values": {"cart.mass_kg": entry, "g": given}}]
    told = {"findings": findings, "told": ["stage strong_dr trains around it"], "state": {}, "fitting": False}
    seconds = {"collection": 1.0, "evaluation": 2.0, "identification": 60.0}
    summary = summary_of(identification=told, robot_s=seconds)
    assert summary["identification"] == {"findings": findings, "told": told["told"]}
    assert summary["robot_s"]["identification"] == 60.0
    table = posterior_table(summary)
    assert table is not None
    cells = [list(column.cells) for column in table.columns]
    assert cells[1:3] == [["1.5 [1, 1.6] not told", "–"], ["1.5 [1.4, 1.6]", "1.5 given"]]
    assert "60 s identifying" in str(stage_table(summary).caption) and "trains around it" in str(
        stage_table(summary).caption
    )
    assert posterior_table(summary_of()) is None
