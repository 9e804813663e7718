"""The command `sim2real identify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from pipeline.data_commands import MAP

if TYPE_CHECKING:
    from envs.task import Task
    from pipeline.identify.fit import FitSettings

SHIPPED = {"pendulum": Path(__file__).with_name("pendulum.yaml")}


def identify(
    task: Annotated[str, typer.Argument(metavar="TASK", help="Whose robot: a task by name, or your own.")],
    logs: Annotated[
        list[Path] | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="A recording, CSV or Parquet; as often as you like. For what flies or has servos a run's folder, too.",
        ),
    ] = None,
    robot: Annotated[
        str | None,
        typer.Option("--robot", metavar="RUN|CONFIG", help="Move the robot of a run or configuration, and record it."),
    ] = None,
    recordings: Annotated[
        int | None, typer.Option("--recordings", metavar="N", min=1, help="With --robot: how many (3; of an arm 1).")
    ] = None,
    seconds: Annotated[
        float | None,
        typer.Option(
            "--seconds",
            metavar="S",
            min=2.0,
            help="With --robot: how long each is (20; of an arm 30); episodes of that together.",
        ),
    ] = None,
    routine: Annotated[
        list[str] | None,
        typer.Option(
            "--routine",
            metavar="NAME",
            help="A simple test instead: with --robot torque_sweep, torque_pulse, step or free_swing; with --log drop, "
            "of a body that was dropped or slid in view of a tracker.",
        ),
    ] = None,
    use: Annotated[
        Path | None,
        typer.Option("--use", metavar="FILE", help="An identified.yaml to judge instead, or pendulum, which ships."),
    ] = None,
    to_predict: Annotated[
        Path | None, typer.Option("--predict", metavar="FILE", help="The recording to judge --use on.")
    ] = None,
    horizon: Annotated[float, typer.Option("--horizon", metavar="S", help="How far ahead to predict, seconds.")] = 0.5,
    starts: Annotated[int, typer.Option("--starts", metavar="N", min=1, help="Predict from so many random rows.")] = 60,
    seed: Annotated[int, typer.Option("--seed", metavar="N", help="Everything random follows from it.")] = 0,
    fix: Annotated[
        list[str] | None,
        typer.Option("--fix", metavar="NAME=VALUE", help="A parameter you know; as often as you like."),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option("--extra", metavar="NAME", help="Fit a parameter too that is left alone otherwise."),
    ] = None,
    model: Annotated[
        Literal["world", "joint", "arm"] | None,
        typer.Option(
            help="What is fitted: the task's simulated world, to what was commanded; the equation of one driven "
            "joint, to measured torques (default for pendulum with --log); or an arm's joints, to torques and "
            "velocities (default for reach, and for recordings of joint velocities)."
        ),
    ] = None,
    columns: MAP = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write the result; plots go beside it."),
    ] = Path("identified.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Identify a robot from recordings, with uncertainty; or judge what was identified on another recording.

    Writes identified.yaml and a page of plots. With --robot it moves first, through the safety filter, in a way that
    tells most; the recordings are kept beside the result. With --use and --predict: how far off the predicted positions
    are, open loop, from random starts.
    """
    from envs.registry import make_task
    from robot.interface import RobotError
    from robot.log_files import DEFAULT_MAP, read_log

    made = make_task(task)
    ways = [bool(logs), robot is not None, use is not None]
    if sum(ways) != 1 or (use is None) != (to_predict is None):
        raise RobotError(
            "identify: accepted is one of --log FILE, --robot RUN|CONFIG, or --use identified.yaml with --predict FILE"
        )
    if routine == ["drop"] and logs:
        from pipeline.identify.body_command import identify_body

        identify_body(made, logs, columns or [], output, as_json)
        return
    entries = columns or list(DEFAULT_MAP)
    fixed, more = _fixed(fix or []), tuple(extra or ())
    from pipeline.identify.replay_recording import can_replay

    if use is None and _by_torques(made, logs or [], entries, model):
        _arm(made, logs or [], robot, routine, recordings, seconds, entries, fixed, more, seed, output, as_json)
        return
    if can_replay(made):
        asked_s = None if recordings is None and seconds is None else (recordings or 3) * (seconds or 20.0)
        refusals = (routine or [], use, model)
        _replay(made, logs or [], robot, asked_s, refusals, (fixed, more), seed, output, as_json)
        return
    recordings, seconds = recordings or 3, seconds or 20.0
    if use is not None and to_predict is not None:
        _judge(made, use, to_predict, entries, horizon, starts, seed, as_json)
        return
    if routine and robot is None:
        raise RobotError(
            "routine: given without a robot to move; accepted with it is --robot RUN|CONFIG, or drop --log"
        )
    by_joint = model == "joint" or (model is None and task in SHIPPED and robot is None)
    if by_joint:
        if task not in SHIPPED or robot is not None:
            raise RobotError("model: joint given; accepted with it is the task pendulum, and --log")
        from pipeline.identify.fit import FitSettings

        _fit(task, logs or [], entries, FitSettings(fixed=fixed, extra=more), seed, output, as_json)
        return
    from pipeline.identify import task_command
    from pipeline.identify.estimate import FitSettings as TaskSettings

    settings = TaskSettings(fixed=fixed, extra=more, processes=task_command.PROCESSES)
    if robot is not None:
        folder = output.parent / f"{output.stem}_recordings"
        if routine:
            task_command.run_routines(made, robot, routine, seed, folder, as_json)
            return
        found = task_command.record_on(made, robot, settings, recordings or 3, seconds or 20.0, seed, folder)
    else:
        found = [read_log(file, entries) for file in logs or []]
    task_command.fit_files(made, found, settings, seed, output, as_json)


