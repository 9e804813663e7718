"""Parameters, ranges and samplers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.randomization.parameters import Parameter, ParameterSpace, RangeError, Ranges
from envs.randomization.samplers import BoundarySampler, UniformSampler

SPACE = ParameterSpace(
    [
        Parameter("mass_kg", "kg", 1.1, (0.3, 4.0), (0.7, 1.9)),
        Parameter("friction", "1", 0.3, (0.01, 3.0), (0.1, 1.7), scale="log"),
        Parameter("delay_ms", "ms", 0.0, (0.0, 90.0), (0.0, 33.0)),
    ]
)
WORLDS, EPISODES = np.arange(2000), np.arange(2000) % 3
unit = st.floats(0, 1)


def test_zero_width_ranges_give_exactly_their_value():
    for ranges in (
        Ranges.nominal(SPACE),
        Ranges(SPACE, np.array([1.7, 0.123, 31.0]), np.array([1.7, 0.123, 31.0])),
    ):
        values = UniformSampler(ranges, 1.0, seed=0).sample(WORLDS, EPISODES)
        assert (values == ranges.low).all()


@given(unit)
def test_nominal_ranges_stay_nominal_at_any_strength(strength):
    values = UniformSampler(Ranges.nominal(SPACE), strength, seed=0).sample(WORLDS[:9], EPISODES[:9])
    assert (values == SPACE.nominal).all()


def test_no_strength_is_nominal_and_full_strength_is_the_range():
    ranges = Ranges.default(SPACE)
    assert all((bound == SPACE.nominal).all() for bound in ranges.effective(0.0))
    low, high = ranges.effective(1.0)
    assert (low == ranges.low).all() and (high == ranges.high).all()


def test_strength_shrinks_in_each_scale():
    low, high = Ranges.default(SPACE).effective(0.5)
    assert low == pytest.approx([0.9, np.sqrt(0.1 * 0.3), 0.0])
    assert high == pytest.approx([1.5, np.sqrt(1.7 * 0.3), 16.5])


@given(unit, st.integers(0, 2**40))
def test_samples_stay_inside_the_effective_range(strength, seed):
    low, high = Ranges.default(SPACE).effective(strength)
    values = UniformSampler(Ranges.default(SPACE), strength, seed).sample(WORLDS[:64], EPISODES[:64])
    assert (values >= low).all() and (values <= high).all()


def test_samples_are_uniform_in_each_scale():
    values = UniformSampler(Ranges.default(SPACE), 1.0, seed=4).sample(WORLDS, EPISODES)
    own = SPACE.own_scale(values)
    low, high = SPACE.own_scale(Ranges.default(SPACE).low), SPACE.own_scale(Ranges.default(SPACE).high)
    unit_values = (own - low) / (high - low)
    assert unit_values.mean(axis=0) == pytest.approx([0.5] * 3, abs=0.03)
    assert unit_values.std(axis=0) == pytest.approx([12**-0.5] * 3, abs=0.02)


def test_samples_are_equal_for_one_and_four_workers_in_any_order():
    sampler = lambda: UniformSampler(Ranges.default(SPACE), 0.8, seed=4)  # noqa: E731
    whole = sampler().sample(WORLDS, EPISODES)
    parts = [sampler().sample(w, e) for w, e in zip(np.split(WORLDS, 4), np.split(EPISODES, 4), strict=True)]
    assert np.array_equal(np.concatenate(parts), whole)
    assert np.array_equal(sampler().sample(WORLDS[::-1], EPISODES[::-1]), whole[::-1])


@pytest.mark.parametrize("side", ["low", "high"])
@pytest.mark.parametrize("name", SPACE.names)
def test_boundary_sampler_fixes_one_bound_and_leaves_the_rest(name, side):
    ranges = Ranges.default(SPACE)
    values = BoundarySampler(ranges, name, side, seed=1).sample(WORLDS, EPISODES)
    free = UniformSampler(ranges, 1.0, seed=1).sample(WORLDS, EPISODES)
    column = SPACE.index(name)
    assert (values[:, column] == (ranges.low if side == "low" else ranges.high)[column]).all()
    assert np.array_equal(np.delete(values, column, axis=1), np.delete(free, column, axis=1))


def test_scaled_maps_the_hard_bounds_to_one():
    assert SPACE.scaled(SPACE.bounds_low[None])[0] == pytest.approx([-1] * 3)
    assert SPACE.scaled(SPACE.bounds_high[None])[0] == pytest.approx([1] * 3)
    middle = np.array([[2.15, np.sqrt(0.01 * 3.0), 45.0]])
    assert SPACE.scaled(middle)[0] == pytest.approx([0] * 3, abs=1e-6)


def test_ranges_survive_the_way_through_a_dict():
    ranges = Ranges.from_dict(SPACE, {"mass_kg": [0.8, 1.2]}, version=7)
    assert ranges.version == 7
    assert ranges.to_dict() == {"mass_kg": [0.8, 1.2], "friction": [0.1, 1.7], "delay_ms": [0.0, 33.0]}


@pytest.mark.parametrize(
    ("intervals", "words"),
    [
        ({"wheel": [0, 1]}, ["wheel", "mass_kg, friction, delay_ms"]),
        ({"mass_kg": [0.1, 1.0]}, ["mass_kg", "[0.1, 1.0]", "hard bounds", "[0.3, 4.0]"]),
        ({"mass_kg": [2.0, 1.0]}, ["mass_kg", "reversed", "[low, high]"]),
        ({"mass_kg": [float("nan"), 1.0]}, ["mass_kg", "not finite"]),
        ({"mass_kg": 1.0}, ["mass_kg", "1.0", "[low, high] kg"]),
    ],
)
def test_bad_ranges_give_a_sentence(intervals, words):
    with pytest.raises(RangeError) as error:
        Ranges.from_dict(SPACE, intervals)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_bad_strength_gives_a_sentence(strength):
    with pytest.raises(RangeError, match=r"dr_strength: .* accepted is a number in \[0, 1\]"):
        UniformSampler(Ranges.default(SPACE), strength, seed=0)


def test_bad_boundaries_give_a_sentence():
    with pytest.raises(RangeError, match="'low' or 'high'"):
        BoundarySampler(Ranges.default(SPACE), "mass_kg", "left", seed=0)  # type: ignore[arg-type]
    with pytest.raises(RangeError, match="unknown parameter 'wheel'"):
        BoundarySampler(Ranges.default(SPACE), "wheel", "low", seed=0)


def test_bad_parameters_give_a_sentence():
    with pytest.raises(RangeError, match="log scale needs bounds above zero"):
        Parameter("a", "1", 0.5, (0.0, 1.0), (0.5, 0.5), scale="log")
    with pytest.raises(RangeError, match="nominal 2.0 lies outside"):
        Parameter("a", "1", 2.0, (0.0, 1.0), (0.5, 0.5))
    with pytest.raises(RangeError, match="unique"):
        ParameterSpace([SPACE[0], SPACE[0]])
