"""`sim2real identify` for a task's own world: fit recordings, judge a result, or record them on a robot first."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import typer

from envs.task import State, Task
from pipeline.identify import identified, posterior
from pipeline.identify.ahead import look_ahead, rms
from pipeline.identify.announce import announce
from pipeline.identify.design import assumed_noise, design
from pipeline.identify.estimate import FitSettings, Progress, TaskFit, fit_task
from pipeline.identify.page import write_page
from pipeline.identify.recording import as_recorded_by
from pipeline.identify.unknowns import unknowns
from robot.excitation import Excitation, Recorder
from robot.interface import RobotError, only_efforts
from robot.log_files import read_log, write_log
from robot.logs import Log
from robot.session import RobotSession

PROCESSES = max(1, min(2, os.cpu_count() or 1))
PLOTTED_S, PLOTTED = 0.5, 60
LEAST_ROWS = 3  # of a recording


def fit_files(
    task: Task, logs: Sequence[Log], settings: FitSettings, seed: int, output: Path, as_json: bool
) -> TaskFit:
    """Fit, write identified.yaml and its page of plots, and say what was found."""
    for sentence in (problem.sentence for log in logs for problem in log.problems):
        typer.echo(sentence, err=True)
    with showing("identifying") as tell:
        fit = fit_task(task, logs, settings, seed, tell)
    ahead = look_ahead(task, fit.values, fit.noise, fit.logs, PLOTTED_S, PLOTTED, seed)
    content = posterior.to_dict(fit, {f"{joint} {PLOTTED_S:g} s": v for joint, v in rms(task, ahead).items()})
    identified.save(content, output)
    page = output.with_suffix(".png")
    write_page(fit, ahead, page)
    announce(content, output, page, as_json)
    return fit


def judge(task: Task, use: Path, log: Log, horizon_s: float, starts: int, seed: int, as_json: bool) -> None:
    """How far off the predicted positions are on another recording."""
    known = identified.load(use, task)
    log = as_recorded_by(task, log)
    ahead = look_ahead(task, known.value, assumed_noise(task, known.value), [log], horizon_s, starts, seed)
    final = np.abs(ahead.final[:, : len(task.joints)])
    answer: dict[str, Any] = {
        "rms": {joint: round(v, 6) for joint, v in rms(task, ahead).items()},
        "median": {joint: round(float(np.median(final[:, i])), 6) for i, joint in enumerate(task.joints)},
    }
    if len(task.joints) == 1:  # as for recordings of torques
        answer |= {f"{kind}_rad": answer[kind][task.joints[0]] for kind in ("rms", "median")}
    answer |= {"horizon_s": horizon_s, "starts": starts, "seed": seed}
    each = ", ".join(f"{j} rms {answer['rms'][j]:.4f}, median {answer['median'][j]:.4f}" for j in task.joints)
    typer.echo(json.dumps(answer) if as_json else f"{horizon_s:g} s ahead from {starts} starts (m or rad): {each}")


def record_on(
    task: Task,
    where: str,
    settings: FitSettings,
    recordings: int,
    seconds: float,
    seed: int,
    folder: Path,
) -> list[Log]:
    """Excite the robot of a run or configuration so that its parameters show; each recording is kept in `folder`.

    Ctrl-C holds the robot; what was recorded is kept.
    """
    experiment, robot_dir = experiment_of(where, task)
    sought = unknowns(task, settings.fixed, settings.extra)
    speed = experiment.robot.reduced_speed.scale
    with showing("choosing motions") as tell:
        plans = design(task, experiment.robot.limits, sought, recordings, speed, seed, lambda s: tell(s, "choosing"))
    with session_of(experiment, task, robot_dir or folder) as session:
        return record_motions(session, task, plans, seconds, seed, folder)


def record_motions(
    session: RobotSession,
    task: Task,
    motions: Sequence[Excitation],
    seconds: float,
    seed: int,
    folder: Path,
    start: State | None = None,
    before: Callable[[int], None] = lambda number: None,
) -> list[Log]:
    """A recording of each motion, kept in `folder`; `before` is told which comes next.

    Episodes begin at `start` (None: where the robot rests). Too short a recording is left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    logs: list[Log] = []
    with showing("recording") as tell:
        for k, motion in enumerate(motions):
            before(k)
            words, path = f"recording {k + 1} of {len(motions)}", folder / f"recording{k + 1}.parquet"
            with kept(Recorder(task, f"{session.settings.name} recording {k + 1}"), path) as recorder:
                recorder.run(
                    session,
                    motion,
                    seconds,
                    seed * 1000 + k,
                    lambda s, k=k, w=words: tell((k + s) / len(motions), w),
                    start,
                )
            if len(recorder) >= LEAST_ROWS:
                logs.append(read_log(path))
    return logs


