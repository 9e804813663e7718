"""identified.yaml of an arm: its task's parameters, what was measured of each joint besides, and what is not told."""

from __future__ import annotations

from typing import Any

import numpy as np

from pipeline.identify.arm_fit import ArmFit, encoder_parameter
from pipeline.identify.arm_torques import OWN
from pipeline.identify.identified import FORMAT
from pipeline.identify.layout import entry, matrix, rounded, sources

UNITS = {"armature_kg_m2": "kg m^2", "viscous_nm_s": "N m s/rad", "coulomb_nm": "N m", "offset_nm": "N m"}
OPEN = 0.5  # of the prior's sd: a wider posterior was not told by the data
LOOSE = 0.3  # of a friction or inertia: a half interval wider than that is said to be loose
TOGETHER = 0.9  # correlation beyond which two parameters are known only together
NOT_MODELLED = (
    "elasticity and play in the gears",
    "friction that changes with load, temperature or at the lowest speeds",
    "a delay that changes from command to command (its mean is found)",
)


def to_dict(fit: ArmFit) -> dict[str, Any]:
    """Plain values in the file's layout; docs/identification.md describes it."""
    space = fit.task.parameters
    columns = [space.index(name) for name in fit.free]
    low, high = np.percentile(fit.draws, [2.5, 97.5], axis=0)
    clear = told(fit)
    values: dict[str, dict[str, Any]] = {}
    for k, name in enumerate(fit.free):
        v = fit.value[k]
        values[name] = entry(v, low[k], high[k], space[columns[k]].unit)
        values[name]["known"] = "told" if clear[k] else "open"
    for name, given in fit.given.items():
        values[name] = {**entry(given, given, given, space[space.index(name)].unit), "known": "given"}
    values |= _encoders(fit)
    own = _own(fit)
    middle = np.where(space.is_log[columns], np.log(np.maximum(fit.value, 1e-300)), fit.value)
    return {
        "format": FORMAT,
        "task": fit.task.name,
        "values": values,
        "order": list(fit.free),
        "mean": [rounded(v) for v in middle],
        "covariance": matrix(np.cov(own, rowvar=False)),
        "scale": ["log" if space.is_log[i] else "linear" for i in columns],
        "joints": _joints(fit),
        "controller": _controller(fit),
        "not_identifiable": not_told(fit),
        "record_instead": "" if clear.all() else "a longer recording, with faster and wider motion of every joint",
        "not_modelled": list(NOT_MODELLED),
        "seconds": rounded(fit.seconds),
        "logs": sources(fit.logs),
    }


def told(fit: ArmFit) -> np.ndarray:
    """(F,) bool: whether the data say more about a parameter than its range does."""
    space = fit.task.parameters
    clear = []
    for k, sd in enumerate(_own(fit).std(0)):
        parameter = space[space.index(fit.free[k])]
        ends = np.array(parameter.default if parameter.default[1] > parameter.default[0] else parameter.bounds, float)
        if parameter.scale == "log":
            ends = np.log(ends)
        clear.append(sd < OPEN * (ends[1] - ends[0]) / 2)
    return np.array(clear, bool)


def not_told(fit: ArmFit) -> list[str]:
    """What the data do not tell, and what the result rests on, in sentences."""
    said = [
        f"{name}: not told by these data; record faster and wider motion, or give it with --fix {name}=VALUE"
        for name, clear in zip(fit.free, told(fit), strict=True)
        if not clear
    ]
    space = fit.task.parameters
    for name in fit.clipped:
        low, high = space[space.index(name)].bounds
        said.append(f"{name} was found outside what the simulation takes, {low:g} to {high:g}, and was put at that end")
    if fit.torque is None:
        said.append(
            "masses and frictions: not told, because the robot gives no reading of its motors' torques; only delay, "
            "lag and gain were fitted"
        )
    else:
        said.append(
            "masses, frictions and motor inertias are as good as the torque readings (robot.servos.*.effort_per_unit): "
            "a reading that is 3 % too high makes all of them 3 % too high, and only a known payload would show it"
        )
        said.append(
            "Coulomb friction, motor inertia and offset of the joints are measured, not simulated: the simulated arm "
            "has none, and its damping stands for viscous friction alone"
        )
        said += _loose(fit)
    if fit.response is None:
        said.append("delay, lag and gain: not told, because the commanded velocities were not recorded")
    return [*said, *_pairs(fit)]


