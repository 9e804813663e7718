"""identified.yaml of a task that was identified by replaying: the same layout as of any other task."""

from __future__ import annotations

from typing import Any

import numpy as np

from envs.effects.groups import GroupDelay, GroupNoise
from pipeline.identify.layout import entry, rounded, sources, world
from pipeline.identify.replay_fit import ReplayFit

NOT_MODELLED = (
    "a delay that changes from command to command (its mean is found)",
    "wind that changes within a window, and what else differs from one window to the next",
    "elasticity and play between motor and what it moves",
)
QUIET = 0.2  # of the noisiest channel of a group: one with less is not measured in the same way
SOON = 3  # rows of a window in which an error is mostly that of the sensor


def to_dict(fit: ReplayFit) -> dict[str, Any]:
    """Plain values in the file's layout; docs/identification.md describes it."""
    return {
        **world(fit, noises(fit), NOT_MODELLED),
        "windows": len(fit.cut),
        "one_step_rms": _rms(fit, 0),
        "ahead_rms": _rms(fit, -1),
        "ahead_s": rounded(float(np.median(fit.cut.windows.time_s[:, -1] - fit.cut.windows.time_s[:, 0]))),
        "logs": sources(fit.logs),
    }


def channel_names(fit: ReplayFit) -> list[str]:
    names = [f"{joint} {kind}" for kind in ("position", "velocity") for joint in fit.task.joints]
    return names + [f"{body} {axis}" for body in fit.task.bodies for axis in "xyz"]


def noises(fit: ReplayFit) -> dict[str, dict[str, Any]]:
    """Sensor noise that the task randomizes: what changes between rows, or is left soon after a window's start.

    The smaller of both, since motion and misfit only add to them; of a sensor that is a row late or more the first
    alone, for what it shows soon after the start are rows that were measured. One that stands for several channels is
    their root mean square, and how they differ is part of what is not known of it.
    """
    task, joints, period_s = fit.task, len(fit.task.joints), fit.task.control_period_s
    parts = {
        "joint_position": slice(0, joints),
        "joint_velocity": slice(joints, 2 * joints),
        "body_position": slice(2 * joints, None),
    }
    soon = 1.4826 * np.median(np.abs(fit.error[:, :SOON]), axis=(0, 1))
    quick = fit.cut.sensor
    delays = {effect.group: effect.parameters[0] for effect in task.sensor_effects if isinstance(effect, GroupDelay)}
    late = {group for group, name in delays.items() if fit.values[task.parameters.index(name)] * 1e-3 >= period_s}
    found: dict[str, dict[str, Any]] = {}
    for effect in task.sensor_effects:
        name = effect.parameters[0]
        parameter = task.parameters[task.parameters.index(name)]
        if not isinstance(effect, GroupNoise) or parameter.default[1] <= parameter.default[0]:
            continue
        sd = quick if effect.group in late else np.minimum(quick, soon)
        own = sd[parts[effect.group]][effect.chosen]
        logs = np.log(np.maximum(own[own >= QUIET * own.max()], 1e-9))
        value = float(np.sqrt(np.mean(np.exp(2 * logs))))
        spread = float(np.sqrt(1.0 / len(fit.cut) + np.var(logs)))
        ends = value * np.exp(1.96 * spread * np.array([0.0, -1.0, 1.0]))
        middle, low, high = np.clip(ends, *parameter.bounds).tolist()
        found[name] = {**entry(middle, low, high, parameter.unit), "known": "told"}
    return found


def _rms(fit: ReplayFit, row: int) -> dict[str, float]:
    rms = np.sqrt(np.mean(np.square(fit.error[:, row]), axis=0))
    return {name: rounded(v) for name, v in zip(channel_names(fit), rms, strict=True)}
