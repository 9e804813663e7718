"""The stage machine goes forwards on evidence, backwards at most so often, and always comes to an end."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.gap import success_block
from pipeline.stages import (
    Gate,
    Measures,
    StageError,
    StageMachine,
    StageSettings,
    resolve_stages,
)

PUBLISHED = {"sim_only": (1.0, 0.5), "strong_dr": (1.0, 1.0), "mixed": (0.7, 0.8), "real_focused": (0.2, 0.3)}


def block(successes: int, n: int, updates: int | None = None) -> dict[str, Any]:
    made = success_block(np.arange(n) < successes, np.zeros(n))
    return made if updates is None else {**made, "updates": updates}


def stage(name: str = "a", **changes: Any) -> StageSettings:
    return StageSettings(**{"name": name, "sim_ratio": 1.0, "dr_strength": 0.5, "updates": 100, **changes})


def run(machine: StageMachine, step: int = 10, **measured: Any) -> list[str]:
    """Decisions until the machine finishes, with measures that never change."""
    decisions = []
    for updates in range(step, 10**6, step):
        decisions.append(machine.update(Measures(updates, **measured)))
        if decisions[-1] == "finish":
            return decisions
    raise AssertionError("the machine never finished")


# -- settings --


def test_default_stages_are_the_published_four():
    stages = resolve_stages("default")
    assert {s.name: (s.sim_ratio, s.dr_strength) for s in stages} == PUBLISHED
    assert [s.name for s in stages] == list(PUBLISHED)
    assert sum(s.updates for s in stages) <= 25_000
    assert [s.name for s in stages if s.adr] == ["strong_dr", "mixed"]
    # Ten-second episodes, and at most 180 s of collected data in a run.
    assert 10.0 * sum(s.collect_episodes for s in stages) <= 180.0


def test_nominal_never_randomizes_nor_collects():
    (only,) = resolve_stages("nominal")
    assert (only.sim_ratio, only.dr_strength, only.adr, only.collect_episodes) == (1.0, 0.0, False, 0)


def test_gates_can_be_met_by_their_own_evaluations():
    for s in resolve_stages("default"):
        if s.exit.real_success is not None:
            assert s.exit.real_success < block(s.evaluate_episodes, s.evaluate_episodes)["low"]


def test_list_entries_start_from_known_stages():
    short, mixed, own = resolve_stages(
        [
            {"name": "sim_only", "updates": 2500, "exit": {"by": "success"}},
            "mixed",
            {"name": "mine", "sim_ratio": 0.5, "dr_strength": 1, "updates": 10},
        ]
    )
    assert (short.updates, short.dr_strength) == (2500, 0.5)
    assert short.exit == Gate(sim_success=0.8, by="success")
    assert mixed == resolve_stages("default")[2]
    assert own.collect_episodes == 0


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("nominall", "stages: 'nominall' is unknown; accepted is default or nominal"),
        ([], "at least one stage"),
        (3, "stages: 3 given"),
        ([3], "stages.0: 3 given"),
        (
            ["mixd"],
            "stages.0: 'mixd' is unknown; accepted is sim_only, strong_dr, mixed, real_focused or nominal",
        ),
        (["mixed", "mixed"], "stages.1.name: 'mixed' is used twice"),
        ([{"name": "a"}], "stages.0.sim_ratio: missing"),
        ([{"name": "mixed", "sim_ratio": 1.4}], "stages.0.sim_ratio: 1.4 given"),
        ([{"name": "mixed", "speed": 1}], "stages.0.speed: unknown key; accepted is name, sim_ratio"),
        ([{"name": "mixed", "exit": {"sim": 1}}], "stages.0.exit.sim: unknown key; accepted is sim_success"),
        (
            [{"name": "mixed", "min_updates": 9000}],
            "min_updates: 9000 given; accepted is at most updates, 4000",
        ),
    ],
)
def test_unusable_stages_are_refused_in_one_sentence(value: Any, message: str):
    with pytest.raises(StageError) as caught:
        resolve_stages(value)
    assert message in str(caught.value) and "\n" not in str(caught.value)


def test_settings_are_frozen_and_described():
    with pytest.raises(ValidationError):
        stage().updates = 3  # type: ignore[misc]
    for model in (StageSettings, Gate):
        assert all(field.description for field in model.model_fields.values())


# -- the machine --


def test_budget_ends_a_stage_whose_gate_stays_shut_and_says_so():
    machine = StageMachine([stage(exit=Gate(sim_success=0.8)), stage("b")])
    assert run(machine, sim=block(30, 40)) == ["stay"] * 9 + ["advance"] + ["stay"] * 9 + ["finish"]
    first, last = machine.history
    assert (first.outcome, first.entered_at, first.left_at) == ("budget", 0, 100)
    assert "sim success (95 % lower bound) 0.60 below 0.8" in first.reason
    assert (last.outcome, last.to) == ("budget", None) and "not met" not in last.reason


def test_gate_needs_the_interval_not_the_rate():
    a = stage(exit=Gate(sim_success=0.8), min_updates=20)
    assert run(StageMachine([a]), sim=block(20, 20))[:2] == ["stay", "finish"]  # low = 0.84
    assert len(run(StageMachine([a]), sim=block(10, 10))) == 10  # 1.00, but low = 0.72
    by_rate = stage(exit=Gate(sim_success=0.8, by="success"))
    assert run(StageMachine([by_rate]), sim=block(8, 10)) == ["finish"]


def test_every_threshold_of_a_gate_must_hold():
    gate = Gate(sim_success=0.5, randomized_success=0.5, real_success=0.5, collected_s=60)
    good = {"sim": block(20, 20), "randomized": block(20, 20), "real": block(20, 20), "collected_s": 60.0}
    assert StageMachine([stage(exit=gate)]).update(Measures(1, **good)) == "finish"
    for name in good:
        worse = {**good, name: 59.0 if name == "collected_s" else None}
        machine = StageMachine([stage(exit=gate)])
        assert machine.update(Measures(1, **worse)) == "stay"


def test_blocks_of_an_earlier_stage_do_not_open_a_gate():
    machine = StageMachine([stage(), stage("b", exit=Gate(sim_success=0.5))])
    assert machine.update(Measures(100, sim=block(40, 40, updates=90))) == "advance"
    assert machine.update(Measures(110, sim=block(40, 40, updates=100))) == "stay"  # the policy b began with
    assert machine.update(Measures(120, sim=block(40, 40, updates=110))) == "finish"


def test_entry_gate_keeps_the_stage_before_going_on_within_the_run_budget():
    machine = StageMachine([stage(), stage("robot", enter=Gate(sim_success=0.5))])
    assert [machine.update(Measures(u, sim=block(2, 20))) for u in (100, 150, 250)] == ["stay"] * 3
    assert machine.update(Measures(260, sim=block(20, 20))) == "advance"
    stuck = StageMachine([stage(), stage("robot", enter=Gate(sim_success=0.5))])
    run(stuck)
    assert [t.outcome for t in stuck.history] == ["run budget"] and stuck.stage.name == "a"
    assert stuck.history[0].left_at == stuck.max_updates == 300


def test_demotion_needs_certainty_and_is_limited():
    stages = [stage("a"), stage("b", demote_below=0.4)]
    unsure = StageMachine(stages)
    assert "demote" not in run(unsure, real=block(5, 20))  # 0.25, but up to 0.47
    machine = StageMachine(stages, max_demotions=2)
    decisions = run(machine, real=block(1, 20))
    assert [d for d in decisions if d != "stay"] == ["advance", "demote", "advance", "demote", "finish"]
    assert [t.outcome for t in machine.history] == ["budget", "demoted", "budget", "demoted", "run budget"]
    assert machine.demotions == 2
    assert "robot success is at most 0.24 (95 %), below 0.4" in machine.history[1].reason
    assert machine.history[1].to == "a"


def test_first_stage_cannot_be_demoted():
    machine = StageMachine([stage(demote_below=0.9)])
    assert "demote" not in run(machine, real=block(0, 50))
    assert not machine.wants_robot(Measures(50))


def test_robot_is_wanted_only_where_it_can_decide():
    gate = Gate(sim_success=0.5, real_success=0.7)
    machine = StageMachine([stage(exit=gate, min_updates=30)])
    good, bad = block(20, 20), block(0, 20)
    assert not machine.wants_robot(Measures(20, sim=good))
    assert not machine.wants_robot(Measures(30, sim=bad))
    assert machine.wants_robot(Measures(30, sim=good))
    assert machine.robot_threshold() == 0.7
    assert not StageMachine([stage()]).wants_robot(Measures(50, sim=good))
    before = StageMachine([stage(), stage("b", enter=Gate(real_success=0.5))])
    assert before.wants_robot(Measures(50)) and before.robot_threshold() is None


def test_fraction_grows_to_one():
    machine = StageMachine(resolve_stages("default"))
    fractions = []
    for updates in range(0, 30_000, 500):
        machine.update(Measures(updates, sim=block(30, 40), collected_s=updates / 100))
        fractions.append(machine.fraction(updates))
    assert fractions[0] == 0.0 and fractions[-1] == 1.0
    assert fractions == sorted(fractions)


def test_state_survives_json_and_goes_on_alike():
    stages = [s.model_copy(update={"demote_below": 0.6}) for s in resolve_stages("default")]
    rng = np.random.default_rng(0)
    script = [
        Measures(u, *(block(int(rng.integers(0, 21)), 20, u) for _ in range(3)), collected_s=u / 100)
        for u in range(500, 40_000, 500)
    ]
    whole = StageMachine(stages)
    expected = [whole.update(m) for m in script]
    assert {"advance", "demote", "finish"} <= set(expected)
    for cut in (1, 13, 30, len(script)):
        first = StageMachine(stages)
        begun = [first.update(m) for m in script[:cut]]
        second = StageMachine(stages)
        second.set_state(json.loads(json.dumps(first.get_state())))
        assert begun + [second.update(m) for m in script[cut:]] == expected
        assert second.get_state() == whole.get_state()


def test_state_of_other_stages_is_refused():
    machine = StageMachine(resolve_stages("default"))
    run(machine, step=500, sim=block(20, 20))
    with pytest.raises(StageError, match="accepted are the stages the run began with"):
        StageMachine(resolve_stages("nominal")).set_state(machine.get_state())


@settings(max_examples=60, deadline=None)
@given(data=st.data(), demotions=st.integers(0, 3))
def test_any_run_ends_within_its_budget(data, demotions: int):
    """Whatever is measured, the run is over by max_updates and demotes no more often than allowed."""
    machine = StageMachine(resolve_stages("default"), max_demotions=demotions)
    counts = st.one_of(st.none(), st.integers(0, 20))
    decisions = []
    for updates in range(1000, machine.max_updates + 1, 1000):
        blocks = [None if k is None else block(k, 20, updates) for k in data.draw(st.tuples(counts, counts, counts))]
        sim, randomized, real = blocks
        decisions.append(machine.update(Measures(updates, sim, randomized, real)))
        assert 0 <= machine.index < 4
    assert machine.finished and decisions[-1] == "finish"
    assert decisions.count("demote") == machine.demotions <= demotions
    assert [t.entered_at for t in machine.history[1:]] == [t.left_at for t in machine.history[:-1]]
