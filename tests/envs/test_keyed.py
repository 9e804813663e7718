"""Keyed randomness: a draw depends on its key and on nothing else, and looks random."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from envs.randomization.keyed import KeyedRandom
from envs.randomization.noise import BLOCK_STEPS, NoiseAhead

WORLDS, EPISODES = np.arange(12), np.arange(12) * 7 % 5
integers = st.integers(0, 2**31)


@pytest.mark.parametrize("draw", ["uniform", "normal"])
def test_values_do_not_depend_on_what_is_drawn_together(draw):
    whole = getattr(KeyedRandom(3), draw)("s", WORLDS, EPISODES, 5, WORLDS + 1)
    order = np.random.default_rng(0).permutation(12)
    assert np.array_equal(
        getattr(KeyedRandom(3), draw)("s", WORLDS[order], EPISODES[order], 5, order + 1), whole[order]
    )
    for i in range(12):
        alone = getattr(KeyedRandom(3), draw)("s", WORLDS[i : i + 1], EPISODES[i : i + 1], 5, i + 1)
        assert np.array_equal(alone, whole[i : i + 1])
    assert np.array_equal(getattr(KeyedRandom(3), draw)("s", WORLDS, EPISODES, 3, WORLDS + 1), whole[:, :3])


def test_earlier_draws_change_nothing():
    random = KeyedRandom(3)
    first = random.normal("s", WORLDS, EPISODES, 4)
    random.uniform("other", WORLDS, EPISODES, 9)
    assert np.array_equal(random.normal("s", WORLDS, EPISODES, 4), first)


@given(integers, integers, integers, integers)
def test_every_part_of_the_key_counts(seed, world, episode, step):
    base = KeyedRandom(seed).uniform("s", world, episode, 2, step)
    others = [
        KeyedRandom(seed + 1).uniform("s", world, episode, 2, step),
        KeyedRandom(seed).uniform("t", world, episode, 2, step),
        KeyedRandom(seed).uniform("s", world + 1, episode, 2, step),
        KeyedRandom(seed).uniform("s", world, episode + 1, 2, step),
        KeyedRandom(seed).uniform("s", world, episode, 2, step + 1),
    ]
    assert base[0, 0] != base[0, 1]
    assert all((other != base).all() for other in others)


def test_a_key_has_no_confusable_neighbours():
    world, episode, step = (axis.ravel() for axis in np.meshgrid(np.arange(30), np.arange(30), np.arange(30)))
    values = KeyedRandom(0).uniform("s", world, episode, 4, step)
    assert len(np.unique(values)) == values.size


@pytest.mark.parametrize("axis", ["world", "episode", "step", "column"])
def test_uniform_and_uncorrelated_along_every_part_of_the_key(axis):
    count = np.arange(20_000)
    key = {"world": 0, "episode": 0, "step": 0} | ({axis: count} if axis != "column" else {})
    values = KeyedRandom(1).uniform("s", key["world"], key["episode"], 20_000 if axis == "column" else 1, key["step"])
    values = values.ravel()
    assert 0 <= values.min() and values.max() < 1
    assert stats.kstest(values, "uniform").pvalue > 1e-3
    assert abs(np.corrcoef(values[1:], values[:-1])[0, 1]) < 0.03


def test_normals_are_standard_normal():
    values = KeyedRandom(2).normal("s", np.arange(4000), 0, 5)
    assert stats.kstest(values.ravel(), "norm").pvalue > 1e-3
    assert np.abs(np.corrcoef(values.T) - np.eye(5)).max() < 0.06


def test_streams_side_by_side_are_those_drawn_alone():
    random, steps = KeyedRandom(5), np.arange(7)[:, None]
    whole = random.normals((("a", 2), ("b", 1), ("c", 3)), WORLDS, EPISODES, steps)
    for stream, size, first in (("a", 2, 0), ("b", 1, 2), ("c", 3, 3)):
        alone = random.normal(stream, WORLDS, EPISODES, size, steps)
        assert np.array_equal(whole[..., first : first + size], alone)


def test_noise_drawn_ahead_equals_noise_drawn_step_by_step():
    """Worlds restart at different times, blocks wrap, and streams come and go; each world still sees its own draws."""
    random, n = KeyedRandom(5), 3
    worlds, episodes, steps = np.arange(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
    noise = NoiseAhead()
    a, b = ("a", 2), ("b", 3)
    restarts = {0: [0, 1, 2], 10: [0], 11: [0, 2], 63: [1], 64: [2], 90: [0, 1, 2], 127: [0], 128: [1]}
    wanted = {0: (a,), 11: (a, b), 64: (b,), 90: (), 127: (b, a)}
    streams: tuple = ()
    for t in range(150 + BLOCK_STEPS):
        if t in restarts:
            rows = np.array(restarts[t])
            episodes[rows] += 1
            steps[rows] = 0
            streams = wanted.get(t, streams)
            noise.begin(random, streams, worlds, episodes, steps, rows)
        for stream in streams:
            assert np.array_equal(noise[stream], random.normal(stream[0], worlds, episodes, stream[1], steps))
        steps += 1
        noise.advance(random, worlds, episodes, steps)
