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


def test_noise_drawn_ahead_equals_noise_drawn_step_by_step():
    """Worlds restart at different times, and blocks wrap; each still sees its own (episode, step) stream."""
    random, n, width = KeyedRandom(5), 3, 2
    worlds, episodes, steps = np.arange(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
    noise = NoiseAhead("s", n, width, first_step=1)
    slot = BLOCK_STEPS
    restarts = {10: [0], 11: [0, 2], 63: [1], 64: [2], 127: [0], 128: [1]}
    for t in range(150):
        if slot == BLOCK_STEPS:
            noise.refill(random, worlds, episodes, steps)
            slot = 0
        assert np.array_equal(noise[slot], random.normal("s", worlds, episodes, width, steps + 1))
        slot += 1
        steps += 1
        if t in restarts:
            rows = np.array(restarts[t])
            episodes[rows] += 1
            steps[rows] = 0
            first = noise.restart(random, worlds[rows], episodes[rows], rows, slot)
            assert np.array_equal(first[0], random.normal("s", worlds[rows], episodes[rows], width, 0))
