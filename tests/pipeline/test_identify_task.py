"""Identification through a task's own worlds: known robots are found again, and what cannot be told is said."""

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
from pipeline.identify import identified, posterior
from pipeline.identify.ahead import look_ahead, rms
from pipeline.identify.crew import Crew, Filter
from pipeline.identify.design import design, score
from pipeline.identify.estimate import FitSettings, TaskFit, fit_task
from pipeline.identify.kalman import Gains, Noise, fit_noise, gains
from pipeline.identify.page import page
from pipeline.identify.recording import Windows, as_recorded_by, cut
from pipeline.identify.simulated import record
from pipeline.identify.unknowns import unknowns
from robot.excitation import Multisine
from robot.interface import RobotError
from robot.ledger import entries
from robot.log_files import read_log
from robot.logs import Log, clean

TASK = make_task("pendulum")
SPACE = TASK.parameters
LIMITS = load_experiment("pendulum").robot.limits
TRUE = {
    "arm.mass_kg": 0.72,
    "world.gravity_m_s2": 10.2,
    "pivot.viscous_nm_s": 0.03,
    "pivot.coulomb_nm": 0.2,
    "action.delay_ms": 31.0,
    "action.lag_ms": 17.0,
    "action.gain": 0.95,
    "action.offset_nm": 0.04,
    "sensor.bias_rad": 0.01,
}
NOISE = {"action.noise_nm": 0.03, "sensor.noise_sd": 0.01}


def values(**changes: float) -> np.ndarray:
    known = TRUE | NOISE | {name.replace("__", "."): value for name, value in changes.items()}
    return np.array([known.get(p.name, p.nominal) for p in SPACE])


def wave(seed: int) -> Multisine:
    random = np.random.default_rng(seed)
    share = random.dirichlet(np.ones(8))[None] * 2.0
    none = np.zeros(1)
    return Multisine(np.geomspace(0.3, 5, 8), share, random.uniform(0, 6, (1, 8)), np.array([0]), none, none, none)


def recordings(count: int, seconds: float, true: np.ndarray | None = None) -> list[Log]:
    true = values() if true is None else true
    return record(TASK, LIMITS, np.tile(true, (count, 1)), [wave(k) for k in range(count)], seconds)


def put_right(windows: Windows, joints: int) -> Gains:
    """Each row is believed, so that each step is predicted from what was measured alone."""
    size = 2 * joints
    eye = np.zeros((*windows.valid.shape, size, size)) + np.eye(size)
    return Gains(eye, eye, np.zeros((*windows.valid.shape, 1, size + 2)))


