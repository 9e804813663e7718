"""Automatic domain randomization on a running trial, as a Tune scheduler."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from envs.randomization.parameters import RangeError, Ranges
from pipeline.schedulers.adr_rule import AdrDecision, AdrRule

logger = logging.getLogger(__name__)


def push_ranges(trial: Any, version: int, intervals: Mapping[str, Sequence[float]], cleared: Sequence) -> bool:
    """Send ranges to a running trial without waiting; False if it has no actor now.

    The call is queued on the trial's own actor handle before Tune schedules the next `train`, so the next
    result is already produced under it. This is the one place that touches `temporary_state`, which Ray
    does not promise.
    """
    actor = trial.temporary_state.ray_actor
    if actor is None:
        return False
    plain = {name: [float(low), float(high)] for name, (low, high) in intervals.items()}
    actor.set_ranges.remote(version, plain, cleared=[list(buffer) for buffer in cleared])
    return True


class ADRScheduler(FIFOScheduler):
    """Moves the ranges of every trial by what its boundary evaluations gave; stops and pauses nothing.

    The trial owns the ranges and the buffers: it checkpoints them and repeats them in each result under
    `adr/`. So this scheduler keeps no state that matters, and a restored run goes on where its checkpoint
    stood.

    `rule` is one AdrRule for all trials, or a function of a trial's configuration where a sweep varies the
    rule.
    """

    _supports_buffered_results = False

    def __init__(self, rule: AdrRule | Callable[[Any], AdrRule]) -> None:
        super().__init__()
        self._rule = rule
        self._rules: dict[str, AdrRule] = {}  # one per trial
        self._based: dict[str, tuple[dict[str, Any], AdrRule]] = {}  # on the basis of a posterior, one per trial
        self._moves: Counter[str] = Counter()
        self._complained: set[str] = set()

    def rule_of(self, trial: Any) -> AdrRule:
        """The rule this trial is under."""
        if isinstance(self._rule, AdrRule):
            return self._rule
        if trial.trial_id not in self._rules:
            self._rules[trial.trial_id] = self._rule(trial.config)
        return self._rules[trial.trial_id]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict) -> str:
        decision = self.decide(trial, result)
        if decision is not None:
            pushed = push_ranges(trial, decision.ranges.version, decision.ranges.to_dict(), decision.cleared)
            if pushed:
                self._moves.update(move.action for move in decision.moves)
        return TrialScheduler.CONTINUE

    def decide(self, trial: Any, result: Mapping[str, Any]) -> AdrDecision | None:
        """What a flattened result asks for; None if no buffer is full or its `adr/` keys are unusable."""
        state = read_adr(result)
        if state is None or not state["active"]:
            return None
        try:
            rule = self._on(trial, state["basis"])
            ranges = Ranges.from_dict(rule.space, state["ranges"], state["version"])
        except (RangeError, TypeError, ValueError) as error:
            if trial.trial_id not in self._complained:
                self._complained.add(trial.trial_id)
                logger.warning("ADR leaves trial %s alone, its ranges cannot be used: %s", trial.trial_id, error)
            return None
        return rule.decide(ranges, state["buffers"])

    def _on(self, trial: Any, basis: dict[str, dict[str, Any]] | None) -> AdrRule:
        """The trial's rule, on the basis its results name: what it found out about its robot."""
        if basis is None:
            return self.rule_of(trial)
        known = self._based.get(trial.trial_id)
        if known is None or known[0] != basis:
            known = self._based[trial.trial_id] = basis, self.rule_of(trial).on(basis)
        return known[1]

    def debug_string(self) -> str:
        moves = self._moves
        return f"ADR: {moves['widen']} widened, {moves['narrow']} narrowed, {moves['keep']} kept"


def read_adr(result: Mapping[str, Any]) -> dict[str, Any] | None:
    """{version, active, ranges, buffers, basis} from the `adr/…` keys of a flattened result.

    `basis` is None where the rule is that of the configuration. None if the version or the ranges are
    missing, as in results from before the first evaluation.
    """
    version = result.get("adr/version")
    ranges = {k.removeprefix("adr/ranges/"): v for k, v in result.items() if k.startswith("adr/ranges/")}
    if version is None or version != version or not ranges:
        return None
    buffers: dict[str, dict[str, list[float]]] = {}
    for key, values in result.items():
        if key.startswith("adr/buffers/") and isinstance(values, Sequence):
            name, _, side = key.removeprefix("adr/buffers/").rpartition("/")
            buffers.setdefault(name, {})[side] = [float(v) for v in values if v is not None]
    active = bool(result.get("adr/active", True))
    basis: dict[str, dict[str, Any]] = {"start": {}, "nominal": {}, "least": {}}
    for key, value in result.items():
        if key.startswith("adr/basis/"):
            part, _, name = key.removeprefix("adr/basis/").partition("/")
            basis[part][name] = value
    return {
        "version": int(version),
        "active": active,
        "ranges": ranges,
        "buffers": buffers,
        "basis": basis if basis["start"] else None,
    }
