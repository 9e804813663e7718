"""Whole episodes through settings, driver, bus and twin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from envs.randomization.keyed import KeyedRandom
from envs.task import State
from robot import confirm
from robot.episodes import EpisodeStore
from robot.interface import RobotError
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.technician import SocketTechnician
from tests.robot.conftest import LIMITS
from tests.robot.policies import balancing_gains, linear_policy


def evaluate(session, policy, world=0, **keys):
    return session.run_episode(policy, purpose="evaluation", seed=3, world=world, **keys)


def events(session):
    """What the twin's own recorder has."""
    assert isinstance(session.technician, SocketTechnician)
    return session.technician.record()["events"]


def recorded(session, event):
    return [entry for entry in events(session) if entry["event"] == event]


def test_an_episode_from_start_to_store(session, task, balancer):
    results = [evaluate(session, balancer, world, round_id="r7", policy_version=4) for world in range(3)]
    assert any(result.meta.success for result in results)
    for k, result in enumerate(results):
        meta, columns = result.meta, result.columns
        assert meta.success == (meta.steps == task.max_steps)
        assert (meta.seed, meta.world, meta.round_id, meta.policy_version) == (3, k, "r7", 4)
        assert meta.robot_s == pytest.approx(meta.steps * 0.02) and meta.stop == "" and not meta.void
        assert columns["terminated"][:-1].sum() == 0 and columns["terminated"][-1] == (meta.steps < task.max_steps)
        np.testing.assert_array_equal(columns["observation"][1:], columns["next_observation"][:-1])
        np.testing.assert_allclose(columns["next_observation"][:, -1], columns["sent"][:, 0], atol=1e-6)
        let_through = columns["intervention"] == ""
        assert let_through.mean() > 0.9
        changed = np.abs(columns["policy_action"] - columns["sent"])
        assert changed[let_through].max() < 0.0006 <= changed[~let_through].min(initial=1)  # else whole motor units
        assert meta.episode_return == pytest.approx(columns["reward"].sum(), rel=1e-5)
        assert np.all(np.diff(columns["t_mono_s"]) > 0)
        stored = EpisodeStore(session.store._directory).read(meta.episode_id)
        assert stored.meta == meta
        assert all(np.array_equal(stored.columns[name], columns[name]) for name in columns)
        start = task.initial(KeyedRandom(3).uniform("initial", k, 0, task.initial_size))
        newest = columns["observation"][0, -task.frame_size :] / task.frame_scale
        np.testing.assert_allclose(newest[:2], start.joint_position[0], atol=0.11)  # the twin's sensor noise is 0.02
    assert session.ledger.totals()["evaluation"] == pytest.approx(sum(result.meta.robot_s for result in results))
    assert [entry["why"] for entry in recorded(session, "motor off")] == ["command"] * 3  # held after each


def test_lockstep_is_deterministic_whatever_came_before(tmp_path, task, make_settings, balancer):
    columns = []
    for name, order in (("a", (0, 1, 2)), ("b", (2, 0))):
        session = open_session(make_settings(), task, tmp_path / name)
        columns.append({world: evaluate(session, balancer, world).columns for world in order})
        session.close()
    for world in (0, 2):
        for name in columns[0][world]:
            if not name.startswith("t_"):
                assert np.array_equal(columns[0][world][name], columns[1][world][name]), name


def test_collection_explores_with_keyed_noise_and_evaluation_does_not(session, task, balancer):
    def run(purpose, episode):
        return session.run_episode(balancer, purpose=purpose, seed=1, world=0, episode=episode).columns

    plain, first, again, other = (
        run("evaluation", 0),
        run("collection", 0),
        run("collection", 0),
        run("collection", 1),
    )
    assert np.array_equal(first["sent"], again["sent"])
    assert not np.array_equal(plain["sent"][:5], first["sent"][:5])
    assert not np.array_equal(first["sent"][:5], other["sent"][:5])
    noise = KeyedRandom(1).normal("explore", np.zeros(1, int), 0, 1, np.zeros(1, int))
    expected = balancer.act(first["observation"][:1], noise, session.settings.explore)
    np.testing.assert_allclose(first["policy_action"][0], expected[0], atol=1e-6)
    assert session.ledger.totals()["collection"] > 0


def test_limits_hold_at_the_motor_whatever_the_policy_asks(tmp_path, task, make_settings):
    tight = {"slider": {"position": (-0.3, 0.3), "velocity": 0.4, "effort": 4.0, "effort_rate": 75.0}}
    session = open_session(make_settings(limits=tight), task, tmp_path)
    gains = np.random.default_rng(0).normal(size=task.policy_size) * 50
    wild = ExportedPolicy(linear_policy(task, gains))
    interventions = set()
    for world in range(6):
        result = evaluate(session, wild, world)
        interventions |= {reason for text in result.columns["intervention"] for reason in text.split("+")}
        if result.meta.stop:
            assert "slider" in result.meta.stop
            session.recover("Ada")
    assert {"effort", "effort_rate", "velocity"} <= interventions
    last = 0.0
    for entry in events(session):
        if entry["event"] == "motor on":
            last = 0.0
        elif entry["event"] == "goal":
            force = entry["efforts"][0]
            assert abs(force) <= 4.0
            assert abs(force - last) <= 1.5 + 1e-9 or (force * last >= 0 and abs(force) < abs(last))
            last = force
    session.close()


