"""One measured policy: what it did in simulation and on the robot from the same starts, and the gap between."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.gap import Outcomes, transfer_gap

BOOTSTRAP_SEED = 0


@dataclass
class StageRow:
    """The line of one finished stage in the report, filled in as measurements arrive."""

    name: str
    sim_ratio: float
    dr_strength: float
    ranges_version: int
    updates: int  # gradient updates behind the measured policy
    policy: bytes  # the artifact that was measured
    episodes: int
    first_world: int
    why: str = ""  # why the stage ended
    wants_real: bool = False
    sim: Outcomes | None = None
    real: Outcomes | None = None
    note: str = ""  # why there is no robot result
    gap: dict[str, Any] = field(default_factory=dict)  # known once both sides are

    @property
    def complete(self) -> bool:
        return self.sim is not None and (self.real is not None or not self.wants_real)

    def close(self) -> None:
        """Both sides are in, or will not come: compare them over the episodes that both have flown."""
        if self.sim is None or self.real is None:
            return
        sim = self.sim.among(self.real.worlds)  # a robot evaluation may have ended early
        self.gap = transfer_gap(sim, self.real, np.random.default_rng(BOOTSTRAP_SEED))

    def summary(self) -> dict[str, Any]:
        """As it stands in results and in summary.json."""
        row = {
            "name": self.name,
            "sim_ratio": self.sim_ratio,
            "dr_strength": self.dr_strength,
            "ranges_version": self.ranges_version,
            "updates": self.updates,
            "why": self.why,
            "sim": self.sim.block() if self.sim is not None else {},
            "real": self.real.block() if self.real is not None else {},
            "gap": self.gap,
        }
        return {**row, "note": self.note} if self.note else row
