"""The command line: `sim2real train`, `evaluate`, `resume`, `export`, `config`, `params` and `robot`."""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from pipeline import cli_robot, cli_serve, data_commands
from pipeline.identify.camera.command import camera
from pipeline.identify.command import identify
from pipeline.preflight_command import preflight
from robot.console_keys import closing_the_terminal_is_ctrl_c

if TYPE_CHECKING:
    from rich.console import Console

EXIT_USER, EXIT_UNFIT, EXIT_INTERRUPTED = 2, 3, 130
USER_ERRORS = (  # module and class, looked up without importing: an error's module has been imported by then
    ("pipeline.config_schema", "ConfigError"),
    ("pipeline.run", "RunError"),
    ("pipeline.stage_settings", "StageError"),
    ("robot.interface", "RobotError"),
    ("envs.registry", "TaskError"),
    ("envs.randomization.parameters", "RangeError"),
)
WIDTH_IN_FILES = 140

OVERRIDES_HELP = "key.path=value, as often as you like: any key of the configuration, values as in YAML"
CONFIG_HELP = f"CONFIG: a YAML file or the name of one that ships (default: cartpole); then {OVERRIDES_HELP}."


class _Commands(TyperGroup):
    """Commands, of which some have names of two words, such as `identify camera`."""

    def resolve_command(self, ctx, args):
        two = " ".join(args[:2])
        return (two, self.commands[two], args[2:]) if two in self.commands else super().resolve_command(ctx, args)


app = typer.Typer(
    name="sim2real",
    cls=_Commands,
    help="Train robot policies in randomized simulation, measure the gap to the real robot, and close it.",
    epilog="An experiment is a YAML file; `sim2real config` lists every key with its meaning.",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)
robot_app = typer.Typer(help="The robot side: a stand-in to work with, and answers to the robot.", no_args_is_help=True)
serve_app = typer.Typer(help="Run a stand-in for a robot in the foreground.", no_args_is_help=True)
app.add_typer(robot_app, name="robot")
robot_app.add_typer(serve_app, name="serve")

ConfigAndOverrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="CONFIG|KEY.PATH=VALUE", help=CONFIG_HELP, show_default=False),
]
Overrides = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY.PATH=VALUE", help=f"{OVERRIDES_HELP}.", show_default=False),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, such as runs/NAME.", show_default=False)]
Seed = Annotated[
    int | None,
    typer.Option("--seed", metavar="N", help="The same as seed=N: everything random follows from it."),
]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for what the user has to change, 3 for a robot that should not
    be run, 130 after Ctrl-C.

    Anything unforeseen is raised, and ends the program with a traceback and code 1.
    """
    closing_the_terminal_is_ctrl_c()
    sys.path.insert(0, os.getcwd())  # so that module:Class finds what lies in the present folder
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="sim2real", standalone_mode=False)
    except TyperException as error:  # an option or a command that does not exist
        _tell(error.format_message())
        return EXIT_USER
    return code if isinstance(code, int) else 0


@contextmanager
def _errors_as_sentences() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt as interrupt:
        run_dir = getattr(interrupt, "run_dir", None)
        _tell(f"Interrupted; 'sim2real resume {run_dir}' continues it." if run_dir else "Interrupted.")
        raise typer.Exit(EXIT_INTERRUPTED) from None
    except Exception as error:
        if (sentence := _user_sentence(error)) is None:
            raise
        _tell(sentence)
        raise typer.Exit(EXIT_USER) from None


def _user_sentence(error: BaseException | None) -> str | None:
    """The message of an error that a person has to act on, also out of a Ray worker; else None."""
    kinds = tuple(getattr(sys.modules[m], name) for m, name in USER_ERRORS if m in sys.modules)
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        remote = getattr(error, "cause", None)  # ray.exceptions.RayTaskError: its own text is a traceback
        if isinstance(error, kinds) and not isinstance(remote, BaseException):
            return " ".join(str(error).split())
        error = remote if isinstance(remote, BaseException) else error.__cause__
    return None


def _tell(sentence: str) -> None:
    typer.echo(sentence, err=True)


def _console(stderr: bool = False) -> Console:
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    fixed = None if stream.isatty() or "COLUMNS" in os.environ else WIDTH_IN_FILES
    return Console(stderr=stderr, width=fixed, highlight=False)


def _split(arguments: Sequence[str] | None) -> tuple[str | None, list[str]]:
    """CONFIG, where it is given, and the overrides after it."""
    arguments = list(arguments or [])
    config = arguments.pop(0) if arguments and "=" not in arguments[0] else None
    return config, arguments


def _version(value: bool) -> None:
    if value:
        try:
            number = importlib.metadata.version("sim2real")
        except importlib.metadata.PackageNotFoundError:
            number = "(not installed)"
        typer.echo(f"sim2real {number}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None: ...


@app.command()
@_errors_as_sentences()
def train(arguments: ConfigAndOverrides = None, seed: Seed = None) -> None:
    """Train from simulation to the robot, and measure the gap at every stage.

    Makes a folder under run_dir with the configuration, checkpoints, the policy, a report and a summary.
    Ctrl-C leaves a run that `sim2real resume` continues.
    """
    from pipeline.config import load_experiment

    config, overrides = _split(arguments)
    experiment = load_experiment(config, overrides, seed)
    from pipeline import run

    console = _console()
    summary = run.train(experiment, console)
    if "trials" in summary:
        from pipeline.tables import trial_table

        console.print(trial_table(summary["trials"]))


@app.command()
@_errors_as_sentences()
def resume(run_dir: Run) -> None:
    """Continue a run that was interrupted, from its last checkpoint."""
    from pipeline import run

    run.resume(run_dir, _console())


@app.command()
@_errors_as_sentences()
def evaluate(
    run_dir: Run,
    overrides: Overrides = None,
    episodes: Annotated[
        int,
        typer.Option("--episodes", metavar="N", min=1, help="Episodes on the robot, and as many in simulation."),
    ] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print {real, sim, gap} as JSON and nothing else.")] = False,
) -> None:
    """Measure a run's policy on the robot and in the nominal simulation, from the same starting states.

    Overrides change what it is measured on, not the run: robot.twin.hidden=FILE puts another reality in
    place.
    """
    from pipeline import run

    result = run.evaluate(run_dir, episodes, list(overrides or []), _console(stderr=True))
    if as_json:
        typer.echo(json.dumps(result, indent=2))
    else:
        from pipeline.tables import evaluation_table

        _console().print(evaluation_table(result))


@app.command()
@_errors_as_sentences()
def export(
    run_dir: Run,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write it (default: policy.onnx in the run's folder).",
        ),
    ] = None,
) -> None:
    """Write a run's policy as one ONNX file, which runs with NumPy and onnxruntime alone."""
    from pipeline import run

    typer.echo(run.export(run_dir, output))


