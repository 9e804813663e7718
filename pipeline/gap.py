"""How much worse a policy does on the robot than in simulation, and how sure that is.

Rates carry Wilson score intervals (Wilson 1927), their differences Newcombe's hybrid score intervals
(Newcombe 1998), which stay honest at 100 of 100; means carry percentile bootstrap intervals. All are 95 %
unless said otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

CONFIDENCE = 0.95
GOOD, POOR = 0.10, 0.30  # the borders of the verdict, as differences of success rates
NOT_SETTLED = "not settled"


@dataclass(frozen=True)
class Outcomes:
    """What n finished episodes gave, row by row."""

    success: np.ndarray  # (n,) bool
    returns: np.ndarray  # (n,) sum of rewards
    steps: np.ndarray  # (n,) control steps
    worlds: np.ndarray  # (n,) number of the initial state; episodes of the same number start alike

    def __post_init__(self) -> None:
        sizes = {len(self.success), len(self.returns), len(self.steps), len(self.worlds)}
        if len(sizes) != 1:
            raise ValueError(f"outcomes: columns of {sorted(sizes)} episodes; accepted are columns of one length")

    def __len__(self) -> int:
        return len(self.success)

    def block(self) -> dict[str, Any]:
        """The success block of these episodes, as `success_block` gives it."""
        return success_block(self.success, self.returns)

    def among(self, worlds: np.ndarray) -> Outcomes:
        """Those of the episodes that started in one of `worlds`."""
        keep = np.isin(self.worlds, worlds)
        return Outcomes(self.success[keep], self.returns[keep], self.steps[keep], self.worlds[keep])

    def sorted(self) -> Outcomes:
        """The same episodes in the order of their initial states."""
        order = np.argsort(self.worlds, kind="stable")
        return Outcomes(self.success[order], self.returns[order], self.steps[order], self.worlds[order])


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """The Wilson score interval of a rate. With no trials at all it is (0, 1)."""
    if not 0 <= successes <= n:
        raise ValueError(f"successes: {successes} of {n} given; accepted is a number from 0 to {n}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, shrink = successes / n, 1 + z * z / n
    centre = (rate + z * z / (2 * n)) / shrink
    half = z / shrink * sqrt(rate * (1 - rate) / n + z * z / (4 * n * n))
    # The ends are exact at 0 and n; rounding must not leave them at 1e-17.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def success_block(success: ArrayLike, returns: ArrayLike) -> dict[str, Any]:
    """{success, n, low, high, mean_return} of finished episodes, or {} of none."""
    flags, values = np.asarray(success, bool), np.asarray(returns, float)
    if flags.size == 0:
        return {}
    low, high = wilson(int(flags.sum()), flags.size)
    return {
        "success": float(flags.mean()),
        "n": int(flags.size),
        "low": low,
        "high": high,
        "mean_return": float(values.mean()),
    }


def verdict(low: float, high: float) -> str:
    """The word for a success gap known to lie in [low, high]; "not settled" where a border lies inside."""
    if any(low < border < high for border in (GOOD, POOR)):
        return NOT_SETTLED
    return "good" if high <= GOOD else "moderate" if high <= POOR else "poor"


def gap(sim: ArrayLike, real: ArrayLike, paired: bool = True) -> dict[str, Any]:
    """{success, low, high, verdict}: the success rate in simulation minus that on the robot.

    `sim` (n,) and `real` (m,) hold one flag an episode. Paired, row i of both started from the same state:
    n must equal m, and what the two have in common narrows the interval (Newcombe 1998, Statistics in
    Medicine 17:2635, method 10). Unpaired, it is method 10 of the companion paper (17:873). Neither
    collapses where every episode succeeds. {} if either is empty.
    """
    a, b = np.asarray(sim, bool), np.asarray(real, bool)
    if paired and a.size != b.size:
        raise ValueError(f"gap: {a.size} and {b.size} episodes cannot be paired; accepted are equal numbers")
    if a.size == 0 or b.size == 0:
        return {}
    rate_a, rate_b = float(a.mean()), float(b.mean())
    low_a, high_a = wilson(int(a.sum()), a.size)
    low_b, high_b = wilson(int(b.sum()), b.size)
    phi = _correlation(a, b) if paired else 0.0
    difference = rate_a - rate_b
    low = difference - _join(rate_a - low_a, high_b - rate_b, phi)
    high = difference + _join(high_a - rate_a, rate_b - low_b, phi)
    low, high = max(low, -1.0), min(high, 1.0)
    return {"success": difference, "low": low, "high": high, "verdict": verdict(low, high)}


def mean_gap(sim: ArrayLike, real: ArrayLike, rng: np.random.Generator, paired: bool = True, draws: int = 2000) -> dict:
    """{mean, low, high}: mean of `sim` minus mean of `real`, with its percentile bootstrap interval.

    Paired, episodes are resampled together. A bootstrap knows only what it saw: identical values give a
    width of zero.
    """
    a, b = np.asarray(sim, float), np.asarray(real, float)
    if paired and a.size != b.size:
        raise ValueError(f"mean_gap: {a.size} and {b.size} episodes cannot be paired; accepted are equal numbers")
    if a.size == 0 or b.size == 0:
        return {}
    if paired:
        means = _resampled_means(a - b, rng, draws)
    else:
        means = _resampled_means(a, rng, draws) - _resampled_means(b, rng, draws)
    low, high = np.quantile(means, [0.5 - CONFIDENCE / 2, 0.5 + CONFIDENCE / 2])
    return {"mean": float(a.mean() - b.mean()), "low": float(low), "high": float(high)}


def transfer_gap(sim: Outcomes, real: Outcomes, rng: np.random.Generator) -> dict[str, Any]:
    """The gap of success with `return` and `length` (control steps) beside it, each as `mean_gap` gives them.

    Episodes are paired exactly where both sides ran the same initial states once each, in whatever order.
    """
    sim, real = sim.sorted(), real.sorted()
    paired = np.array_equal(sim.worlds, real.worlds) and len(np.unique(sim.worlds)) == len(sim)
    result = gap(sim.success, real.success, paired)
    if not result:
        return {}
    return {
        **result,
        "paired": bool(paired),
        "return": mean_gap(sim.returns, real.returns, rng, paired),
        "length": mean_gap(sim.steps, real.steps, rng, paired),
    }


def rate_text(block: Mapping[str, Any] | None, with_n: bool = True) -> str:
    """`0.97 [0.92, 0.99] n=100`, or a dash where nothing was measured."""
    if not block:
        return "–"
    text = f"{block['success']:.2f} [{block['low']:.2f}, {block['high']:.2f}]"
    return f"{text} n={block['n']}" if with_n and "n" in block else text


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Newcombe's φ of paired flags, with his continuity correction; 0 where a margin is empty."""
    both, only_a, only_b = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum())
    neither = a.size - both - only_a - only_b
    margins = (both + only_a) * (only_b + neither) * (both + only_b) * (only_a + neither)
    if margins == 0:
        return 0.0
    product = both * neither - only_a * only_b
    if product > 0:
        product = max(product - a.size / 2, 0.0)
    return product / sqrt(margins)


def _join(x: float, y: float, phi: float) -> float:
    return sqrt(max(x * x - 2 * phi * x * y + y * y, 0.0))


def _resampled_means(values: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    return values[rng.integers(0, values.size, (draws, values.size))].mean(axis=1)
