"""Looks at a policy in simulation: the regular ones that steer a run, and those beside a robot round."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pipeline.actors.evaluator import Scenario
from pipeline.actors.sim_runner import Randomization
from pipeline.config import EvaluationSettings
from pipeline.evaluation import EvaluationService, Request
from pipeline.worlds import PERIODIC_WORLD


class Looks:
    """Says what evaluators measure and when. Outcomes come back from the service under the tag they were asked with."""

    def __init__(self, settings: EvaluationSettings, evaluations: EvaluationService) -> None:
        self._settings, self._evaluations = settings, evaluations
        self._looked_at: int | None = None  # gradient updates of the last regular look
        self._next_boundary = 0

    def due(self, updates: int) -> bool:
        """Whether it is time for a regular look, and the evaluators are done with the last one."""
        recent = self._looked_at is not None and updates - self._looked_at < self._settings.every_updates
        return not recent and not self._evaluations.outstanding()

    def regular(
        self, policy: bytes, updates: int, randomization: Randomization, boundaries: Sequence[tuple[str, str]]
    ) -> None:
        """The nominal world ("sim"), the current ranges ("randomized"), and the bounds among `boundaries` in turn.

        Each episode on a bound is in a world of its own, with the ranges at full strength (Akkaya et al. 2019).
        """
        self._looked_at = updates
        self.nominal("sim", policy, updates, randomization, PERIODIC_WORLD, self._settings.episodes)
        inside = Scenario("randomized", self._settings.episodes, PERIODIC_WORLD, randomization)
        self._evaluations.request(Request("randomized", policy, updates, inside))
        if not boundaries:
            return
        count = self._settings.boundary_episodes
        chosen = tuple(boundaries[(self._next_boundary + k) % len(boundaries)] for k in range(count))
        full = replace(randomization, dr_strength=1.0)
        scenario = Scenario("boundary", count, PERIODIC_WORLD + self._next_boundary, full, chosen)
        self._next_boundary += count
        self._evaluations.request(Request("boundary", policy, updates, scenario))

    def nominal(
        self, tag: str, policy: bytes, updates: int, randomization: Randomization, first_world: int, episodes: int
    ) -> None:
        """Episodes in the nominal simulation, from the starts numbered `first_world` on."""
        scenario = Scenario("nominal", max(episodes, 1), first_world, randomization)
        self._evaluations.request(Request(tag, policy, updates, scenario))

    def get_state(self) -> dict[str, Any]:
        return {"looked_at": self._looked_at, "next_boundary": self._next_boundary}

    def set_state(self, state: dict[str, Any]) -> None:
        self._looked_at, self._next_boundary = state["looked_at"], state["next_boundary"]
