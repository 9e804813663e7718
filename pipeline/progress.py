"""Progress: what a run is doing, live on a terminal and as one line every few seconds in a log."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from ray.tune import Callback
from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from pipeline import progress_view as view
from pipeline.config import Experiment

LINE_EVERY_S = 5.0
REFRESH_HZ = 4.0


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
        self._title = f"{run or experiment.name} · task {experiment.task} · seed {experiment.seed}"
        self._parameters = tuple(experiment.make_task().parameters)
        self._collect_limit_s = experiment.rounds.collect_limit_s
        self._is_sweep = experiment.sweep is not None
        self._results: dict[str, Mapping[str, Any]] = {}  # the newest of each trial, by its label
        self._rows_told: dict[str, int] = {}  # stages of each trial whose end was told
        self._sentences_told: dict[str, int] = {}
        self._started = clock()
        self._line_at = -math.inf
        self._stage_told: Any = None
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
        """End the display and leave its last state on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None
            if self._results:
                self._console.print(self.render(), highlight=False)
        else:
            for trial in self._results:
                self._print_line(trial)

    def update(self, result: Mapping[str, Any], trial: str = "") -> None:
        """Take the newest result of a trial; in a sweep `trial` is what tells it from the others."""
        self._results[trial] = result
        self._tell_finished_stages(result, trial)
        self._tell_sentences(result, trial)
        if self._live is None:
            stage = (result.get("stage") or {}).get("index")
            is_new_stage = not self._is_sweep and stage != self._stage_told
            if is_new_stage or self._clock() - self._line_at >= LINE_EVERY_S:
                self._line_at, self._stage_told = self._clock(), stage
                self._print_line(trial)

    def message(self, text: str) -> None:
        """Print a line that stays, above the display."""
        self._console.print(Text(text), highlight=False, soft_wrap=True)

    def render(self) -> RenderableType:
        """The display as it is now."""
        elapsed_s = self._clock() - self._started
        if not self._results:
            return Text(f"{self._title} · starting, {view.duration(elapsed_s)}", style="dim")
        if self._is_sweep:
            return view.heading(self._title, view.trials(self._results))
        result = next(iter(self._results.values()))
        return view.heading(
            self._title,
            view.overview(result, elapsed_s, self._collect_limit_s),
            view.ranges(result, self._parameters, self._console.width),
        )

    def _print_line(self, trial: str) -> None:
        self.message(view.line(self._results[trial], self._clock() - self._started, trial))

    def _tell_finished_stages(self, result: Mapping[str, Any], trial: str) -> None:
        """One line for each stage that ended since the last result, in the order they ended."""
        rows = result.get("stages") or []
        for row in rows[self._rows_told.get(trial, 0) :]:
            why = f": {row['why']}" if row.get("why") else ""
            self.message(f"{trial + ' · ' if trial else ''}stage {row['name']} ended{why}")
        self._rows_told[trial] = len(rows)

    def _tell_sentences(self, result: Mapping[str, Any], trial: str) -> None:
        """What came of identification since the last result."""
        told = (result.get("identification") or {}).get("told") or []
        for sentence in told[self._sentences_told.get(trial, 0) :]:
            self.message(f"{trial + ' · ' if trial else ''}{sentence}")
        self._sentences_told[trial] = len(told)


class ProgressCallback(Callback):
    """Hands the results of Tune's trials to a Progress.

    Tune pickles its callbacks beside the run; a copy made that way has no display and does nothing.
    """

    def __init__(self, display: Progress | None) -> None:
        self._display = display

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (None,)

    def on_trial_result(self, iteration: int, trials: list, trial: Any, result: dict[str, Any], **info: Any) -> None:
        if self._display is not None:
            self._display.update(result, trial_label(trial))

    def on_trial_error(self, iteration: int, trials: list, trial: Any, **info: Any) -> None:
        if self._display is not None:
            self._display.message(f"trial {trial_label(trial) or trial.trial_id} failed; see {trial.path}")


def trial_label(trial: Any) -> str:
    """What tells a trial from the others: its swept values, or nothing where there is no sweep."""
    values = {key.rpartition("/")[2]: value for key, value in (trial.evaluated_params or {}).items()}
    return ", ".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in values.items())
