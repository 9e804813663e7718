"""How training results look on a terminal and in a log: pure functions of the newest result."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from envs.randomization.parameters import Parameter
from pipeline.gap import rate_text
from pipeline.report import VERDICT_STYLE

Result = Mapping[str, Any]

BAR_CELLS = 16
WIDTH_FOR_BARS = 112  # columns of a terminal in which two ranges with their bars fit beside each other
NOTHING = "–"
WAITING = "waiting until the robot is identified"
STATE_STYLE = {
    "ok": "green",
    "degraded": "yellow",
    "connecting": "yellow",
    "unreachable": "red",
    "stopped": "bold red",
}


def line(result: Result, elapsed_s: float, trial: str = "") -> str:
    """One result on one line, for logs."""
    stage, speed, robot = _sections(result, "stage", "progress", "robot")
    parts = [
        f"[{duration(elapsed_s)}]" + (f" {trial}" if trial else ""),
        _doing(stage, robot),
        f"{count(speed.get('updates'))} updates",
        f"{count(speed.get('env_steps_s'))} env steps/s",
        f"{count(speed.get('updates_s'))} updates/s",
        f"sim {rate_text(result.get('sim'))}",
        f"robot {rate_text(result.get('real'))}",
        f"ranges v{result.get('adr', {}).get('version', 0)}",
        f"collected {count(robot.get('collection_s'))} s, evaluated {count(robot.get('evaluation_s'))} s",
        f"{duration(speed.get('eta_s'))} left",
    ]
    return " · ".join(parts)


def _doing(stage: Mapping[str, Any], robot: Mapping[str, Any]) -> str:
    if not stage.get("training", True):
        return _measuring(robot)
    return f"{stage_name(stage)} {_share(stage):.0%}" + (f", {WAITING}" if stage.get("waiting") else "")


def overview(result: Result, elapsed_s: float, collect_limit_s: float | None) -> Table:
    """Stage, speed, success, robot, ranges and time of one trial."""
    stage, speed, robot, adr = _sections(result, "stage", "progress", "robot", "adr")
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column()
    grid.add_row("stage", _stage(stage))
    grid.add_row("data", f"sim_ratio {stage.get('sim_ratio', 0):.2f}  dr_strength {stage.get('dr_strength', 0):.2f}")
    rates = f"{count(speed.get('env_steps_s'))} env steps/s  {count(speed.get('updates_s'))} updates/s"
    sums = f"{count(speed.get('env_steps'))} env steps, {count(speed.get('updates'))} updates"
    grid.add_row("speed", f"{rates}  in all {sums}")
    grid.add_row("success", _success(result))
    grid.add_row("robot", _robot(robot, collect_limit_s))
    entropy = adr.get("entropy")
    width = f"entropy {entropy:.2f} nats/dimension" if is_finite(entropy) else "no width"
    moves = "ADR moves them" if adr.get("active") else "held"
    grid.add_row("ranges", f"version {adr.get('version', 0)}  {width}  {moves}")
    if not stage.get("training", True):
        grid.add_row("now", _measuring(robot))
    elif stage.get("waiting"):
        grid.add_row("now", WAITING)
    grid.add_row("time", f"{duration(elapsed_s)} elapsed  about {duration(speed.get('eta_s'))} left")
    return grid


def ranges(result: Result, parameters: Sequence[Parameter], terminal_width: int) -> Table:
    """Every range that has a width, in two columns: where it lies within the hard bounds, and its ends."""
    intervals = result.get("adr", {}).get("ranges", {})
    shown = [p for p in parameters if p.name in intervals and intervals[p.name][1] > intervals[p.name][0]]
    table = Table.grid(padding=(0, 2))
    height = math.ceil(len(shown) / 2)
    for i in range(height):
        cells: list[RenderableType] = []
        for parameter in shown[i::height]:
            low, high = intervals[parameter.name]
            unit = "" if parameter.unit in ("1", "SI") else f" {parameter.unit}"
            cells.append(Text(f"  {parameter.name}", style="dim"))
            if terminal_width >= WIDTH_FOR_BARS:
                cells.append(Text(bar(parameter, low, high), style="cyan"))
            cells.append(f"{low:.3g} to {high:.3g}{unit}")
        table.add_row(*cells)
    return table


def _measuring(robot: Mapping[str, Any]) -> str:
    """Training is over: how far the robot is with what it still has to fly."""
    if not robot.get("episodes_open"):
        return "measuring"
    return f"measuring, episode {robot.get('episodes_flown', 0)} of {robot['episodes_open']} on the robot"


def trials(results: Mapping[str, Result]) -> Table:
    """One row for each trial of a sweep."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("trial", "stage", "", "simulation", "robot", "robot s", "updates/s"):
        table.add_column(title, no_wrap=True)
    for trial, result in results.items():
        stage, speed, robot = _sections(result, "stage", "progress", "robot")
        table.add_row(
            trial,
            stage_name(stage) if stage.get("training", True) else "measuring",
            ProgressBar(total=1.0, completed=speed.get("fraction", 0.0), width=12),
            _rate(result.get("sim")),
            _rate(result.get("real")),
            count(robot.get("collection_s", 0) + robot.get("evaluation_s", 0)),
            "done" if result.get("done") else count(speed.get("updates_s")),
        )
    return table


