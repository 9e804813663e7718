"""`sim2real identify` for an arm whose joints take velocities: record, fit, write the result and its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

from envs.task import Task
from pipeline.config import Experiment
from pipeline.identify import arm_result, identified
from pipeline.identify.announce import Line, announce
from pipeline.identify.arm_design import design
from pipeline.identify.arm_fit import ArmFit, ArmSettings, fit_arm
from pipeline.identify.arm_page import write_page
from pipeline.identify.task_command import experiment_of, record_motions, showing
from robot.arm_excitation import centre_of, polled
from robot.interface import RobotError
from robot.logs import Log
from robot.open import open_session

RECORDINGS, SECONDS = 1, 30.0


def record_on(task: Task, where: str, recordings: int, seconds: float, seed: int, folder: Path) -> list[Log]:
    """Move the arm of a run or configuration so that its parameters show; each recording is kept in `folder`."""
    experiment, robot_dir = experiment_of(where, task)
    return record(experiment, task, recordings, seconds, seed, folder, robot_dir)


def record(
    experiment: Experiment,
    task: Task,
    recordings: int,
    seconds: float,
    seed: int,
    folder: Path,
    robot_dir: Path | None = None,
) -> list[Log]:
    """Recordings of the arm of an experiment, booked in `robot_dir` (None: `folder`).

    Commands and readings come more often than the task's. Ctrl-C holds the robot; what was recorded is kept.
    """
    quick, start = polled(task), centre_of(task)
    with showing("choosing motions") as tell:
        motions = design(task, experiment.robot, recordings, seconds, seed, lambda s: tell(s, "choosing"))
    session = open_session(experiment.robot, quick, robot_dir or folder)

    def go(number: int) -> None:
        if session.technician is None and (stop := session.go(motions[number].centre, "identify").stop):
            raise RobotError(f"identify: the arm could not be brought to its start: {stop}")

    try:
        if session.robot.spec.takes != "velocity":
            raise RobotError(f"identify: {task.name} takes a {session.robot.spec.takes}; accepted is an arm's velocity")
        return record_motions(session, quick, motions, seconds, seed, folder, start, go)
    finally:
        session.close()


def fit_files(task: Task, logs: Sequence[Log], settings: ArmSettings, seed: int, output: Path, as_json: bool) -> ArmFit:
    """Fit, write identified.yaml and its page of plots, and say what was found."""
    for sentence in (problem.sentence for log in logs for problem in log.problems):
        typer.echo(sentence, err=True)
    with showing("identifying") as tell:
        fit = fit_arm(task, logs, settings, seed, tell)
    content = arm_result.to_dict(fit)
    identified.save(content, output)
    page = output.with_suffix(".png")
    write_page(fit, page)
    announce(content, output, page, as_json, _of_joints(content))
    return fit


def _of_joints(content: dict[str, Any]) -> Iterator[Line]:
    for joint, found in content["joints"].items():
        for name, one in found.items():
            if isinstance(one, dict):
                yield f"{joint} {name}", one, "measured, not simulated" if name != "viscous_nm_s" else ""
    if "delay_and_lag_ms" in content["controller"]:
        yield "delay and lag together", content["controller"]["delay_and_lag_ms"], ""
