"""One page of plots of a task's identification: measured against predicted, residuals by channel, posteriors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.identify.ahead import Ahead
from pipeline.identify.estimate import TaskFit
from pipeline.identify.words import Found

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 12  # predictions drawn
COLUMNS, TICKS = 4, 4  # of the posteriors


def write_page(fit: TaskFit, ahead: Ahead, path: Path) -> None:
    """A PNG of one page; `ahead` are predictions on the fitted recordings."""
    page(fit, ahead).savefig(path)


def page(fit: TaskFit, ahead: Ahead) -> Figure:
    """The same as a figure that can be drawn."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.3, 11.7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=[1.1, 1]))
    joints = len(fit.task.joints)
    grid = top.subplots(2 * joints, 2, squeeze=False, width_ratios=[2.2, 1])
    for channel in range(2 * joints):
        _motion(grid[channel, 0], fit, ahead, channel)
        _residual(grid[channel, 1], fit, ahead, channel)
    grid[-1, 0].set_xlabel("s of recording, drawn one after the other")
    grid[-1, 1].set_xlabel("s ahead")
    columns = COLUMNS
    rows = -(-len(fit.unknowns.free) // columns)
    _posteriors(bottom.subplots(rows, columns, squeeze=False).ravel(), fit)
    bottom.suptitle("Posterior (bootstrap), 95 % shaded, and the assumed prior (dashed)", fontsize=9)
    sources = sorted({log.source for log in fit.logs})
    named = ", ".join(sources[:4]) + (f" and {len(sources) - 4} more" if len(sources) > 4 else "")
    figure.suptitle(f"{fit.task.name}: {fit.seconds:.0f} s of {named}", fontsize=10)
    return figure


def _motion(axis, fit: TaskFit, ahead: Ahead, channel: int) -> None:
    """Some of the predictions beside what was measured, each from a start of its own."""
    label, unit = _channel(fit, channel)
    windows, past = ahead.windows, ahead.past
    order = np.linspace(0, len(windows) - 1, min(SHOWN, len(windows))).astype(int)
    begin = 0.0
    for n, w in enumerate(order):
        time_s = windows.time_s[w, past:] - windows.time_s[w, past]
        measured = windows.measured[w, past:, channel]
        predicted = measured[1:] - ahead.error[w, past:, channel]
        names = ("measured", "predicted") if n == 0 else (None, None)
        axis.plot(begin + time_s, measured, color="0.6", lw=2, label=names[0])
        axis.plot(begin + time_s[1:], predicted, color="tab:blue", lw=1, label=names[1])
        begin += time_s[-1] * 1.15
    axis.set_ylabel(f"{label},\n{unit}", fontsize=7)
    axis.tick_params(labelsize=6)
    if channel == 0:
        axis.legend(fontsize=6, loc="upper right")
        axis.set_title("open loop from what was commanded", fontsize=8)


def _residual(axis, fit: TaskFit, ahead: Ahead, channel: int) -> None:
    """How the error grows with the horizon."""
    error = ahead.error[:, ahead.past :, channel]
    time_s = ahead.windows.time_s[:, ahead.past + 1 :] - ahead.windows.time_s[:, [ahead.past]]
    axis.plot(time_s.T, error.T, color="tab:red", lw=0.3, alpha=0.4)
    axis.plot(time_s.mean(0), np.sqrt(np.mean(error**2, 0)), color="k", lw=1.2)
    axis.axhline(fit.noise.sensor[channel], color="tab:green", lw=0.8, ls=":")
    axis.tick_params(labelsize=6)
    if channel == 0:
        axis.set_title("errors: each (red), rms (black),\nsensor noise (green)", fontsize=8)


def _posteriors(axes: np.ndarray, fit: Found) -> None:
    sought = fit.unknowns
    drawn = sought.values(fit.draws)[:, sought.columns]
    for axis in axes[len(sought.free) :]:
        axis.set_axis_off()
    for i, (axis, name) in enumerate(zip(axes, sought.free, strict=False)):
        parameter, values = sought.space[sought.columns[i]], drawn[:, i]
        low, high = np.percentile(values, [2.5, 97.5])
        _, edges, _ = axis.hist(values, bins=25, density=True, color="tab:blue", alpha=0.6)
        axis.axvspan(low, high, color="tab:blue", alpha=0.1)
        axis.axvline(fit.values[sought.columns[i]], color="k", lw=1)
        width = max(edges[-1] - edges[0], 1e-12)
        grid = np.linspace(edges[0] - 0.3 * width, edges[-1] + 0.3 * width, 100)
        at = np.log(np.maximum(grid, 1e-300)) if parameter.scale == "log" else grid
        slope = 1 / np.maximum(grid, 1e-300) if parameter.scale == "log" else 1.0
        prior = np.exp(-0.5 * ((at - sought.middle[i]) / sought.sd[i]) ** 2) / sought.sd[i] / np.sqrt(2 * np.pi)
        axis.plot(grid, prior * slope, color="0.4", lw=1, ls="--")
        axis.set_xlim(grid[0], grid[-1])
        value = fit.values[sought.columns[i]]
        unit = "" if parameter.unit == "1" else f", {parameter.unit}"
        axis.set_title(f"{name}{unit}\n{value:.4g} [{low:.4g}, {high:.4g}]", fontsize=7)
        axis.tick_params(labelsize=6)
        axis.locator_params(axis="x", nbins=TICKS)
        axis.ticklabel_format(axis="x", scilimits=(-3, 4), useOffset=False)
        axis.xaxis.get_offset_text().set_fontsize(6)
        axis.set_yticks([])


def _channel(fit: TaskFit, channel: int) -> tuple[str, str]:
    joints = len(fit.task.joints)
    kind, unit = ("position", "m or rad") if channel < joints else ("velocity", "m/s or rad/s")
    return f"{fit.task.joints[channel % joints]} {kind}", unit
