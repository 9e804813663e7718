"""The command `sim2real identify`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.data_commands import MAP

if TYPE_CHECKING:
    from pipeline.identify.fit import FitSettings

TASKS = ("pendulum",)
SHIPPED = {"pendulum": Path(__file__).with_name("pendulum.yaml")}


def identify(
    task: Annotated[str, typer.Argument(metavar="TASK", help="What was recorded: pendulum, one driven joint.")],
    logs: Annotated[
        list[Path] | None,
        typer.Option("--log", metavar="FILE", help="A recording, CSV or Parquet; as often as you like."),
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
        typer.Option("--fix", metavar="NAME=VALUE", help="A constant you know; as often as you like."),
    ] = None,
    extra: Annotated[
        list[str] | None,
        typer.Option("--extra", metavar="NAME", help="Fit what is 0 otherwise: drag, stribeck, coulomb_asymmetry."),
    ] = None,
    columns: MAP = None,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write the result; plots go beside it."),
    ] = Path("identified.yaml"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")] = False,
) -> None:
    """Identify a machine from recordings, with uncertainty; or judge what was identified on another recording.

    Writes identified.yaml and a page of plots. With --use and --predict: how far off the predicted position is,
    open loop from the measured torque, from random starts.
    """
    from robot.interface import RobotError
    from robot.log_files import DEFAULT_MAP

    if task not in TASKS:
        raise RobotError(f"task: {task!r} cannot be identified from a recording; accepted: {', '.join(TASKS)}")
    if (use is None) != (to_predict is None) or (use is None) == (not logs):
        raise RobotError("identify: accepted is either --log FILE, or --use identified.yaml with --predict FILE")
    entries = columns or list(DEFAULT_MAP)
    if use is not None and to_predict is not None:
        _judge(use, to_predict, entries, horizon, starts, seed, as_json)
    else:
        from pipeline.identify.fit import FitSettings

        _fit(
            task,
            logs or [],
            entries,
            FitSettings(fixed=_fixed(fix or []), extra=tuple(extra or ())),
            seed,
            output,
            as_json,
        )


def _judge(use: Path, log: Path, entries: list[str], horizon: float, starts: int, seed: int, as_json: bool) -> None:
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
