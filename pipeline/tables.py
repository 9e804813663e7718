"""Tables the command line prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from envs.task import Task
from pipeline.config import Experiment
from pipeline.config_schema import keys, yaml_text
from pipeline.gap import rate_text
from pipeline.report import VERDICT_STYLE


def parameter_table(task: Task) -> Table:
    """What can differ between a task's simulated worlds."""
    table = _table("parameter", "nominal", "range", "bounds", "unit", "scale", "meaning")
    for p in task.parameters:
        is_fixed = p.default[0] == p.default[1]
        interval = Text("–", style="dim") if is_fixed else Text(_interval(p.default))
        table.add_row(p.name, f"{p.nominal:g}", interval, _interval(p.bounds), p.unit, p.scale, Text(p.description))
    return table


def config_table(experiment: Experiment) -> Table:
    """Every key, its value in this experiment and what it means. Entries of lists and mappings stand once."""
    table = _table("key", "value", "meaning")
    data = experiment.to_dict()
    section = ""
    for key in keys(Experiment):
        if section and key.path.partition(".")[0] != section and "." in key.path:
            table.add_section()
        section = key.path.partition(".")[0]
        if "<" in key.path:
            table.add_row(Text(key.path, style="dim"), "", Text(key.description))
            continue
        value: Any = data
        for part in key.path.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        text = yaml_text(value)
        style = "" if text == key.default or value is None else "bold"
        table.add_row(Text(key.path), Text(text, style=style), Text(key.description))
    return table


def evaluation_table(result: Mapping[str, Any]) -> Table:
    """{real, sim, gap} as `sim2real evaluate` shows it."""
    table = _table("", "success", "episodes", "mean return")
    for name, key in (("robot", "real"), ("simulation", "sim")):
        block = result.get(key) or {}
        n, mean = str(block.get("n", "–")), f"{block['mean_return']:.1f}" if block else "–"
        table.add_row(name, _rate(block), n, mean)
    gap = result.get("gap") or {}
    verdict = gap.get("verdict", "")
    table.add_row("gap", _rate(gap), Text(verdict, VERDICT_STYLE.get(verdict, "")), "")
    return table


def trial_table(trials: Sequence[Mapping[str, Any]]) -> Table:
    """The final result of each trial of a sweep."""
    swept = list(dict.fromkeys(key for trial in trials for key in trial.get("parameters", {})))
    table = _table("trial", *swept, "simulation", "robot", "gap", "verdict", "robot s")
    for trial in trials:
        final, verdict = trial["final"], trial["final"].get("gap", {}).get("verdict", "–")
        table.add_row(
            trial["run"],
            *(yaml_text(trial.get("parameters", {}).get(key)) for key in swept),
            _rate(final.get("sim") or {}),
            _rate(final.get("real") or {}),
            _rate(final.get("gap") or {}),
            Text(verdict, VERDICT_STYLE.get(verdict, "")),
            f"{sum(trial['robot_s'].values()):.0f}",
        )
    return table


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, no_wrap=i == 0, overflow="fold", max_width=48 if column == "value" else None)
    return table


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:g} to {interval[1]:g}"


def _rate(block: Mapping[str, Any] | None) -> Text:
    return Text(rate_text(block))