def test_a_policy_that_returns_no_number_stops_the_robot(session, task, balancer):
    broken = ExportedPolicy(linear_policy(task, np.full(task.policy_size, np.nan)))
    result = evaluate(session, broken)
    assert "not finite" in result.meta.stop and result.meta.steps == 0 and not result.meta.success
    assert session.status().state == "stopped" and len(session.store) == 0
    with pytest.raises(RobotError, match="stopped.*not finite"):
        evaluate(session, balancer)
    session.recover("Ada")
    assert evaluate(session, balancer).meta.stop == ""


def test_an_unsafe_state_truncates_keeps_the_rows_and_stays_stopped_across_restarts(
    tmp_path, task, make_settings, balancer
):
    narrow = {"slider": {**LIMITS["slider"], "position": (-0.12, 0.12)}}
    session = open_session(make_settings(limits=narrow), task, tmp_path)
    push = ExportedPolicy(linear_policy(task, 20 * balancing_gains(task)))
    stopped = None
    for world in range(20):
        result = evaluate(session, push, world)
        if result.meta.stop:
            stopped = result
            break
    assert stopped is not None and "outside" in stopped.meta.stop
    assert not stopped.meta.success and not stopped.columns["terminated"].any()  # truncated, never terminal
    assert not session.revive_twin()  # an unsafe state needs a person
    session.close()

    session = open_session(make_settings(), task, tmp_path)
    assert session.status().state == "stopped" and "outside" in session.status().reason
    if stopped.meta.steps:
        assert session.store.read(stopped.meta.episode_id).meta == stopped.meta
    with pytest.raises(RobotError, match="stopped"):
        evaluate(session, balancer)
    with pytest.raises(RobotError, match="operator"):
        session.recover(" ")
    session.recover("Ada")
    assert evaluate(session, balancer).meta.stop == ""
    session.close()
    assert '"operator": "Ada"' in (tmp_path / "safety.jsonl").read_text()


FLY = """
import sys
from envs.tasks.cartpole import Cartpole
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.settings import RobotSettings
from tests.robot.conftest import LIMITS
from tests.robot.policies import balancing_gains, linear_policy
task = Cartpole()
policy = ExportedPolicy(linear_policy(task, balancing_gains(task)))
session = open_session(RobotSettings(limits=LIMITS), task, sys.argv[1])
world = 0
while True:
    result = session.run_episode(policy, purpose="collection", seed=1, world=world)
    print(result.meta.episode_id, flush=True)
    world += 1
"""


