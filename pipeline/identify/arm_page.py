"""One page of plots of an arm's identification: torques, velocities, what is left of them, posteriors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.identify.arm_fit import ArmFit
from pipeline.identify.arm_torques import OWN

SHOWN_S, ZOOM_S = 12.0, 3.0


def write_page(fit: ArmFit, path: Path) -> None:
    """A PNG of one page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.3, 11.7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=[1.9, 1]))
    motors = fit.task.scene.motors
    grid = top.subplots(len(motors), 3, squeeze=False, width_ratios=[2.2, 1.0, 1.6])
    for j, joint in enumerate(motors):
        _torque(grid[j, 0], grid[j, 1], fit, j, joint)
        _velocity(grid[j, 2], fit, j)
    grid[-1, 0].set_xlabel("s", fontsize=7)
    grid[-1, 1].set_xlabel("N m", fontsize=7)
    grid[-1, 2].set_xlabel("s", fontsize=7)
    _posteriors(bottom, fit)
    sources = sorted({log.source for log in fit.logs})
    named = ", ".join(sources[:3]) + (f" and {len(sources) - 3} more" if len(sources) > 3 else "")
    figure.suptitle(f"{fit.task.name}: {fit.seconds:.0f} s of {named}", fontsize=10)
    figure.savefig(path)


def _torque(axis, beside, fit: ArmFit, j: int, joint: str) -> None:
    axis.set_ylabel(f"{joint.removeprefix('panda_')}\nN m", fontsize=7)
    for one in (axis, beside):
        one.tick_params(labelsize=6)
    if j == 0:
        axis.set_title("torque, filtered alike", fontsize=8)
        beside.set_title("what is left", fontsize=8)
    if fit.torque is None:
        axis.text(0.5, 0.5, "no torque reading", ha="center", transform=axis.transAxes, fontsize=7)
        beside.set_axis_off()
        return
    time_s, measured, predicted = fit.times[0], fit.torque.measured[0][:, j], fit.torque.predicted[0][:, j]
    shown = time_s <= SHOWN_S
    axis.plot(time_s[shown], measured[shown], color="0.6", lw=2, label="measured")
    axis.plot(time_s[shown], predicted[shown], color="tab:blue", lw=1, label="predicted")
    if j == 0:
        axis.legend(fontsize=6, loc="upper right")
    left = np.concatenate([m[:, j] - p[:, j] for m, p in zip(fit.torque.measured, fit.torque.predicted, strict=True)])
    most = 5 * fit.torque.noise_nm[j]
    beside.hist(np.clip(left, -most, most), bins=40, color="tab:red", alpha=0.6)
    beside.set_yticks([])


def _velocity(axis, fit: ArmFit, j: int) -> None:
    axis.tick_params(labelsize=6)
    if j == 0:
        axis.set_title("velocity, rad/s", fontsize=8)
    if fit.response is None:
        axis.text(0.5, 0.5, "commands not recorded", ha="center", transform=axis.transAxes, fontsize=7)
        return
    log = fit.logs[0]
    rows = log.pieces()[0]
    time_s = log.time_s[rows] - log.time_s[rows.start]
    begin = min(2.0, time_s[-1] / 2)
    shown = (time_s >= begin) & (time_s <= begin + ZOOM_S)
    axis.step(time_s[shown], log.command[rows, j][shown], color="tab:orange", lw=0.8, where="post", label="commanded")
    axis.plot(time_s[shown], log.velocity[rows, j][shown], color="0.6", lw=1.5, label="measured")
    if len(fit.response.predicted[0]) == len(time_s):
        axis.plot(time_s[shown], fit.response.predicted[0][shown, j], color="tab:blue", lw=0.8, label="predicted")
    if j == 0:
        axis.legend(fontsize=5, loc="upper right")


def _posteriors(figure, fit: ArmFit) -> None:
    """Histograms of the task's parameters, and intervals of what is each joint's own."""
    names = list(fit.free)
    columns = max(len(names), 3)
    grid = figure.subplots(2, columns, squeeze=False)
    for k, axis in enumerate(grid[0]):
        axis.tick_params(labelsize=6)
        axis.set_yticks([])
        if k >= len(names):
            axis.set_axis_off()
            continue
        low, high = np.percentile(fit.draws[:, k], [2.5, 97.5])
        axis.hist(fit.draws[:, k], bins=25, color="tab:blue", alpha=0.6)
        axis.axvspan(low, high, color="tab:blue", alpha=0.1)
        axis.axvline(fit.value[k], color="k", lw=1)
        unit = fit.task.parameters[fit.task.parameters.index(names[k])].unit
        axis.set_title(f"{names[k]}\n{fit.value[k]:.4g} [{low:.4g}, {high:.4g}] {unit}", fontsize=6)
        axis.locator_params(axis="x", nbins=3)
    for k, axis in enumerate(grid[1]):
        axis.tick_params(labelsize=6)
        if fit.torque is None or k >= 3:
            axis.set_axis_off()
            continue
        at = [fit.torque.own(j, OWN[k]) for j in range(len(fit.torque.noise_nm))]
        low, high = np.percentile(fit.torque.draws[:, at], [2.5, 97.5], axis=0)
        middle = fit.torque.coefficients[at]
        joints = np.arange(1, len(at) + 1)
        spread = np.maximum(np.stack([middle - low, high - middle]), 0.0)
        axis.errorbar(joints, middle, spread, fmt="o", ms=3, capsize=2, color="tab:blue")
        axis.set_title(f"{OWN[k]} of each joint", fontsize=7)
        axis.set_ylim(bottom=min(0.0, float(low.min())))
    figure.suptitle("Posterior (bootstrap), 95 %", fontsize=9)
