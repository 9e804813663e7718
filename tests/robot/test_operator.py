"""An operator beside a live robot: hold, recover, confirm and the console, from another program or thread."""

from __future__ import annotations

import fcntl
import os
import pty
import subprocess
import sys
import termios
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

from benchmarks.rig.pilot import ShortCartpole
from robot import confirm, request
from robot.console import Console
from robot.console_keys import Keys
from robot.episodes import EpisodeStore
from robot.interface import RobotError
from robot.latch import Latch, in_use
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.settings import MODES
from tests.robot.drivers import fakes
from tests.robot.policies import balancing_gains, linear_policy


def evaluate(session, policy, world=0, **keys):
    return session.run_episode(policy, purpose="evaluation", seed=3, world=world, **keys)


def events(session, *names):
    return [entry for entry in session.technician.record()["events"] if entry["event"] in names]


def test_a_live_robot_is_held_and_recovered_by_request(session, tmp_path, balancer):
    assert in_use(tmp_path)
    results, stop = [], threading.Event()

    def fly() -> None:
        for world in range(500):
            if stop.is_set() or session.status().state == "stopped":
                return
            results.append(evaluate(session, balancer, world))

    thread = threading.Thread(target=fly)
    thread.start()
    assert "motors are off" in request.hold(tmp_path, "Ada")
    thread.join()
    assert session.status().reason == "Ada held the robot"
    assert events(session, "motor on", "motor off")[-1]["event"] == "motor off"
    with pytest.raises(RobotError, match="operator"):
        request.ask(tmp_path, "recover", operator=" ")
    assert request.ask(tmp_path, "recover", operator="Bob")["was"] == "Ada held the robot"
    assert request.ask(tmp_path, "status")["state"] == "ok"
    assert evaluate(session, balancer).meta.stop == ""
    with pytest.raises(RobotError, match="accepted are status, hold"):
        request.ask(tmp_path, "dance")
    assert list((tmp_path / "requests").iterdir()) == []


def test_a_robot_that_is_not_live_is_held_by_its_latch(tmp_path, task, make_settings, balancer):
    assert not in_use(tmp_path)
    with pytest.raises(RobotError, match="no session"):
        request.ask(tmp_path, "status")
    request.hold(tmp_path, "Ada")
    assert Latch(tmp_path).reason == "Ada held the robot"
    session = open_session(make_settings(), task, tmp_path)
    with pytest.raises(RobotError, match="Ada held"):
        evaluate(session, balancer)
    session.close()


def test_the_more_careful_mode_wins(tmp_path, task, make_settings):
    fakes.fresh_cart()
    for setting in MODES:
        settings = make_settings(confirmation=setting, driver="gymnasium", driver_options=fakes.ENVIRONMENT)
        session = open_session(settings, task, tmp_path / setting)
        for asked in MODES:
            assert MODES.index(session.mode(asked)) == min(MODES.index(asked), MODES.index(setting))
        session.close()


def test_in_shadow_nothing_is_sent_and_the_episode_says_nothing(session, task, balancer, tmp_path):
    result = evaluate(session, balancer, mode="shadow")
    assert result.meta.steps == task.max_steps and result.meta.void and not result.meta.success
    assert not result.columns["sent"].any() and (result.columns["policy_action"] != 0).any()
    assert set(result.columns["intervention"]) == {"shadow"}
    assert events(session, "goal", "motor on") == [] and not (tmp_path / "reduced_speed.json").exists()


def answers(directory, replies):
    """A person who answers each question in turn."""
    seen: list[str] = []

    def person() -> None:
        for yes in replies:
            while not (question := confirm.pending(directory)) or (seen and question == seen[-1] and not yes):
                time.sleep(0.002)
            seen.append(question)
            confirm.answer(directory, yes, "Ada")
            while confirm.pending(directory) == question and (directory / "confirm_answer.json").exists():
                time.sleep(0.002)

    thread = threading.Thread(target=person)
    thread.start()
    return thread, seen


def test_each_command_is_confirmed_and_a_no_ends_the_episode(session, tmp_path, task):
    policy = ExportedPolicy(linear_policy(task, balancing_gains(task)))
    thread, seen = answers(tmp_path, [True, True, False])
    result = evaluate(session, policy, mode="confirm_each")
    thread.join()
    assert result.meta.steps == 2 and "said no" in result.meta.stop and "slider" in seen[0]
    assert len(events(session, "goal")) == 2 and session.status().state == "stopped"


def test_a_question_is_given_up_when_the_robot_is_held(tmp_path, task, make_settings, balancer):
    session = open_session(make_settings(confirmation="confirm_episode"), task, tmp_path)
    button = threading.Timer(0.1, session.hold, ("the button",))
    button.start()
    with pytest.raises(RobotError, match="the button"):
        evaluate(session, balancer)
    button.join()
    assert events(session, "motor on") == [] and confirm.pending(tmp_path) == ""
    session.close()


