"""Which worlds an evaluation uses: numbers and a seed of its own, apart from those that are trained in."""

from __future__ import annotations

FINAL_WORLD = 0  # the final evaluation: worlds no decision was ever based on
GATE_WORLD = 100_000  # evaluations during the run
PERIODIC_WORLD = 200_000  # cheap evaluations in simulation only
COLLECTION_WORLD = 300_000


def evaluation_seed(seed: int) -> int:
    """The seed of every evaluation of a run, on either side; none of its worlds is trained in."""
    return seed + 10_007
