"""Rounds on the twin: nothing is flown twice, clients take turns, and a dead twin costs no episode."""

import os
import signal
import time

import numpy as np
import pytest

from envs.registry import make_task
from pipeline.actors.robot_actor import FairQueue, RobotActor
from pipeline.export import export_policy
from pipeline.robot_link import RobotRound
from pipeline.rounds import SequentialStop
from robot.excitation import Multisine
from robot.interface import RobotError
from robot.ledger import entries
from robot.settings import JointLimits, RobotSettings

TASK = make_task("cartpole")
LIMITS = {"slider": JointLimits(position=(-0.75, 0.75), velocity=3.0, effort=10.0, effort_rate=2000.0)}


def policy(seed: int = 0) -> bytes:
    rng = np.random.default_rng(seed)
    weights = {
        "pi.0.weight": rng.normal(0, 0.3, (8, TASK.policy_size)),
        "pi.0.bias": np.zeros(8),
        "pi.2.weight": rng.normal(0, 0.3, (2, 8)),
        "pi.2.bias": np.zeros(2),
    }
    return export_policy(weights, TASK, version=7, run=f"test{seed}")


def order(round_id: str, episodes: int = 2, purpose: str = "collection", **kwargs) -> RobotRound:
    return RobotRound(round_id, purpose, episodes, 3, 100, policy(), 7, **kwargs)  # type: ignore[arg-type]


def finish(actor: RobotActor, rounds: dict[str, int], timeout_s: float = 60) -> dict[str, list]:
    """Poll until all rounds are finished; the episodes by round."""
    episodes: dict[str, list] = {r: [] for r in rounds}
    open_rounds, deadline = dict(rounds), time.monotonic() + timeout_s
    while open_rounds:
        assert time.monotonic() < deadline, actor.status()
        for report in actor.poll(open_rounds)[0]:
            episodes[report.round_id] += report.episodes
            open_rounds[report.round_id] += len(report.episodes)
            if report.finished:
                del open_rounds[report.round_id]
        time.sleep(0.02)
    return episodes


@pytest.fixture
def actor(tmp_path):
    made = []

    def make() -> RobotActor:
        made.append(RobotActor(RobotSettings(limits=LIMITS).model_dump(mode="json"), "cartpole", str(tmp_path)))
        return made[-1]

    yield make
    for each in made:
        each.close()


def test_collected_episodes_are_durable_and_have_what_was_sent(actor):
    robot = actor()
    robot.submit("a", order("r1"))
    first, second = finish(robot, {"r1": 0})["r1"]
    assert [e["meta"]["world"] for e in (first, second)] == [100, 101]
    columns = first["columns"]
    rows = first["meta"]["steps"]
    assert columns["obs"].shape == columns["new_obs"].shape == (rows, TASK.policy_size)
    assert columns["actions"].shape == (rows, 1) and np.abs(columns["actions"]).max() <= 1.0
    assert columns["terminateds"][-1] == (rows < TASK.max_steps) and not columns["terminateds"][:-1].any()
    assert np.allclose(columns["new_obs"][:-1], columns["obs"][1:])


def test_a_round_submitted_again_after_a_restart_is_not_flown_again(actor):
    robot = actor()
    robot.submit("a", order("r1", episodes=2))
    before = finish(robot, {"r1": 0})["r1"]
    robot.close()
    again = actor()
    again.submit("a", order("r1", episodes=3))
    after = finish(again, {"r1": 0})["r1"]
    assert [e["meta"]["episode_id"] for e in after[:2]] == [e["meta"]["episode_id"] for e in before]
    assert len(after) == 3


def test_an_evaluation_ends_once_it_is_settled(actor):
    robot = actor()
    stop = SequentialStop(threshold=0.5, planned=30, min_episodes=4)
    robot.submit("a", order("r1", episodes=30, purpose="evaluation", stop=stop))
    episodes = finish(robot, {"r1": 0})["r1"]
    assert 4 <= len(episodes) < 30 and not any(e["meta"]["success"] for e in episodes)
    assert all("columns" not in e for e in episodes)


def test_killed_twin_comes_back_and_no_episode_is_lost(actor):
    robot = actor()
    robot.submit("a", order("r1", episodes=30))
    while len(robot.poll({"r1": 0})[0][0].episodes) < 3:
        time.sleep(0.01)
    known = {e["meta"]["episode_id"] for e in robot.poll({"r1": 0})[0][0].episodes}
    os.kill(robot.pids()["twin"], signal.SIGKILL)
    episodes = finish(robot, {"r1": 0})["r1"]
    assert len(episodes) == 30 and known <= {e["meta"]["episode_id"] for e in episodes}
    assert [e["meta"]["world"] for e in episodes] == list(range(100, 130))
    assert robot.status()["state"] in ("ok", "degraded")


def test_clients_take_turns():
    queue = FairQueue()
    for item in ("a1", "a2", "a3"):
        queue.put("a", item)
    queue.put("a", "now", urgent=True)
    queue.put("b", "b1")
    assert [queue.get() for _ in range(6)] == ["now", "b1", "a1", "a2", "a3", None]


