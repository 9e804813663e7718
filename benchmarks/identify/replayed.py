"""Identification by replaying, measured: on the twins of hover and push, and how often intervals hold the truth.

The hidden files are read here, after the fact, and by nothing else. Quantities that no parameter alone stands for (the
mass that the rotors feel, the centre of mass) are judged too: a motion tells them, and not what they are made of.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import tell
from envs.registry import make_task
from envs.task import Task
from pipeline.identify.replay_command import fly_on, pilot
from pipeline.identify.replay_fit import ReplayFit, ReplaySettings, fit_replayed
from pipeline.identify.replay_posterior import noises
from pipeline.identify.replay_simulated import fly
from pipeline.identify.task_command import PROCESSES

Row = dict[str, float | bool]
SEED = 20_000
GIVEN = {"hover": "action.gain"}  # in synthetic robots: it, the masses and the drag scale together


def on_twin(name: str, hidden: dict[str, float], seconds: float, seed: int) -> dict[str, Any]:
    """Fly the twin for about so long, fit, and judge by its hidden values."""
    task = make_task(name)
    with tempfile.TemporaryDirectory(prefix="identify-") as folder:
        began = time.perf_counter()
        recordings = fly_on(task, name, seconds, seed, Path(folder))
        recorded_s = time.perf_counter() - began
        began = time.perf_counter()
        fit = fit_replayed(task, recordings, ReplaySettings(processes=PROCESSES), seed)
        fit_s = time.perf_counter() - began
    tell(f"{name}, seed {seed}: recorded in {recorded_s:.1f} s, fitted in {fit_s:.1f} s")
    return {
        "task": name,
        "seed": seed,
        "recordings": len(recordings),
        "seconds": task.max_steps * task.control_period_s,
        "given": "nothing",
        "record_s": recorded_s,
        "fit_s": fit_s,
        "parameters": _judged(fit, TRUTH[name](hidden), COMBINED[name]),
    }


def _judged(fit: ReplayFit, truth: dict[str, float], combined: dict[str, Callable]) -> dict[str, Row]:
    space, drawn = fit.task.parameters, fit.unknowns.values(fit.draws)
    named = lambda values: {p.name: values[..., i] for i, p in enumerate(space)}  # noqa: E731
    found: dict[str, Row] = {}
    for name, true in truth.items():
        if name in noises(fit):
            entry = noises(fit)[name]
            found[name] = _row(entry["value"], entry["low"], entry["high"], true)
        elif name in fit.unknowns.free or name in combined:
            of = combined.get(name, lambda values, name=name: values[name])
            low, high = (float(v) for v in np.percentile(of(named(drawn)), [2.5, 97.5]))
            found[name] = _row(float(of(named(fit.values))), low, high, true)
    return found


def _row(value: float, low: float, high: float, true: float) -> Row:
    return {"value": value, "low": low, "high": high, "truth": true, "holds": bool(low <= true <= high)}


def _centre(axis: str) -> Callable:
    return lambda v: v["payload.mass_kg"] * v[f"payload.{axis}_m"] / (v["frame.mass_kg"] + v["payload.mass_kg"])


def _mean_gain(v: dict[str, Any]) -> Any:
    return v["action.gain"] * sum(v[f"rotor{i}.gain"] for i in range(1, 5)) / 4


COMBINED: dict[str, dict[str, Callable]] = {
    "hover": {
        "whole mass / gain, kg": lambda v: (v["frame.mass_kg"] + v["payload.mass_kg"]) / _mean_gain(v),
        "centre of mass x, m": _centre("x"),
        "centre of mass y, m": _centre("y"),
        "centre of mass z, m": _centre("z"),
        "rotor 2 / mean gain": lambda v: v["action.gain"] * v["rotor2.gain"] / _mean_gain(v),
    },
    "push": {"delay + lag, ms": lambda v: v["action.delay_ms"] + v["action.lag_ms"]},
}


def _hover(hidden: dict[str, float]) -> dict[str, float]:
    """A jittery latency is worth its mean, a lag that depends on the sign the mean of both; sag takes thrust."""
    gains = [float(hidden[f"rotor{i}_gain"]) for i in range(1, 5)]
    felt = sum(gains) / 4 * (1.0 - hidden["battery_sag"] * 1.1)  # at about a tenth more than the nominal thrust
    return {
        "action.delay_ms": hidden["latency_ms"] + hidden["jitter_ms"] * math.sqrt(2 / math.pi),
        "action.lag_ms": (hidden["lag_up_ms"] + hidden["lag_down_ms"]) / 2,
        **{f"sensor.{axis}_bias_rad": hidden[f"{axis}_bias_rad"] for axis in ("roll", "pitch")},
        **{f"sensor.gyro_bias_{axis}_rad_s": hidden[f"gyro_bias_{axis}_rad_s"] for axis in "xyz"},
        "sensor.delay_ms": hidden["capture_latency_ms"],
        "world.gravity_m_s2": 9.81,
        "rotors.ground_effect": hidden["ground_effect"],
        "whole mass / gain, kg": hidden["mass_kg"] / felt,
        **{f"centre of mass {axis}, m": hidden[f"com_{axis}_m"] for axis in "xyz"},
        "rotor 2 / mean gain": 4 * gains[1] / sum(gains),
        "sensor.position_noise_m": hidden["position_noise_m"],
        "sensor.velocity_noise_m_s": hidden["velocity_noise_m_s"],
        "sensor.attitude_noise_rad": hidden["attitude_noise_rad"],
        "sensor.gyro_noise_rad_s": hidden["gyro_noise_rad_s"],
    }


def _push(hidden: dict[str, float]) -> dict[str, float]:
    """PyBullet multiplies frictions: the table's 0.2. A picture is late by its latency and half its period."""
    return {
        "action.delay_ms": hidden["latency_ms"] + hidden["latency_jitter_ms"] * math.sqrt(2 / math.pi),
        "action.lag_ms": hidden["lag_ms"],
        "delay + lag, ms": hidden["latency_ms"]
        + hidden["latency_jitter_ms"] * math.sqrt(2 / math.pi)
        + hidden["lag_ms"],
        "action.gain": hidden["gain"],
        "arm.mass_scale": hidden["mass_scale"],
        "puck.mass_kg": hidden["puck_mass_kg"],
        "puck.friction": hidden["puck_friction"] / 0.2,
        "puck.damping_n_s_m": hidden["puck_damping_n_s_m"],
        "table.height_m": hidden["table_height_m"],
        "sensor.puck_delay_ms": hidden["camera_latency_ms"] + 500.0 / hidden["camera_hz"],
        "sensor.puck_noise_m": hidden["camera_noise_m"],
        "sensor.joint_noise_rad": hidden["sensor_noise_rad"],
    }


