"""Commands on recorded data: `sim2real robot import`."""

from __future__ import annotations

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


def import_log(
    file: Annotated[Path, typer.Argument(metavar="FILE.csv", help="A recording with a header line.")],
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
