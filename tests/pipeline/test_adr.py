"""ADR moves bounds as Algorithm 1 of Akkaya et al. (2019) says, and reaches a running trial through Tune."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from envs.randomization.parameters import Parameter, ParameterSpace, RangeError, Ranges
from pipeline.schedulers.adr_rule import AdrRule, AdrSettings

SPACE = ParameterSpace(
    [
        Parameter("mass", "kg", 1.0, (0.5, 3.0), (0.8, 1.6)),
        Parameter("friction", "1", 0.1, (0.001, 1.0), (0.01, 0.1), scale="log"),
        Parameter("delay", "ms", 0.0, (0.0, 100.0), (0.0, 40.0)),
        Parameter("bias", "rad", 0.0, (-0.1, 0.1), (0.0, 0.0)),
    ]
)
THRESHOLDS = (0.5, 0.9)
GOOD, FAIR, BAD = [1.0] * 4, [1.0, 1.0, 1.0, 0.0], [0.0, 0.0, 1.0, 1.0]  # means 1, 0.75, 0.5


def rule(**changes: Any) -> AdrRule:
    return AdrRule(Ranges.default(SPACE), AdrSettings(**{"m": 4, "step": 0.25, **changes}), THRESHOLDS)


def decided(buffers: dict, ranges: Ranges | None = None, **changes: Any) -> dict[str, list[float]]:
    found = rule(**changes).decide(ranges or Ranges.default(SPACE), buffers)
    assert found is not None
    return found.ranges.to_dict()


# -- the rule --


def test_a_good_boundary_widens_and_a_bad_one_narrows_by_delta():
    delta = 0.25 * 0.8
    assert decided({"mass": {"high": GOOD}})["mass"] == pytest.approx([0.8, 1.6 + delta])
    assert decided({"mass": {"high": BAD}})["mass"] == pytest.approx([0.8, 1.6 - delta])
    assert decided({"mass": {"low": GOOD}})["mass"] == pytest.approx([0.8 - delta, 1.6])
    assert decided({"mass": {"low": BAD}})["mass"] == pytest.approx([0.8 + 0.2, 1.6])


def test_thresholds_count_as_reached_when_met_exactly():
    ranges = rule(m=10)
    at_high, below = [1.0] * 9 + [0.0], [1.0] * 8 + [0.0] * 2
    for performances, action in ((at_high, "widen"), (below, "keep"), ([1.0] * 5 + [0.0] * 5, "narrow")):
        found = ranges.decide(Ranges.default(SPACE), {"mass": {"high": performances}})
        assert found is not None and found.moves[0].action == action


def test_a_log_parameter_moves_by_a_factor():
    factor = (0.1 / 0.01) ** 0.25
    assert decided({"friction": {"high": GOOD, "low": GOOD}})["friction"] == pytest.approx(
        [0.01 / factor, 0.1 * factor]
    )


def test_delta_stays_that_of_the_starting_width():
    ranges = Ranges.default(SPACE)
    for _ in range(3):
        found = rule().decide(ranges, {"mass": {"high": GOOD}})
        assert found is not None
        ranges = found.ranges
    assert ranges.to_dict()["mass"] == pytest.approx([0.8, 1.6 + 3 * 0.2])


def test_nothing_is_decided_before_a_buffer_is_full():
    full_of_holes = [1.0, 1.0, 1.0, float("nan")]
    for buffers in (
        {},
        {"mass": {}},
        {"mass": {"low": GOOD[:3], "high": []}},
        {"mass": {"low": full_of_holes}},
    ):
        assert rule().decide(Ranges.default(SPACE), buffers) is None


def test_a_full_buffer_is_emptied_either_way_and_the_version_counts_moves_only():
    start = Ranges(SPACE, Ranges.default(SPACE).low, Ranges.default(SPACE).high, version=7)
    kept = rule().decide(start, {"mass": {"low": FAIR, "high": FAIR[:2]}})
    assert kept is not None
    assert kept.cleared == [["mass", "low"]] and kept.ranges.version == 7
    assert kept.ranges.to_dict() == start.to_dict()
    moved = rule().decide(start, {"mass": {"low": FAIR, "high": GOOD}, "delay": {"high": BAD}})
    assert moved is not None and moved.ranges.version == 8
    assert moved.cleared == [["mass", "low"], ["mass", "high"], ["delay", "high"]]
    assert str(moved.moves[1]) == "mass high: mean 1.00 of 4, widen 1.6 -> 1.8"


def test_bounds_stop_at_the_hard_bounds():
    assert decided({"delay": {"low": GOOD, "high": GOOD}}, step=1.0)["delay"] == [0.0, 80.0]
    near = Ranges.from_dict(SPACE, {"delay": [0.0, 90.0]})
    assert decided({"delay": {"high": GOOD}}, near, step=1.0)["delay"] == [0.0, 100.0]


def test_bounds_do_not_pass_the_nominal_value():
    narrow = Ranges.from_dict(SPACE, {"mass": [0.9, 1.05]})
    assert decided({"mass": {"low": BAD, "high": BAD}}, narrow)["mass"] == [1.0, 1.0]


def test_floor_keeps_a_share_of_the_starting_range():
    narrow = Ranges.from_dict(SPACE, {"mass": [0.85, 1.35]})
    found = decided({"mass": {"low": BAD, "high": BAD}}, narrow, floor=0.5)
    assert found["mass"] == pytest.approx([0.9, 1.3])


def test_least_is_always_covered():
    strict = rule(least={"mass": [0.7, 1.5], "delay": [10.0, 20.0]})
    assert strict.start.to_dict()["mass"] == [0.7, 1.6]
    found = strict.decide(strict.start, {"mass": {"low": BAD, "high": BAD}, "delay": {"low": GOOD}})
    assert found is not None
    assert found.ranges.to_dict()["mass"] == [0.7, 1.5]
    with pytest.raises(RangeError, match="adr.least: unknown parameter 'masss'"):
        rule(least={"masss": [0, 1]})
    with pytest.raises(RangeError, match=r"adr.least: mass: \[0.1, 1.0\] leaves the hard bounds"):
        rule(least={"mass": [0.1, 1.0]})


def test_a_start_that_leaves_the_nominal_out_narrows_towards_it():
    start = Ranges.from_dict(SPACE, {"mass": [1.5, 2.5]})
    identified = AdrRule(start, AdrSettings(m=4, step=1.0), THRESHOLDS)
    found = identified.decide(start, {"mass": {"low": BAD, "high": BAD}})
    assert found is not None and found.ranges.to_dict()["mass"] == [1.5, 1.5]


def test_parameters_without_a_width_take_no_part():
    assert rule().decide(Ranges.default(SPACE), {"bias": {"high": GOOD}}) is None
    assert rule().decide(Ranges.default(SPACE), {"unheard_of": {"high": GOOD}}) is None


def test_only_bounds_that_can_move_are_worth_evaluating():
    sides = [("mass", "low"), ("mass", "high"), ("friction", "low"), ("friction", "high"), ("delay", "high")]
    assert rule().boundaries(Ranges.default(SPACE)) == sides  # delay cannot fall below 0, nor rise above nominal


def test_settings_are_checked():
    bad: dict[str, Any]
    for bad in ({"m": 0}, {"step": 0}, {"floor": 2}, {"t_low": 0.9, "t_high": 0.5}, {"speed": 1}):
        with pytest.raises(ValidationError):
            AdrSettings(**bad)
    with pytest.raises(ValueError, match="adr.t_low: 0.95 given with t_high 0.9"):
        rule(t_low=0.95)
    assert all(field.description for field in AdrSettings.model_fields.values())


@settings(max_examples=100, deadline=None)
@given(data=st.data(), floor=st.floats(0, 1), step=st.floats(0.01, 1))
def test_ranges_stay_between_the_floor_and_the_hard_bounds(data, floor: float, step: float):
    """Whatever the buffers say, for as long as they say it."""
    adr = rule(floor=floor, step=step, m=2, least={"delay": [5.0, 15.0]})
    ranges = adr.start
    results = st.sampled_from([[], [0.0, 0.0], [1.0, 1.0], [1.0, 0.0]])
    for _ in range(data.draw(st.integers(1, 30))):
        buffers = {n: {"low": data.draw(results), "high": data.draw(results)} for n in SPACE.names}
        found = adr.decide(ranges, buffers)
        if found is None:
            continue
        assert found.ranges.version - ranges.version == int(found.ranges.to_dict() != ranges.to_dict())
        ranges = found.ranges  # Ranges refuses reversed intervals and those beyond the hard bounds
        assert np.all(ranges.low <= adr.floor_low) and np.all(ranges.high >= adr.floor_high)
        assert ranges.low[2] <= 5.0 and ranges.high[2] >= 15.0
        assert ranges.to_dict()["bias"] == [0.0, 0.0]


# -- the scheduler --


def result_of(ranges: dict, buffers: dict, version: int = 3, **more: Any) -> dict[str, Any]:
    from ray._private.dict import flatten_dict

    return flatten_dict({"adr": {"version": version, "ranges": ranges, "buffers": buffers, **more}})


class FakeActor:
    """Records what is sent to a trial."""

    def __init__(self) -> None:
        self.sent: list[tuple] = []
        self.set_ranges = SimpleNamespace(remote=lambda *a, **k: self.sent.append((a, k)))


def fake_trial(actor: FakeActor | None, config: dict | None = None, trial_id: str = "t0") -> Any:
    state = SimpleNamespace(ray_actor=actor)
    return SimpleNamespace(temporary_state=state, config=config or {}, trial_id=trial_id)


def test_scheduler_sends_ranges_version_and_emptied_buffers():
    from pipeline.schedulers.adr import ADRScheduler

    actor = FakeActor()
    result = result_of(Ranges.default(SPACE).to_dict(), {"mass": {"low": FAIR, "high": GOOD}})
    assert ADRScheduler(rule()).on_trial_result(None, fake_trial(actor), result) == "CONTINUE"
    (((version, intervals), keywords),) = actor.sent
    assert (version, keywords) == (4, {"cleared": [["mass", "low"], ["mass", "high"]]})
    assert intervals == {**Ranges.default(SPACE).to_dict(), "mass": [0.8, pytest.approx(1.8)]}
    json.dumps([version, intervals, keywords])  # plain values


def test_scheduler_survives_unusable_results(caplog: pytest.LogCaptureFixture):
    from pipeline.schedulers.adr import ADRScheduler

    actor, good = FakeActor(), {"mass": {"high": GOOD}}
    scheduler, ranges = ADRScheduler(rule()), Ranges.default(SPACE).to_dict()
    unusable = [
        {},
        {"training_iteration": 1, "adr/version": 2},
        {"adr/ranges/mass": [0.8, 1.6]},
        result_of(ranges, good, version=float("nan")),  # type: ignore[arg-type]
        result_of(ranges, good, active=False),
        result_of(ranges, {"mass": {"high": None}}),
        result_of(ranges, {"mass": {"high": [None] * 4}}),
        result_of(ranges, {}),
    ]
    spoiled = [
        result_of({**ranges, "mass": [float("nan"), 1.0]}, good),
        result_of({**ranges, "mass": None}, good),
        result_of({**ranges, "mass": 3.0}, good),
        result_of({**ranges, "mass": ["a", "b"]}, good),
        result_of({**ranges, "wings": [0, 1]}, good),
    ]
    with caplog.at_level(logging.WARNING):
        for result in unusable + spoiled:
            assert scheduler.on_trial_result(None, fake_trial(actor), result) == "CONTINUE"
    assert actor.sent == [] and len(caplog.records) == 1
    scheduler.on_trial_result(None, fake_trial(None), result_of(ranges, good))  # a trial that is not running
    assert "0 widened" in scheduler.debug_string()


def test_scheduler_takes_its_rule_from_the_trial_in_a_sweep():
    from pipeline.schedulers.adr import ADRScheduler

    scheduler = ADRScheduler(lambda config: rule(step=config["step"]))
    for step in (0.25, 0.5):
        actor = FakeActor()
        trial = fake_trial(actor, {"step": step}, trial_id=str(step))
        scheduler.on_trial_result(None, trial, result_of(Ranges.default(SPACE).to_dict(), {"mass": {"high": GOOD}}))
        assert actor.sent[0][0][1]["mass"][1] == pytest.approx(1.6 + step * 0.8)


def test_ranges_of_a_running_trial_move_under_tune(ray_session, tmp_path):
    """A real Tuner: each push is in force in the very next result, and no result is paused or restarted for
    it.
    """
    from ray import tune

    from pipeline.schedulers.adr import ADRScheduler

    class Toy(tune.Trainable):
        """Both boundaries of `mass` succeed up to 2.0; its buffers hold four results after two steps."""

        def setup(self, config: dict) -> None:
            self.version, self.ranges = 0, Ranges.default(SPACE).to_dict()
            self.buffers: dict[str, dict[str, list[float]]] = {"mass": {"low": [], "high": []}}
            self.cleared = 0

        def set_ranges(self, version: int, intervals: dict, cleared: list) -> None:
            self.version, self.ranges = version, intervals
            for name, side in cleared:
                self.buffers[name][side] = []
                self.cleared += 1

        def step(self) -> dict[str, Any]:
            self.buffers["mass"]["high"] += [float(self.ranges["mass"][1] <= 2.0)] * 2
            adr = {"version": self.version, "ranges": self.ranges, "buffers": self.buffers, "active": True}
            return {"adr": adr, "cleared": self.cleared, "done": self.iteration == 9}

        def save_checkpoint(self, checkpoint_dir: str) -> None: ...

        def load_checkpoint(self, checkpoint: Any) -> None: ...

    seen: list[tuple[int, float, int]] = []

    class Watch(tune.Callback):
        def on_trial_result(self, iteration, trials, trial, result, **info) -> None:
            seen.append((result["adr"]["version"], round(result["adr"]["ranges"]["mass"][1], 3), result["cleared"]))

    scheduler = ADRScheduler(rule())
    results = tune.Tuner(
        tune.with_resources(Toy, {"cpu": 0.5}),
        tune_config=tune.TuneConfig(scheduler=scheduler),
        run_config=tune.RunConfig(name="adr", storage_path=str(tmp_path), callbacks=[Watch()], verbose=0),
    ).fit()
    assert results.num_errors == 0
    steps = [(0, 1.6), (1, 1.8), (2, 2.0), (3, 2.2), (4, 2.0)]
    assert seen == [(v, high, k) for k, (v, high) in enumerate(steps) for _ in range(2)]
