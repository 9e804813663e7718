"""The commands of an operator: `sim2real robot hold`, `recover`, `home`, `console` and `latency`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated

import typer

RECOVER_S = 60.0  # a recovery may have to wait for the end of an episode, or open a line anew

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, such as runs/NAME.", show_default=False)]
Operator = Annotated[
    str, typer.Option("--operator", metavar="NAME", help="Who looked at the robot; kept in the safety log.")
]


def add_to(app: typer.Typer, errors_as_sentences: Callable[[], AbstractContextManager[None]]) -> None:
    """Register every command of this file."""
    for command in (hold, recover, home, console, latency):
        app.command(command.__name__)(errors_as_sentences()(command))  # type: ignore[operator]


def hold(run_dir: Run, operator: Operator) -> None:
    """Stop the robot of a run now, whether it is running or not. It stays stopped until `robot recover`."""
    from robot import request

    typer.echo(f"{_robot(run_dir)[1].robot.name}: {request.hold(_robot(run_dir)[0], operator)}")


def recover(run_dir: Run, operator: Operator) -> None:
    """End a stop of a run's robot, also while the run is live: somebody looked at it, and says who."""
    from pipeline import run
    from robot import request
    from robot.latch import in_use
    from robot.open import open_session

    directory, experiment = _robot(run_dir)
    if in_use(directory):
        reason = request.ask(directory, "recover", RECOVER_S, operator=operator)["was"]
    else:
        session = open_session(experiment.robot, experiment.make_task(), run_dir / run.ROBOT_DIR)
        try:
            reason = session.status().reason
            session.recover(operator)
        finally:
            session.close()
    typer.echo(f"{experiment.robot.name}: recovered by {operator}; it was stopped because {reason or 'of nothing'}")


def home(run_dir: Run, operator: Operator) -> None:
    """Drive the robot to robot.home (default: the middle of its range) at reduced speed, through the filter."""
    from pipeline import run
    from robot import request
    from robot.interface import RobotError
    from robot.latch import in_use
    from robot.open import open_session

    directory, experiment = _robot(run_dir)
    if in_use(directory):
        moved = request.ask(directory, "home", RECOVER_S, operator=operator)
        steps, stop = moved["steps"], moved["stop"]
    else:
        session = open_session(experiment.robot, experiment.make_task(), run_dir / run.ROBOT_DIR)
        try:
            done = session.home(operator)
        finally:
            session.close()
        steps, stop = done.steps, done.stop
    if stop:
        raise RobotError(f"{experiment.robot.name}: stopped on the way home: {stop}")
    typer.echo(f"{experiment.robot.name}: home after {steps} control steps; the motors are off")


def console(
    run_dir: Run,
    operator: Operator,
    jog: Annotated[float, typer.Option("--jog", metavar="M", min=0, help="m or rad of one press of [ or ].")] = 0.02,
    page: Annotated[bool, typer.Option("--page", help="Serve a page for a browser on this computer instead.")] = False,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=0, max=65535, help="Of the page; 0 takes one that is free.")
    ] = 0,
) -> None:
    """Watch a live robot and answer it: state, confirm, hold, recover, jog. Ctrl-C or a closed terminal hold it."""
    if page:
        from robot.page import OperatorPage

        desk = OperatorPage(_robot(run_dir)[0], operator, port)
        typer.echo(f"{desk.url}\nWho knows this address can move the robot. Ctrl-C holds the robot and ends the page.")
        desk.serve()
        return
    from robot.console import Console

    Console(_robot(run_dir)[0], operator, jog).run()


def latency(
    source: Annotated[
        str, typer.Argument(metavar="RUN|CONFIG", help="A run's folder, or a configuration as for train.")
    ],
    write: Annotated[
        Path | None, typer.Option("--write", metavar="FILE", help="Write the ranges as YAML for a configuration.")
    ] = None,
    repeats: Annotated[int, typer.Option("--repeats", metavar="N", min=4, help="Steps, either way.")] = 24,
    effort: Annotated[
        float, typer.Option("--effort", min=0.05, max=1.0, help="Share of the effort or velocity limit.")
    ] = 0.8,
) -> None:
    """Measure from command to response by steps, and offer it as ranges of action.delay_ms and lag_ms."""
    from pipeline import run
    from pipeline.config import load_experiment
    from robot.arm_excitation import polled
    from robot.latency import describe, measure, to_yaml
    from robot.open import open_session

    folder = Path(source)
    is_run = (folder / run.CONFIG_FILE).is_file()
    experiment = run.read_run(folder) if is_run else load_experiment(source, [], None)
    task = experiment.make_task()
    directory = folder / run.ROBOT_DIR if is_run else Path(experiment.run_dir) / "latency"
    moved = polled(task) if task.scene.motors_take == "velocity" else task
    session = open_session(experiment.robot, moved, directory)
    try:
        found = measure(session, repeats, effort)
    finally:
        session.close()
    typer.echo(describe(found))
    if write is not None:
        write.write_text(to_yaml(found, task))
        typer.echo(f"written to {write}")


def _robot(run_dir: Path):
    """The folder of a run's robot, and its experiment."""
    from pipeline import run
    from robot.open import state_directory

    experiment = run.read_run(run_dir)
    return state_directory(experiment.robot, run_dir / run.ROBOT_DIR), experiment
