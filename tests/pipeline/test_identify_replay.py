"""Identification by replaying: known robots are found again, what is sent late still arrives, and a robot is flown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from envs.registry import make_task
from pipeline import cli
from pipeline.config import load_experiment
from pipeline.identify import replay_fit
from pipeline.identify.replay_command import pilot
from pipeline.identify.replay_crew import ReplayCrew
from pipeline.identify.replay_fit import ReplaySettings, fit_replayed
from pipeline.identify.replay_posterior import to_dict
from pipeline.identify.replay_recording import Recording, cut, read
from pipeline.identify.replay_simulated import fly
from pipeline.identify.replay_spread import normal
from pipeline.identify.replay_unknowns import unknowns
from pipeline.identify.replay_worlds import Replay, shifts
from robot.episodes import EpisodeStore
from robot.interface import RobotError
from robot.ledger import entries

HOVER = {
    "frame.mass_kg": 0.55,
    "frame.inertia_scale": 1.2,
    "action.delay_ms": 17.0,
    "action.lag_ms": 43.0,
    "rotor2.gain": 0.97,
    "sensor.delay_ms": 13.0,
    "sensor.roll_bias_rad": 0.02,
    "sensor.gyro_bias_y_rad_s": 0.03,
    "sensor.position_noise_m": 0.002,
    "sensor.gyro_noise_rad_s": 0.01,
}
PUSH = {
    "action.delay_ms": 33.0,
    "action.lag_ms": 22.0,
    "action.gain": 0.95,
    "action.period_jitter_ms": 2.0,
    "puck.friction": 0.4,
    "puck.mass_kg": 0.3,
    "sensor.puck_delay_ms": 62.0,
    "table.height_m": 0.744,
}


def flown(name: str, true: dict[str, float], episodes: int) -> list[Recording]:
    task = make_task(name)
    values = np.array([true.get(p.name, p.nominal) for p in task.parameters])
    written = pilot(task)
    assert written is not None
    return fly(task, values[None], written, episodes)[0]


@pytest.fixture(scope="module")
def hovered() -> list[Recording]:
    return flown("hover", HOVER, 1)


@pytest.fixture(scope="module")
def pushed() -> list[Recording]:
    return flown("push", PUSH, 1)


def all_but(name: str, true: dict[str, float], free: set[str]) -> dict[str, float]:
    task = make_task(name)
    space = task.parameters
    return {n: true.get(n, float(space.nominal[space.index(n)])) for n in unknowns(task, {}, ()).free if n not in free}


def errors(name: str, recordings: list[Recording], true: dict[str, float]) -> np.ndarray:
    """(W, T, m) measured less replayed."""
    task = make_task(name)
    windows = cut(task, recordings)
    worlds = Replay(task, [r.log for r in recordings], windows, worlds=len(windows))
    try:
        values = np.array([true.get(p.name, p.nominal) for p in task.parameters])
        none = np.zeros((1, len(windows), shifts(task)))
        found = worlds.predict(values[None], none, np.arange(len(windows)))[0]
        again = worlds.predict(values[None], none, np.arange(len(windows)))[0]
    finally:
        worlds.close()
    assert np.array_equal(found, again)
    return windows.windows.measured[:, 1:] - found


def test_a_robot_is_predicted_by_its_own_parameters(monkeypatch, pushed):
    """Delays, lags and late sensors included; each of them left out is seen."""
    monkeypatch.setattr("pipeline.identify.replay_recording.LEAST_S", 1.0)
    own = errors("push", pushed, PUSH)
    joints, puck = slice(0, 7), slice(14, 16)
    assert np.sqrt(np.mean(own[..., joints] ** 2)) < 0.004
    assert np.median(np.abs(own[:, -1, puck])) < 0.004
    for name, nominal in (("action.delay_ms", 0.0), ("action.gain", 1.0), ("sensor.puck_delay_ms", 0.0)):
        other = errors("push", pushed, {**PUSH, name: nominal})
        part = puck if name.startswith("sensor") else joints
        assert np.square(other[..., part]).mean() > 1.5 * np.square(own[..., part]).mean()


def test_what_flies_is_found_again(monkeypatch, hovered):
    monkeypatch.setattr("pipeline.identify.replay_recording.LEAST_S", 1.0)
    free = {"frame.mass_kg", "action.lag_ms", "action.delay_ms", "sensor.roll_bias_rad", "sensor.gyro_bias_y_rad_s"}
    task = make_task("hover")
    fit = fit_replayed(task, hovered, ReplaySettings(fixed=all_but("hover", HOVER, free)))
    low, high = np.percentile(fit.unknowns.values(fit.draws), [2.5, 97.5], axis=0)
    for name in free:
        i = task.parameters.index(name)
        room = high[i] - low[i]
        assert low[i] - room < HOVER[name] < high[i] + room, name
    assert fit.values[task.parameters.index("frame.mass_kg")] == pytest.approx(0.55, rel=0.02)
    content = to_dict(fit)
    assert content["values"]["sensor.position_noise_m"]["value"] == pytest.approx(0.002, rel=0.5)
    assert content["values"]["frame.mass_kg"]["known"] == "told"


def test_what_touches_things_is_found_again(monkeypatch):
    monkeypatch.setattr("pipeline.identify.replay_recording.LEAST_S", 1.0)
    monkeypatch.setattr(replay_fit, "GENERATIONS", (4, 2))
    task, bounce = make_task("push"), "puck.restitution"  # that of the table is zero, and so is their product
    true = {**PUSH, "sensor.puck_noise_m": 0.002}
    given = all_but("push", true, {"action.delay_ms"})
    fit = fit_replayed(task, flown("push", true, 1), ReplaySettings(fixed=given, extra=(bounce,)))
    assert fit.values[task.parameters.index("action.delay_ms")] == pytest.approx(33.0, abs=4.0)
    content = to_dict(fit)
    noise = content["values"]["sensor.puck_noise_m"]["value"]  # its sensor is a row late
    assert noise == pytest.approx(0.002, rel=0.2)
    entry = content["values"][bounce]
    assert entry["known"] == "open" and entry["high"] > 0.25  # what was assumed, given back
    assert any(f"{bounce}: not told" in sentence for sentence in content["not_identifiable"])


def test_any_choice_of_windows_is_predicted_alike_by_one_process_and_by_two(monkeypatch, pushed):
    """Every second window as well as one alone: no process is without an answer when none of its own is asked for."""
    monkeypatch.setattr("pipeline.identify.replay_recording.LEAST_S", 2.0)
    monkeypatch.setattr("pipeline.identify.replay_crew.LEAST_WINDOWS", 4)
    task = make_task("push")
    windows = cut(task, pushed, 0.3)
    values, logs = task.parameters.nominal[None], [recording.log for recording in pushed]
    whole = np.arange(len(windows))
    with ReplayCrew(task, logs, windows, 1) as one, ReplayCrew(task, logs, windows, 2) as two:
        for which in (whole, whole[::2], whole[-1:], whole[:0]):
            shift = np.zeros((1, len(which), shifts(task)))
            found = [crew.predict(values, shift, which) for crew in (one, two)]
            assert found[0].shape[1] == len(which) and np.array_equal(found[0], found[1])


def test_eliminating_what_is_each_windows_own_is_solving_for_everything():
    random = np.random.default_rng(0)
    windows, rows, size, own = 3, 12, 2, 4
    residual, slope = random.normal(size=(windows, rows)), random.normal(size=(windows, rows, size))
    nuisance, sd = random.normal(size=(windows, rows, own)), np.array([0.5, 1.0, 2.0, 0.3])
    shift = random.normal(size=(windows, own))
    found = normal(np.zeros(size), residual, slope, nuisance, sd, shift)
    whole = np.zeros((windows * rows, size + windows * own))
    weight = (1 + np.square(residual / 3.0)) ** -0.25
    for w in range(windows):
        part = slice(w * rows, (w + 1) * rows)
        whole[part, :size] = weight[w, :, None] * slope[w]
        whole[part, size + w * own : size + (w + 1) * own] = weight[w, :, None] * nuisance[w]
    prior = np.diag(np.concatenate([np.zeros(size), np.tile(sd**-2.0, windows)]))
    push = whole.T @ (weight * residual).ravel() + prior @ np.concatenate([np.zeros(size), shift.ravel()])
    step = -np.linalg.solve(whole.T @ whole + prior, push)
    assert -np.linalg.solve(found.information.sum(0), found.pull.sum(0)) == pytest.approx(step[:size])
    assert found.own_step(step[:size]).ravel() == pytest.approx(step[size:])


def test_windows_of_one_episode_that_err_together_widen_the_intervals():
    random = np.random.default_rng(1)
    slope = np.ones((40, 5, 1))
    group = np.repeat(np.arange(8), 5)
    alone = random.normal(size=(40, 5))
    together = alone + 2.0 * random.normal(size=8)[group][:, None]
    none, sd = np.zeros((40, 5, 0)), np.zeros(0)
    sought = unknowns(make_task("push"), all_but("push", PUSH, {"action.delay_ms"}), ())
    spread = []
    for residual in (alone, together):
        found = normal(np.zeros(1), residual, slope, none, sd, np.zeros((40, 0)))
        spread.append(found.bootstrap(sought, group, 2000, np.random.default_rng(0)).std())
    assert spread[0] == pytest.approx(1 / np.sqrt(201), rel=0.35) and spread[1] > 4 * spread[0]


def test_flown_identified_and_trained_from(tmp_path: Path, capsys):
    """The whole way on the twin: fly, book, fit, and start a training's ranges from the result."""
    task, out = make_task("hover"), tmp_path / "found.yaml"
    free = {"action.gain", "action.lag_ms"}
    fixes = [f"--fix={name}={value}" for name, value in all_but("hover", {}, free).items()]
    asked = ["--recordings", "1", "--seconds", "6", "--seed", "1", "-o", str(out), "--json", *fixes]
    assert cli.main(["identify", "hover", "--robot", "hover", *asked]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content == yaml.safe_load(out.read_text()) and out.with_suffix(".png").stat().st_size > 10_000
    flights = tmp_path / "found_recordings"
    store = EpisodeStore(flights / "episodes")
    assert [meta.purpose for meta in store.list()] == ["identification"]
    booked = sum(seconds for purpose, seconds, _ in entries(flights / "ledger.jsonl") if purpose == "identification")
    assert booked == pytest.approx(6.0, abs=0.1)
    ranges = load_experiment("hover", [f"randomization.posterior={out}"]).ranges().to_dict()
    entry = content["values"]["action.lag_ms"]
    assert ranges["action.lag_ms"] == [entry["low"], entry["high"]] and entry["known"] == "told"
    again = read(task, [flights])
    assert [len(r.log) for r in again] == [meta.steps - 1 for meta in store.list()]


def test_what_cannot_be_replayed_is_refused(tmp_path: Path, hovered, capsys):
    push = make_task("push")
    with pytest.raises(RobotError, match="accepted is a run whose robot has flown some"):
        read(push, [tmp_path])
    with pytest.raises(RobotError, match="windows of 0.4 s are left"):
        cut(make_task("hover"), [replace(hovered[0], log=_first(hovered[0], 40), pose=hovered[0].pose[:40])])
    for arguments, words in (
        (["--use", "x.yaml", "--predict", "y.parquet"], "identified by replaying"),
        (["--robot", "push", "--routine", "step"], "identified by replaying"),
        (["--robot", "push", "--fix", "action.drop_rate=0.1"], "cannot be told"),
        (["--robot", "reach"], "is about the task reach"),
    ):
        assert cli.main(["identify", "push", *arguments, "-o", str(tmp_path / "x.yaml")]) != 0
        assert words in " ".join(capsys.readouterr().err.split())


def _first(recording: Recording, rows: int):
    log = recording.log
    parts = {name: getattr(log, name)[:rows] for name in ("time_s", "position", "velocity", "effort", "piece")}
    return replace(log, **parts)
