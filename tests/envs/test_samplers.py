"""Distributions beyond the uniform one: where they lie, that they are keyed, and what they refuse."""

import numpy as np
import pytest

from envs.randomization.parameters import Parameter, ParameterSpace, RangeError, Ranges
from envs.randomization.samplers import (
    BoundarySampler,
    CorrelatedSampler,
    DiscreteSampler,
    TruncatedNormalSampler,
    UniformSampler,
)
from envs.tasks.cartpole import PARAMETERS as CARTPOLE
from envs.tasks.push import PARAMETERS as SPACE

WORLDS = np.arange(4000)
DEFAULT = Ranges.default(SPACE)


def test_truncated_normals_stay_in_their_ranges_and_gather_at_nominal():
    values = TruncatedNormalSampler(DEFAULT, 6.0, seed=0).sample(WORLDS, np.zeros(4000, int))
    assert (values >= DEFAULT.low).all() and (values <= DEFAULT.high).all()
    table = values[:, SPACE.index("table.height_m")]
    assert table.mean() == pytest.approx(0.75, abs=5e-4) and table.std() == pytest.approx(0.04 / 6, rel=0.05)
    scale = np.log(values[:, SPACE.index("arm.mass_scale")])  # log scale: symmetric there
    assert scale.mean() == pytest.approx(0.0, abs=0.03)
    fixed = DEFAULT.low == DEFAULT.high
    assert values[:, fixed] == pytest.approx(np.tile(DEFAULT.low[fixed], (4000, 1)))


def test_discrete_values_are_equally_likely_and_leave_the_rest_alone():
    inner = UniformSampler(DEFAULT, 1.0, seed=0)
    values = DiscreteSampler(inner, SPACE, {"puck.mass_kg": [0.1, 0.2, 0.4]}, seed=0).sample(WORLDS, 0 * WORLDS)
    column = SPACE.index("puck.mass_kg")
    found, counts = np.unique(values[:, column], return_counts=True)
    assert found.tolist() == [0.1, 0.2, 0.4] and counts.min() > 1200
    others = np.delete(values, column, axis=1)
    assert np.array_equal(others, np.delete(inner.sample(WORLDS, 0 * WORLDS), column, axis=1))


def test_correlated_draws_have_the_covariance_they_were_given():
    covariance = np.zeros((len(SPACE),) * 2)
    i, j = SPACE.index("puck.mass_kg"), SPACE.index("puck.friction")  # linear and log
    covariance[i, i], covariance[j, j], covariance[i, j] = 0.02**2, 0.3**2, -0.9 * 0.02 * 0.3
    covariance[j, i] = covariance[i, j]
    sampler = CorrelatedSampler(SPACE, SPACE.own_scale(SPACE.nominal), covariance, seed=0)
    values = SPACE.own_scale(sampler.sample(WORLDS, 0 * WORLDS))
    assert np.cov(values[:, i], values[:, j]) == pytest.approx(covariance[np.ix_([i, j], [i, j])], rel=0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda: TruncatedNormalSampler(DEFAULT, 4.0, seed=7),
        lambda: DiscreteSampler(UniformSampler(DEFAULT, 1.0, 7), SPACE, {"puck.mass_kg": [0.1, 0.3]}, seed=7),
        lambda: CorrelatedSampler(SPACE, SPACE.own_scale(SPACE.nominal), 1e-6 * np.eye(len(SPACE)), seed=7),
    ],
)
def test_a_draw_depends_on_seed_world_and_episode_only(make):
    whole = make().sample(np.arange(8), np.full(8, 3))
    assert whole[5:6] == pytest.approx(make().sample(np.array([5]), np.array([3])), rel=1e-12)
    assert not np.array_equal(whole, make().sample(np.arange(8), np.full(8, 4)))


