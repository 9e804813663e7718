"""Replay: rings keep the newest rows whole, and minibatches have exactly the share of simulation asked for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.replay import COLUMNS, ColumnReplay, MixedReplay
from tests.pipeline.carried import carried

POLICY, PRIVILEGED, ACTIONS = 3, 4, 2
OBS = POLICY + PRIVILEGED


def rows(first: int, count: int, obs_size: int = OBS) -> dict[str, np.ndarray]:
    """Transitions that carry their number in every column; numbers start at 1."""
    number = np.arange(first, first + count, dtype=np.float32)
    return {
        "obs": np.repeat(number[:, None], obs_size, 1),
        "new_obs": np.repeat(number[:, None], obs_size, 1) + 0.5,
        "actions": np.repeat(number[:, None], ACTIONS, 1) / 1000,
        "rewards": number,
        "terminateds": number % 3 == 0,
    }


def assert_whole(columns: dict[str, np.ndarray]) -> None:
    """Every row still is one transition."""
    number = columns["rewards"]
    expected = rows(1, 1)
    assert columns.keys() == expected.keys()
    assert all(columns[name].dtype == expected[name].dtype for name in COLUMNS)
    assert (columns["obs"][:, :POLICY] == number[:, None]).all()
    assert (columns["new_obs"][:, :POLICY] == number[:, None] + 0.5).all()
    assert np.allclose(columns["actions"], number[:, None] / 1000)
    assert (columns["terminateds"] == (number % 3 == 0)).all()


def ring(count: int, capacity: int = 1000, first: int = 1, seed: int = 0, obs_size: int = OBS) -> ColumnReplay:
    replay = ColumnReplay(capacity, OBS, ACTIONS, seed)
    replay.add(rows(first, count, obs_size))
    return replay


def mixed(sim: int, real: int, batch_size: int, dropout: float = 0.0) -> MixedReplay:
    """Simulated rows are numbered from 1, real ones from 5001."""
    rings = ring(sim), ring(real, first=5001, seed=1) if real else ColumnReplay(10, OBS, ACTIONS, 1)
    return MixedReplay(*rings, batch_size, slice(POLICY, OBS), dropout)


@given(capacity=st.integers(1, 40), sizes=st.lists(st.integers(0, 60), max_size=12))
def test_ring_holds_exactly_the_newest_rows(capacity, sizes):
    replay, total = ColumnReplay(capacity, OBS, ACTIONS, seed=0), 0
    for size in sizes:
        replay.add(rows(1 + total, size))
        total += size
    assert len(replay) == min(total, capacity)
    assert replay.added == total
    if total:
        held = replay.take(np.arange(len(replay)))
        assert_whole(held)
        assert sorted(held["rewards"]) == list(range(1 + total - len(replay), 1 + total))


def test_every_row_is_as_likely():
    drawn = ring(50).sample(50_000)["rewards"]
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 50
    assert abs(counts - 1000).max() < 6 * np.sqrt(1000)


@settings(deadline=None)
@given(
    ratio=st.floats(0.0, 1.0),
    batch_size=st.integers(1, 70),
    updates=st.integers(1, 5),
    dropout=st.floats(0.0, 1.0),
)
def test_share_of_simulation_is_exact_in_every_minibatch(ratio, batch_size, updates, dropout):
    replay = mixed(300, 200, batch_size, dropout)
    columns = replay.sample(updates, ratio, min_real=100)
    assert_whole(columns)
    assert all(len(column) == updates * batch_size for column in columns.values())
    simulated = (columns["rewards"] <= 300).reshape(updates, batch_size)
    assert (simulated.sum(1) == round(ratio * batch_size)).all()
    assert replay.realised_ratio == round(ratio * batch_size) / batch_size

    for name in ("obs", "new_obs"):
        privileged = columns[name][:, POLICY:].reshape(updates, batch_size, PRIVILEGED)
        zeroed = (privileged == 0).all(2)
        assert (zeroed | (privileged != 0).all(2)).all(), "a row keeps all of its privileged part or none"
        assert zeroed[~simulated].all(), "a robot knows nothing privileged"
        assert ((zeroed & simulated).sum(1) == round(dropout * simulated[0].sum())).all()
    obs, new_obs = (columns[name][:, POLICY:].any(1) for name in ("obs", "new_obs"))
    assert (obs == new_obs).all(), "both observations of a transition are known, or neither"


def test_all_rows_are_simulated_until_there_are_enough_real_ones():
    replay = mixed(300, 99, 40)
    assert (replay.sample(3, 0.25, min_real=100)["rewards"] <= 300).all()
    assert replay.realised_ratio == 1.0
    replay.real.add(rows(6001, 1))
    assert (replay.sample(3, 0.25, min_real=100)["rewards"] > 300).sum() == 90
    assert replay.realised_ratio == 0.25


def test_no_real_rows_at_all():
    assert (mixed(300, 0, 8).sample(2, 0.0, min_real=0)["rewards"] <= 300).all()


def test_robot_rows_without_privileged_columns_are_padded_with_zeros():
    columns = ring(20, obs_size=POLICY).sample(30)
    assert_whole(columns)
    assert not columns["obs"][:, POLICY:].any() and not columns["new_obs"][:, POLICY:].any()


def test_padding_overwrites_what_the_ring_held():
    replay = ring(10, capacity=10)
    replay.add(rows(11, 10, obs_size=POLICY))
    assert not replay.take(np.arange(10))["obs"][:, POLICY:].any()


@pytest.mark.parametrize("added", [7, 30, 75])
def test_restored_ring_continues_with_the_same_rows(added):
    original = ring(added, capacity=30)
    original.sample(11)
    state = carried(original.get_state())
    restored = ColumnReplay(30, OBS, ACTIONS, seed=99)
    restored.set_state(state)
    for replay in (original, restored):
        replay.add(rows(1001, 13))
    assert (len(original), original.added) == (len(restored), restored.added)
    for _ in range(3):
        a, b = original.sample(40), restored.sample(40)
        assert all(np.array_equal(a[name], b[name]) for name in COLUMNS)


@given(added=st.integers(1, 70), capacity=st.integers(1, 60))
def test_ring_of_another_capacity_takes_over_the_newest_rows(added, capacity):
    restored = ColumnReplay(capacity, OBS, ACTIONS, seed=0)
    restored.set_state(ring(added, capacity=30).get_state())
    kept = min(added, 30, capacity)
    assert sorted(restored.take(np.arange(len(restored)))["rewards"]) == list(range(1 + added - kept, 1 + added))
    restored.add(rows(added + 1, 1))
    assert len(restored) == min(kept + 1, capacity)
    assert added + 1 in restored.take(np.arange(len(restored)))["rewards"]


def test_saved_state_does_not_change_with_later_rows():
    replay = ring(20, capacity=20)
    state = replay.get_state()
    replay.add(rows(500, 20))
    replay.sample(3)
    restored = ColumnReplay(20, OBS, ACTIONS, seed=5)
    restored.set_state(state)
    assert restored.take(np.arange(20))["rewards"].max() == 20
    assert np.array_equal(restored.sample(9)["rewards"], ring(20, capacity=20).sample(9)["rewards"])


def test_mixture_of_restored_rings_is_the_same():
    a, b = mixed(300, 200, 32, 0.3), mixed(300, 200, 32, 0.3)
    a.sample(2, 0.5)
    for part in ("sim", "real"):
        getattr(b, part).set_state(getattr(a, part).get_state())
    b.set_state(a.get_state())
    assert b.realised_ratio == 0.5
    x, y = a.sample(4, 0.7), b.sample(4, 0.7)
    assert all(np.array_equal(x[name], y[name]) for name in COLUMNS)


def test_mistakes_are_told():
    with pytest.raises(ValueError, match="sim_ratio is 1.5"):
        mixed(10, 10, 8).sample(1, 1.5)
    with pytest.raises(ValueError, match="privileged_dropout is -1"):
        mixed(10, 10, 8, dropout=-1)
    with pytest.raises(ValueError, match="empty"):
        ColumnReplay(10, OBS, ACTIONS, 0).sample(1)
    with pytest.raises(ValueError, match="capacity is 0"):
        ColumnReplay(0, OBS, ACTIONS, 0)
    with pytest.raises(ValueError, match="actions has 3 rows"):
        ColumnReplay(10, OBS, ACTIONS, 0).add({**rows(1, 4), "actions": np.zeros((3, ACTIONS))})
    with pytest.raises(ValueError, match="saved replay column obs"):
        ColumnReplay(30, OBS + 1, ACTIONS, 0).set_state(ring(3).get_state())