TRUTH: dict[str, Callable[[dict[str, float]], dict[str, float]]] = {"hover": _hover, "push": _push}


def coverage(name: str, robots: int, seconds: float) -> dict[str, Any]:
    """Synthetic robots with drawn parameters, each flown for about so long."""
    task, given = make_task(name), GIVEN.get(name)
    truth = drawn(task, robots)
    episodes = max(1, math.ceil(seconds / (task.max_steps * task.control_period_s)))
    written = pilot(task)
    assert written is not None
    recordings = fly(task, truth, written, episodes, SEED)
    rows: dict[str, list[tuple[float, ...]]] = {}
    took: list[float] = []
    for i, true in enumerate(truth):
        fixed = {given: float(true[task.parameters.index(given)])} if given else {}
        began = time.perf_counter()
        fit = fit_replayed(task, recordings[i], ReplaySettings(fixed=fixed, processes=PROCESSES))
        took.append(time.perf_counter() - began)
        values = fit.unknowns.values(fit.draws)
        for parameter, column in zip(fit.unknowns.free, fit.unknowns.columns, strict=True):
            low, high = np.percentile(values[:, column], [2.5, 97.5])
            spread = values[:, column].std()
            row = (float(v) for v in (true[column], fit.values[column], low, high, spread))
            rows.setdefault(parameter, []).append(tuple(row))
        tell(f"{name}: robot {i + 1} of {robots}, {np.mean(took) * (robots - i - 1) / 60:.1f} min to go")
    return {
        "robots": robots,
        "recordings": episodes,
        "seconds": task.max_steps * task.control_period_s,
        "given": given or "nothing",
        "fit_s": float(np.median(took)),
        "rows": rows,
    }


def drawn(task: Task, robots: int) -> np.ndarray:
    """(robots, d) parameters from the default ranges, uniform in their own scales."""
    space, random = task.parameters, np.random.default_rng(SEED)
    low, high = (np.array([p.default[side] for p in space]) for side in (0, 1))
    own = random.uniform(space.own_scale(low), space.own_scale(high), (robots, len(space)))
    return np.where(space.is_log, np.exp(np.where(space.is_log, own, 0.0)), own)
