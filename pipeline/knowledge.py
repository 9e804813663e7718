"""Knowledge: what a run finds out about its robot while it trains, from recordings for a stage and from episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from envs.randomization.parameters import RangeError
from envs.task import Task
from pipeline.actors.fitter import Answer
from pipeline.config import Experiment
from pipeline.fitting import FitService, Job
from pipeline.identify.identified import parse
from pipeline.identify.unknowns import seen_in_motion
from pipeline.stage_settings import IdentifySettings
from robot.excitation import Excitation
from robot.interface import RobotError
from robot.logs import Log

Progress = Literal["planning", "planned", "recording", "recorded", "done", "failed"]
OPEN = ("planning", "planned", "recording", "recorded")
SHORTEST_S = 1.0  # of an episode that is fitted
DESIGN_SEED = 7919  # so that motions differ from one stage to another


@dataclass(frozen=True)
class Finding:
    """One fit: what came of it, and from what."""

    at_updates: int  # gradient updates of the run when it was there
    why: str  # "before STAGE" or "after a robot round"
    recorded_s: float  # of recordings made to identify
    flown_s: float  # of episodes
    fit_s: float  # wall time
    values: dict[str, dict[str, Any]]  # as in identified.yaml: value, low, high, unit, known


class Knowledge:
    """Plans motions, keeps recordings, and has them fitted, each in the background. The newest fit is `content`.

    Recordings are asked for while the stage before the one that wants them trains: motions need no policy. Every fit
    is one to all recordings there are, from where the one before ended: a product of posteriors would count a model's
    misfit as information each time.
    """

    def __init__(self, experiment: Experiment, task: Task, fits: FitService) -> None:
        self._experiment, self._task, self._fits = experiment, task, fits
        self._stages = {i: stage.identify for i, stage in enumerate(experiment.stages) if stage.identify}
        self.progress: dict[int, Progress] = {}  # by index of the stage
        self.content: dict[str, Any] | None = None
        self.findings: list[Finding] = []
        self.told: list[str] = []  # sentences for the user, oldest first
        self._recordings: list[Log] = []
        self._episodes: list[Log] = []
        self._plans: dict[int, tuple[Excitation, ...]] = {}
        self._job: int | Literal["fit", ""] = ""  # under way: the plan of a stage, or a fit
        self._fitting: tuple[int, ...] = ()  # stages that the fit under way is for
        self._fitted_s = (0.0, 0.0)  # of recordings and of episodes, in the fit under way
        self._dirty = False  # something was recorded that is in no fit yet
        self._in_force = not self._stages

    # -- what the campaign asks ------------------------------------------------------------------------------------

    def settings(self, index: int) -> IdentifySettings | None:
        return self._stages.get(index)

    def open(self, index: int) -> bool:
        """Whether something that a stage wants to know is still to come."""
        return index in self._stages and self.progress.get(index, "planning") in OPEN

    @property
    def newest(self) -> dict[str, Any] | None:
        """The posterior to train around; None before there is one, or before the stage that asked for it."""
        return self.content if self._in_force else None

    @property
    def version(self) -> int:
        """Grows with every fit."""
        return len(self.findings)

    @property
    def wants_logs(self) -> bool:
        """Whether episodes are to be reported as recordings too."""
        return self._experiment.refines

    # -- what the campaign does ------------------------------------------------------------------------------------

    def entered(self, index: int) -> None:
        """The run is in this stage: what its identification found is in force from now on."""
        self._in_force = self._in_force or index in self._stages

    def begin(self, index: int) -> None:
        """Plan the motions for a stage, once."""
        if index in self._stages and index not in self.progress:
            self.progress[index] = "planning"

    def begun(self, index: int) -> None:
        """The run trains in this stage now, with what it knows or without."""
        if self.open(index) and index in self.progress:
            name = self._experiment.stages[index].name
            self.told.append(f"stage {name} begins in the ranges as they are, and takes the posterior when it comes")

    def take_plan(self) -> tuple[int, tuple[Excitation, ...]] | None:
        """A stage whose motions are ready to be recorded, and these; they are handed out once."""
        for index, motions in self._plans.items():
            if self.progress[index] == "planned":
                self.progress[index] = "recording"
                return index, motions
        return None

    def recorded(self, index: int, logs: Sequence[Log], note: str) -> None:
        """The robot is through with the motions for a stage; `note` says why it made fewer."""
        self._recordings += logs
        if logs:
            self.progress[index] = "recorded"
            self._dirty = True
        else:
            self._fail(index, note or "nothing was recorded")

    def flown(self, logs: Sequence[Log]) -> None:
        """A robot round is over. Episodes that end at once say less than they cost, and may look like wrong units."""
        logs = [log for log in logs if _seconds([log]) >= SHORTEST_S and not log.problems]
        self._episodes += logs
        limit, kept = self._experiment.randomization.refine_limit_s, 0.0
        for k in range(len(self._episodes) - 1, -1, -1):
            kept += _seconds(self._episodes[k : k + 1])
            if kept > limit:
                self._episodes = self._episodes[k + 1 :]
                break
        self._dirty = self._dirty or bool(logs)

    def give_up(self, why: str) -> None:
        """No stage waits any longer; what is still recorded is taken when it comes."""
        for index, state in self.progress.items():
            if state in OPEN:
                self._fail(index, why)

    def poll(self, updates: int) -> bool:
        """Go on with plans and fits; True if something has changed."""
        answer = self._fits.poll()
        if answer is not None:
            self._heard(answer, updates)
        started = self._start()
        return answer is not None or started

    def result(self) -> dict[str, Any]:
        """For training results, reports and tracking."""
        return {
            "state": {self._experiment.stages[i].name: state for i, state in self.progress.items()},
            "fitting": self._job == "fit",
            "told": list(self.told),
            "findings": [asdict(finding) for finding in self.findings],
        }

    # -- inside ----------------------------------------------------------------------------------------------------

    def _heard(self, answer: Answer, updates: int) -> None:
        job, self._job = self._job, ""
        if isinstance(job, int):
            if answer.why_not:
                self._fail(job, answer.why_not)
            elif self.progress[job] == "planning":
                self._plans[job], self.progress[job] = tuple(answer.result), "planned"
            return
        stages, self._fitting = self._fitting, ()
        if why_not := answer.why_not or self._unusable(answer.result):
            for index in stages:
                self._fail(index, why_not)
            if not stages:
                self.told.append(f"the ranges stay as they are, for nothing new could be told: {why_not}")
            return
        found: dict[str, Any] = answer.result
        names = [self._experiment.stages[index].name for index in stages]
        why = f"before {', '.join(names)}" if stages else "after a robot round"
        seconds = self._fitted_s
        self.content = found
        self.findings.append(Finding(updates, why, *seconds, answer.seconds, dict(found["values"])))
        if not stages and len(self.findings) == 1:
            self.told.append(f"the ranges lie around what {seconds[1]:.0f} s of episodes say of the robot")
        for index in stages:
            self.progress[index] = "done"
            self.told.append(
                f"stage {self._experiment.stages[index].name} trains around what {seconds[0]:.0f} s of recordings say "
                f"of the robot"
            )

    def _unusable(self, content: Mapping[str, Any]) -> str:
        """Why the ranges cannot be put around a posterior; empty: they can."""
        try:
            known = parse(content, self._task, "the run's posterior")
            self._experiment.ranges(known)
        except (RobotError, RangeError) as error:
            return str(error)
        return ""

    def _start(self) -> bool:
        """The next plan, else a fit to all there is, if either is due and nothing is under way."""
        if self._job != "" or self._fits.busy:
            return False
        planning = [i for i, state in self.progress.items() if state == "planning"]
        if planning:
            self._job = planning[0]
        elif self._dirty and self._is_time():
            self._job = "fit"
            self._dirty = False
            self._fitting = tuple(i for i, state in self.progress.items() if state == "recorded")
        else:
            return False
        self._fits.request(self._request())
        return True

    def _is_time(self) -> bool:
        """Episodes alone are not worth a fit while recordings are about to come."""
        return not any(state in ("planned", "recording") for state in self.progress.values())

    def _request(self) -> Job:
        seed = self._experiment.seed
        if isinstance(self._job, int):
            s = self._stages[self._job]
            robot = self._experiment.robot.model_dump(mode="json")
            seed += DESIGN_SEED * self._job
            return Job("plan", (robot, dict(s.fixed), s.extra, s.recordings, seed))
        fixed, extra = self._given()
        self._fitted_s = _seconds(self._recordings), _seconds(self._episodes)
        start = None
        if self.content is not None:
            start = parse(self.content, self._task, "the run's posterior").value
        return Job("fit", ((*self._recordings, *self._episodes), fixed, extra, seed, start))

    def _given(self) -> tuple[dict[str, float], tuple[str, ...]]:
        """What is known beforehand, and what is fitted beside the usual, by all stages that have recorded.

        A range without width is a value that the user knows.
        """
        can = seen_in_motion(self._task)
        ranges = self._experiment.randomization.ranges
        fixed = {name: low for name, (low, high) in ranges.items() if low == high and name in can}
        extra: list[str] = []
        for index in self.progress:
            fixed |= self._stages[index].fixed
            extra += self._stages[index].extra
        return fixed, tuple(dict.fromkeys(extra))

    def _fail(self, index: int, why: str) -> None:
        self.progress[index] = "failed"
        name = self._experiment.stages[index].name
        self.told.append(f"stage {name} trains in the ranges as they are, for identification failed: {why}")

    # -- state -----------------------------------------------------------------------------------------------------

    STATE = (
        "progress",
        "content",
        "findings",
        "told",
        "_recordings",
        "_episodes",
        "_plans",
        "_job",
        "_fitting",
        "_fitted_s",
        "_dirty",
        "_in_force",
    )

    def get_state(self) -> dict[str, Any]:
        copies = {name: getattr(self, name) for name in self.STATE}
        return {
            name: type(value)(value) if isinstance(value, (dict, list)) else value for name, value in copies.items()
        }

    def set_state(self, state: Mapping[str, Any]) -> None:
        """What was under way is begun again: a plan and a fit are functions of what is saved."""
        for name in self.STATE:
            setattr(self, name, state[name])
        self._fits.close()
        if self._job != "":
            self._fits.request(self._request())


def _seconds(logs: Sequence[Log]) -> float:
    return float(sum(np.ptp(log.time_s) for log in logs if len(log)))
