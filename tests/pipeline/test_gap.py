"""Intervals cover what they claim to cover, and the verdict says no more than they allow."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.gap import (
    NOT_SETTLED,
    Outcomes,
    gap,
    mean_gap,
    rate_text,
    success_block,
    transfer_gap,
    verdict,
    wilson,
)


def flags(successes: int, n: int) -> np.ndarray:
    return np.arange(n) < successes


def outcomes(success, worlds, returns=None) -> Outcomes:
    success = np.asarray(success, bool)
    returns = 500.0 * success if returns is None else np.asarray(returns, float)
    return Outcomes(success, returns, np.where(success, 500, 40), np.asarray(worlds))


def test_wilson_matches_published_values():
    # Newcombe 1998, score method without continuity correction.
    for successes, n, low, high in ((81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0, 0.1611)):
        assert wilson(successes, n) == pytest.approx((low, high), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


def test_wilson_ends():
    assert wilson(0, 0) == (0.0, 1.0)
    assert wilson(100, 100)[1] == 1.0 and 0.96 < wilson(100, 100)[0] < 0.97
    assert wilson(0, 7)[0] == 0.0
    with pytest.raises(ValueError, match="3 of 2"):
        wilson(3, 2)


def test_wilson_grows_with_successes_and_narrows_with_episodes():
    lows = [wilson(k, 50)[0] for k in range(51)]
    assert all(a < b for a, b in zip(lows, lows[1:], strict=False))
    widths = [np.diff(wilson(n // 2, n))[0] for n in (10, 20, 40, 80)]
    assert all(a > b for a, b in zip(widths, widths[1:], strict=False))


def test_success_block():
    block = success_block([True, True, False, True], [500, 480, 20, 500])
    assert block == {
        "success": 0.75,
        "n": 4,
        "low": wilson(3, 4)[0],
        "high": wilson(3, 4)[1],
        "mean_return": 375.0,
    }
    assert success_block([], []) == {}
    assert rate_text(block) == "0.75 [0.30, 0.95] n=4" and rate_text({}) == "–"


def test_unpaired_gap_matches_published_value():
    # Newcombe 1998, method 10: 56/70 - 48/80.
    found = gap(flags(56, 70), flags(48, 80), paired=False)
    assert (found["low"], found["high"]) == pytest.approx((0.0524, 0.3339), abs=1e-4)


def test_paired_gap_matches_published_values():
    # Newcombe 1998 (paired), method 10, with both, only first, only second, neither.
    for counts, expected in (((36, 12, 2, 0), (0.0569, 0.3404)), ((54, 0, 0, 0), (-0.0664, 0.0664))):
        first = np.repeat([True, True, False, False], counts)
        second = np.repeat([True, False, True, False], counts)
        found = gap(first, second)
        assert (found["low"], found["high"]) == pytest.approx(expected, abs=1e-4)


def test_near_perfect_success_has_a_real_interval():
    for successes in (99, 100):
        for paired in (True, False):
            found = gap(np.ones(100, bool), flags(successes, 100), paired)
            assert found["success"] == pytest.approx(1 - successes / 100)
            assert found["low"] < found["success"] < found["high"]
            assert 0.05 < found["high"] - found["low"] < 0.12
            assert found["verdict"] == "good"


def test_gap_reverses_with_its_sides():
    rng = np.random.default_rng(3)
    a, b = rng.random(30) < 0.9, rng.random(30) < 0.4
    for paired in (True, False):
        one, other = gap(a, b, paired), gap(b, a, paired)
        assert (one["low"], one["high"]) == pytest.approx((-other["high"], -other["low"]))


def test_gap_needs_pairs_to_pair():
    with pytest.raises(ValueError, match="20 and 30 episodes cannot be paired"):
        gap(flags(1, 20), flags(1, 30))
    assert gap([], [], paired=True) == {} and gap(flags(1, 2), [], paired=False) == {}


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (-0.2, 0.05, "good"),
        (-0.02, 0.10, "good"),
        (0.10, 0.30, "moderate"),
        (0.30, 0.9, "poor"),
        (0.05, 0.15, NOT_SETTLED),
        (0.2, 0.35, NOT_SETTLED),
        (0.0, 1.0, NOT_SETTLED),
    ],
)
def test_verdict(low: float, high: float, word: str):
    assert verdict(low, high) == word


@pytest.mark.parametrize("n", [20, 100])
@pytest.mark.parametrize(("p_sim", "p_real"), [(1.0, 0.98), (0.99, 0.9), (0.95, 0.5), (0.6, 0.6), (1.0, 0.0)])
def test_success_gap_covers_the_truth(n: int, p_sim: float, p_real: float):
    """Paired episodes share what makes them hard: one uniform decides both, part of the time."""
    rng = np.random.default_rng(11)
    draws = 400
    for paired in (True, False):
        a = rng.random((draws, n))
        shared = rng.random((draws, n)) < (0.5 if paired else 0.0)
        b = np.where(shared, a, rng.random((draws, n)))
        found = [gap(x, y, paired) for x, y in zip(a < p_sim, b < p_real, strict=True)]
        hits = np.mean([g["low"] <= p_sim - p_real <= g["high"] for g in found])
        assert hits >= 0.92


def test_mean_gap_covers_the_truth():
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        hard = rng.normal(0, 30, 50)  # the initial state, shared
        sim, real = 480 + hard + rng.normal(0, 10, 50), 440 + hard + rng.normal(0, 20, 50)
        found = mean_gap(sim, real, rng, draws=500)
        hits += found["low"] <= 40 <= found["high"]
        assert found["high"] - found["low"] < 20  # pairing took the shared 30 out
    assert 0.9 <= hits / 200 <= 0.99


def test_mean_gap_is_repeatable_and_uses_the_given_generator():
    sim, real = np.arange(20.0), np.arange(20.0)[::-1] / 2
    one = mean_gap(sim, real, np.random.default_rng(1))
    assert one == mean_gap(sim, real, np.random.default_rng(1)) != mean_gap(sim, real, np.random.default_rng(2))


def test_transfer_gap_pairs_by_initial_state():
    rng = np.random.default_rng(0)
    order = rng.permutation(40)
    success = rng.random(40) < 0.5
    sim = outcomes(success, np.arange(40))
    real = outcomes(success[order], order)  # the same episodes in another order
    found = transfer_gap(sim, real, rng)
    assert found["paired"] and found["success"] == 0.0
    assert found["return"] == {"mean": 0.0, "low": 0.0, "high": 0.0} == found["length"]
    # Fully agreeing pairs say more than the two rates alone.
    alone = gap(sim.success, real.success, paired=False)
    assert found["high"] - found["low"] < alone["high"] - alone["low"]


def test_transfer_gap_does_not_pair_other_states():
    rng = np.random.default_rng(0)
    sim = outcomes(np.ones(30), np.arange(30))
    assert not transfer_gap(sim, outcomes(np.ones(20), np.arange(20)), rng)["paired"]
    assert not transfer_gap(sim, outcomes(np.ones(30), np.zeros(30)), rng)["paired"]
    assert transfer_gap(sim, outcomes([], []), rng) == {}


def test_outcomes_of_unequal_columns_are_refused():
    with pytest.raises(ValueError, match="one length"):
        Outcomes(np.ones(3, bool), np.ones(2), np.ones(3), np.arange(3))
