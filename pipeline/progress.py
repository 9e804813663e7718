"""Progress: what a run is doing, live on a terminal and as one line every few seconds in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Callback
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from envs.randomization.parameters import Parameter
from pipeline.config import Experiment

LINE_EVERY_S = 5.0
BAR_CELLS = 16
WIDTH_FOR_BARS = 112  # columns of a terminal in which two ranges with their bars fit beside each other
REFRESH_HZ = 4.0
NOTHING = "–"
STATE_STYLE = {
    "ok": "green",
    "degraded": "yellow",
    "connecting": "yellow",
    "unreachable": "red",
    "stopped": "bold red",
}
VERDICT_STYLE = {"good": "green", "moderate": "yellow", "poor": "red"}


class Progress:
    """Shows training results as they come. Use it as a context manager around the run.

    On a terminal one display is kept up to date; elsewhere (a log, CI) a line is printed at most every
    LINE_EVERY_S, and whenever the stage changes. Finished stages and messages stay on the screen.
    """

    def __init__(
        self,
        console: Console,
        experiment: Experiment,
        run: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._console, self._clock = console, clock
        self._title = " · ".join(
            filter(None, [run or experiment.name, f"task {experiment.task}", f"seed {experiment.seed}"])
        )
        self._parameters = tuple(experiment.make_task().parameters)
        self._collect_limit_s = experiment.rounds.collect_limit_s
        self._is_sweep = experiment.sweep is not None
        self._results: dict[str, Mapping[str, Any]] = {}  # the newest of each trial, by its label
        self._rows_told: dict[str, int] = {}
        self._started = clock()
        self._line_at = -math.inf
        self._stage_shown: Any = None
        self._live: Live | None = None

    def __enter__(self) -> Progress:
        self._started = self._clock()
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                get_renderable=self.render,
                refresh_per_second=REFRESH_HZ,
                transient=True,
            )
            self._live.start()
        return self

    def __exit__(self, *exception: Any) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
        if self._results:
            self._console.print(self.render() if self._console.is_terminal else self.line(), highlight=False)

    def update(self, result: Mapping[str, Any], trial: str = "") -> None:
        """Take the newest result of a trial; in a sweep `trial` is what tells it from the others."""
        self._results[trial] = result
        self._tell_finished_stages(result, trial)
        if self._live is None:
            self._print_line(result, trial)

    def message(self, text: str) -> None:
        """Print a line that stays, above the display."""
        self._console.print(Text(text), highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        """The display as it is now."""
        if not self._results:
            return Text(f"{self._title} · starting, {duration(self._clock() - self._started)}", style="dim")
        if self._is_sweep:
            return Group(Text(self._title, style="bold"), self._trials())
        result = next(iter(self._results.values()))
        parts = [Text(self._title, style="bold"), self._overview(result)]
        if ranges := _get(result, "adr", "ranges"):
            parts.append(self._ranges(ranges))
        return Group(*parts)

    def line(self, trial: str = "") -> str:
        """The newest result of a trial on one line, for logs."""
        result = self._results.get(trial, {})
        stage, speed, robot = (_get(result, key) or {} for key in ("stage", "progress", "robot"))
        parts = [
            f"[{duration(self._clock() - self._started)}]" + (f" {trial}" if trial else ""),
            f"{_stage_of(stage)} {_share(stage):.0%}" if stage.get("training", True) else "measuring",
            f"{_count(speed.get('updates'))} updates",
            f"{_count(speed.get('env_steps_s'))} env steps/s",
            f"{_count(speed.get('updates_s'))} updates/s",
            f"sim {success(result.get('sim'))}",
            f"robot {success(result.get('real'))}",
            f"ranges v{_get(result, 'adr', 'version') or 0}",
            f"collected {_seconds(robot.get('collection_s'))}",
            f"evaluated {_seconds(robot.get('evaluation_s'))}",
            f"{duration(speed.get('eta_s'))} left",
        ]
        return " · ".join(parts)

    # -- parts of the display ----------------------------------------------------------------------------

    def _overview(self, result: Mapping[str, Any]) -> Table:
        stage, speed, robot, adr = (_get(result, key) or {} for key in ("stage", "progress", "robot", "adr"))
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", no_wrap=True)
        grid.add_column()
        grid.add_row("stage", self._stage(stage))
        grid.add_row(
            "speed",
            _join(
                f"{_count(speed.get('env_steps_s'))} env steps/s",
                f"{_count(speed.get('updates_s'))} updates/s",
                f"in all {_count(speed.get('env_steps'))} env steps, {_count(speed.get('updates'))} updates",
            ),
        )
        grid.add_row("success", self._success(result))
        grid.add_row("robot", self._robot(robot))
        entropy = adr.get("entropy")
        grid.add_row(
            "ranges",
            _join(
                f"version {adr.get('version', 0)}",
                f"entropy {entropy:.2f} nats/dimension" if _finite(entropy) else "no width",
                "moved by ADR" if adr.get("active") else "held",
            ),
        )
        grid.add_row(
            "time",
            _join(
                f"{duration(self._clock() - self._started)} elapsed",
                f"about {duration(speed.get('eta_s'))} left"
                if stage.get("training", True)
                else "training is over",
            ),
        )
        return grid

    def _stage(self, stage: Mapping[str, Any]) -> Table:
        row = Table.grid(padding=(0, 2))
        row.add_row(
            Text(_stage_of(stage), style="bold cyan"),
            ProgressBar(total=1.0, completed=_share(stage), width=24),
            f"{_count(stage.get('updates_in_stage'))} of {_count(stage.get('updates_planned'))} updates",
            f"sim_ratio {stage.get('sim_ratio', 0):.2f}",
            f"dr_strength {stage.get('dr_strength', 0):.2f}",
        )
        return row

    def _success(self, result: Mapping[str, Any]) -> Table:
        table = Table.grid(padding=(0, 2))
        for title, key in (("simulation", "sim"), ("randomized", "randomized"), ("robot", "real")):
            block = result.get(key)
            after = f"after {_count(block['updates'])} updates" if block and "updates" in block else ""
            table.add_row(
                title,
                success(block, self._styled),
                f"n {block['n']}" if block else "",
                Text(after, style="dim"),
            )
        difference = result.get("gap")
        if difference:
            verdict = difference.get("verdict", "")
            table.add_row(
                "gap", success(difference, self._styled), Text(verdict, VERDICT_STYLE.get(verdict, "")), ""
            )
        return table

    @staticmethod
    def _styled(text: str) -> str:
        value, _, interval = text.partition(" ")
        return f"[bold]{value}[/] [dim]{interval.replace('[', chr(92) + '[')}[/]" if interval else text

    def _robot(self, robot: Mapping[str, Any]) -> Text:
        state = str(robot.get("state", "none"))
        limit = f" of {self._collect_limit_s:g}" if self._collect_limit_s is not None else ""
        text = Text(state, style=STATE_STYLE.get(state, "")) + Text(
            f" ({robot['reason']})" if robot.get("reason") else ""
        )
        rest = [
            f"{robot.get('collection_s', 0):.0f}{limit} s collecting",
            f"{robot.get('evaluation_s', 0):.0f} s evaluating",
            f"{robot.get('episodes', 0)} episodes",
        ]
        if robot.get("rounds_open"):
            rest.append(f"{robot['rounds_open']} round{'s'[: robot['rounds_open'] > 1]} under way")
        if robot.get("link_errors"):
            rest.append(f"{robot['link_errors']} link errors")
        return text + Text("  " + "  ".join(rest))

    def _ranges(self, ranges: Mapping[str, Any]) -> Table:
        """Every range that has a width, in two columns: where it lies within the hard bounds, and its ends."""
        shown = [p for p in self._parameters if p.name in ranges and ranges[p.name][1] > ranges[p.name][0]]
        with_bars = self._console.width >= WIDTH_FOR_BARS
        table = Table.grid(padding=(0, 2))
        height = math.ceil(len(shown) / 2)
        for i in range(height):
            cells: list[RenderableType] = []
            for parameter in shown[i::height]:
                low, high = ranges[parameter.name]
                unit = "" if parameter.unit in ("1", "SI") else f" {parameter.unit}"
                cells.append(Text(f"  {parameter.name}", style="dim"))
                if with_bars:
                    cells.append(Text(_bar(parameter, low, high), style="cyan"))
                cells.append(f"{low:.3g} to {high:.3g}{unit}")
            table.add_row(*cells)
        return table

    def _trials(self) -> Table:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("trial", "stage", "", "simulation", "robot", "robot s", "updates/s"):
            table.add_column(title, no_wrap=True)
        for trial, result in self._results.items():
            stage, speed, robot = (_get(result, key) or {} for key in ("stage", "progress", "robot"))
            table.add_row(
                trial,
                _stage_of(stage) if stage.get("training", True) else "measuring",
                ProgressBar(total=1.0, completed=speed.get("fraction", 0.0), width=12),
                success(result.get("sim"), self._styled),
                success(result.get("real"), self._styled),
                _count(robot.get("collection_s", 0) + robot.get("evaluation_s", 0)),
                "done" if result.get("done") else _count(speed.get("updates_s")),
            )
        return table

    # -- what stays on the screen ------------------------------------------------------------------------

    def _tell_finished_stages(self, result: Mapping[str, Any], trial: str) -> None:
        """One line for each stage that ended since the last result, in the order they ended."""
        rows = result.get("stages") or []
        for row in rows[self._rows_told.get(trial, 0) :]:
            why = f": {row['why']}" if row.get("why") else ""
            self.message(f"{trial + ' · ' if trial else ''}stage {row['name']} ended{why}")
        self._rows_told[trial] = len(rows)

    def _print_line(self, result: Mapping[str, Any], trial: str) -> None:
        now, stage = self._clock(), (trial, _get(result, "stage", "index"))
        if now - self._line_at >= LINE_EVERY_S or (not self._is_sweep and stage != self._stage_shown):
            self._line_at, self._stage_shown = now, stage
            self._console.print(self.line(trial), highlight=False, markup=False, soft_wrap=True)


class ProgressCallback(Callback):
    """Hands the results of Tune's trials to a Progress."""

    def __init__(self, progress: Progress) -> None:
        self._progress: Progress | None = progress

    def __getstate__(self) -> dict[str, Any]:
        """Without the terminal: Tune pickles its callbacks, and a resumed run has a terminal of its own."""
        return {"_progress": None}

    def on_trial_result(
        self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._progress.update(result, trial_label(trial))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        label = trial_label(trial)
        self._progress.message(
            f"trial {label or trial.trial_id} failed; its folder {trial.path} has the error"
        )


def trial_label(trial: Any) -> str:
    """What tells a trial from the others: its swept values, or nothing where there is no sweep."""
    values = getattr(trial, "evaluated_params", None) or {}
    return ", ".join(f"{key.rpartition('/')[2]}={_number(value)}" for key, value in values.items())


def success(block: Mapping[str, Any] | None, style: Callable[[str], str] = str) -> str:
    """A rate or a difference with its 95 % interval, such as "0.98 [0.93, 0.99]"."""
    if not block or block.get("success") is None:
        return NOTHING
    return style(f"{block['success']:.2f} [{block['low']:.2f}, {block['high']:.2f}]")


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds, such as 1:02:03 or 4:05."""
    if seconds is None or not math.isfinite(seconds):
        return NOTHING
    minutes, s = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{s:02}" if hours else f"{minutes}:{s:02}"


def _bar(parameter: Parameter, low: float, high: float) -> str:
    """The range within the hard bounds, in the parameter's scale: ━ inside, · outside, │ nominal."""
    scale = math.log if parameter.scale == "log" else float
    start, end = (scale(bound) for bound in parameter.bounds)

    def cell(value: float) -> int:
        share = (scale(value) - start) / (end - start)
        return min(BAR_CELLS - 1, max(0, int(share * BAR_CELLS)))

    first, last, nominal = cell(low), cell(high), cell(parameter.nominal)
    return "".join("│" if i == nominal else "━" if first <= i <= last else "·" for i in range(BAR_CELLS))


def _get(result: Mapping[str, Any], *keys: str) -> Any:
    for key in keys:
        if not isinstance(result, Mapping) or key not in result:
            return None
        result = result[key]
    return result


def _stage_of(stage: Mapping[str, Any]) -> str:
    count = f" of {stage['count']}" if "count" in stage else ""
    return f"{stage.get('index', 0) + 1}{count} {stage.get('name', '')}".strip()


def _share(stage: Mapping[str, Any]) -> float:
    """How much of the stage's budget of updates is spent."""
    planned = stage.get("updates_planned") or 0
    return min(1.0, stage.get("updates_in_stage", 0) / planned) if planned else 0.0


def _finite(value: Any) -> bool:
    return value is not None and math.isfinite(value)


def _count(value: Any) -> str:
    return f"{value:,.0f}" if _finite(value) else NOTHING


def _seconds(value: Any) -> str:
    return f"{_count(value)} s"


def _number(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def _join(*parts: str) -> str:
    return "  ".join(parts)