@app.command()
@_errors_as_sentences()
def config(
    arguments: ConfigAndOverrides = None,
    seed: Seed = None,
    as_yaml: Annotated[
        bool, typer.Option("--yaml", help="Print the resolved configuration as a YAML file instead.")
    ] = False,
) -> None:
    """List every key of a configuration: its value, its default and what it means."""
    from pipeline.config import load_experiment, to_yaml

    path, overrides = _split(arguments)
    experiment = load_experiment(path, overrides, seed)
    if as_yaml:
        typer.echo(to_yaml(experiment), nl=False)
    else:
        from pipeline.tables import config_table

        _console().print(config_table(experiment))


@app.command()
@_errors_as_sentences()
def params(
    task: Annotated[
        str, typer.Argument(metavar="TASK", help="A task's name, or your own as module:Class.")
    ] = "cartpole",
) -> None:
    """List what can differ between a task's simulated worlds: units, nominal values, ranges and bounds."""
    from envs.registry import make_task
    from pipeline.tables import parameter_table

    _console().print(parameter_table(make_task(task)))


@robot_app.command()
@_errors_as_sentences()
def confirm(
    run_dir: Run,
    operator: Annotated[str, typer.Option("--operator", metavar="NAME", help="Who answers; kept in the log.")],
    yes: Annotated[bool, typer.Option("--yes/--no", help="Let the episode begin, or not.")] = True,
) -> None:
    """Answer a run that asks before each robot episode (robot.confirmation=confirm_episode)."""
    from pipeline import run
    from robot import confirm
    from robot.open import state_directory

    directory = state_directory(run.read_run(run_dir).robot, run_dir / run.ROBOT_DIR)
    question = confirm.pending(directory)
    confirm.answer(directory, yes, operator)
    typer.echo(f"{question}: {'yes' if yes else 'no'}")


cli_robot.add_to(robot_app, _errors_as_sentences)
cli_serve.add_to(serve_app, _errors_as_sentences)

app.command()(_errors_as_sentences()(identify))
app.command("identify camera")(_errors_as_sentences()(camera))
app.command()(_errors_as_sentences()(preflight))
robot_app.command("import")(_errors_as_sentences()(data_commands.import_log))
robot_app.command()(_errors_as_sentences()(data_commands.ledger))
robot_app.command("export-lerobot")(_errors_as_sentences()(data_commands.export_lerobot))


@robot_app.command()
@_errors_as_sentences()
def check(
    where: Annotated[
        str,
        typer.Argument(
            metavar="RUN|CONFIG", help="A run's folder, a YAML file, or the name of one that ships.", show_default=False
        ),
    ],
    overrides: Overrides = None,
    push: Annotated[
        float,
        typer.Option(
            "--push", metavar="SHARE", min=0.01, max=1.0, help="How hard to push, of what a policy may ask for."
        ),
    ] = 0.6,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON and nothing else.")] = False,
) -> None:
    """Push the robot a little, and say in sentences whether it answers as the simulation does.

    It moves, inside the limits of the configuration. Exit code 3: do not run this robot. Start with --push
    0.1 on a rig that was never run.
    """
    from pipeline import robot_check, run
    from pipeline.config import load_experiment
    from robot.check import fit

    folder = Path(where) if Path(where).is_dir() else None
    path = where if folder is None else run.run_config(folder)
    experiment = load_experiment(path, list(overrides or []))
    findings = robot_check.check(experiment, folder / run.ROBOT_DIR if folder else None, push)
    if as_json:
        rows = [{"about": f.about, "verdict": f.verdict, "sentence": f.sentence} for f in findings]
        typer.echo(json.dumps({"fit": fit(findings), "findings": rows}, indent=2))
    else:
        for finding in findings:
            typer.echo(f"{finding.verdict:8} {finding.about:17} {finding.sentence}")
        typer.echo(f"{experiment.robot.name} {'can be run' if fit(findings) else 'should not be run'}.")
    if not fit(findings):
        raise typer.Exit(EXIT_UNFIT)


if __name__ == "__main__":
    sys.exit(main())