@pytest.fixture
def few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Motions are chosen among so few that choosing takes no half minute."""
    for name, count in (("CANDIDATES", 4), ("MUTANTS", 2), ("ROBOTS", 1)):
        monkeypatch.setattr(f"pipeline.identify.design.{name}", count)


@pytest.fixture(scope="module")
def found() -> TaskFit:
    return fit_task(TASK, recordings(3, 15.0), FitSettings(fixed={"arm.mass_kg": TRUE["arm.mass_kg"]}))


@pytest.mark.parametrize("name", ["cartpole", "pendulum"])
def test_a_robot_without_noise_is_predicted_exactly_by_its_own_parameters(name):
    task = make_task(name)
    low, high = (np.array([p.default[side] for p in task.parameters]) for side in (0, 1))
    true = low + np.random.default_rng(1).uniform(size=len(low)) * (high - low)
    for sd in [n for n in task.parameters.names if "noise" in n]:
        true[task.parameters.index(sd)] = 0.0
    push = replace(wave(0), amplitude=wave(0).amplitude * (3.0 if name == "cartpole" else 0.5))
    logs = record(task, load_experiment(name).robot.limits, true[None], [push], 4.0)
    windows = cut(logs, 1.0)
    worlds = Filter(task, logs, windows, 1)
    corrected = worlds.innovations(true[None], put_right(windows, len(task.joints)))
    worlds.close()
    assert np.abs(corrected).max() < 5e-6 and windows.valid.sum() > 150


class Held:
    """Another excitation whose command changes at some steps only."""

    def __init__(self, inner: Multisine, changes: set[int]) -> None:
        self._inner, self._changes, self._last = inner, changes, np.zeros(1)

    def command(self, time_s: float, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        if round(time_s * 50) in self._changes:
            self._last = self._inner.command(time_s, position, velocity)
        return self._last


def test_times_are_taken_as_recorded():
    """Rows at which nothing was commanded anew may be missing: a longer step is simulated as one."""
    rows = np.sort(np.random.default_rng(0).permutation(250)[:190])
    true = values(action__noise_nm=0.0, sensor__noise_sd=0.0)
    (log,) = record(TASK, LIMITS, true[None], [Held(wave(0), set(rows.tolist()))], 5.0)
    columns = {name: getattr(log, name)[rows] for name in ("time_s", "position", "velocity", "effort")}
    sparse = clean(replace(log, **columns))
    windows = cut([sparse], 1.0)
    worlds = Filter(TASK, [sparse], windows, 1)
    errors = worlds.innovations(true[None], put_right(windows, 1))[0]
    worlds.close()
    steps = np.round(windows.period_s / 0.02)
    assert set(np.unique(steps[windows.valid])) >= {1, 2, 3}
    assert np.abs(errors[windows.valid]).max() < 0.03 * np.ptp(log.velocity)  # the physics step is stretched with it
    assert np.abs(errors[windows.valid & (steps == 1)]).max() < 1e-5


def test_known_parameters_are_found_again(found):
    low, high = np.percentile(found.unknowns.values(found.draws), [2.5, 97.5], axis=0)
    truth = values()
    columns = found.unknowns.columns
    room = 0.5 * (high - low)[columns]
    assert ((low[columns] - room <= truth[columns]) & (truth[columns] <= high[columns] + room)).all()
    assert found.values[SPACE.index("world.gravity_m_s2")] == pytest.approx(10.2, rel=0.03)
    assert found.values[SPACE.index("action.delay_ms")] == pytest.approx(31.0, abs=4.0)
    assert found.noise.effort[0] == pytest.approx(0.03, rel=0.2)
    assert found.noise.sensor == pytest.approx([0.01, 0.01], rel=0.2)
    assert 0.8 < found.residual_rms < 1.1 and found.held_out_rms == pytest.approx(found.residual_rms, rel=0.05)


def test_it_predicts_what_it_was_not_fitted_to(found):
    (log,) = record(TASK, LIMITS, values()[None], [wave(9)], 12.0, seed=5)
    good = rms(TASK, look_ahead(TASK, found.values, found.noise, [log], 0.5, 40))["pivot"]
    nominal = rms(TASK, look_ahead(TASK, SPACE.nominal, found.noise, [log], 0.5, 40))["pivot"]
    assert good < 0.1 and good < 0.5 * nominal


def test_several_processes_find_what_one_does():
    logs = recordings(2, 10.0)
    windows = cut(logs, 1.0)
    sought = unknowns(TASK, {}, ())
    around = sought.values(np.vstack([np.zeros(len(sought.free)), 0.1 * np.eye(len(sought.free))[0]]))
    noise = Noise(np.full(2, 0.01), np.full(1, 0.03))
    answers = []
    for processes in (1, 2):
        with Crew(TASK, logs, windows, 2, processes) as crew:
            linear = crew.linearise(around[0], noise, every=2)
            answers.append((linear.transition, crew.innovations(around, gains(linear, noise), every=2)))
    assert all(np.array_equal(one, other) for one, other in zip(*answers, strict=True))
    with pytest.raises(RobotError, match="ended before its work was done"), Crew(TASK, logs, windows, 2, 2) as crew:
        crew._workers._others[0][0].kill()
        crew.linearise(around[0], noise)


def test_the_noise_that_is_found_makes_innovations_independent_of_size_one(found):
    windows = cut(found.logs, 2.0)
    worlds = Filter(TASK, found.logs, windows, 1)
    linear = worlds.linearise(found.values, found.noise)
    noise, covariance = fit_noise(linear, Noise(found.noise.sensor * 3, found.noise.effort / 3))
    filtered = gains(linear, noise)
    white = (filtered.whiten @ worlds.innovations(found.values[None], filtered)[0][..., None])[..., 0]
    worlds.close()
    assert noise.sensor == pytest.approx(found.noise.sensor, rel=0.1) and (np.linalg.eigvalsh(covariance) > 0).all()
    rows = white[windows.valid]
    assert np.cov(rows.T) == pytest.approx(np.eye(2), abs=0.15)
    assert abs(np.mean(white[:, 1:] * white[:, :-1])) < 0.1


def test_what_scales_together_is_said_and_the_ratio_is_known():
    free = fit_task(TASK, recordings(2, 15.0))
    content = posterior.to_dict(free, {})
    words = " ".join(content["not_identifiable"])
    assert "scale together" in words and "--fix" in words and content["values"]["action.gain"]["known"] == "open"
    drawn = free.unknowns.values(free.draws)
    mass, gain = drawn[:, SPACE.index("arm.mass_kg")], drawn[:, SPACE.index("action.gain")]
    assert (mass / gain).std() / (mass / gain).mean() < 0.3 * gain.std() / gain.mean()
    assert (mass / gain).mean() == pytest.approx(TRUE["arm.mass_kg"] / TRUE["action.gain"], rel=0.08)


def test_what_is_given_is_kept_and_what_cannot_be_is_refused(found):
    assert "arm.mass_kg" not in found.unknowns.free
    assert found.values[SPACE.index("arm.mass_kg")] == TRUE["arm.mass_kg"]
    for fixed, words in (({"mass": 1.0}, "accepted are"), ({"arm.mass_kg": 9.0}, "accepted is 0.2 to 3 kg")):
        with pytest.raises(RobotError, match=words):
            fit_task(TASK, found.logs, FitSettings(fixed=fixed))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"joints": ("elbow", "wrist"), "position": np.zeros((750, 2))}, "elbow, wrist; accepted are pivot"),
        ({"position": np.zeros((750, 1))}, "never changes"),
        ({"piece": np.arange(750) // 20}, "without a gap"),
    ],
)
def test_recordings_that_cannot_be_used_are_refused(change, words):
    (log,) = recordings(1, 15.0)
    if "position" in change:
        change = {**change, "velocity": change["position"].copy(), "piece": np.zeros(0, np.int64)}
    bad = replace(log, **change)
    with pytest.raises(RobotError, match=words):
        fit_task(TASK, [bad if "piece" in change and len(change["piece"]) else clean(bad)])
    with pytest.raises(RobotError, match="driven by efforts alone"):
        as_recorded_by(make_task("push"), log)


def test_a_posterior_is_read_as_it_was_written(found, tmp_path):
    identified.save(posterior.to_dict(found, {}), tmp_path / "identified.yaml")
    known = identified.load(tmp_path / "identified.yaml", TASK)
    assert known.value == pytest.approx(np.where(np.isin(SPACE.names, [*NOISE]), known.value, found.values), rel=1e-5)
    drawn = known.draw(2000, np.random.default_rng(0))[:, found.unknowns.columns]
    own = found.unknowns.values(found.draws)[:, found.unknowns.columns]
    assert drawn.mean(0) == pytest.approx(own.mean(0), rel=0.1, abs=0.01)
    assert np.corrcoef(drawn.T) == pytest.approx(np.corrcoef(own.T), abs=0.15)
    for text, words in (
        ("format: 2\ntask: cartpole\n", "accepted is one about pendulum"),
        ("format: 1\n", "without a task's world"),
        ("format: 2\ntask: pendulum\nvalues: 3\n", "no identified.yaml"),
        ("[", "no identified.yaml"),
    ):
        (tmp_path / "other.yaml").write_text(text)
        with pytest.raises(RobotError, match=words):
            identified.load(tmp_path / "other.yaml", TASK)


def test_designed_motions_stay_inside_the_limits_and_tell_more(few_candidates):
    sought = unknowns(TASK, {"arm.mass_kg": 0.7}, ())
    plans = design(TASK, LIMITS, sought, 2, 0.5)
    assert len(plans) == 2 and all(plan.amplitude.sum() <= LIMITS["pivot"].effort + 1e-9 for plan in plans)
    weak = replace(plans[0], amplitude=plans[0].amplitude * 0.1)
    logs = record(TASK, LIMITS, np.tile(values(), (2, 1)), [plans[0], weak], 5.0, 0.5)
    strong, feeble = (fit_task(TASK, [log], FitSettings(fixed=sought.given, draws=10)).information for log in logs)
    assert score(strong[None]) > score(feeble[None]) + 2


def test_no_title_of_the_page_is_cut_off(found):
    figure = page(found, look_ahead(TASK, found.values, found.noise, found.logs, 0.3, 5))
    figure.draw_without_rendering()
    for axis in figure.axes:
        box = axis.title.get_window_extent()
        assert box.x0 >= 0 and box.x1 <= figure.bbox.x1, axis.get_title()


def test_the_robot_is_moved_recorded_and_identified(few_candidates, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["identify", "pendulum", "--robot", "pendulum", "--recordings", "2", "--seconds", "5"]
    assert cli.main([*command, "--fix", "action.gain=1.0", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["values"]["action.gain"]["known"] == "given" and len(content["logs"]) == 2
    assert yaml.safe_load(Path("identified.yaml").read_text())["order"] == content["order"]
    assert Path("identified.png").stat().st_size > 10_000
    booked = [(purpose, seconds) for purpose, seconds, _ in entries(Path("identified_recordings/ledger.jsonl"))]
    assert booked == [("identification", pytest.approx(5.0))] * 2
    kept = Path("identified_recordings/recording2.parquet")
    assert len(read_log(kept)) == 249
    arguments = ["identify", "pendulum", "--use", "identified.yaml", "--predict", str(kept), "--json"]
    assert cli.main(arguments) == 0
    assert 0 < json.loads(capsys.readouterr().out)["rms_rad"] < 0.5
    for arguments, words in (
        (["--robot", "cartpole"], "accepted is one about pendulum"),
        (["--robot", "pendulum", "--log", "x.csv"], "one of --log"),
        (["--robot", "pendulum", "--model", "joint"], "accepted with it"),
    ):
        assert cli.main(["identify", "pendulum", *arguments]) == cli.EXIT_USER
        assert words in capsys.readouterr().err


def test_ctrl_c_holds_the_robot_and_keeps_what_was_recorded(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    asked = Multisine.command

    def interrupted(self, time_s, position, velocity):
        if time_s > 2.0 and self.amplitude.sum() > 0 and interrupted.on_robot:
            raise KeyboardInterrupt
        return asked(self, time_s, position, velocity)

    monkeypatch.setattr("pipeline.identify.task_command.design", lambda *args, **more: [wave(0)])
    interrupted.on_robot = True
    monkeypatch.setattr(Multisine, "command", interrupted)
    assert cli.main(["identify", "pendulum", "--robot", "pendulum", "--recordings", "1"]) == cli.EXIT_INTERRUPTED
    assert len(read_log(Path("identified_recordings/recording1.parquet"))) == 100
    assert [e[:2] for e in entries(Path("identified_recordings/ledger.jsonl"))] == [
        ("identification", pytest.approx(2.02, abs=0.03))
    ]
