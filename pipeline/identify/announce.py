"""What a fit found, on the terminal."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

STATES = {"given": "given", "open": "not told by the data"}
Line = tuple[str, Mapping[str, Any], str]  # name, entry, what is said of it


def announce(content: Mapping[str, Any], output: Path, page: Path, as_json: bool, more: Iterable[Line] = ()) -> None:
    """Print what was written to `output`, with `more` lines after the task's parameters; or all of it as JSON."""
    if as_json:
        typer.echo(json.dumps(content))
        return
    lines = [(name, entry, STATES.get(entry["known"], "")) for name, entry in content["values"].items()]
    for name, entry, said in (*lines, *more):
        interval = "" if said == "given" else f"[{entry['low']:.4g}, {entry['high']:.4g}]"
        typer.echo(f"{name:28} {entry['value']:10.4g} {entry['unit']:12} {interval:22} {said}".rstrip())
    for sentence in content["not_identifiable"]:
        typer.echo(f"not told: {sentence}")
    if content["record_instead"]:
        typer.echo(f"record instead: {content['record_instead']}")
    typer.echo(f"{output} and {page}")
