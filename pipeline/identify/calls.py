"""What a training run asks of identification, whatever the task: which motions to make, and what recordings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from envs.task import Task
from pipeline.identify import posterior
from pipeline.identify.design import design
from pipeline.identify.estimate import FitSettings, fit_task
from pipeline.identify.unknowns import unknowns
from robot.excitation import Excitation
from robot.logs import Log
from robot.settings import RobotSettings


def plan_motions(
    task: Task, robot: RobotSettings, fixed: Mapping[str, float], extra: Sequence[str], recordings: int, seed: int
) -> list[Excitation]:
    """A motion for each recording, inside the robot's limits at reduced speed. Raises RobotError where none is."""
    return [*design(task, robot.limits, unknowns(task, fixed, extra), recordings, robot.reduced_speed.scale, seed)]


def fit_logs(
    task: Task,
    logs: Sequence[Log],
    fixed: Mapping[str, float],
    extra: Sequence[str],
    seed: int,
    start: np.ndarray | None = None,
) -> dict[str, Any]:
    """The content of an identified.yaml, from recordings of a task's robot.

    `start` (d,) are SI parameters to begin the search from, such as those of an earlier fit to fewer recordings; they
    are no part of what is fitted to. Raises RobotError where nothing can be told.
    """
    settings = FitSettings(fixed=fixed, extra=extra, start=start)
    return posterior.to_dict(fit_task(task, logs, settings, seed), {})
