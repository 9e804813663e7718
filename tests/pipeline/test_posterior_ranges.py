"""Training from what was identified: the ranges lie around it, and ADR never leaves it out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from envs.randomization.samplers import UniformSampler
from pipeline.actors.sim_runner import Randomization
from pipeline.config import ConfigError, load_experiment
from pipeline.run import POSTERIOR_FILE, _with_own_posterior
from pipeline.schedulers.adr_rule import AdrRule

MASS, GAIN, DELAY = "cart.mass_kg", "action.gain", "action.delay_ms"


@pytest.fixture
def identified(tmp_path: Path) -> Path:
    def entry(value: float, low: float, high: float) -> dict:
        return {"value": value, "low": low, "high": high, "unit": "x", "known": "told"}

    content = {
        "format": 2,
        "task": "cartpole",
        "values": {MASS: entry(1.5, 1.3, 1.7), GAIN: entry(0.9, 0.8, 1.0), "pole.mass_kg": entry(0.2, 0.2, 0.2)},
        "order": [MASS, GAIN],
        "mean": [1.5, 0.9],
        "covariance": [[0.01, 0.0045], [0.0045, 0.0025]],
    }
    path = tmp_path / "found.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def test_ranges_are_those_of_the_posterior_around_its_centre(identified):
    experiment = load_experiment(None, [f"randomization.posterior={identified}"])
    ranges, plain = experiment.ranges(), load_experiment().ranges()
    intervals = ranges.to_dict()
    assert intervals[MASS] == [1.3, 1.7] and intervals["pole.mass_kg"] == [0.2, 0.2]
    assert intervals[DELAY] == plain.to_dict()[DELAY]  # nothing was identified about it
    low, high = ranges.effective(0.0)
    column = ranges.space.index(MASS)
    assert low[column] == high[column] == 1.5 and plain.effective(0.0)[0][column] == 1.0
    other = load_experiment(None, [f"randomization.posterior={identified}", f"randomization.ranges.{MASS}=[1.0, 2.0]"])
    assert other.ranges().to_dict()[MASS] == [1.0, 2.0]


def test_the_ranges_travel_with_what_is_known_together(identified):
    ranges = load_experiment(None, [f"randomization.posterior={identified}"]).ranges()
    sent = Randomization.of(ranges, 0.7)
    back = sent.ranges(load_experiment().make_task().parameters)
    assert back.to_dict() == ranges.to_dict() and np.array_equal(back.space.nominal, ranges.space.nominal)
    a, b = (ranges.space.index(name) for name in (MASS, GAIN))
    assert back.space.correlation is not None and back.space.correlation[a, b] == pytest.approx(0.9)
    assert sent == Randomization.of(ranges, 0.7)


def test_adr_never_narrows_below_the_posterior(identified):
    experiment = load_experiment(None, [f"randomization.posterior={identified}"])
    rule = AdrRule(experiment.ranges(), experiment.adr(), (0.5, 0.9))
    ranges = rule.start
    for _ in range(50):
        worst = {name: {side: [0.0] * 50 for side in ("low", "high")} for name in (MASS, GAIN, DELAY)}
        decision = rule.decide(ranges, worst)
        assert decision is not None
        ranges = decision.ranges
    assert ranges.to_dict()[MASS] == [1.3, 1.7] and ranges.to_dict()[GAIN] == [0.8, 1.0]
    assert ranges.to_dict()[DELAY] == [0.0, 0.0]


def test_a_run_keeps_its_own_copy(identified, tmp_path):
    experiment = load_experiment(None, [f"randomization.posterior={identified}"])
    own = tmp_path / "run"
    own.mkdir()
    kept = _with_own_posterior(experiment, own)
    identified.unlink()
    assert kept.randomization.posterior == own / POSTERIOR_FILE and kept.ranges().to_dict()[MASS] == [1.3, 1.7]


def test_a_posterior_that_cannot_be_used_is_refused(identified, tmp_path):
    for change, words in (
        ({"task": "pendulum"}, "accepted is one about cartpole"),
        ({"values": {"teapot": {"value": 1, "low": 1, "high": 1}}}, "no identified.yaml"),
        ({"values": {MASS: {"value": 9.0, "low": 9.0, "high": 9.5}}}, "leaves the hard bounds"),
    ):
        path = tmp_path / "bad.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(identified.read_text()) | change))
        with pytest.raises(ConfigError, match=words):
            load_experiment(None, [f"randomization.posterior={path}"])
    with pytest.raises(ConfigError, match="cannot be read"):
        load_experiment(None, ["randomization.posterior=nowhere.yaml"])


def test_worlds_are_drawn_from_what_was_identified(identified):
    """What reaches a runner: inside the intervals, tied where the file says so, and as before where it says nothing."""
    ranges = load_experiment(None, [f"randomization.posterior={identified}"]).ranges()
    space = load_experiment().make_task().parameters
    sampler = UniformSampler(Randomization.of(ranges, 1.0).ranges(space), 1.0, seed=0)
    drawn = sampler.sample(np.arange(2000), np.zeros(2000, int))
    mass, gain, delay = (drawn[:, space.index(name)] for name in (MASS, GAIN, DELAY))
    assert mass.min() >= 1.3 and mass.max() <= 1.7 and gain.min() >= 0.8 and gain.max() <= 1.0
    assert np.ptp(mass) > 0.38 and np.corrcoef(mass, gain)[0, 1] == pytest.approx(0.89, abs=0.03)
    assert abs(np.corrcoef(mass, delay)[0, 1]) < 0.06 and np.ptp(delay) > 58.0
    assert np.all(drawn[:, space.index("pole.mass_kg")] == 0.2)
    middle = UniformSampler(ranges, 0.0, seed=0).sample(np.arange(3), np.zeros(3, int))
    assert np.all(middle[:, space.index(MASS)] == 1.5)  # the nominal world is the identified one
