"""The commands that run a stand-in for a robot: `sim2real robot serve twin` and `rosbridge`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Literal

import typer

Task = Annotated[str, typer.Option("--task", metavar="TASK", help="Whose robot to stand in for.")]
Hidden = Annotated[
    Path | None, typer.Option("--hidden", metavar="FILE", help="YAML file of hidden values (default: those that ship).")
]
Realtime = Annotated[
    bool, typer.Option("--realtime/--lockstep", help="Run with the wall clock, or wait for each command.")
]


def add_to(app: typer.Typer, errors_as_sentences: Callable[[], AbstractContextManager[None]]) -> None:
    """Register every command of this file."""
    for command in (twin, rosbridge):
        app.command(command.__name__)(errors_as_sentences()(command))  # type: ignore[operator]


def twin(
    task: Task = "cartpole",
    hidden: Hidden = None,
    realtime: Realtime = True,
    directory: Annotated[
        Path | None,
        typer.Option(
            "--directory", metavar="DIR", help="Where port and technician socket appear (default: a new one)."
        ),
    ] = None,
) -> None:
    """Run a task's twin: MuJoCo behind a Dynamixel bus on a pseudo-terminal, until Ctrl-C."""
    from robot import serve

    serve.serve_twin(hidden, _mode(realtime), directory, ready=_tell, task=task)


def rosbridge(
    task: Task = "cartpole",
    hidden: Hidden = None,
    realtime: Realtime = True,
    port: Annotated[
        int, typer.Option("--port", metavar="N", min=1, max=65535, help="TCP port on this computer.")
    ] = 9090,
) -> None:
    """Run a task's twin behind rosbridge v2, as a robot under ROS answers, until Ctrl-C."""
    from robot import serve

    tell = lambda where: _tell(where, "robot.driver=rosbridge ")  # noqa: E731
    serve.serve_rosbridge(hidden, _mode(realtime), port, ready=tell, task=task)


def _mode(realtime: bool) -> Literal["lockstep", "realtime"]:
    return "realtime" if realtime else "lockstep"


def _tell(where: dict[str, str], driver: str = "") -> None:
    typer.echo(f"port        {where['port']}\ntechnician  {where['technician']}\nmode        {where['mode']}\n")
    keys = driver + " ".join(f"robot.{key}={where[key]}" for key in ("port", "technician", "mode"))
    typer.echo(f"Use it with:  sim2real evaluate RUN {keys}\nCtrl-C ends it.")
