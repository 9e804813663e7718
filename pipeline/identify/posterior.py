"""identified.yaml of a task: what was found, how well it is known, from which data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.identify.estimate import TaskFit
from pipeline.identify.identified import FORMAT
from pipeline.identify.unknowns import noise_of
from pipeline.identify.words import advice, degeneracies, told

NOT_MODELLED = (
    "play and elasticity between motor and joint",
    "a delay that changes from command to command (its mean is found)",
    "friction that changes with load, temperature or place",
)


def to_dict(fit: TaskFit, ahead_rms: Mapping[str, float]) -> dict[str, Any]:
    """Plain values in the file's layout; docs/identification.md describes it."""
    space, sought, clear = fit.task.parameters, fit.unknowns, told(fit)
    low, high = np.percentile(sought.values(fit.draws), [2.5, 97.5], axis=0)
    values: dict[str, dict[str, Any]] = {}
    for name in (*sought.free, *sought.given):
        i = space.index(name)
        value = fit.values[i]
        values[name] = _entry(value, min(low[i], value), max(high[i], value), space[i].unit)
        values[name]["known"] = (
            "given" if name in sought.given else "told" if clear[sought.free.index(name)] else "open"
        )
    values |= _noise(fit)
    unclear = [name for name, known in zip(sought.free, clear, strict=True) if not known]
    names = [f"{joint} {kind}" for kind in ("position", "velocity") for joint in fit.task.joints]
    own = fit.draws * sought.sd + sought.middle
    return {
        "format": FORMAT,
        "task": fit.task.name,
        "values": values,
        "order": list(sought.free),
        "mean": [_round(v) for v in fit.x * sought.sd + sought.middle],
        "covariance": [[_round(v) for v in row] for row in np.atleast_2d(np.cov(own, rowvar=False))],
        "scale": ["log" if space.is_log[i] else "linear" for i in sought.columns],
        "not_identifiable": degeneracies(fit),
        "record_instead": advice(fit.task, unclear) if unclear else "",
        "not_modelled": list(NOT_MODELLED),
        "seconds": _round(fit.seconds),
        "residual_rms": _round(fit.residual_rms),
        "held_out_rms": _round(fit.held_out_rms),
        "one_step_rms": {name: _round(v) for name, v in zip(names, fit.one_step_rms, strict=True)},
        "ahead_rms": {name: _round(v) for name, v in ahead_rms.items()},
        "logs": [
            {
                "source": log.source,
                "sha256": log.sha256,
                "rows": len(log),
                "problems": [p.sentence for p in log.problems],
            }
            for log in fit.logs
        ],
    }


def _noise(fit: TaskFit) -> dict[str, dict[str, Any]]:
    """The task's own parameters of noise; one that stands for several channels is their root mean square."""
    size, found = len(fit.noise.sensor), {}
    for kind, name in noise_of(fit.task).items():
        if name in fit.unknowns.given:
            continue
        which = slice(0, size) if kind == "sensor" else slice(size, None)
        logs, spread = fit.noise.logs[which], np.diag(fit.noise_covariance)[which]
        value = float(np.sqrt(np.mean(np.exp(2 * logs))))
        # Channels that differ belong to no single number: their range is part of what is not known.
        sd = float(np.sqrt(np.mean(spread) / len(logs) + np.var(logs)))
        low, high = fit.task.parameters[fit.task.parameters.index(name)].bounds
        middle, least, most = np.clip(value * np.exp(1.96 * sd * np.array([0.0, -1.0, 1.0])), low, high).tolist()
        unit = fit.task.parameters[fit.task.parameters.index(name)].unit
        found[name] = {**_entry(middle, least, most, unit), "known": "told"}
    return found


def _entry(value: float, low: float, high: float, unit: str) -> dict[str, Any]:
    return {"value": _round(value), "low": _round(low), "high": _round(high), "unit": unit}


def _round(value: float) -> float:
    return float(f"{float(value):.6g}")
