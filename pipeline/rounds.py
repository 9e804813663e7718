"""When the robot is used: rounds of collection and evaluation, their budgets, and when to stop counting."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import ceil, inf
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from pipeline.gap import CONFIDENCE, wilson
from pipeline.stage_settings import StageSettings

Purpose = Literal["collection", "evaluation", "identification"]
Reason = Literal["collect", "gate", "stage end", "final", "identify"]


class RoundSettings(BaseModel):
    """How robot time is spent. Every limit counts the robot's own seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    collect_round_episodes: int = Field(
        default=3, ge=1, description="episodes of one collection round, flown by one policy"
    )
    collect_within: float = Field(
        default=0.7,
        gt=0,
        le=1,
        description="collection is spread over this leading share of a stage, so that it is used",
    )
    collect_limit_s: float | None = Field(
        default=180.0, ge=0, description="robot seconds a run may spend on training data; null: no limit"
    )
    evaluate_every_updates: int = Field(
        default=1500, ge=1, description="least gradient updates between evaluations for a stage's gate"
    )
    evaluate_limit_s: float | None = Field(
        default=None, ge=0, description="robot seconds a run may spend on evaluations; null: no limit"
    )
    final_episodes: int = Field(
        default=100, ge=0, description="robot episodes of the final evaluation; the others leave room for it"
    )
    early_stop: bool = Field(default=True, description="end a gate's evaluation as soon as its result is certain")
    early_stop_min_episodes: int = Field(default=8, ge=1, description="episodes before which no evaluation ends early")


@dataclass(frozen=True)
class SequentialStop:
    """Ends an evaluation of `planned` episodes against a threshold on the success rate before all are flown.

    It passes early once the Wilson interval lies above the threshold and fails early once it lies below,
    each at the confidence Bonferroni asks for so many looks: looking after every episode keeps the error of
    an early stop under 5 %. It also fails once the gate's 95 % lower bound could not reach the threshold
    even if every episode left succeeded.

    Where a stage may be demoted, a failure is not the end: flying goes on until it is as certain whether the
    interval lies below `demote_below`.
    """

    threshold: float
    planned: int
    min_episodes: int
    demote_below: float | None = None

    def settled(self, successes: int, n: int) -> Literal["pass", "fail"] | None:
        """What `successes` of `n` episodes already decide; None while it is open."""
        if n < self.min_episodes:
            return None
        total, left = max(self.planned, n), max(self.planned - n, 0)
        looks = max(self.planned - self.min_episodes, 1)
        low, high = wilson(successes, n, 1 - (1 - CONFIDENCE) / looks if left else CONFIDENCE)
        if low >= self.threshold:
            return "pass"
        if high >= self.threshold and wilson(successes + left, total)[0] >= self.threshold:
            return None
        undecided = self.demote_below is not None and wilson(successes, total)[1] < self.demote_below <= high
        return None if undecided and left else "fail"


@dataclass(frozen=True)
class RoundRequest:
    """One round to hand to the robot, with the policy of the moment it was asked for."""

    id: int  # counts up through the run
    purpose: Purpose
    reason: Reason
    stage: int  # index of the stage it belongs to
    updates: int  # gradient updates behind its policy
    episodes: int
    first_world: int  # of episode 0, the next ones follow; evaluations begin at 0, collection never repeats
    stop: SequentialStop | None = None


