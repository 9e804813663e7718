"""What identification finds on the twin, judged by the twin's hidden file after the fact. Nothing else reads it."""

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
from benchmarks.identify import replayed
from envs.registry import make_task
from pipeline.config import load_experiment
from pipeline.identify.estimate import FitSettings, TaskFit, fit_task
from pipeline.identify.replay_recording import can_replay
from pipeline.identify.task_command import PROCESSES, record_on
from pipeline.identify.unknowns import noise_of

HIDDEN = Path(robot.twin.__file__).parent / "hidden"
WEIGHED = {"cartpole": "cart.mass_kg", "pendulum": "action.gain"}


def measure(tasks: list[str], recordings: int, seconds: float, seeds: list[int]) -> list[dict[str, Any]]:
    return [_one(task, recordings, seconds, seed) for task in tasks for seed in seeds]


def _one(name: str, recordings: int, seconds: float, seed: int) -> dict[str, Any]:
    if can_replay(make_task(name)):
        hidden = yaml.safe_load((HIDDEN / f"{name}.yaml").read_text())
        return replayed.on_twin(name, hidden, recordings * seconds, seed)
    truth = _truth(name)
    task, given = load_experiment(name).make_task(), WEIGHED[name]
    settings = FitSettings(fixed={given: truth[given]}, processes=PROCESSES)
    with tempfile.TemporaryDirectory(prefix="identify-") as folder:
        began = time.perf_counter()
        logs = record_on(task, name, settings, recordings, seconds, seed, Path(folder))
        recorded_s = time.perf_counter() - began
        began = time.perf_counter()
        fit = fit_task(task, logs, settings, seed)
        fit_s = time.perf_counter() - began
    tell(f"{name}, seed {seed}: recorded in {recorded_s:.1f} s, fitted in {fit_s:.1f} s")
    return {
        "task": name,
        "seed": seed,
        "recordings": recordings,
        "seconds": seconds,
        "given": given,
        "record_s": recorded_s,
        "fit_s": fit_s,
        "parameters": _judged(fit, truth),
    }


def _judged(fit: TaskFit, truth: dict[str, float]) -> dict[str, dict[str, float | bool]]:
    space, values = fit.task.parameters, fit.unknowns.values(fit.draws)
    found: dict[str, dict[str, float | bool]] = {}
    for name in fit.unknowns.free:
        if name in truth:
            i = space.index(name)
            low, high = (float(v) for v in np.percentile(values[:, i], [2.5, 97.5]))
            found[name] = _row(float(fit.values[i]), low, high, truth[name])
    noises: dict[str, np.ndarray] = {"sensor": fit.noise.sensor, "effort": fit.noise.effort}
    for kind, name in noise_of(fit.task).items():
        sd = float(np.sqrt(np.mean(np.square(noises[kind]))))
        found[name] = _row(sd, sd, sd, truth[name])
    return found


def _row(value: float, low: float, high: float, true: float) -> dict[str, float | bool]:
    return {"value": value, "low": low, "high": high, "truth": true, "holds": low <= true <= high}


def _truth(name: str) -> dict[str, float]:
    """The hidden values in the task's parameters. A jittery latency is worth its mean; hinge friction has no like."""
    hidden = yaml.safe_load((HIDDEN / f"{name}.yaml").read_text())
    late = {
        "action.delay_ms": hidden["latency_ms"] + hidden["latency_jitter_ms"] * math.sqrt(2 / math.pi),
        "action.lag_ms": hidden["lag_ms"],
        "action.gain": hidden["gain"],
    }
    if name == "cartpole":
        return late | {
            "world.gravity_m_s2": hidden["gravity_m_s2"],
            "cart.mass_kg": hidden["cart_mass_kg"],
            "cart.viscous_n_s_m": hidden["cart_viscous_n_s_m"],
            "cart.coulomb_n": hidden["cart_coulomb_n"],
            "pole.mass_kg": hidden["pole_mass_kg"],
            "action.noise_n": hidden["force_noise_n"],
            "sensor.noise_sd": hidden["sensor_noise_sd"],
        }
    task = load_experiment(name).make_task()
    inertia = _inertia_per_kg(task)
    mass = hidden["inertia_kg_m2"] / inertia["inertia"]
    return late | {
        "arm.mass_kg": mass,
        "world.gravity_m_s2": hidden["gravity_torque_nm"] / (mass * inertia["centre"]),
        "pivot.viscous_nm_s": hidden["viscous_nm_s"],
        "pivot.coulomb_nm": (hidden["coulomb_forward_nm"] + hidden["coulomb_backward_nm"]) / 2,
        "action.offset_nm": hidden["offset_nm"],
        "action.noise_nm": hidden["torque_noise_nm"],
        "sensor.noise_sd": hidden["sensor_noise_rad_s"],
    }


def _inertia_per_kg(task: Any) -> dict[str, float]:
    """About the pivot and to the centre of mass, for each kilogram of the simulated arm, from its file."""
    import xml.etree.ElementTree as xml

    from envs.kinematics import asset_path

    arm = next(link for link in xml.parse(asset_path(task.scene.urdf)).iter("link") if link.get("name") == "arm")
    inertial = arm.find("inertial")
    assert inertial is not None
    mass, origin, inertia = (inertial.find(tag) for tag in ("mass", "origin", "inertia"))
    assert mass is not None and origin is not None and inertia is not None
    kg = float(mass.get("value", "1"))
    centre = abs(float(origin.get("xyz", "0 0 0").split()[2]))
    return {"inertia": float(inertia.get("iyy", "0")) / kg + centre**2, "centre": centre}


def show(report: list[dict[str, Any]], console: Console) -> None:
    for result in report:
        table = Table(
            title=f"{result['task']} twin, seed {result['seed']}: {result['recordings']} recordings of "
            f"{result['seconds']:g} s, {result['given']} given; fit {result['fit_s']:.1f} s"
        )
        for column in ("parameter", "estimate", "95 % interval", "truth", ""):
            table.add_column(column, no_wrap=True)
        for name, row in result["parameters"].items():
            interval = "" if row["low"] == row["high"] else f"[{row['low']:.4g}, {row['high']:.4g}]"
            holds = "" if not interval else "holds" if row["holds"] else "misses"
            table.add_row(name, f"{row['value']:.4g}", interval, f"{row['truth']:.4g}", holds)
        console.print(table)