def test_the_console_shows_and_does(session, tmp_path, balancer):
    console = Console(tmp_path, "Ada", jog=0.05)
    evaluate(session, balancer)
    console.look()
    assert console.status["episodes"] == 1 and console.status["state"] == "ok"
    for key, said in (
        ("y", "no question"),
        ("]", "slider +0.05: done"),
        ("h", "held"),
        ("]", "stopped"),
        ("?", "means"),
    ):
        console.press(key)
        console.look()
        assert said in console._said[-1], key
    assert console.status["state"] == "stopped"
    console.press("r")
    assert "Ada held" in console._said[-1] and session.status().state == "ok"
    with pytest.raises(RobotError, match="operator"):
        Console(tmp_path, "")


CONSOLE = "import sys; from robot.console import Console; Console(sys.argv[1], 'Ada').run()"


@pytest.mark.parametrize("how", ["ctrl-c", "closed", "quit"])
def test_ctrl_c_and_a_closed_terminal_hold_the_robot_and_quitting_does_not(session, tmp_path, how):
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CONSOLE, str(tmp_path)],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(slave)
    text = b""
    while b"quit" not in text:
        text += os.read(master, 4096)
    if how == "closed":
        os.close(master)
    else:
        os.write(master, b"\x03" if how == "ctrl-c" else b"q")
    end = time.monotonic() + 20
    while process.poll() is None and time.monotonic() < end:
        if how != "closed":
            with suppress(OSError):
                os.read(master, 4096)
        time.sleep(0.01)
    assert process.poll() is not None
    if how != "closed":
        os.close(master)
    assert session.status().state == ("ok" if how == "quit" else "stopped")


def test_keys_come_one_by_one_from_a_pipe_and_its_end_is_told():
    reader, writer = os.pipe()
    os.write(writer, b"y\nq")
    os.close(writer)
    with Keys(reader) as keys:
        assert [keys.read(1) for _ in range(3)] == ["y", "", "q"]
        with pytest.raises(EOFError):
            keys.read(1)
    os.close(reader)


def test_requests_that_are_no_requests_are_answered_or_dropped(session, tmp_path, balancer):
    (tmp_path / "requests" / "1.json").write_text("{")
    (tmp_path / "requests" / "2.json").write_text("[1]")
    for by in (float("nan"), "far", None):
        with pytest.raises(RobotError, match="finite"):
            request.ask(tmp_path, "jog", joint="slider", by=by, operator="Ada")
    assert np.isfinite(evaluate(session, balancer).meta.episode_return)
    assert len(EpisodeStore(tmp_path / "episodes")) == 1


@pytest.mark.real_time
def test_in_real_time_each_command_waits_for_its_yes_and_silence_is_a_no(patient, tmp_path, make_settings, balancer):
    settings = make_settings(mode="realtime", confirmation_timeout_s=0.8, watchdog_ms=2500.0)
    session = open_session(settings, ShortCartpole(), tmp_path)
    thread, seen = answers(tmp_path, [True, True])
    result = evaluate(session, balancer, mode="confirm_each")
    thread.join()
    assert "nobody answered within 0.8 s" in result.meta.stop and len(seen) == 2 and result.meta.steps <= 2
    happened = [event["event"] for event in events(session, "goal", "motor on", "motor off")]
    assert happened.count("goal") == 2 and happened[-1] == "motor off"  # and off while a person thinks:
    assert all(happened[i - 1] == "motor on" for i, event in enumerate(happened) if event == "goal")
    assert session.status().state == "stopped" and confirm.pending(tmp_path) == ""
    session.close()


@pytest.mark.real_time
def test_in_real_time_an_episode_begins_with_a_yes_and_silence_is_a_no(patient, tmp_path, make_settings, balancer):
    keys = {"confirmation": "confirm_episode", "confirmation_timeout_s": 20.0, "watchdog_ms": 2500.0}
    settings = make_settings(mode="realtime", **keys)
    session = open_session(settings, ShortCartpole(), tmp_path)
    thread, seen = answers(tmp_path, [True])
    assert evaluate(session, balancer).meta.steps > 0 and "evaluation episode 0" in seen[0]
    thread.join()
    session.close()
    session = open_session(settings.model_copy(update={"confirmation_timeout_s": 0.2}), ShortCartpole(), tmp_path)
    with pytest.raises(RobotError, match="nobody answered"):
        evaluate(session, balancer)
    assert events(session, "motor on", "goal") == [] and session.status().state == "ok"
    session.close()
