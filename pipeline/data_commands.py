"""Commands on recorded data: `sim2real robot import`, `ledger` and `export-lerobot`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

MAP = Annotated[
    list[str] | None,
    typer.Option(
        "--map",
        metavar="NAME[.JOINT]=COLUMN[:UNIT]",
        help="Which column is which; NAME is time, position, velocity or torque (default: columns of these names, SI).",
    ),
]

RUN = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, such as runs/NAME.", show_default=False)]


def import_log(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A recording: CSV with a header line, or Parquet.")],
    columns: MAP = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to write it (default: FILE.parquet)."),
    ] = None,
) -> None:
    """Turn a recording into Parquet in SI units, with its own timestamps; what is wrong in it is told by rows."""
    from robot.interface import RobotError
    from robot.log_files import DEFAULT_MAP, read_log, write_log

    log = read_log(file, columns or DEFAULT_MAP)
    output = output or file.with_suffix(".parquet")
    if output.exists():
        raise RobotError(f"{output} exists; accepted is a file that does not, by --output")
    write_log(log, output)
    for problem in log.problems:
        typer.echo(problem.sentence, err=True)
    seconds = sum(float(log.time_s[piece][-1] - log.time_s[piece][0]) for piece in log.pieces())
    pieces = len(log.pieces())
    typer.echo(f"{output}: {len(log)} rows, {seconds:.2f} s in {pieces} piece{'s' if pieces != 1 else ''}")


def ledger(
    run_dir: RUN,
    as_json: Annotated[bool, typer.Option("--json", help="Print the totals as JSON and nothing else.")] = False,
) -> None:
    """Print where the robot's seconds went, by purpose, what they cost, and what is left of each budget."""
    from pipeline import run
    from robot.interface import RobotError
    from robot.ledger import PURPOSES, Ledger, entries

    path = run_dir / run.ROBOT_DIR / "ledger.jsonl"
    if not path.exists():
        raise RobotError(f"{path} does not exist; accepted is the folder of a run that used a robot")
    robot, lines = run.read_run(run_dir).robot, entries(path)
    left = Ledger(path, robot.cost_per_hour_usd, robot.budget_s, robot.budget_usd).budget_left()
    order = [*PURPOSES, *sorted({purpose for purpose, _, _ in lines} - set(PURPOSES))]
    rows = [
        (name, len(own), sum(seconds for seconds, _ in own), sum(cost for _, cost in own))
        for name in order
        if (own := [(seconds, cost) for purpose, seconds, cost in lines if purpose == name]) or name in PURPOSES
    ]
    total = ("total", len(lines), sum(row[2] for row in rows), sum(row[3] for row in rows))
    if as_json:
        keys = ("bookings", "seconds", "cost_usd")
        answer = {name: dict(zip(keys, numbers, strict=True)) for name, *numbers in (*rows, total)}
        typer.echo(json.dumps({**answer, "budget_left": left}))
        return
    typer.echo(f"{'':16}{'bookings':>10}{'seconds':>12}{'cost, USD':>12}{'budget left, s':>16}")
    for name, n, seconds, cost in (*rows, total):
        typer.echo(f"{name:16}{n:10}{seconds:12.1f}{cost:12.2f}" + (f"{left[name]:16.1f}" if name in left else ""))
    if "usd" in left:
        typer.echo(f"{left['usd']:.2f} of {robot.budget_usd:g} USD are left.")


def export_lerobot(
    run_dir: RUN,
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that does not exist yet.")],
    purpose: Annotated[
        str, typer.Option("--purpose", metavar="NAME", help="collection, evaluation, or all that are not void.")
    ] = "all",
) -> None:
    """Write a run's robot episodes as a LeRobot dataset (layout v2.1)."""
    from robot.episodes import EpisodeStore
    from robot.interface import RobotError
    from robot.lerobot_export import export

    source = run_dir / "robot" / "episodes"
    if not source.is_dir():
        raise RobotError(f"{source} does not exist; accepted is the folder of a run that used a robot")
    if purpose not in ("all", "collection", "evaluation"):
        raise RobotError(f"purpose: {purpose!r} is unknown; accepted are all, collection, evaluation")
    store = EpisodeStore(source)
    chosen = [meta for meta in store.list() if not meta.void and purpose in ("all", meta.purpose)]
    count, frames = export(store, chosen, directory)
    typer.echo(f"{directory}: {count} episodes, {frames} frames")