@contextmanager
def kept(recorder: Recorder, path: Path) -> Iterator[Recorder]:
    """Write what was recorded, also where it was broken off; fewer than `LEAST_ROWS` rows are nothing."""
    try:
        yield recorder
    finally:
        if len(recorder) >= LEAST_ROWS:
            write_log(recorder.log(), path)


def run_routines(task: Task, where: str, names: Sequence[str], seed: int, folder: Path, as_json: bool) -> None:
    """Simple tests of the first driven joint; prints what each found."""
    from robot.routines import NAMES, ROUTINES, step_response

    if wrong := next((name for name in names if name not in NAMES), None):
        raise RobotError(f"routine: {wrong!r} given; accepted are {', '.join(NAMES)}")
    experiment, robot_dir = experiment_of(where, task)
    limits = experiment.robot.limits[task.actuated[0]]
    found: dict[str, list[Any]] = {}
    with session_of(experiment, task, robot_dir or folder) as session:
        folder.mkdir(parents=True, exist_ok=True)
        with showing("moving") as tell:
            for k, name in enumerate(names):
                if name == "step":
                    tell(k / len(names), name)
                    found[name] = step_response(session)
                    continue
                routine = ROUTINES[name](task, limits, experiment.robot.reduced_speed.scale)
                with kept(Recorder(task, f"{session.settings.name} {name}"), folder / f"{name}.parquet") as recorder:
                    recorder.run(
                        session,
                        routine,
                        routine.seconds,
                        seed * 1000 + k,
                        lambda s, k=k, name=name: tell((k + s) / len(names), name),
                    )
                found[name] = routine.estimate(recorder.log())
    if as_json:
        typer.echo(json.dumps({name: [asdict(one) for one in some] for name, some in found.items()}))
        return
    for name, some in found.items():
        for one in some:
            typer.echo(f"{name:14} {one.name:10} {one.value:10.4g} [{one.low:.4g}, {one.high:.4g}] {one.unit}")


def experiment_of(where: str, task: Task) -> tuple[Any, Path | None]:
    """The experiment of a run's folder or of a configuration, and the run's robot folder if it is one."""
    from pipeline import run
    from pipeline.config import load_experiment

    is_run = Path(where).is_dir()
    experiment = load_experiment(run.run_config(Path(where)) if is_run else where)
    if experiment.make_task().name != task.name:
        raise RobotError(f"robot: {where} is about the task {experiment.task}; accepted is one about {task.name}")
    return experiment, Path(where) / run.ROBOT_DIR if is_run else None


@contextmanager
def session_of(experiment: Any, task: Task, folder: Path) -> Iterator[Any]:
    from robot.open import open_session

    session = open_session(experiment.robot, task, folder)
    try:
        only_efforts(session.robot.spec, "identify")
        yield session
    finally:
        session.close()


@contextmanager
def showing(what: str) -> Iterator[Progress]:
    """A line of progress with the time still needed, on the error stream."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        line = bar.add_task(what, total=1.0)
        yield lambda share, words: bar.update(line, completed=share, description=words)