def _by_torques(task: Task, files: list[Path], entries: list[str], model: str | None) -> bool:
    """Whether an arm's joints are fitted, and not its task's world; raises RobotError where that cannot be."""
    from robot.interface import RobotError
    from robot.log_files import has_commands

    is_arm = task.scene.motors_take == "velocity"
    if model == "arm" and not is_arm:
        raise RobotError(f"model: arm given for {task.name}; accepted with it are arms whose joints take velocities")
    if model is not None or not is_arm:
        return model == "arm"
    return any(has_commands(file, entries) for file in files) if files else not task.bodies


def _arm(
    task: Task,
    files: list[Path],
    robot: str | None,
    routine: list[str] | None,
    recordings: int | None,
    seconds: float | None,
    entries: list[str],
    fixed: dict[str, float],
    extra: tuple[str, ...],
    seed: int,
    output: Path,
    as_json: bool,
) -> None:
    """An arm whose joints take velocities: from its torques, and from commanded against measured velocities."""
    from pipeline.identify import arm_command
    from pipeline.identify.arm_fit import ArmSettings
    from robot.interface import RobotError
    from robot.log_files import read_log

    if routine:
        raise RobotError(f"routine: given for {task.name}, whose arm takes velocities; accepted is to leave it out")
    if robot is not None:
        folder = output.parent / f"{output.stem}_recordings"
        number, length = recordings or arm_command.RECORDINGS, seconds or arm_command.SECONDS
        found = arm_command.record_on(task, robot, number, length, seed, folder)
    else:
        found = [read_log(file, entries) for file in files]
    arm_command.fit_files(task, found, ArmSettings(fixed, extra), seed, output, as_json)


def _replay(
    task: Task,
    logs: list[Path],
    robot: str | None,
    seconds: float | None,
    refusals: tuple[list[str], Path | None, str | None],
    known: tuple[dict[str, float], tuple[str, ...]],
    seed: int,
    output: Path,
    as_json: bool,
) -> None:
    from pipeline.identify import replay_command
    from pipeline.identify.replay_fit import ReplaySettings
    from pipeline.identify.replay_recording import read
    from pipeline.identify.replay_unknowns import unknowns
    from pipeline.identify.task_command import PROCESSES

    replay_command.refuse(task, *refusals)
    unknowns(task, *known)  # before anything moves
    if robot is not None:
        folder = output.parent / f"{output.stem}_recordings"
        found = replay_command.fly_on(task, robot, seconds, seed, folder)
    else:
        found = read(task, logs)
    settings = ReplaySettings(fixed=known[0], extra=known[1], processes=PROCESSES)
    replay_command.fit_recordings(task, found, settings, seed, output, as_json)


def _judge(
    task: Task, use: Path, log: Path, entries: list[str], horizon: float, starts: int, seed: int, as_json: bool
) -> None:
    from pipeline.identify import identified
    from pipeline.identify.result import FORMAT
    from robot.log_files import read_log

    use = use if use.exists() else SHIPPED.get(str(use), use)
    if identified.read(use).get("format", FORMAT) == FORMAT:
        _judge_joint(use, log, entries, horizon, starts, seed, as_json)
    else:
        from pipeline.identify import task_command

        task_command.judge(task, use, read_log(log, entries), horizon, starts, seed, as_json)


def _judge_joint(
    use: Path, log: Path, entries: list[str], horizon: float, starts: int, seed: int, as_json: bool
) -> None:
    from pipeline.identify.predict import predict
    from pipeline.identify.result import load_values
    from robot.log_files import read_log

    use = use if use.exists() else SHIPPED.get(str(use), use)
    found = predict(load_values(use), read_log(log, entries), horizon, starts, seed)
    answer = {"rms_rad": round(found.rms_rad, 6), "median_rad": round(found.median_rad, 6)}
    answer |= {"horizon_s": horizon, "starts": starts, "seed": seed}
    words = f"{horizon:g} s ahead from {starts} starts: rms {found.rms_rad:.4f} rad, median {found.median_rad:.4f} rad"
    typer.echo(json.dumps(answer) if as_json else words)


def _fit(
    task: str, files: list[Path], entries: list[str], settings: FitSettings, seed: int, output: Path, as_json: bool
) -> None:
    from pipeline.identify import result
    from pipeline.identify.fit import fit
    from pipeline.identify.report import write_report
    from robot.log_files import read_log

    logs = [read_log(file, entries) for file in files]
    found = fit(logs, settings, seed)
    for sentence in (problem.sentence for log in logs for problem in log.problems):
        typer.echo(sentence, err=True)
    content = result.to_dict(found, logs, task)
    result.save(content, output)
    page = output.with_suffix(".png")
    write_report(found, logs, page)
    if as_json:
        typer.echo(json.dumps(content))
        return
    for name, entry in content["values"].items():
        interval = "given" if entry["fixed"] else f"[{entry['low']:.4g}, {entry['high']:.4g}]"
        typer.echo(f"{name:18} {entry['value']:10.4g} {entry['unit']:14} {interval}")
    for sentence in content["not_identifiable"]:
        typer.echo(f"not told: {sentence}")
    typer.echo(f"{output} and {page}")


def _fixed(entries: list[str]) -> dict[str, float]:
    from robot.interface import RobotError

    fixed = {}
    for entry in entries:
        name, _, value = entry.partition("=")
        try:
            fixed[name] = float(value)
        except ValueError:
            raise RobotError(f"fix: {entry!r} is not understood; accepted is NAME=VALUE, a number") from None
    return fixed