def stage_name(stage: Mapping[str, Any]) -> str:
    of = f" of {stage['count']}" if "count" in stage else ""
    return f"{stage.get('index', 0) + 1}{of} {stage.get('name', '')}".strip()


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds, such as 1:02:03 or 4:05."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    minutes, s = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def bar(parameter: Parameter, low: float, high: float) -> str:
    """The range within the hard bounds, in the parameter's scale: ━ inside, · outside, │ nominal."""
    scale = math.log if parameter.scale == "log" else float
    start, end = (scale(bound) for bound in parameter.bounds)

    def cell(value: float) -> int:
        share = (scale(value) - start) / (end - start)
        return min(BAR_CELLS - 1, max(0, int(share * BAR_CELLS)))

    first, last, nominal = cell(low), cell(high), cell(parameter.nominal)
    return "".join("│" if i == nominal else "━" if first <= i <= last else "·" for i in range(BAR_CELLS))


def is_finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def count(value: Any) -> str:
    """A number without decimals, thousands grouped; a dash where there is none."""
    return f"{value:,.0f}" if is_finite(value) else NOTHING


def _stage(stage: Mapping[str, Any]) -> RenderableType:
    if not stage.get("training", True):
        return Text("training is over; the last policies are being measured", style="bold cyan")
    row = Table.grid(padding=(0, 2))
    row.add_row(
        Text(stage_name(stage), style="bold cyan"),
        ProgressBar(total=1.0, completed=_share(stage), width=24),
        f"{count(stage.get('updates_in_stage'))} of {count(stage.get('updates_planned'))} updates",
    )
    return row


def _share(stage: Mapping[str, Any]) -> float:
    """How much of the stage's budget of updates is spent."""
    planned = stage.get("updates_planned") or 0
    return min(1.0, stage.get("updates_in_stage", 0) / planned) if planned else 0.0


def _success(result: Result) -> Table:
    table = Table.grid(padding=(0, 2))
    for title, key in (("simulation", "sim"), ("randomized", "randomized"), ("robot", "real")):
        block = result.get(key) or {}
        after = Text(f"after {count(block['updates'])} updates" if "updates" in block else "", style="dim")
        table.add_row(title, _rate(block), f"n {block['n']}" if block else "", after)
    if gap := result.get("gap"):
        verdict = gap.get("verdict", "")
        table.add_row("gap", _rate(gap), "", Text(verdict, VERDICT_STYLE.get(verdict, "")))
    return table


def _rate(block: Mapping[str, Any] | None) -> Text:
    value, _, interval = rate_text(block, with_n=False).partition(" ")
    return Text(value, style="bold") + Text(f" {interval}", style="dim")


def _robot(robot: Mapping[str, Any], collect_limit_s: float | None) -> Text:
    state = str(robot.get("state", "none"))
    limit = f" of {collect_limit_s:g}" if collect_limit_s is not None else ""
    why = f" ({robot['reason']})" if robot.get("reason") else ""
    parts = [
        f"{count(robot.get('collection_s', 0))}{limit} s collecting",
        f"{count(robot.get('evaluation_s', 0))} s evaluating",
        f"{robot.get('episodes', 0)} episodes",
    ]
    if seconds := robot.get("identification_s"):
        parts.insert(0, f"{count(seconds)} s identifying")
    for key, word in (("rounds_open", "round{} under way"), ("link_errors", "link error{}")):
        if n := robot.get(key):
            parts.append(f"{n} {word.format('s' if n > 1 else '')}")
    return Text(state, style=STATE_STYLE.get(state, "")) + Text("  ".join([why, *parts]))


def _sections(result: Result, *names: str) -> list[Mapping[str, Any]]:
    return [result.get(name) or {} for name in names]


def heading(title: str, *parts: RenderableType) -> Group:
    return Group(Text(title, style="bold"), *parts)
