"""Progressive stages from simulation to the robot: the machine that promotes and demotes between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from pipeline.stage_settings import PRESETS, Block, Gate, StageError, StageSettings, resolve_stages

__all__ = [
    "PRESETS",
    "Gate",
    "Measures",
    "StageError",
    "StageMachine",
    "StageSettings",
    "Transition",
    "resolve_stages",
]

Decision = Literal["stay", "advance", "demote", "finish"]
Outcome = Literal["gate", "budget", "demoted", "run budget"]

MAX_DEMOTIONS = 2
OVERRUN = 1.5  # by default a run may take this many times the sum of its stages' budgets


@dataclass(frozen=True)
class Measures:
    """What is known when the machine is asked: the newest blocks, whichever stage they were measured in."""

    updates: int  # gradient updates of the whole run
    sim: Block | None = None
    randomized: Block | None = None
    real: Block | None = None
    collected_s: float = 0.0  # robot seconds of training data of the whole run
    identified: bool = True  # nothing that the next stage wants to know of the robot is still to come


@dataclass(frozen=True)
class Transition:
    """One finished visit of a stage, and why it ended."""

    stage: str
    index: int
    entered_at: int  # gradient updates of the run
    left_at: int
    outcome: Outcome
    reason: str  # a sentence
    to: str | None  # the stage entered next, None at the end of the run


class StageMachine:
    """Which stage the run is in. The caller measures, acts on the decision and keeps snapshots.

    A stage ends when its exit gate opens, after min_updates, or when its budget is spent; then the next
    stage's entry gate must hold too, or the stage goes on. A robot evaluation of a policy of this stage
    whose interval lies wholly below demote_below sends the run back one stage, at most `max_demotions`
    times. Whatever happens, the run finishes after `max_updates`; None means OVERRUN times the sum of the
    budgets.

    Blocks that carry `updates` count only if that policy was trained in the present visit of the stage.
    Raises StageError without stages.
    """

    def __init__(
        self,
        stages: Sequence[StageSettings],
        *,
        max_demotions: int = MAX_DEMOTIONS,
        max_updates: int | None = None,
    ) -> None:
        if not stages:
            raise StageError("stages: none given; accepted is at least one stage")
        self.stages = tuple(stages)
        self.max_demotions = max_demotions
        self.max_updates = max_updates or int(OVERRUN * sum(stage.updates for stage in stages))
        self.index = 0
        self.entered_at = 0
        self.demotions = 0
        self.finished = False
        self.held = False  # as of the last update: the next stage is due, and waits for identification alone
        self.history: list[Transition] = []

    @property
    def stage(self) -> StageSettings:
        """The present stage; the last one visited once the run has finished."""
        return self.stages[self.index]

    def updates_in_stage(self, updates: int) -> int:
        """How many of the run's gradient updates were made in the present visit."""
        return updates - self.entered_at

    def fraction(self, updates: int) -> float:
        """How much of the run is done, by the budgets of this and the stages to come."""
        if self.finished:
            return 1.0
        ahead = sum(stage.updates for stage in self.stages[self.index :])
        ahead -= min(self.updates_in_stage(updates), self.stage.updates)
        return updates / max(updates + ahead, 1)

    def update(self, measures: Measures) -> Decision:
        """Decide, and move to the stage decided on. The newest entry of `history` says why."""
        self.held = False
        if self.finished:
            return "finish"
        spent = self.updates_in_stage(measures.updates)
        blocks = self._fresh(measures)
        if measures.updates >= self.max_updates:
            reason = f"all {self.max_updates} updates of the run are spent"
            return self._leave(measures.updates, "run budget", reason, None)
        real = blocks["real"]
        if real and self._falls_back(real):
            reason = f"robot success is at most {real['high']:.2f} (95 %), below {self.stage.demote_below:g}"
            return self._leave(measures.updates, "demoted", reason, self.index - 1)
        if spent < self.stage.min_updates:
            return "stay"
        lacks = self.stage.exit.missing(blocks, measures.collected_s)
        met = bool(self.stage.exit) and not lacks
        if not met and spent < self.stage.updates:
            return "stay"
        following = self.index + 1 if self.index + 1 < len(self.stages) else None
        if following is not None and self.stages[following].enter.missing(blocks, measures.collected_s):
            return "stay"
        if following is not None and not measures.identified and spent < OVERRUN * self.stage.updates:
            self.held = True  # no longer than that, or worlds that are not the robot's would take the run's budget
            return "stay"
        if met:
            reason = f"the exit gate held after {spent} updates"
            return self._leave(measures.updates, "gate", reason, following)
        unmet = f" and the gate was not met: {'; '.join(lacks)}" if lacks else ""
        return self._leave(measures.updates, "budget", f"{spent} updates are spent{unmet}", following)

    def wants_robot(self, measures: Measures) -> bool:
        """Whether an evaluation on the robot could now open a gate or cause a demotion."""
        if self.finished or self.updates_in_stage(measures.updates) < self.stage.min_updates:
            return False
        blocks = self._fresh(measures)
        if self._can_fall_back():
            return True
        exits = self.stage.exit
        if exits.real_success is not None:
            others = exits.model_copy(update={"real_success": None})
            if not others.missing(blocks, measures.collected_s):
                return True
        following = self.stages[self.index + 1 : self.index + 2]
        return any(stage.enter.real_success is not None for stage in following)

    def robot_threshold(self) -> float | None:
        """The robot success that the interval must reach at the present exit gate; None if none is asked."""
        return self.stage.exit.real_success if self.stage.exit.by == "low" else None

    def get_state(self) -> dict[str, Any]:
        return {
            "index": self.index,
            "entered_at": self.entered_at,
            "demotions": self.demotions,
            "finished": self.finished,
            "history": [asdict(t) for t in self.history],
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Raises StageError where the state was saved under other stages."""
        if state["index"] >= len(self.stages) or any(t["index"] >= len(self.stages) for t in state["history"]):
            raise StageError(
                f"stages: the saved run is in stage {state['index']}, {len(self.stages)} are configured; "
                "accepted are the stages the run began with"
            )
        self.index, self.entered_at = state["index"], state["entered_at"]
        self.demotions, self.finished = state["demotions"], state["finished"]
        self.history = [Transition(**t) for t in state["history"]]

    def _fresh(self, measures: Measures) -> dict[str, Block | None]:
        """The blocks that tell of a policy trained in this visit."""
        blocks = {"sim": measures.sim, "randomized": measures.randomized, "real": measures.real}
        return {
            k: b if b and b.get("updates", self.entered_at + 1) > self.entered_at else None for k, b in blocks.items()
        }

    def _falls_back(self, real: Block) -> bool:
        return self._can_fall_back() and real["high"] < self.stage.demote_below

    def _can_fall_back(self) -> bool:
        allowed = self.index > 0 and self.demotions < self.max_demotions
        return allowed and self.stage.demote_below is not None

    def _leave(self, updates: int, outcome: Outcome, reason: str, to: int | None) -> Decision:
        name = None if to is None else self.stages[to].name
        self.history.append(Transition(self.stage.name, self.index, self.entered_at, updates, outcome, reason, name))
        if to is None:
            self.finished = True
            return "finish"
        decision: Decision = "advance" if to > self.index else "demote"
        self.demotions += decision == "demote"
        self.index, self.entered_at = to, updates
        return decision