def test_a_session_killed_in_mid_episode_loses_none_it_announced_and_leaves_the_robot_stopped(
    tmp_path, task, make_settings, balancer
):
    first = subprocess.Popen([sys.executable, "-c", FLY, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert first.stdout is not None
    announced = [first.stdout.readline().strip() for _ in range(2)]
    with pytest.raises(RobotError, match="in use by another session"):
        open_session(make_settings(), task, tmp_path)
    first.kill()
    announced += first.stdout.read().split()
    first.wait()
    first.stdout.close()
    store = EpisodeStore(tmp_path / "episodes")
    kept = {meta.episode_id: meta for meta in store.list()}
    assert set(announced) <= set(kept)
    for name, meta in kept.items():
        assert len(store.read(name).columns["reward"]) == meta.steps > 0
    assert all(name.endswith(".tmp") for name in store.verify())
    second = open_session(make_settings(), task, tmp_path)
    with pytest.raises(RobotError, match="without closing"):
        evaluate(second, balancer)
    assert second.revive_twin()  # a twin may be recovered by its supervisor
    assert evaluate(second, balancer).meta.stop == ""
    second.close()


def test_a_twin_killed_in_mid_episode_is_a_link_stop_and_is_revived(session, task, balancer):
    evaluate(session, balancer)
    killer = threading.Timer(0.05, os.kill, (session.twin_pid, signal.SIGKILL))
    killer.start()
    result = None
    for world in range(1, 50):
        result = evaluate(session, balancer, world)
        if result.meta.stop:
            break
    assert result is not None and result.meta.stop and result.meta.void and not result.meta.success
    assert not result.columns["terminated"].any()
    status = session.status()
    assert status.state == "stopped" and status.link_errors >= 1
    with pytest.raises(RobotError, match="stopped"):
        evaluate(session, balancer)
    before = [meta.episode_id for meta in session.store.list()]
    assert session.revive_twin()
    assert session.status().state != "stopped"
    assert evaluate(session, balancer).meta.stop == ""
    assert [meta.episode_id for meta in session.store.list()][:-1] == before and session.store.verify() == {}
    assert not session.revive_twin()  # nothing to revive


def test_a_twin_that_may_not_be_restarted_stays_down(tmp_path, task, make_settings, balancer):
    session = open_session(make_settings(twin={"restart": False}), task, tmp_path)
    assert session.twin_pid is not None
    os.kill(session.twin_pid, signal.SIGKILL)
    assert evaluate(session, balancer).meta.stop
    assert not session.revive_twin() and session.status().state == "stopped"
    session.close()


def test_a_line_that_broke_is_opened_anew_when_a_person_recovers(tmp_path, task, make_settings, balancer, lockstep):
    settings = make_settings(port=lockstep.port, technician=lockstep.technician, twin=None)
    session = open_session(settings, task, tmp_path)
    lockstep.restart()  # as if somebody had pulled the plug and put it in again
    result = evaluate(session, balancer)
    assert result.meta.stop and result.meta.void and not session.revive_twin()
    session.recover("Ada")
    assert evaluate(session, balancer).meta.stop == ""
    session.close()


def test_hold_from_another_thread_ends_the_episode_and_latches(session, task, balancer):
    threading.Timer(0.05, session.hold, ("somebody pressed the button",)).start()
    result = None
    for world in range(50):
        result = evaluate(session, balancer, world)
        if result.meta.stop:
            break
    assert result is not None and result.meta.stop == "somebody pressed the button" and not result.meta.void
    assert session.status().reason == "somebody pressed the button"
    assert recorded(session, "motor off")


def record_speeds(session, monkeypatch) -> list[float]:
    seen: list[float] = []
    original = session._safety.reset

    def reset(speed: float = 1.0) -> None:
        seen.append(speed)
        original(speed)

    monkeypatch.setattr(session._safety, "reset", reset)
    return seen


def test_new_runs_begin_at_reduced_speed_across_restarts(tmp_path, task, make_settings, monkeypatch):
    for restart in range(2):
        session = open_session(make_settings(reduced_speed={"episodes": 3, "scale": 0.25}), task, tmp_path)
        seen = record_speeds(session, monkeypatch)
        for run in ("a", "a", "b"):
            policy = ExportedPolicy(linear_policy(task, balancing_gains(task), run=run))
            evaluate(session, policy)
        assert seen == ([0.25, 0.25, 0.25] if restart == 0 else [0.25, 1.0, 0.25])
        session.close()
    assert json.loads((tmp_path / "reduced_speed.json").read_text()) == {"a": 3, "b": 2}


def test_each_episode_is_confirmed_where_the_settings_ask_for_it(tmp_path, task, make_settings, balancer):
    def opened(timeout_s: float):
        keys = {"confirmation": "confirm_episode", "confirmation_timeout_s": timeout_s}
        return open_session(make_settings(**keys), task, tmp_path)

    session = opened(0.05)
    with pytest.raises(RobotError, match="nobody answered"):
        evaluate(session, balancer)
    assert recorded(session, "motor on") == []
    session.close()
    session = opened(60.0)

    def person():
        while not confirm.pending(tmp_path):
            time.sleep(0.005)
        confirm.answer(tmp_path, True, "Ada")

    thread = threading.Thread(target=person)
    thread.start()
    assert evaluate(session, balancer).meta.steps > 0
    thread.join()
    session.close()


def test_a_policy_for_another_task_never_reaches_the_motors(session, task):
    other = ExportedPolicy(linear_policy(task, balancing_gains(task), overrides={"history": 3}))
    with pytest.raises(RobotError, match="history"):
        evaluate(session, other)
    assert recorded(session, "motor on") == []


def test_a_robot_that_was_never_reached_is_not_stopped_for_it(tmp_path, task, make_settings, balancer):
    with pytest.raises(RobotError, match="cannot be opened"):
        open_session(make_settings(port=str(tmp_path / "none")), task, tmp_path)
    session = open_session(make_settings(), task, tmp_path)
    assert session.status().state == "ok"
    session.close()


def test_a_served_twin_is_used_by_its_paths_and_a_fallen_pole_is_not_flown(
    tmp_path, task, make_settings, lockstep, balancer
):
    keys = {"port": lockstep.port, "twin": None}
    session = open_session(make_settings(technician=lockstep.technician, **keys), task, tmp_path / "a")
    assert session.twin_pid is None and evaluate(session, balancer).meta.steps > 0
    session.close()
    technician = SocketTechnician(lockstep.technician)
    fallen = np.array([[0.0, 1.0]])
    technician.reset(State(fallen, np.zeros_like(fallen)), 1)
    session = open_session(make_settings(**keys), task, tmp_path / "b")  # nobody to put the pole upright
    result = evaluate(session, balancer)
    assert "starting state" in result.meta.stop and result.meta.steps == 0
    assert session.status().state == "stopped" and not session.revive_twin()
    session.close()
    technician.close()


def test_the_robot_side_needs_no_learning_library_and_no_engine():
    code = (
        "import sys, robot.open, robot.drivers.dynamixel, robot.serve, robot.confirm\n"
        "print(sorted({'ray', 'torch', 'pybullet', 'mujoco', 'pipeline'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