def test_in_shadow_a_round_ends_with_nothing_sent_and_nothing_counted(actor):
    robot = actor()
    robot.submit("a", order("r1", episodes=2, mode="shadow"))
    assert finish(robot, {"r1": 0})["r1"] == []
    technician = robot._session.technician
    assert [e["event"] for e in technician.record()["events"] if e["event"] in ("goal", "motor on")] == []
    metas = robot._session.store.list()
    assert len(metas) == 2 and all(meta.void and not meta.success for meta in metas)


def test_a_round_that_a_stop_broke_off_goes_on_after_a_recovery(actor, monkeypatch):
    robot = actor()
    session, real = robot._session, robot._session.run_episode
    failures = [RobotError("nobody answered")]

    def fail_once(*arguments, **keys):
        if failures:
            raise failures.pop()
        return real(*arguments, **keys)

    monkeypatch.setattr(session, "run_episode", fail_once)
    robot.submit("a", order("r1", episodes=2))
    while robot.status()["state"] != "stopped":
        time.sleep(0.01)
    assert robot.poll({"r1": 0})[0][0].episodes == []
    robot.recover("Ada")
    assert len(finish(robot, {"r1": 0})["r1"]) == 2
    assert robot.status()["realtime_round"] == ""  # the world waits in lockstep


def test_a_round_ends_with_a_sentence_where_the_budget_does(tmp_path):
    settings = RobotSettings(limits=LIMITS, budget_s={"evaluation": 10.5})
    robot = RobotActor(settings.model_dump(mode="json"), "cartpole", str(tmp_path))
    try:
        assert robot.status()["left_s"]["evaluation"] == 10.5 and robot.status()["refused"] == {}
        robot.submit("a", order("r1", episodes=40, purpose="evaluation"))
        episodes = finish(robot, {"r1": 0})["r1"]
        report = robot.poll({"r1": 0})[0][0]
        assert 0 < len(episodes) < 40 and "robot.budget_s.evaluation" in report.note
        assert "evaluation" in robot.status()["refused"] and robot.status()["state"] == "ok"
        robot.submit("a", order("r2", episodes=1))
        assert len(finish(robot, {"r2": 0})["r2"]) == 1
    finally:
        robot.close()


def motion(amplitude_n: float) -> Multisine:
    """A force of 0.7 Hz on the cart, and a spring that keeps it in the middle."""
    one = np.ones(1)
    return Multisine(0.7 * one, amplitude_n * one[None], 0 * one[None], np.array([0]), 0 * one, 20 * one, 8 * one)


def recording(round_id: str, *amplitudes_n: float, **changes) -> RobotRound:
    motions = tuple(motion(amplitude) for amplitude in amplitudes_n)
    more = {"motions": motions, "seconds": 2.0, **changes}
    return RobotRound(round_id, "identification", len(motions), 3, 0, b"", 7, **more)


def test_recordings_are_made_booked_and_never_made_twice(actor, tmp_path):
    robot = actor()
    robot.submit("a", recording("run/0", 2.0, 1.0))
    first, second = finish(robot, {"run/0": 0})["run/0"]
    assert len(first["log"]) == len(second["log"]) == 99 and first["meta"]["robot_s"] == 2.0
    assert np.ptp(first["log"].effort) > 1.0 and np.ptp(first["log"].position[:, 0]) > 0.01
    booked = [(purpose, seconds) for purpose, seconds, _ in entries(tmp_path / "ledger.jsonl") if seconds]
    assert booked == [("identification", pytest.approx(2.0))] * 2
    robot.close()
    again = actor()
    again.submit("a", recording("run/0", 2.0, 1.0, 0.5))  # the robot's actor died before the last of three
    after = finish(again, {"run/0": 0})["run/0"]
    assert len(after) == 3 and np.array_equal(after[0]["log"].position, first["log"].position)
    assert sum(seconds for purpose, seconds, _ in entries(tmp_path / "ledger.jsonl")) == pytest.approx(6.0)


def test_recordings_end_with_a_sentence_where_they_may_not_go_on(tmp_path):
    settings = RobotSettings(limits=LIMITS, budget_s={"identification": 3.0})
    robot = RobotActor(settings.model_dump(mode="json"), "cartpole", str(tmp_path))
    try:
        robot.submit("a", recording("r1", 2.0, 1.0))
        assert len(finish(robot, {"r1": 0})["r1"]) == 1
        assert "robot.budget_s.identification" in robot.poll({"r1": 1})[0][0].note
        robot.submit("a", recording("r2", 2.0, mode="shadow"))
        assert finish(robot, {"r2": 0})["r2"] == []
        assert "accepted is confirm_episode or auto" in robot.poll({"r2": 0})[0][0].note
        assert robot.status()["state"] == "ok"
    finally:
        robot.close()


def test_episodes_come_as_recordings_too_where_that_is_asked_for(actor):
    robot = actor()
    robot.submit("a", order("r1", episodes=1, purpose="evaluation", logs=True))
    (episode,) = finish(robot, {"r1": 0})["r1"]
    steps = episode["meta"]["steps"]
    assert "columns" not in episode and len(episode["log"]) == steps - 1
    assert np.allclose(np.diff(episode["log"].time_s), TASK.control_period_s)  # the robot's own time, in lockstep
    assert episode["log"].motors == ("slider",) and np.abs(episode["log"].effort).max() > 1.5
