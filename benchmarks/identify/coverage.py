"""How often 95 % intervals hold the truth, over synthetic robots: the task's worlds and effects, parameters drawn."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common import tell
from benchmarks.identify import replayed
from envs.registry import make_task
from pipeline.config import load_experiment
from pipeline.gap import wilson
from pipeline.identify.design import design
from pipeline.identify.estimate import FitSettings, TaskFit, fit_task
from pipeline.identify.replay_recording import can_replay
from pipeline.identify.simulated import record
from pipeline.identify.unknowns import noise_of, unknowns

WEIGHED = {"cartpole": "cart.mass_kg", "pendulum": "arm.mass_kg"}  # given: a gain and the masses scale together
SPEED = 0.5
AT_ONCE = 8  # robots simulated side by side; each world takes memory
SEED = 20_000


def measure(tasks: list[str], robots: int, recordings: int, seconds: float) -> dict[str, Any]:
    return {task: _any(task, robots, recordings, seconds) for task in tasks}


def _any(name: str, robots: int, recordings: int, seconds: float) -> dict[str, Any]:
    if not can_replay(make_task(name)):
        return _task(name, robots, recordings, seconds)
    report = replayed.coverage(name, robots, recordings * seconds)
    return report | {"parameters": {parameter: _summary(np.array(v)) for parameter, v in report.pop("rows").items()}}


def _task(name: str, robots: int, recordings: int, seconds: float) -> dict[str, Any]:
    experiment = load_experiment(name)
    task, limits = experiment.make_task(), experiment.robot.limits
    space, given = task.parameters, WEIGHED[name]
    random = np.random.default_rng(SEED)
    low, high = (np.array([p.default[side] for p in space]) for side in (0, 1))
    drawn = random.uniform(space.own_scale(low), space.own_scale(high), (robots, len(space)))
    truth = np.where(space.is_log, np.exp(np.where(space.is_log, drawn, 0.0)), drawn)
    middle = float(space.nominal[space.index(given)])
    plans = design(task, limits, unknowns(task, {given: middle}, ()), recordings, SPEED)
    rows: dict[str, list[tuple[float, float, float, float, float]]] = {}
    took: list[float] = []
    for first in range(0, robots, AT_ONCE):
        these = truth[first : first + AT_ONCE]
        logs = [
            record(task, limits, these, [plan] * len(these), seconds, SPEED, seed=SEED + 100 * first + k)
            for k, plan in enumerate(plans)
        ]
        for i, true in enumerate(these):
            began = time.perf_counter()
            fit = fit_task(
                task, [of_all[i] for of_all in logs], FitSettings(fixed={given: float(true[space.index(given)])})
            )
            took.append(time.perf_counter() - began)
            for parameter, row in _judged(fit, true).items():
                rows.setdefault(parameter, []).append(row)
            done = first + i + 1
            tell(f"{name}: robot {done} of {robots}, {np.mean(took) * (robots - done) / 60:.1f} min to go")
    return {
        "robots": robots,
        "recordings": recordings,
        "seconds": seconds,
        "given": given,
        "fit_s": float(np.median(took)),
        "parameters": {parameter: _summary(np.array(values)) for parameter, values in rows.items()},
    }


def _judged(fit: TaskFit, true: np.ndarray) -> dict[str, tuple[float, float, float, float, float]]:
    """{parameter: (truth, estimate, low, high, sd)}, the noise included."""
    space, values = fit.task.parameters, fit.unknowns.values(fit.draws)
    found = {}
    for name in fit.unknowns.free:
        i = space.index(name)
        low, high = np.percentile(values[:, i], [2.5, 97.5])
        found[name] = (true[i], fit.values[i], low, high, values[:, i].std())
    from pipeline.identify.posterior import to_dict

    entries = to_dict(fit, {})["values"]
    for name in noise_of(fit.task).values():
        entry = entries[name]
        sd = (entry["high"] - entry["low"]) / 3.92
        found[name] = (true[space.index(name)], entry["value"], entry["low"], entry["high"], sd)
    return found


def _summary(rows: np.ndarray) -> dict[str, float]:
    true, estimate, low, high, sd = rows.T
    slack = 1e-9 + 1e-6 * np.abs(true)
    inside = (true >= low - slack) & (true <= high + slack)
    least, most = wilson(int(inside.sum()), len(inside))
    z = (estimate - true) / np.maximum(sd, 1e-12)
    return {
        "coverage": float(inside.mean()),
        "low": least,
        "high": most,
        "n": len(inside),
        "z_mean": float(z.mean()),
        "z_sd": float(z.std()),
        "half_width": float(np.median((high - low) / 2)),
        "error": float(np.median(np.abs(estimate - true))),
    }


def show(report: dict[str, Any], console: Console) -> None:
    for name, result in report.items():
        title = (
            f"{name}: {result['robots']} synthetic robots, {result['recordings']} recordings of "
            f"{result['seconds']:g} s; {result['given']} given; {result['fit_s']:.1f} s a fit in one process"
        )
        table = Table(title=title)
        for column in ("parameter", "95 % interval holds the truth", "z, mean ± sd", "half width", "median error"):
            table.add_column(column, no_wrap=True)
        for parameter, s in result["parameters"].items():
            table.add_row(
                parameter,
                f"{s['coverage']:.2f} [{s['low']:.2f}, {s['high']:.2f}]",
                f"{s['z_mean']:+.2f} ± {s['z_sd']:.2f}",
                f"{s['half_width']:.3g}",
                f"{s['error']:.3g}",
            )
        console.print(table)
