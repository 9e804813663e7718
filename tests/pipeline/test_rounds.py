"""Robot rounds come when they should, cost no more than allowed, and stop only when their result is
certain.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.gap import wilson
from pipeline.rounds import RoundRequest, RoundSchedule, RoundSettings, SequentialStop
from pipeline.stages import StageSettings

EPISODE_S = 10.0
STAGE = StageSettings(name="mixed", sim_ratio=0.5, dr_strength=1, updates=4000, collect_episodes=10)


def schedule(**changes) -> RoundSchedule:
    return RoundSchedule(RoundSettings(**changes), EPISODE_S)


def collect(s: RoundSchedule, stage: StageSettings = STAGE, seconds: float = 8.0) -> list[tuple[int, RoundRequest]]:
    """(updates, request) of every collection round of one visit, each flown within 100 updates."""
    s.enter_stage()
    asked = []
    for updates in range(0, stage.updates, 100):
        request = s.collection(2, stage, 0, updates)
        if request is not None:
            asked.append((updates, request))
            s.finished(request.id, seconds * request.episodes)
    return asked


def test_collection_is_spread_over_the_leading_part_of_the_stage():
    asked = collect(schedule(collect_round_episodes=3, collect_within=0.5))
    assert [updates for updates, _ in asked] == [0, 500, 1000, 1500]
    assert [r.episodes for _, r in asked] == [3, 3, 3, 1]
    assert [r.first_world for _, r in asked] == [0, 3, 6, 9]
    assert [r.id for _, r in asked] == [0, 1, 2, 3]


def test_collection_waits_for_the_round_before():
    s = schedule()
    first = s.collection(2, STAGE, 0, 0)
    assert first is not None and s.collection(2, STAGE, 0, 3999) is None
    s.finished(first.id, 30.0)
    assert s.collection(2, STAGE, 0, 3999) is not None


def test_no_more_is_asked_for_than_the_robots_own_budgets_allow():
    s = schedule(collect_limit_s=None, collect_round_episodes=10)
    s.heard({"collection": 45.0, "evaluation": 0.0}, {})
    first = s.collection(2, STAGE, 0, 0)
    assert first is not None and first.episodes == 4
    s.heard({"collection": 25.0}, {first.id: 2})  # two are flown and booked, two under way
    s.enter_stage()
    s.finished(first.id, 36.0)
    s.heard({"collection": 9.0, "evaluation": 10.0}, {})
    assert s.collection(2, STAGE, 0, 3999) is None and s.gate(2, STAGE, 0, None) is None
    final = s.final(2, 0)
    assert final is not None and final.episodes == 1


def test_a_second_visit_collects_again_in_new_worlds():
    s = schedule(collect_limit_s=None)
    worlds = [w for _ in range(2) for _, r in collect(s) for w in range(r.first_world, r.first_world + r.episodes)]
    assert worlds == list(range(20))


def test_a_stage_without_collection_asks_for_none():
    assert collect(schedule(), STAGE.model_copy(update={"collect_episodes": 0})) == []


def test_limit_holds_what_is_under_way():
    s = schedule(collect_limit_s=180.0)
    big = STAGE.model_copy(update={"collect_episodes": 50})
    asked = collect(s, big, seconds=EPISODE_S)
    assert sum(r.episodes for _, r in asked) == 18 and s.spent_s["collection"] == 180.0
    # Short episodes leave room for more of them.
    assert sum(r.episodes for _, r in collect(schedule(collect_limit_s=180.0), big, seconds=5.0)) > 30


@settings(max_examples=60, deadline=None)
@given(
    limit=st.floats(0, 300),
    durations=st.lists(st.floats(0, EPISODE_S), min_size=60, max_size=60),
    size=st.integers(1, 7),
)
def test_collection_never_exceeds_its_limit(limit: float, durations: list[float], size: int):
    s = schedule(collect_limit_s=limit, collect_round_episodes=size)
    stage = STAGE.model_copy(update={"collect_episodes": 60})
    times = iter(durations)
    for updates in range(0, stage.updates, 50):
        request = s.collection(0, stage, 0, updates)
        if request is not None:
            s.finished(request.id, sum(next(times) for _ in range(request.episodes)))
    assert s.spent_s["collection"] <= limit + 1e-3


def test_gate_evaluations_keep_their_distance():
    s = schedule(evaluate_every_updates=1000)
    first = s.gate(2, STAGE, 500, 0.7)
    assert first is not None and (first.purpose, first.reason, first.first_world) == ("evaluation", "gate", 0)
    assert s.gate(2, STAGE, 5000, 0.7) is None  # under way
    s.finished(first.id, 200.0)
    assert s.gate(2, STAGE, 1499, 0.7) is None and s.gate(2, STAGE, 1500, 0.7) is not None


def test_evaluation_limit_reserves_the_final_one():
    s = schedule(evaluate_limit_s=1200.0, final_episodes=100)
    first = s.stage_end(0, STAGE, 100)
    assert first is not None and first.episodes == 20 and first.stop is None
    assert s.stage_end(1, STAGE, 200) is None
    s.finished(first.id, 200.0)
    final = s.final(3, 300)
    assert final is not None and (final.episodes, final.stop) == (100, None)
    assert schedule(final_episodes=0).final(3, 300) is None


def test_unknown_round_is_an_error():
    with pytest.raises(KeyError):
        schedule().finished(7, 1.0)


def test_state_survives_json():
    s, other = schedule(), schedule()
    s.enter_stage()
    s.finished(s.collection(2, STAGE, 0, 0).id, 21.0)  # type: ignore[union-attr]
    s.collection(2, STAGE, 0, 3000)
    s.gate(2, STAGE, 3000, 0.7)
    other.set_state(json.loads(json.dumps(s.get_state())))
    assert other.open == s.open and other.get_state() == s.get_state()
    for updates in (3100, 4600):
        for a, b in zip(list(s.open), list(other.open), strict=True):
            assert s.finished(a, 30.0) == other.finished(b, 30.0)
        assert s.collection(2, STAGE, 0, updates) == other.collection(2, STAGE, 0, updates)
        assert s.gate(2, STAGE, updates, 0.7) == other.gate(2, STAGE, updates, 0.7)


# -- sequential stopping --


def fly(stop: SequentialStop, flags: np.ndarray) -> tuple[int, int, str | None]:
    """(successes, episodes, verdict) of an evaluation that ends as soon as it may."""
    for n in range(1, len(flags) + 1):
        successes = int(flags[:n].sum())
        settled = stop.settled(successes, n)
        if settled is not None:
            return successes, n, settled
    return int(flags.sum()), len(flags), None


def test_stop_waits_for_its_least_episodes():
    stop = SequentialStop(0.5, 40, 10)
    assert stop.settled(9, 9) is None and stop.settled(0, 9) is None
    assert stop.settled(0, 10) == "fail"


def test_stop_saves_episodes_where_the_answer_is_plain():
    stop = SequentialStop(0.5, 100, 10)
    assert fly(stop, np.ones(100, bool))[1:] == (12, "pass")
    assert fly(stop, np.zeros(100, bool))[1:] == (12, "fail")
    # Six failures of twenty put a lower bound of 0.7 out of reach.
    assert SequentialStop(0.7, 20, 8).settled(7, 10) == "fail"


def test_stop_flies_on_until_a_demotion_is_certain():
    plain, demotable = SequentialStop(0.7, 20, 8), SequentialStop(0.7, 20, 8, demote_below=0.2)
    assert plain.settled(0, 8) == "fail" and demotable.settled(0, 8) is None
    successes, n, settled = fly(demotable, np.zeros(20, bool))
    assert settled == "fail" and wilson(successes, n)[1] < 0.2
    assert demotable.settled(3, 10) == "fail"  # even ten more failures would not demote


@settings(max_examples=200, deadline=None)
@given(threshold=st.floats(0.05, 0.95), planned=st.integers(1, 60), data=st.data())
def test_an_early_answer_is_the_gates_answer(threshold: float, planned: int, data):
    """A pass opens the gate on the episodes flown; a fail leaves it shut."""
    stop = SequentialStop(threshold, planned, data.draw(st.integers(1, planned)))
    flags = np.array(data.draw(st.lists(st.booleans(), min_size=planned, max_size=planned)))
    successes, n, settled = fly(stop, flags)
    if settled is not None:
        assert (wilson(successes, n)[0] >= threshold) == (settled == "pass")


@pytest.mark.parametrize("rate", [0.49, 0.4, 0.3])
def test_looking_often_does_not_pass_a_worse_policy(rate: float):
    """Below the threshold a pass is an error: under 2.5 % of runs, one side of 95 %, however often one
    looks.
    """
    rng = np.random.default_rng(2)
    stop = SequentialStop(0.5, 60, 8)
    passed = np.mean([fly(stop, rng.random(60) < rate)[2] == "pass" for _ in range(1500)])
    assert passed <= 0.025
    naive = np.mean(
        [np.any([wilson(int(f[:n].sum()), n)[0] >= 0.5 for n in range(8, 61)]) for f in rng.random((1500, 60)) < 0.49]
    )
    assert naive > 0.04  # what looking without a correction would do