class RoundSchedule:
    """Decides when a round is due and what it may cost. An episode takes the robot `episode_s` at most.

    The caller hands each request to the robot with the policy of that moment and reports it back with
    `finished`. Rounds under way are charged in full beforehand, so limits hold whatever comes back.
    """

    def __init__(self, settings: RoundSettings, episode_s: float) -> None:
        self.settings = settings
        self.episode_s = episode_s
        self.spent_s: dict[str, float] = dict.fromkeys(get_args(Purpose), 0.0)
        self.open: dict[int, RoundRequest] = {}
        self._left_s: dict[str, float] = {}  # that the robot's own budgets allow, as last heard
        self._flown: dict[int, int] = {}  # episodes of the open rounds, as of then
        self._next_id = 0
        self._next_world = 0  # of collection
        self._stage_asked = 0  # episodes of collection asked for in the present visit of a stage
        self._evaluated_at: int | None = None

    def heard(self, left_s: Mapping[str, float], flown: Mapping[int, int]) -> None:
        """Robot seconds that the robot's own budgets still allow by purpose, and episodes flown of each open round."""
        self._left_s, self._flown = dict(left_s), dict(flown)

    def enter_stage(self) -> None:
        """Begin a new visit of a stage: its collection starts over."""
        self._stage_asked = 0
        self._evaluated_at = None

    def collection(self, index: int, stage: StageSettings, entered_at: int, updates: int) -> RoundRequest | None:
        """The next collection round of the stage, or None while none is due or the limit is reached.

        Rounds are spaced evenly over the leading `collect_within` of the stage, the first one at once, and
        wait for the one before, so that each flies a newer policy.
        """
        left = stage.collect_episodes - self._stage_asked
        if left <= 0 or self._is_open("collection"):
            return None
        size = min(self.settings.collect_round_episodes, stage.collect_episodes)
        rounds = ceil(stage.collect_episodes / size)
        due_at = self.settings.collect_within * stage.updates * (self._stage_asked / size) / rounds
        if updates - entered_at < due_at:
            return None
        episodes = min(size, left, self._affordable("collection", self.settings.collect_limit_s))
        if episodes <= 0:
            return None
        request = self._ask("collection", "collect", index, updates, episodes, self._next_world)
        self._next_world += episodes
        self._stage_asked += episodes
        return request

    def gate(self, index: int, stage: StageSettings, updates: int, threshold: float | None) -> RoundRequest | None:
        """An evaluation for the stage's gate; None while the last one is too recent or under way."""
        last = self._evaluated_at
        if self._is_open("evaluation") or (last is not None and updates - last < self.settings.evaluate_every_updates):
            return None
        return self._evaluation("gate", index, stage.evaluate_episodes, updates, threshold, stage.demote_below)

    def stage_end(self, index: int, stage: StageSettings, updates: int) -> RoundRequest | None:
        """The evaluation that closes a stage's row; None if the stage or the limit allows none."""
        return self._evaluation("stage end", index, stage.evaluate_episodes, updates)

    def final(self, index: int, updates: int) -> RoundRequest | None:
        """The evaluation of the finished policy; None if configured away or not affordable."""
        return self._evaluation("final", index, self.settings.final_episodes, updates)

    def identification(self, index: int, updates: int, recordings: int) -> RoundRequest:
        """Recordings for a stage. What they may cost is in its settings, and in the robot's own budgets."""
        return self._ask("identification", "identify", index, updates, recordings, 0)

    def finished(self, request_id: int, robot_s: float) -> RoundRequest:
        """Close a round and book the robot seconds it really took. Raises KeyError if it is not open."""
        request = self.open.pop(request_id)
        self.spent_s[request.purpose] += robot_s
        return request

    def get_state(self) -> dict[str, Any]:
        return {
            "spent_s": dict(self.spent_s),
            "open": [asdict(r) for r in self.open.values()],
            "next_id": self._next_id,
            "next_world": self._next_world,
            "stage_asked": self._stage_asked,
            "evaluated_at": self._evaluated_at,
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        self.spent_s = {**self.spent_s, **state["spent_s"]}
        requests = [
            RoundRequest(**{**r, "stop": SequentialStop(**r["stop"]) if r["stop"] else None}) for r in state["open"]
        ]
        self.open = {r.id: r for r in requests}
        self._next_id, self._next_world = state["next_id"], state["next_world"]
        self._stage_asked, self._evaluated_at = state["stage_asked"], state["evaluated_at"]

    def _is_open(self, purpose: Purpose) -> bool:
        return any(r.purpose == purpose for r in self.open.values())

    def _affordable(self, purpose: Purpose, limit_s: float | None, reserve_s: float = 0.0) -> int:
        """How many more whole episodes the run's limit and the robot's budgets allow, after those under way."""
        own = [r for r in self.open.values() if r.purpose == purpose]
        asked, flown = sum(r.episodes for r in own), sum(self._flown.get(r.id, 0) for r in own)
        limit = inf if limit_s is None else limit_s - self.spent_s[purpose] - asked * self.episode_s
        budget = self._left_s.get(purpose, inf) - (asked - flown) * self.episode_s
        # With a millionth of an episode to spare, or rounding keeps 18 episodes of 10 s out of 180 s.
        return int(min((min(limit, budget) - reserve_s) / self.episode_s + 1e-6, 2**31))

    def _evaluation(
        self,
        reason: Reason,
        index: int,
        episodes: int,
        updates: int,
        threshold: float | None = None,
        demote_below: float | None = None,
    ) -> RoundRequest | None:
        s = self.settings
        reserve_s = 0.0 if reason == "final" else s.final_episodes * self.episode_s
        episodes = min(episodes, self._affordable("evaluation", s.evaluate_limit_s, reserve_s))
        if episodes <= 0:
            return None
        stop = None
        if s.early_stop and threshold is not None:
            stop = SequentialStop(threshold, episodes, min(s.early_stop_min_episodes, episodes), demote_below)
        self._evaluated_at = updates
        return self._ask("evaluation", reason, index, updates, episodes, 0, stop)

    def _ask(
        self,
        purpose: Purpose,
        reason: Reason,
        stage: int,
        updates: int,
        episodes: int,
        first_world: int,
        stop: SequentialStop | None = None,
    ) -> RoundRequest:
        request = RoundRequest(self._next_id, purpose, reason, stage, updates, episodes, first_world, stop)
        self._next_id += 1
        self.open[request.id] = request
        return request
