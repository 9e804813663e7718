"""How often 95 % intervals hold the truth, over synthetic robots: the task's worlds and effects, parameters drawn."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
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
from pipeline.identify.posterior import to_dict
from pipeline.identify.replay_recording import can_replay
from pipeline.identify.simulated import record
from pipeline.identify.task_command import PROCESSES
from pipeline.identify.unknowns import noise_of, unknowns
from robot.logs import Log

WEIGHED = {"cartpole": "cart.mass_kg", "pendulum": "arm.mass_kg"}  # given: a gain and the masses scale together
SPEED = 0.5
AT_ONCE = 8  # robots simulated side by side; each world takes memory
SEED = 20_000

Rows = dict[str, tuple[float, float, float, float, float]]  # by parameter: truth, estimate, low, high, sd


def measure(tasks: list[str], robots: int, recordings: int, seconds: float) -> dict[str, Any]:
    return {task: _any(task, robots, recordings, seconds) for task in tasks}


def _any(name: str, robots: int, recordings: int, seconds: float) -> dict[str, Any]:
    if not can_replay(make_task(name)):
        return _task(name, robots, recordings, seconds)
    report = replayed.coverage(name, robots, recordings * seconds)
    return report | {"parameters": {parameter: _summary(np.array(v)) for parameter, v in report.pop("rows").items()}}


def _task(name: str, robots: int, recordings: int, seconds: float) -> dict[str, Any]:
    """One fit a process at a time, as many processes as `sim2real identify` uses."""
    rows: dict[str, list[tuple[float, float, float, float, float]]] = {}
    took: list[float] = []
    began = time.perf_counter()
    context = multiprocessing.get_context("spawn")  # a forked PyBullet would share its parent's worlds
    with ProcessPoolExecutor(PROCESSES, context) as pool:
        jobs = [pool.submit(_fitted, name, true, logs) for true, logs in _robots(name, robots, recordings, seconds)]
        for done, job in enumerate(jobs, 1):
            found, fit_s = job.result()
            took.append(fit_s)
            for parameter, row in found.items():
                rows.setdefault(parameter, []).append(row)
            left_s = (time.perf_counter() - began) / done * (robots - done)
            tell(f"{name}: robot {done} of {robots}, {left_s / 60:.1f} min to go")
    parameters = {parameter: _summary(np.array(values)) for parameter, values in rows.items()}
    return {
        "robots": robots,
        "recordings": recordings,
        "seconds": seconds,
        "given": WEIGHED[name],
        "fit_cpu_s": float(np.median(took)),
        "coverage": float(np.mean([s["coverage"] for s in parameters.values()])),
        "parameters": parameters,
    }


def _robots(name: str, robots: int, recordings: int, seconds: float) -> Iterator[tuple[np.ndarray, list[Log]]]:
    """Parameters (d,) of each robot, drawn from the task's ranges, and recordings of it."""
    experiment = load_experiment(name)
    task, limits = experiment.make_task(), experiment.robot.limits
    space, given = task.parameters, WEIGHED[name]
    random = np.random.default_rng(SEED)
    low, high = (np.array([p.default[side] for p in space]) for side in (0, 1))
    drawn = random.uniform(space.own_scale(low), space.own_scale(high), (robots, len(space)))
    truth = np.where(space.is_log, np.exp(np.where(space.is_log, drawn, 0.0)), drawn)
    middle = float(space.nominal[space.index(given)])
    plans = design(task, limits, unknowns(task, {given: middle}, ()), recordings, SPEED)
    for first in range(0, robots, AT_ONCE):
        these = truth[first : first + AT_ONCE]
        logs = [
            record(task, limits, these, [plan] * len(these), seconds, SPEED, seed=SEED + 100 * first + k)
            for k, plan in enumerate(plans)
        ]
        for i, true in enumerate(these):
            yield true, [of_all[i] for of_all in logs]


def _fitted(name: str, true: np.ndarray, logs: list[Log]) -> tuple[Rows, float]:
    """What a fit of one robot found, and the CPU seconds it took."""
    task, given = make_task(name), WEIGHED[name]
    began = time.process_time()
    fit = fit_task(task, logs, FitSettings(fixed={given: float(true[task.parameters.index(given)])}))
    return _judged(fit, true), time.process_time() - began


def _judged(fit: TaskFit, true: np.ndarray) -> Rows:
    """The noise included."""
    space, values = fit.task.parameters, fit.unknowns.values(fit.draws)
    found = {}
    for name in fit.unknowns.free:
        i = space.index(name)
        low, high = np.percentile(values[:, i], [2.5, 97.5])
        found[name] = (true[i], fit.values[i], low, high, values[:, i].std())
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
            f"{result['seconds']:g} s; {result['given']} given; {result['fit_cpu_s']:.1f} CPU s a fit; "
            f"{result['coverage']:.3f} of all intervals hold the truth"
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
