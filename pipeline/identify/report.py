"""One page of plots: measured against predicted, residuals by channel, posteriors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.identify.fit import Fit
from pipeline.identify.one_joint import CONSTANTS, NAMES, Windows, simulate
from pipeline.identify.predict import PAST_S, predict, starting_state
from robot.logs import Log

HORIZON_S = 0.5
MOST_LOGS = 3


def write_report(fit: Fit, logs: Sequence[Log], path: Path) -> None:
    """A PNG of one page."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(logs)[:MOST_LOGS]
    figure = Figure(figsize=(8.3, 11.7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    parts = np.asarray(figure.subfigures(2, 1, height_ratios=[1.2, 1]))
    axes = parts[0].subplots(3, len(shown), squeeze=False)
    for column, log in enumerate(shown):
        _log(axes[:, column], fit, log)
    _posteriors(parts[1].subplots(3, 4).ravel(), fit)
    figure.suptitle(f"Identified from {', '.join(log.source for log in logs)}", fontsize=10)
    figure.savefig(path)


def _log(axes: np.ndarray, fit: Fit, log: Log) -> None:
    steps = max(1, round(HORIZON_S / log.period_s))
    begins = np.concatenate(
        [np.arange(p.start + steps // 4, max(p.start, p.stop - steps), steps) for p in log.pieces()]
    )
    windows = Windows(log, begins, steps)
    start = starting_state(fit.values, log, begins, PAST_S)
    q, v = simulate(fit.values[None], windows, start[0][None], start[1][None])
    times = log.time_s[windows.rows] - log.time_s[0]
    measured = log.time_s - log.time_s[0]
    position, velocity, error = axes
    position.plot(measured, log.position[:, 0], color="0.6", lw=2, label="measured")
    velocity.plot(measured, log.velocity[:, 0], color="0.8", lw=0.6)
    for k in range(len(begins)):
        name = f"predicted, {HORIZON_S:g} s each" if k == 0 else None
        position.plot(times[k], q[0, k], color="tab:blue", lw=1, label=name)
        velocity.plot(times[k], v[0, k], color="tab:blue", lw=1)
    found = predict(fit.values, log, HORIZON_S, starts=0)
    error.plot(measured[found.first], found.error_rad, ".", ms=3, color="tab:red")
    error.axhline(0, color="0.5", lw=0.5)
    position.set(title=log.source, ylabel="position, rad")
    velocity.set(ylabel="velocity, rad/s")
    error.set(ylabel=f"error after {HORIZON_S:g} s, rad", xlabel="start of the prediction, s")
    error.set_title(f"rms {found.rms_rad:.3f}, median {found.median_rad:.3f} rad (data of the fit)", fontsize=8)
    position.legend(fontsize=7)
    for axis in axes:
        axis.tick_params(labelsize=7)


def _posteriors(axes: np.ndarray, fit: Fit) -> None:
    """Histograms of what was fitted; the shade is the 95 % interval, the line the estimate."""
    for axis in axes[len(fit.free) :]:
        axis.set_axis_off()
    for axis, name in zip(axes, fit.free, strict=False):
        i = NAMES.index(name)
        axis.hist(fit.samples[:, i], bins=25, color="tab:blue", alpha=0.6)
        low, high = np.percentile(fit.samples[:, i], [2.5, 97.5])
        axis.axvspan(low, high, color="tab:blue", alpha=0.1)
        axis.axvline(fit.values[i], color="k", lw=1)
        axis.set_title(f"{name}\n{fit.values[i]:.3g} {CONSTANTS[i].unit}", fontsize=7)
        axis.tick_params(labelsize=6)
        axis.set_yticks([])
