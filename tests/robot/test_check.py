"""The doctor against twins that are well, and twins with something wrong about them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from envs.tasks.cartpole import Cartpole
from pipeline import robot_check
from pipeline.cli import main
from pipeline.config import load_experiment
from pipeline.robot_check import check, simulated
from robot.check import STEPS, Trace, _numbers, _response, fit, pushes, short
from robot.interface import RobotError
from robot.latch import Latch

PUSH = 0.6


@pytest.fixture(autouse=True, scope="module")
def simulated_once():
    """The robots to compare with are the same ones for each check of a seed."""
    known: dict[tuple, list] = {}

    def cached(task, ranges, actions, draws, seed):
        key = (seed, actions.tobytes(), draws)
        if key not in known:
            known[key] = simulated(task, ranges, actions, draws, seed)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robot_check, "simulated", cached)
        yield


def findings(*overrides: str) -> dict[tuple[str, str], str]:
    """{(about, joint or ""): verdict} of the default rig with something set differently."""
    found = check(load_experiment(None, overrides), None, PUSH)
    joint = lambda sentence: sentence.split(":")[0] if ":" in sentence else ""  # noqa: E731
    return {(one.about, joint(one.sentence)): one.verdict for one in found}


def test_a_robot_that_is_well_may_run():
    assert "wrong" not in findings().values()
    assert "wrong" not in findings("robot.driver=rosbridge", "seed=1").values()


@pytest.mark.parametrize(
    ("override", "wrong"),
    [
        ("robot.servos.slider.scale=-0.02", {("scale", "slider"), ("response", "slider")}),
        ("robot.servos.hinge.scale=-1.0", {("scale", "hinge"), ("coupling", "hinge")}),
        ("robot.servos.slider.scale=0.04", {("scale", "slider")}),
        ("robot.servos.hinge.zero_ticks=2148", {("zero", "hinge")}),
        ("robot.servos.slider.effort_per_unit=0.02", {("response", "slider")}),
        ("robot.limits.slider.effort=4", {("limits", "slider")}),
    ],
)
def test_what_is_set_wrong_is_named(override, wrong):
    found = findings(override)
    assert {key for key, verdict in found.items() if verdict == "wrong"} == wrong


def test_a_robot_slower_than_any_simulated_one_is_named(tmp_path):
    (tmp_path / "slow.yaml").write_text("latency_ms: 200.0\n")
    found = findings(f"robot.twin.hidden={tmp_path / 'slow.yaml'}")
    assert [key for key, verdict in found.items() if verdict == "wrong"] == [("latency", "slider")]


def test_the_command_says_it_in_sentences_and_in_its_exit_code(capsys, tmp_path):
    assert main(["robot", "check", "cartpole"]) == 0
    assert "robot0 can be run." in capsys.readouterr().out
    assert main(["robot", "check", "cartpole", "robot.servos.slider.scale=-0.02", "--json"]) == 3
    told = json.loads(capsys.readouterr().out)
    assert not told["fit"] and "sign is swapped" in told["findings"][0]["sentence"]
    assert main(["robot", "check", "cartpole", f"robot.port={tmp_path / 'none'}", "robot.twin=null"]) == 3
    assert "cannot be opened" in capsys.readouterr().out
    assert main(["robot", "check", str(tmp_path)]) == 2
    assert "is no run folder" in capsys.readouterr().err


def test_a_stopped_robot_is_not_pushed(tmp_path):
    latch = Latch(tmp_path)
    latch.stop("a person pressed the button")
    found = check(load_experiment(), tmp_path, PUSH)
    assert not fit(found) and "a person pressed the button" in found[0].sentence
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "requests",
        "safety.jsonl",
        "session.lock",
        "stop.json",
    ]
    with pytest.raises(RobotError, match="operator"):
        latch.recover("")


def test_numbers_find_what_was_put_in():
    """A cart of 2 kg, answering 3 steps late, with its zero 0.05 off and no noise."""
    task = Cartpole()
    traces = []
    for e, actions in enumerate(pushes(task, PUSH)):
        force = task.command(actions)[:, 0].astype(float)
        late = np.concatenate([np.zeros(3), force])[:STEPS]
        velocity = np.cumsum(late) * 0.02 / 2.0
        start = 0.01 * e
        position = start + 0.05 + np.cumsum(velocity) * 0.02
        both = lambda one: np.stack([one, -0.5 * one], axis=1)  # noqa: E731
        traces.append(Trace(0, both(position), both(velocity), force[:, None], np.array([start, -0.5 * start])))
    gain, delay = _response(traces, 0, 0, 0.02)
    assert gain == pytest.approx(0.5, rel=1e-3) and delay == 3.0
    numbers = _numbers(traces, task)
    assert numbers["zero", "slider"] == pytest.approx(0.05) and numbers["scale", "slider"] == pytest.approx(1.0)
    assert numbers["units", "slider"] == pytest.approx(1.0, abs=0.1) and numbers["coupling", "hinge"] < 0


def test_the_simulated_robots_are_recorded_as_the_real_one_is():
    task = short(Cartpole())
    actions = pushes(task, PUSH)[:3]
    one, two = simulated(task, load_experiment().ranges(), actions, 2, seed=5)
    again = simulated(task, load_experiment().ranges(), actions, 1, seed=5)[0]
    for trace, same, other in zip(one, again, two, strict=True):
        assert np.array_equal(trace.position, same.position)
        assert not np.array_equal(trace.position[0], other.position[0])
        assert trace.position.shape == trace.velocity.shape == (len(trace.command), 2)
        assert trace.start is not None and np.abs(trace.position[0] - trace.start).max() < 0.3


def test_addresses_are_no_file_names():
    for port in ("ws://127.0.0.1:9090", "10.0.0.2"):
        assert load_experiment(None, [f"robot.port={port}"]).robot.port == port
    loaded = load_experiment(None, ["robot.port=dev/tty", "robot.driver=replay", "robot.driver_options.store=here"])
    assert str(loaded.robot.port).startswith("/") and loaded.robot.driver_options["store"].startswith("/")


@pytest.mark.real_time
def test_a_robot_in_real_time_is_looked_at_as_well(patient, monkeypatch):
    """Fewer pushes, and lateness that a loaded machine may have; a sign turned round is seen all the same."""
    monkeypatch.setattr("robot.check.PUSHES", 6)
    realtime = ("robot.mode=realtime", "robot.watchdog_ms=2500", "robot.max_age_ms=500", "robot.max_lateness_ms=1000")
    found = findings(*realtime, "robot.servos.slider.scale=-0.02")
    assert ("rate", "") in found and found["response", "slider"] == "wrong" and ("stop", "") not in found
    assert {about for about, _ in found} >= {"units", "zero", "scale", "response", "latency", "coupling", "limits"}