def _joints(fit: ArmFit) -> dict[str, dict[str, Any]]:
    """{joint: {quantity: entry}}: what the torques say, simulated or not."""
    torque = fit.torque
    if torque is None:
        return {}
    low, high = np.percentile(torque.draws, [2.5, 97.5], axis=0)
    found: dict[str, dict[str, Any]] = {}
    for j, joint in enumerate(fit.task.scene.motors):
        at = {name: torque.own(j, name) for name in OWN}
        found[joint] = {n: entry(torque.coefficients[i], low[i], high[i], UNITS[n]) for n, i in at.items()}
        found[joint]["residual_nm"] = rounded(torque.noise_nm[j])
    return found


def _controller(fit: ArmFit) -> dict[str, Any]:
    response = fit.response
    if response is None:
        return {}
    low, high = response.interval("total_s")
    total = 1e3 * (response.delay_s + response.lag_s)
    found: dict[str, Any] = {"delay_and_lag_ms": entry(total, 1e3 * low, 1e3 * high, "ms")}
    if np.isfinite(response.compensated):
        found["gravity_compensated"] = rounded(response.compensated)
    motors = fit.task.scene.motors
    found["residual_rad_s"] = {j: rounded(v) for j, v in zip(motors, response.residual, strict=True)}
    return found


def _loose(fit: ArmFit) -> list[str]:
    """The joints whose friction or inertia has a wide interval, by quantity."""
    assert fit.torque is not None
    torque, sentences = fit.torque, []
    half = 1.96 * torque.draws.std(0)
    for name in OWN[:3]:
        at = [torque.own(j, name) for j in range(len(torque.noise_nm))]
        wide = [
            joint
            for joint, i in zip(fit.task.scene.motors, at, strict=True)
            if half[i] > LOOSE * abs(torque.coefficients[i])
        ]
        if wide:
            sentences.append(
                f"{name} of {', '.join(wide)}: known to no better than {LOOSE:.0%}; record faster motion of "
                f"{'it' if len(wide) == 1 else 'them'}"
            )
    return sentences


def _pairs(fit: ArmFit) -> list[str]:
    sentences = []
    tie = np.corrcoef(fit.draws, rowvar=False).reshape(len(fit.free), len(fit.free))
    for a in range(len(fit.free)):
        for b in range(a + 1, len(fit.free)):
            if abs(tie[a, b]) > TOGETHER:
                factor = -np.sign(tie[a, b]) * fit.draws[:, a].std() / fit.draws[:, b].std()
                known = fit.draws[:, a] + factor * fit.draws[:, b]
                unit = fit.task.parameters[fit.task.parameters.index(fit.free[a])].unit
                sentences.append(
                    f"{fit.free[a]} and {fit.free[b]} trade off (correlation {tie[a, b]:.2f}); best known is "
                    f"{fit.free[a]} {'+' if factor > 0 else '-'} {abs(factor):.3g} {fit.free[b]} = "
                    f"{known.mean():.4g} ± {known.std():.2g} {unit}"
                )
    return sentences


def _encoders(fit: ArmFit) -> dict[str, dict[str, Any]]:
    """The noise of the encoders, if the task has a parameter for it: the joints' root mean square."""
    name = encoder_parameter(fit.task)
    if name is None or name in fit.given:
        return {}
    parameter = fit.task.parameters[fit.task.parameters.index(name)]
    noise = np.sqrt(np.mean(np.square(fit.encoder_noise)))
    middle, low, high = np.clip([noise, fit.encoder_noise.min(), fit.encoder_noise.max()], *parameter.bounds).tolist()
    return {name: {**entry(middle, low, high, parameter.unit), "known": "told"}}


def _own(fit: ArmFit) -> np.ndarray:
    """(b, F) draws in own scales."""
    space = fit.task.parameters
    is_log = space.is_log[[space.index(name) for name in fit.free]]
    return np.where(is_log, np.log(np.maximum(fit.draws, 1e-300)), fit.draws)
