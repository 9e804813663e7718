"""What identification finds on an arm's twin, judged by its hidden file after the fact."""

from __future__ import annotations

import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.console import Console
from rich.table import Table

import robot.twin
from benchmarks.common import tell
from envs.registry import make_task
from pipeline.config import load_experiment
from pipeline.identify import arm_command
from pipeline.identify.arm_fit import ArmFit, fit_arm
from pipeline.identify.arm_result import told

HIDDEN = Path(robot.twin.__file__).parent / "hidden"
VARIED = {  # by which factors the hidden values of other arms differ
    "mass_scale": (0.7, 1.3),
    "armature_kg_m2": (0.5, 1.6),
    "viscous_nm_s": (0.4, 2.0),
    "coulomb_nm": (0.3, 2.0),
    "stiffness_nm_rad": (0.6, 1.5),
    "damping_nm_s": (0.7, 1.3),
    "lag_ms": (0.3, 2.0),
    "latency_ms": (0.3, 1.5),
    "latency_jitter_ms": (0.2, 1.3),
    "gain": (0.95, 1.1),
    "compensation": (0.9, 1.04),
    "torque_noise_nm": (0.3, 1.5),
    "sensor_noise_rad": (0.4, 2.0),
    "sensor_noise_rad_s": (0.4, 2.0),
    "sensor_noise_nm": (0.4, 2.0),
}


def is_arm(name: str) -> bool:
    return make_task(name).scene.motors_take == "velocity"


def measure(name: str, seconds: float, seed: int, hidden: dict[str, float] | None = None) -> dict[str, Any]:
    """One recording of the twin at 100 Hz, fitted; `hidden` in place of the shipped values."""
    truth = hidden or yaml.safe_load((HIDDEN / f"{name}.yaml").read_text())
    with tempfile.TemporaryDirectory(prefix="identify-") as folder:
        overrides = []
        if hidden is not None:
            file = Path(folder) / "hidden.yaml"
            file.write_text(yaml.safe_dump(hidden))
            overrides = [f"robot.twin.hidden={file}"]
        experiment = load_experiment(name, overrides)
        task = experiment.make_task()
        began, cpu = time.perf_counter(), time.process_time()
        logs = arm_command.record(experiment, task, 1, seconds, seed, Path(folder))
        recorded_s = time.perf_counter() - began
        began, cpu = time.perf_counter(), time.process_time()
        fit = fit_arm(task, logs, seed=seed)
        fit_s, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    tell(f"{name}, seed {seed}: recorded in {recorded_s:.1f} s, fitted in {fit_s:.1f} s ({cpu_s:.1f} s of CPU)")
    return {
        "task": name,
        "seed": seed,
        "recordings": 1,
        "seconds": seconds,
        "given": "",
        "record_s": recorded_s,
        "fit_s": fit_s,
        "fit_cpu_s": cpu_s,
        "parameters": _judged(fit, truth),
    }


def measure_many(name: str, count: int, seconds: float, seed: int) -> dict[str, Any]:
    """Arms drawn around the shipped one: largest errors by quantity, and how often 95 % intervals hold the truth."""
    shipped = yaml.safe_load((HIDDEN / f"{name}.yaml").read_text())
    random = np.random.default_rng(seed)
    found = []
    for k in range(count):
        drawn = {key: float(random.uniform(*VARIED[key])) for key in VARIED}
        hidden = {key: float(value * drawn.get(key, 1.0)) for key, value in shipped.items()}
        found.append(measure(name, seconds, seed + k, hidden))
    kinds: dict[str, list[tuple[float, float, bool]]] = {}
    for one in found:
        for parameter, row in one["parameters"].items():
            error = row["value"] - row["truth"]
            relative = abs(error / row["truth"]) if row["truth"] else math.nan
            kinds.setdefault(parameter.split()[-1], []).append((abs(error), relative, row["holds"]))
    summary = {}
    for kind, rows in kinds.items():
        errors, shares, holds = (np.array(column, float) for column in zip(*rows, strict=True))
        summary[kind] = {
            "n": len(rows),
            "median_error": float(np.median(errors)),
            "p95_error": float(np.percentile(errors, 95)),
            "median_share": float(np.median(shares)),
            "p95_share": float(np.percentile(shares, 95)),
            "coverage": float(holds.mean()),
        }
    fit_s = [one["fit_s"] for one in found]
    return {"task": name, "arms": count, "seconds": seconds, "fit_s": max(fit_s), "summary": summary, "each": found}


def _judged(fit: ArmFit, hidden: dict[str, float]) -> dict[str, dict[str, float | bool]]:
    """A jittery latency is worth its mean; the simulation's damping is that of the nominal joints times its scale."""
    late = hidden["latency_ms"] + hidden["latency_jitter_ms"] * math.sqrt(2 / math.pi)
    truth = {
        "arm.mass_scale": hidden["mass_scale"],
        "action.delay_ms": late,
        "action.lag_ms": hidden["lag_ms"],
        "action.gain": hidden["gain"],
    }
    found: dict[str, dict[str, float | bool]] = {}
    low, high = np.percentile(fit.draws, [2.5, 97.5], axis=0)
    for k, name in enumerate(fit.free):
        if name in truth and told(fit)[k]:
            found[name] = _row(fit.value[k], low[k], high[k], truth[name])
    assert fit.response is not None and fit.torque is not None
    total = 1e3 * (fit.response.delay_s + fit.response.lag_s)
    ends = [1e3 * end for end in fit.response.interval("total_s")]
    found["action.delay_and_lag_ms"] = _row(total, ends[0], ends[1], late + hidden["lag_ms"])
    low, high = np.percentile(fit.torque.draws, [2.5, 97.5], axis=0)
    for kind in ("coulomb_nm", "viscous_nm_s", "armature_kg_m2"):
        for j, joint in enumerate(fit.task.scene.motors):
            i = fit.torque.own(j, kind)
            found[f"{joint} {kind}"] = _row(fit.torque.coefficients[i], low[i], high[i], hidden[kind])
    return found


def _row(value: float, low: float, high: float, true: float) -> dict[str, float | bool]:
    value, low, high = float(value), float(low), float(high)
    return {"value": value, "low": low, "high": high, "truth": true, "holds": low <= true <= high}


def show(report: dict[str, Any], console: Console) -> None:
    table = Table(
        title=f"{report['arms']} arms like {report['task']}'s twin, {report['seconds']:g} s each; slowest fit "
        f"{report['fit_s']:.1f} s"
    )
    for column in ("quantity", "n", "median error", "95 % of errors", "median share", "95 % of shares", "coverage"):
        table.add_column(column, no_wrap=True)
    for kind, row in report["summary"].items():
        table.add_row(
            kind,
            str(row["n"]),
            f"{row['median_error']:.3g}",
            f"{row['p95_error']:.3g}",
            f"{row['median_share']:.1%}",
            f"{row['p95_share']:.1%}",
            f"{row['coverage']:.2f}",
        )
    console.print(table)
