"""Campaign: the course of one run. It asks for measurements and robot rounds, hears what came back, and changes stage.

It knows neither the learner nor any actor: it works on an EvaluationService and a RobotLink, and is told how many
gradient updates were made.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np

from envs.randomization.parameters import Ranges
from envs.task import Task
from pipeline.actors.evaluator import Evaluation
from pipeline.actors.sim_runner import Randomization
from pipeline.config import Experiment
from pipeline.evaluation import EvaluationService
from pipeline.gap import Outcomes
from pipeline.looks import Looks
from pipeline.robot_link import RobotLink, RobotRound, RoundReport
from pipeline.rounds import RoundRequest, RoundSchedule
from pipeline.schedulers.adr_rule import AdrRule
from pipeline.stage_rows import StageRow
from pipeline.stages import Measures, StageMachine, StageSettings
from pipeline.worlds import COLLECTION_WORLD, FINAL_WORLD, GATE_WORLD, evaluation_seed

ROBOT_PATIENCE_S = 60.0  # how long the end of a run waits for a robot that is stopped or out of reach


@dataclass
class _Flight:
    """A robot round under way and the episodes it has given so far."""

    request: RoundRequest
    tag: str = ""  # what an evaluation measures: "row:<number>" or "gate:<updates>"
    episodes: list[dict[str, Any]] = field(default_factory=list)


class Campaign:
    """Stages, ranges, evaluations and robot rounds of one run; all of it is in `get_state`."""

    def __init__(
        self, experiment: Experiment, task: Task, evaluations: EvaluationService, robot: RobotLink, run: str
    ) -> None:
        self._experiment, self._task, self._run = experiment, task, run
        self._evaluations, self._robot = evaluations, robot
        self._looks = Looks(experiment.evaluation, evaluations)
        self.machine = StageMachine(experiment.stages)
        self.schedule = RoundSchedule(experiment.rounds, task.max_steps * task.control_period_s)
        self.rule = AdrRule(experiment.ranges(), experiment.adr(), task.adr_thresholds)
        self.ranges = self.rule.start
        self.buffers: dict[str, dict[str, list[float]]] = {}
        self.rows: list[StageRow] = []
        self.final: StageRow | None = None
        self._flights: dict[int, _Flight] = {}
        self._blocks: dict[str, dict[str, Any]] = {"sim": {}, "randomized": {}, "real": {}}
        self._gap: dict[str, Any] = {}
        self._last_gate: StageRow | None = None
        self._measured: dict[str, StageRow] = {}  # by tag: what waits for its simulated or its real side
        self._episodes = 0  # flown on the robot for this run
        self._flying_s = 0.0  # wall time with a robot round under way
        self._heard_at = time.monotonic()

    # -- what the algorithm asks ----------------------------------------------------------------------------------

    @property
    def training(self) -> bool:
        return not self.machine.finished

    @property
    def finished(self) -> bool:
        """Training is over, and the policy that ships was measured, or the robot has been away for too long."""
        return self.final is not None and self.final.complete

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
    def randomization(self) -> Randomization:
        return Randomization.of(self.ranges, self.dr_strength)

    def fraction(self, updates: int) -> float:
        return self.machine.fraction(updates)

    def robot_eta_s(self) -> float:
        """Wall time for the robot episodes still to come, at the pace of those flown so far; 0 before the first."""
        if not self._episodes or not self._robot.exists:
            return 0.0
        to_come = sum(f.request.episodes - len(f.episodes) for f in self._flights.values())
        if self.final is None:
            to_come += self._experiment.rounds.final_episodes
        return to_come * self._flying_s / self._episodes

    def set_ranges(self, version: int, intervals: dict[str, list[float]], cleared: list[list[str]]) -> int:
        """Take newer ranges and empty the buffers they were decided on. Returns the version now in use."""
        if version >= self.ranges.version:
            self.ranges = Ranges.from_dict(self.ranges.space, intervals, version)
            for name, side in cleared:
                self.buffers.get(name, {}).pop(side, None)
        return self.ranges.version

    # -- hearing --------------------------------------------------------------------------------------------------

    def hear(self) -> Iterator[dict[str, np.ndarray]]:
        """Take in finished evaluations and robot episodes; yields the columns of collected episodes."""
        now = time.monotonic()
        self._flying_s += now - self._heard_at if self._flights else 0.0
        self._heard_at = now
        for tag, evaluation in self._evaluations.poll():
            self._hear_evaluation(tag, evaluation)
        for order, report in self._robot.poll():
            yield from self._hear_robot(order, report)
        self._mind_budget()
        self._mind_robot()
        self._choose()

    def settle(self) -> Iterator[dict[str, np.ndarray]]:
        """Wait until nothing is under way: in the deterministic mode a step ends with everything measured."""
        while True:
            for order, report in self._robot.wait(ROBOT_PATIENCE_S):
                yield from self._hear_robot(order, report)
            for tag, evaluation in self._evaluations.poll():
                self._hear_evaluation(tag, evaluation)
            self._mind_budget()
            self._mind_robot()
            if not self._choose():
                return

    def _hear_evaluation(self, tag: str, evaluation: Evaluation) -> None:
        scenario = evaluation.scenario
        outcomes = Outcomes(
            evaluation.success,
            evaluation.returns,
            evaluation.steps,
            scenario.first_world + np.arange(scenario.episodes),
        )
        if tag in self._measured:
            self._measured[tag].sim = outcomes
            self._publish(tag)
        elif tag == "boundary":
            if scenario.randomization.version == self.ranges.version:
                for (name, side), value in zip(scenario.boundaries, evaluation.performance, strict=True):
                    self.buffers.setdefault(name, {}).setdefault(side, []).append(float(value))
        else:
            self._blocks[tag] = {**outcomes.block(), "updates": evaluation.policy_version}

    def _hear_robot(self, order: RobotRound, report: RoundReport) -> Iterator[dict[str, np.ndarray]]:
        flight = self._flights[int(order.round_id.rpartition("/")[2])]
        flight.episodes += [e["meta"] for e in report.episodes]
        self._episodes += len(report.episodes)
        yield from (e["columns"] for e in report.episodes if "columns" in e)
        if not report.finished:
            return
        del self._flights[flight.request.id]
        self.schedule.finished(flight.request.id, sum(e["robot_s"] for e in flight.episodes))
        if flight.tag in self._measured and flight.episodes:
            column = lambda key: np.array([e[key] for e in flight.episodes])  # noqa: E731
            real = Outcomes(column("success"), column("episode_return"), column("steps"), column("world"))
            self._measured[flight.tag].real = real
            self._measured[flight.tag].note = report.note
            self._publish(flight.tag)
        elif flight.tag in self._measured:
            row = self._measured[flight.tag]
            row.wants_real, row.note = False, report.note
            self._publish(flight.tag)

    def _publish(self, tag: str) -> None:
        """Once both sides of a measurement are known, it is the newest word on the robot and on the gap."""
        row = self._measured[tag]
        if not row.complete:
            return
        del self._measured[tag]
        row.close()
        if tag.startswith("gate:"):
            self._last_gate = row
        if row.real is not None:
            version = self._blocks["real"].get("version", 0) + 1
            self._blocks["real"] = {**row.real.block(), "updates": row.updates, "version": version}
            self._gap = row.gap

    def _mind_budget(self) -> None:
        """What the robot's own budgets allow is all that is asked for from now on; training goes on without."""
        flown = {flight.request.id: len(flight.episodes) for flight in self._flights.values()}
        self.schedule.heard(self._robot.status.get("left_s", {}), flown)

    @property
    def _refused(self) -> dict[str, str]:
        """By purpose, the sentence of a robot budget that is spent."""
        return self._robot.status.get("refused", {})

    def _mind_robot(self) -> None:
        """At the end of a run, do not wait for ever for a robot that is stopped or out of reach."""
        if self.training or self._robot.away_s <= ROBOT_PATIENCE_S:
            return
        for tag, row in list(self._measured.items()):
            if row.wants_real and row.real is None:
                row.wants_real = False
                row.note = f"the robot is {self._robot.status['state']}: {self._robot.status['reason']}"
                self._publish(tag)

    def _choose(self) -> bool:
        """Once every stage is measured, the policy that did best on the robot ships, and is measured anew.

        Its own worlds and episodes make the final figure one that the choice could not flatter.
        """
        if self.training or self.final is not None or not all(row.complete for row in self.rows):
            return False
        flown = [row for row in self.rows if row.real is not None]
        best = max(flown, key=_merit) if flown else self.rows[-1]
        request = self.schedule.final(self.machine.index, best.updates) if self._robot.exists else None
        note = "" if request else self._refused.get("evaluation", "")
        self.final = replace(best, first_world=FINAL_WORLD, sim=None, real=None, gap={}, why="", note=note)
        self.final.wants_real = request is not None
        self.final.episodes = request.episodes if request else self._experiment.rounds.final_episodes or best.episodes
        self._measure("final", self.final, request)
        return True

    # -- asking ---------------------------------------------------------------------------------------------------

    def steer(self, updates: int, export: Callable[[], bytes]) -> Literal["stay", "advance", "demote", "finish"]:
        """Ask for what is due and move between stages; the caller acts on "advance" and "demote"."""
        if not self.training:
            return "stay"
        stage, index, entered_at = self.machine.stage, self.machine.index, self.machine.entered_at
        if self._looks.due(updates):
            boundaries = self.rule.boundaries(self.ranges) if stage.adr else ()
            self._looks.regular(export(), updates, self.randomization, boundaries)
        if self._robot.exists:
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
        return decision

    def _measures(self, updates: int) -> Measures:
        blocks = {name: block or None for name, block in self._blocks.items()}
        return Measures(updates=updates, collected_s=self.schedule.spent_s["collection"], **blocks)

    def _close_stage(self, stage: StageSettings, index: int, updates: int, policy: bytes) -> None:
        """Write the stage's row and ask for its measurement."""
        transition, gate = self.machine.history[-1], self._last_gate
        asked = transition.outcome == "gate" and stage.exit.real_success is not None
        if asked and gate is not None and gate.updates > transition.entered_at:
            gate.why = transition.reason  # the policy that opened the gate was just measured
            self.rows.append(gate)
            return
        request = self.schedule.stage_end(index, stage, updates) if self._robot.exists else None
        row = self._new_row(stage, updates, policy, request)
        row.why = transition.reason
        self.rows.append(row)
        self._measure(f"row:{len(self.rows) - 1}", row, request)

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
            note="" if request else self._refused.get("evaluation", ""),
        )

    def _measure(self, tag: str, row: StageRow, request: RoundRequest | None) -> None:
        """Ask both sides for the same episodes of the row's policy."""
        self._measured[tag] = row
        if request is not None:
            self._ask_robot(request, row.policy, tag)
        self._ask_nominal(tag, row)

    def _ask_robot(self, request: RoundRequest, policy: bytes, tag: str = "") -> None:
        base = {"collect": COLLECTION_WORLD, "final": FINAL_WORLD}.get(request.reason, GATE_WORLD)
        self._flights[request.id] = _Flight(request, tag)
        self._robot.submit(
            RobotRound(
                round_id=f"{self._run}/{request.id}",
                purpose=request.purpose,
                episodes=request.episodes,
                seed=evaluation_seed(self._experiment.seed),
                first_world=base + request.first_world,
                policy=policy,
                policy_version=request.updates,
                mode=self.machine.stage.robot_mode,
                stop=request.stop,
            )
        )

    def _ask_nominal(self, tag: str, row: StageRow) -> None:
        self._looks.nominal(tag, row.policy, row.updates, self.randomization, row.first_world, row.episodes)

    # -- telling --------------------------------------------------------------------------------------------------

    def result(self, updates: int) -> dict[str, Any]:
        """The campaign's part of a training result."""
        stage, status = self.machine.stage, self._robot.status
        return {
            "stage": {
                "index": self.machine.index,
                "count": len(self.machine.stages),
                "name": stage.name,
                "sim_ratio": stage.sim_ratio,
                "dr_strength": self.dr_strength,
                "updates_in_stage": self.machine.updates_in_stage(updates),
                "updates_planned": stage.updates,
                "training": self.training,
            },
            **{name: dict(block) for name, block in self._blocks.items()},
            "gap": self._gap,
            "adr": {
                "active": stage.adr and self.training,
                "version": self.ranges.version,
                "ranges": self.ranges.to_dict(),
                "buffers": {n: {s: list(v) for s, v in sides.items()} for n, sides in self.buffers.items()},
                "entropy": self.ranges.entropy(),
            },
            "robot": {
                "state": status["state"],
                "reason": status["reason"],
                "ledger": status.get("ledger", {}),
                "budgets_spent": self._refused,
                "collection_s": self.schedule.spent_s["collection"],
                "evaluation_s": self.schedule.spent_s["evaluation"],
                "episodes": self._episodes,
                "rounds_open": self._robot.pending,
                "episodes_open": sum(f.request.episodes for f in self._flights.values()),
                "episodes_flown": sum(len(f.episodes) for f in self._flights.values()),
                "link_errors": self._robot.errors,
            },
            "stages": [row.summary() for row in self.rows],
            "final": {"stage": self.final.name, **self.final.summary()} if self.final is not None else {},
        }

    # -- state ----------------------------------------------------------------------------------------------------

    STATE = (
        "rows",
        "final",
        "buffers",
        "_measured",
        "_flights",
        "_episodes",
        "_flying_s",
        "_blocks",
        "_gap",
        "_last_gate",
    )

    def get_state(self) -> dict[str, Any]:
        state = {name: getattr(self, name) for name in self.STATE}
        state["looks"] = self._looks.get_state()
        state["machine"], state["schedule"] = self.machine.get_state(), self.schedule.get_state()
        state["ranges"] = {"version": self.ranges.version, "intervals": self.ranges.to_dict()}
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        for name in self.STATE:
            setattr(self, name, state[name])
        self._looks.set_state(state["looks"])
        self.machine.set_state(state["machine"])
        self.schedule.set_state(state["schedule"])
        intervals, version = state["ranges"]["intervals"], state["ranges"]["version"]
        self.ranges = Ranges.from_dict(self.ranges.space, intervals, version)
        for tag, row in self._measured.items():  # evaluations in simulation were lost with the process
            if row.sim is None:
                self._ask_nominal(tag, row)


def _merit(row: StageRow) -> tuple[float, float]:
    """What one policy is preferred to another for: success on the robot, then the mean return there."""
    block = row.real.block() if row.real is not None else {}
    return block.get("success", 0.0), block.get("mean_return", 0.0)
