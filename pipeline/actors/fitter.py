"""Fitter: plans motions and fits recordings beside the learner, in a process of its own."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from envs.registry import make_task
from pipeline.identify.calls import fit_logs, plan_motions
from robot.interface import RobotError
from robot.logs import Log
from robot.settings import RobotSettings

NICENESS = 3  # the learner, its runners and a robot go before; with more, a busy machine would never get to it


@dataclass(frozen=True)
class Answer:
    """What came of a job: its result, or a sentence on why there is none."""

    result: Any
    seconds: float  # of wall time
    why_not: str = ""


class Fitter:
    """One job at a time. Whatever goes wrong in one is its answer: a fit that fails ends no run."""

    def __init__(self, task: str, in_background: bool) -> None:
        self._task = make_task(task)
        if in_background:
            os.nice(NICENESS)

    def plan(
        self, robot: dict[str, Any], fixed: dict[str, float], extra: Sequence[str], recordings: int, seed: int
    ) -> Answer:
        """Motions for so many recordings; `robot` are its settings."""
        settings = RobotSettings.model_validate(robot)
        return self._answer(plan_motions, self._task, settings, fixed, extra, recordings, seed)

    def fit(
        self, logs: Sequence[Log], fixed: dict[str, float], extra: Sequence[str], seed: int, start: np.ndarray | None
    ) -> Answer:
        """The content of an identified.yaml, see `fit_logs`."""
        return self._answer(fit_logs, self._task, logs, fixed, extra, seed, start)

    def close(self) -> None:
        """Nothing to close: jobs close their own worlds."""

    def _answer(self, job: Any, *arguments: Any) -> Answer:
        began = time.perf_counter()
        try:
            return Answer(job(*arguments), time.perf_counter() - began)
        except RobotError as refusal:
            return Answer(None, time.perf_counter() - began, str(refusal))
        except Exception as error:  # noqa: BLE001  singular matrices, worlds that explode: the run goes on without
            why = f"it failed: {type(error).__name__}: {error}".splitlines()[0][:300]
            return Answer(None, time.perf_counter() - began, why)
