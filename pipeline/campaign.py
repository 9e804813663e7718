"""Campaign: the course of one run. It asks for measurements and robot rounds, hears what came back, and changes stage.

It knows neither the learner nor any actor: it works on an EvaluationService, a FitService and a RobotLink, and is
told how many gradient updates were made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from envs.randomization.parameters import Ranges
from envs.task import Task
from pipeline.actors.evaluator import Evaluation
from pipeline.actors.sim_runner import Randomization
from pipeline.config import Experiment
from pipeline.evaluation import EvaluationService
from pipeline.fitting import FitService
from pipeline.gap import Outcomes
from pipeline.knowledge import Knowledge
from pipeline.looks import Looks
from pipeline.range_book import RangeBook
from pipeline.robot_link import RobotLink, RobotRound, RoundReport
from pipeline.rounds import RoundRequest, RoundSchedule
from pipeline.scoreboard import Scoreboard
from pipeline.stage_rows import StageRow
from pipeline.stages import Measures, StageMachine, StageSettings
from pipeline.worlds import COLLECTION_WORLD, FINAL_WORLD, GATE_WORLD, evaluation_seed
from robot.excitation import Excitation
from robot.logs import Log

ROBOT_PATIENCE_S = 60.0  # how long the end of a run waits for a robot that is stopped or out of reach


@dataclass
class _Flight:
    """A robot round under way and the episodes it has given so far."""

    request: RoundRequest
    tag: str = ""  # what an evaluation measures: "row:<number>" or "gate:<updates>"
    episodes: list[dict[str, Any]] = field(default_factory=list)
    logs: list[Log] = field(default_factory=list)


class Campaign:
    """Stages, ranges, evaluations and robot rounds of one run; all of it is in `get_state`."""

    def __init__(
        self,
        experiment: Experiment,
        task: Task,
        evaluations: EvaluationService,
        fits: FitService,
        robot: RobotLink,
        run: str,
    ) -> None:
        self._experiment, self._run = experiment, run
        self._evaluations, self.robot = evaluations, robot
        self._looks = Looks(experiment.evaluation, evaluations)
        self.machine = StageMachine(experiment.stages)
        self.schedule = RoundSchedule(experiment.rounds, task.max_steps * task.control_period_s)
        self.book = RangeBook(experiment, task)
        self.board = Scoreboard()
        self.knowledge = Knowledge(experiment, task, fits)
        self.flights: dict[int, _Flight] = {}
        self._updates = 0  # gradient updates, as last told
        self._moved_to = 0  # version of what is known that the ranges are around
        self.episodes = 0  # flown on the robot for this run
        self._flying_s = 0.0  # wall time with a robot round under way
        self._heard_at = time.monotonic()

    # -- what the algorithm asks ----------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        return not self.machine.finished

    @property
    def finished(self) -> bool:
        """Training is over, and the policy that ships was measured, or the robot has been away for too long."""
        return self.board.final is not None and self.board.final.complete

    @property
    def waiting(self) -> bool:
        """Whether the learner is to make no update: a stage that says so waits to know its robot."""
        if self._held_first:
            return True
        following = self.knowledge.settings(self.machine.index + 1)
        return self.machine.held and following is not None and following.wait

    @property
    def _held_first(self) -> bool:
        settings = self.knowledge.settings(0)
        waits = settings is not None and settings.wait and self.robot.exists
        return waits and self.machine.index == 0 and self.knowledge.open(0)

    @property
    def stage_index(self) -> int:
        return self.machine.index

    @property
    def sim_ratio(self) -> float:
        return self.machine.stage.sim_ratio

    @property
    def dr_strength(self) -> float:
        return self._strength(self.machine.stage)

    def _strength(self, stage: StageSettings) -> float:
        return min(1.0, stage.dr_strength * self._experiment.randomization.strength)

    @property
    def ranges(self) -> Ranges:
        return self.book.ranges

    @property
    def final(self) -> StageRow | None:
        """The row of the policy that ships, once it is chosen."""
        return self.board.final

    @property
    def randomization(self) -> Randomization:
        return Randomization.of(self.ranges, self.dr_strength)

    def fraction(self, updates: int) -> float:
        return self.machine.fraction(updates)

    def robot_eta_s(self) -> float:
        """Wall time for the robot episodes still to come, at the pace of those flown so far; 0 before the first."""
        if not self.episodes or not self.robot.exists:
            return 0.0
        flights = [f for f in self.flights.values() if f.request.purpose != "identification"]
        to_come = sum(f.request.episodes - len(f.episodes) for f in flights)
        if self.final is None:
            to_come += self._experiment.rounds.final_episodes
        return to_come * self._flying_s / self.episodes

    def set_ranges(self, version: int, intervals: dict[str, list[float]], cleared: list[list[str]]) -> int:
        """Take newer ranges and empty the buffers they were decided on. Returns the version now in use."""
        return self.book.set(version, intervals, cleared)

    # -- hearing --------------------------------------------------------------------------------------------------

    def hear(self) -> Iterator[dict[str, np.ndarray]]:
        """Take in finished evaluations and robot episodes; yields the columns of collected episodes."""
        now = time.monotonic()
        self._flying_s += now - self._heard_at if self.flights else 0.0
        self._heard_at = now
        for tag, evaluation in self._evaluations.poll():
            self._hear_evaluation(tag, evaluation)
        for order, report in self.robot.poll():
            yield from self._hear_robot(order, report)
        self._mind_budget()
        self._mind_robot()
        self._mind_knowledge()
        self._choose()

    def settle(self) -> Iterator[dict[str, np.ndarray]]:
        """Wait until nothing is under way: in the deterministic mode a step ends with everything measured."""
        while True:
            for order, report in self.robot.wait(ROBOT_PATIENCE_S):
                yield from self._hear_robot(order, report)
            for tag, evaluation in self._evaluations.poll():
                self._hear_evaluation(tag, evaluation)
            self._mind_budget()
            self._mind_robot()
            if not (self._mind_knowledge() or self._choose()):
                return

    def _hear_evaluation(self, tag: str, evaluation: Evaluation) -> None:
        scenario = evaluation.scenario
        outcomes = Outcomes(
            evaluation.success,
            evaluation.returns,
            evaluation.steps,
            scenario.first_world + np.arange(scenario.episodes),
        )
        if tag == "boundary":
            self.book.heard(scenario.randomization.version, scenario.boundaries, evaluation.performance)
        else:
            self.board.heard_sim(tag, outcomes, evaluation.policy_version)

    def _hear_robot(self, order: RobotRound, report: RoundReport) -> Iterator[dict[str, np.ndarray]]:
        flight = self.flights[int(order.round_id.rpartition("/")[2])]
        flight.episodes += [e["meta"] for e in report.episodes]
        flight.logs += [e["log"] for e in report.episodes if "log" in e]
        yield from (e["columns"] for e in report.episodes if "columns" in e)
        if order.purpose != "identification":
            self.episodes += len(report.episodes)
        if not report.finished:
            return
        del self.flights[flight.request.id]
        self.schedule.finished(flight.request.id, sum(e["robot_s"] for e in flight.episodes))
        if order.purpose == "identification":
            self.knowledge.recorded(flight.request.stage, flight.logs, report.note)
        else:
            self.knowledge.flown(flight.logs)
            self.board.heard_real(flight.tag, flight.episodes, report.note)

    def _mind_budget(self) -> None:
        """What the robot's own budgets allow is all that is asked for from now on; training goes on without."""
        flown = {flight.request.id: len(flight.episodes) for flight in self.flights.values()}
        self.schedule.heard(self.robot.status.get("left_s", {}), flown)

    @property
    def refused(self) -> dict[str, str]:
        """By purpose, the sentence of a robot budget that is spent."""
        return self.robot.status.get("refused", {})

    def _mind_robot(self) -> None:
        """Where all else is done, do not wait for ever for a robot that is stopped or out of reach."""
        if self.robot.away_s <= ROBOT_PATIENCE_S:
            return
        why = f"the robot is {self.robot.status['state']}: {self.robot.status['reason']}"
        if self.machine.held or self._held_first:
            self.knowledge.give_up(why)
        if not self.training:
            self.board.give_up(why)

    def _mind_knowledge(self) -> bool:
        """Go on with identification, and move the ranges with what was found; True if something has changed."""
        if not self.training:
            return False
        changed = self.knowledge.poll(self._updates)
        plan = self.knowledge.take_plan()
        if plan is not None:
            self._record(*plan)
        if (newest := self.knowledge.newest) is not None and self.knowledge.version > self._moved_to:
            self._moved_to = self.knowledge.version
            self.book.move_to(newest)
        return changed or plan is not None

    def _choose(self) -> bool:
        """Once every stage is measured, the policy that did best on the robot ships, and is measured anew."""
        if self.training or self.final is not None or not all(row.complete for row in self.board.rows):
            return False
        final = self.board.choose(note="")
        request = self.schedule.final(self.machine.index, final.updates) if self.robot.exists else None
        final.note = "" if request else self.refused.get("evaluation", "")
        final.wants_real = request is not None
        final.episodes = request.episodes if request else self._experiment.rounds.final_episodes or final.episodes
        self._measure("final", final, request)
        return True

    # -- asking ---------------------------------------------------------------------------------------------------

    def steer(self, updates: int, export: Callable[[], bytes]) -> Literal["stay", "advance", "demote", "finish"]:
        """Ask for what is due and move between stages; the caller acts on "advance" and "demote"."""
        self._updates = updates
        if not self.training:
            return "stay"
        self._identify_ahead()
        stage, index, entered_at = self.machine.stage, self.machine.index, self.machine.entered_at
        if self._looks.due(updates):
            boundaries = self.book.rule.boundaries(self.ranges) if stage.adr else ()
            self._looks.regular(export(), updates, self.randomization, boundaries)
        if self.robot.exists:
            request = self.schedule.collection(index, stage, entered_at, updates)
            if request is not None:
                self._ask_robot(request, export())
            if self.machine.wants_robot(self._measures(updates)):
                request = self.schedule.gate(index, stage, updates, self.machine.robot_threshold())
                if request is not None:
                    self._measure(f"gate:{updates}", self._new_row(stage, updates, export(), request), request)
        decision = self.machine.update(self._measures(updates))
        if decision in ("advance", "finish"):
            self._close_stage(stage, index, updates, export())
        if decision != "stay":
            self.schedule.enter_stage()
            self._identify_ahead()
            self._mind_knowledge()
            self.knowledge.begun(self.machine.index)
        return decision

    def _identify_ahead(self) -> None:
        """Motions need no policy: what the next stage wants to know is found out while this one trains."""
        self.knowledge.entered(self.machine.index)
        for index in (self.machine.index, self.machine.index + 1):
            if self.robot.exists:
                self.knowledge.begin(index)

    def _record(self, index: int, motions: tuple[Excitation, ...]) -> None:
        """Have the robot make the motions that a stage asked for."""
        settings = self.knowledge.settings(index)
        assert settings is not None
        request = self.schedule.identification(index, self._updates, len(motions))
        self._ask_robot(request, b"", motions=motions, seconds=settings.seconds, stage=self.machine.stages[index])

    def _measures(self, updates: int) -> Measures:
        blocks = {name: block or None for name, block in self.board.blocks.items()}
        return Measures(
            updates=updates,
            collected_s=self.schedule.spent_s["collection"],
            identified=not (self.robot.exists and self.knowledge.open(self.machine.index + 1)),
            **blocks,
        )

    def _close_stage(self, stage: StageSettings, index: int, updates: int, policy: bytes) -> None:
        """Write the stage's row and ask for its measurement."""
        transition, gate = self.machine.history[-1], self.board.last_gate
        asked = transition.outcome == "gate" and stage.exit.real_success is not None
        if asked and gate is not None and gate.updates > transition.entered_at:
            gate.why = transition.reason  # the policy that opened the gate was just measured
            self.board.rows.append(gate)
            return
        request = self.schedule.stage_end(index, stage, updates) if self.robot.exists else None
        row = self._new_row(stage, updates, policy, request)
        row.why = transition.reason
        self.board.rows.append(row)
        self._measure(f"row:{len(self.board.rows) - 1}", row, request)

    def _new_row(self, stage: StageSettings, updates: int, policy: bytes, request: RoundRequest | None) -> StageRow:
        return StageRow(
            name=stage.name,
            sim_ratio=stage.sim_ratio,
            dr_strength=self._strength(stage),
            ranges_version=self.ranges.version,
            updates=updates,
            policy=policy,
            episodes=request.episodes if request else self._experiment.evaluation.episodes,
            first_world=GATE_WORLD,
            wants_real=request is not None,
            note="" if request else self.refused.get("evaluation", ""),
        )

    def _measure(self, tag: str, row: StageRow, request: RoundRequest | None) -> None:
        """Ask both sides for the same episodes of the row's policy."""
        self.board.waiting[tag] = row
        if request is not None:
            self._ask_robot(request, row.policy, tag)
        self._ask_nominal(tag, row)

    def _ask_robot(
        self,
        request: RoundRequest,
        policy: bytes,
        tag: str = "",
        motions: tuple[Excitation, ...] = (),
        seconds: float = 0.0,
        stage: StageSettings | None = None,
    ) -> None:
        base = {"collect": COLLECTION_WORLD, "final": FINAL_WORLD}.get(request.reason, GATE_WORLD)
        self.flights[request.id] = _Flight(request, tag)
        self.robot.submit(
            RobotRound(
                round_id=f"{self._run}/{request.id}",
                purpose=request.purpose,
                episodes=request.episodes,
                seed=evaluation_seed(self._experiment.seed),
                first_world=base + request.first_world,
                policy=policy,
                policy_version=request.updates,
                mode=(stage or self.machine.stage).robot_mode,
                stop=request.stop,
                motions=motions,
                seconds=seconds,
                logs=self.knowledge.wants_logs,
            )
        )

    def _ask_nominal(self, tag: str, row: StageRow) -> None:
        self._looks.nominal(tag, row.policy, row.updates, self.randomization, row.first_world, row.episodes)

    # -- state ----------------------------------------------------------------------------------------------------

    STATE = ("flights", "episodes", "_flying_s", "_updates", "_moved_to")
    PARTS = ("_looks", "machine", "schedule", "book", "board", "knowledge")

    def get_state(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self.STATE}
        return state | {name: getattr(self, name).get_state() for name in self.PARTS}

    def set_state(self, state: dict[str, Any]) -> None:
        for name in self.STATE:
            setattr(self, name, state[name])
        for name in self.PARTS:
            getattr(self, name).set_state(state[name])
        for tag, row in self.board.waiting.items():  # evaluations in simulation were lost with the process
            if row.sim is None:
                self._ask_nominal(tag, row)
