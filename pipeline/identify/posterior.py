"""identified.yaml of a task: what was found, how well it is known, from which data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.identify.estimate import TaskFit
from pipeline.identify.layout import entry, rounded, sources, world
from pipeline.identify.unknowns import noise_of

NOT_MODELLED = (
    "play and elasticity between motor and joint",
    "a delay that changes from command to command (its mean is found)",
    "friction that changes with load, temperature or place",
)


def to_dict(fit: TaskFit, ahead_rms: Mapping[str, float]) -> dict[str, Any]:
    """Plain values in the file's layout; docs/identification.md describes it."""
    names = [f"{joint} {kind}" for kind in ("position", "velocity") for joint in fit.task.joints]
    return {
        **world(fit, _noise(fit), NOT_MODELLED),
        "one_step_rms": {name: rounded(v) for name, v in zip(names, fit.one_step_rms, strict=True)},
        "ahead_rms": {name: rounded(v) for name, v in ahead_rms.items()},
        "logs": sources(fit.logs),
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
        found[name] = {**entry(middle, least, most, unit), "known": "told"}
    return found