def test_what_cannot_be_sampled_gives_a_sentence():
    inner = UniformSampler(DEFAULT, 1.0, seed=0)
    with pytest.raises(RangeError, match="puck.mass_kg: .* leaves the hard bounds; accepted is an interval"):
        DiscreteSampler(inner, SPACE, {"puck.mass_kg": [0.0, 0.2]}, seed=0)
    with pytest.raises(RangeError, match="puck.mass_kg: there are no values"):
        DiscreteSampler(inner, SPACE, {"puck.mass_kg": []}, seed=0)
    with pytest.raises(RangeError, match="spread: 0"):
        TruncatedNormalSampler(DEFAULT, 0.0, seed=0)
    with pytest.raises(RangeError, match="covariance: shapes"):
        CorrelatedSampler(SPACE, np.zeros(2), np.eye(2), seed=0)
    with pytest.raises(RangeError, match="not symmetric and positive"):
        CorrelatedSampler(SPACE, SPACE.nominal, -np.eye(len(SPACE)), seed=0)


def test_what_is_known_only_together_is_drawn_together():
    names = CARTPOLE.names
    a, b = names.index("cart.mass_kg"), names.index("action.gain")
    correlation = np.eye(len(names))
    correlation[a, b] = correlation[b, a] = 0.95
    space = CARTPOLE.around({"cart.mass_kg": 1.4}, correlation)
    assert space.nominal[a] == 1.4 and CARTPOLE.nominal[a] != 1.4
    ranges = Ranges.from_dict(space, {"cart.mass_kg": [1.2, 1.6], "action.gain": [0.8, 1.0], "action.lag_ms": [5, 5]})
    world, episode = np.arange(4000), np.zeros(4000, int)
    drawn = UniformSampler(ranges, 1.0, 0).sample(world, episode)
    assert np.corrcoef(drawn[:, [a, b]].T)[0, 1] > 0.9
    assert (drawn >= ranges.low).all() and (drawn <= ranges.high).all()
    assert (drawn[:, names.index("action.lag_ms")] == 5).all()
    quarters = np.histogram(drawn[:, a], bins=4, range=(1.2, 1.6))[0]
    assert np.allclose(quarters, 1000, atol=120)  # each by itself stays uniform
    assert (UniformSampler(ranges, 0.0, 0).sample(world, episode)[:, a] == 1.4).all()
    at_bound = BoundarySampler(ranges, "cart.mass_kg", "high", 0).sample(world, episode)
    assert (at_bound[:, a] == 1.6).all() and at_bound[:, b].mean() > 0.95


def test_an_integer_parameter_gives_each_whole_number_inside_alike_and_its_nominal_where_nothing_else_is():
    kind = Parameter("kind", "", 2.0, (0.0, 9.0), (1.0, 5.0), "integer")
    space = ParameterSpace([kind])
    worlds, episodes = np.arange(4000), np.zeros(4000, np.int64)

    def drawn(low: float, high: float, strength: float = 1.0) -> dict[float, int]:
        ranges = Ranges(space, np.array([low]), np.array([high]))
        values, counts = np.unique(UniformSampler(ranges, strength, 0).sample(worlds, episodes), return_counts=True)
        return dict(zip(values.tolist(), counts.tolist(), strict=True))

    even = drawn(1.0, 5.0)
    assert set(even) == {1.0, 2.0, 3.0, 4.0, 5.0} and min(even.values()) > 700
    assert set(drawn(0.4, 3.2)) == {1.0, 2.0, 3.0} and set(drawn(2.0, 2.0)) == {2.0}
    assert set(drawn(1.0, 5.0, 0.5)) == {2.0, 3.0} and set(drawn(1.0, 5.0, 0.0)) == {2.0}
    assert set(drawn(6.0, 9.0, 0.1)) <= set(range(10))
    boundary = BoundarySampler(Ranges(space, np.array([0.6]), np.array([3.4])), "kind", "high", 0)
    assert set(boundary.sample(worlds, episodes)[:, 0]) == {3.0}
    with pytest.raises(RangeError, match=r"kind: \[2.2, 2.8\] holds no whole number"):
        Ranges(space, np.array([2.2]), np.array([2.8]))
