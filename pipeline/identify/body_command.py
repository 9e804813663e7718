"""`sim2real identify TASK --routine drop`: restitution and friction of a body that a tracker sees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import typer

from envs.bindings import BodyContact
from envs.task import Task
from pipeline.identify import identified
from robot.body_log import BodyLog, read_body
from robot.bounce import restitution
from robot.estimate import Estimate
from robot.interface import RobotError
from robot.slide import friction

ROUTINE = "drop"


def identify_body(task: Task, files: Sequence[Path], entries: Sequence[str], output: Path, as_json: bool) -> None:
    """Look for drops and slides of the task's first body in these logs; print what they tell, and write it."""
    if not task.bodies:
        raise RobotError(
            f"routine: drop given, and {task.name} has no body of its own; accepted is a task such as push"
        )
    logs = [read_body(file, entries) for file in files]
    for sentence in (problem for log in logs for problem in log.problems):
        typer.echo(sentence, err=True)
    found, refused = _look(logs)
    if not found:
        raise RobotError(" ".join(refused))
    content = to_dict(task, found, logs, refused)
    identified.save(content, output)
    if as_json:
        typer.echo(json.dumps({"estimates": [{"source": s, **asdict(e)} for s, e in found], **content}))
        return
    for source, one in found:
        typer.echo(f"{source:24} {one.name:12} {one.value:8.4g} {one.unit:4} [{one.low:.4g}, {one.high:.4g}]")
    for name, entry in content["values"].items():
        typer.echo(f"{name} = {entry['value']:.4g} [{entry['low']:.4g}, {entry['high']:.4g}]")
    for sentence in (*refused, *content["not_identifiable"]):
        typer.echo(f"not told: {sentence}")
    typer.echo(str(output))


def to_dict(
    task: Task, found: Sequence[tuple[str, Estimate]], logs: Sequence[BodyLog], refused: Sequence[str]
) -> dict[str, Any]:
    """identified.yaml with what a parameter of the task stands for; the rest is under `measured`."""
    body, under = task.bodies[0], task.scene.fixtures[0] if task.scene.fixtures else None
    bound = {b.quantity: n for n, b in task.scene.bindings.items() if isinstance(b, BodyContact) and b.body == body}
    values: dict[str, dict[str, Any]] = {}
    told = list(refused)
    mu = _pooled([one for _, one in found if one.name == "friction"])
    if mu is not None and under is not None and (name := bound.get("lateralFriction")):
        # An engine multiplies the frictions of both sides.
        space = task.parameters[task.parameters.index(name)]
        low, value, high = (min(max(x / under.lateral_friction, space.bounds[0]), space.bounds[1]) for x in mu)
        values[name] = {"value": value, "low": low, "high": high, "unit": space.unit, "known": "told"}
    if any(one.name == "restitution" for _, one in found):
        told.append(
            f"a parameter for the restitution: simulated contacts of {body} are springs and dampers; compare its "
            "bounce with that of a simulated drop"
        )
    names = list(values)
    own = [
        np.log(values[n]["value"]) if task.parameters[task.parameters.index(n)].scale == "log" else values[n]["value"]
        for n in names
    ]
    sd = [_sd(values[n], task.parameters[task.parameters.index(n)].scale == "log") for n in names]
    rounded = {
        n: {k: float(f"{v:.6g}") if isinstance(v, float) else v for k, v in e.items()} for n, e in values.items()
    }
    return {
        "format": identified.FORMAT,
        "task": task.name,
        "values": rounded,
        "order": names,
        "mean": [float(x) for x in own],
        "covariance": np.diag(np.square(sd)).tolist() if names else [],
        "not_identifiable": told,
        "measured": [{"source": s, **asdict(one)} for s, one in found],
        "logs": [
            {"source": log.source, "sha256": log.sha256, "rows": len(log), "problems": list(log.problems)}
            for log in logs
        ],
    }


def _look(logs: Sequence[BodyLog]) -> tuple[list[tuple[str, Estimate]], list[str]]:
    """Of each log what it tells, and a sentence on what none tells."""
    found: list[tuple[str, Estimate]] = []
    refused = []
    for name, routine in (("restitution", restitution), ("friction", friction)):
        said, before = [], len(found)
        for log in logs:
            try:
                found += [(log.source, one) for one in routine(log)]
            except RobotError as error:
                said.append(f"{name}: {error}")
        if len(found) == before:
            refused += said
    return found, refused


def _pooled(some: Sequence[Estimate]) -> tuple[float, float, float] | None:
    """low, value, high over several logs: their mean by information, as wide as they differ."""
    if not some:
        return None
    half = np.array([max((one.high - one.low) / 2, 1e-6) for one in some])
    values, weight = np.array([one.value for one in some]), half**-2
    value = float(values @ weight / weight.sum())
    differ = float(np.sqrt(weight @ np.square(values - value) / weight.sum() / max(len(some) - 1, 1)))
    wide = max(float(weight.sum() ** -0.5), 1.96 * differ)
    if len(some) == 1:
        return some[0].low, value, some[0].high
    return value - wide, value, value + wide


def _sd(entry: dict[str, Any], is_log: bool) -> float:
    low, high = entry["low"], entry["high"]
    return float((np.log(high / low) if is_log else high - low) / (2 * 1.96))
