"""One page of plots of what was identified by replaying: measured against predicted, residuals, posteriors."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.identify.page import _posteriors
from pipeline.identify.replay_fit import ReplayFit
from pipeline.identify.replay_posterior import channel_names

SHOWN_S = 12.0  # of windows that are drawn


def write_page(fit: ReplayFit, path: Path) -> None:
    """A PNG of one page. Joint velocities of arms are left out: their positions say the same."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names, joints = channel_names(fit), len(fit.task.joints)
    shown = [i for i in range(len(names)) if not (fit.task.bodies and joints <= i < 2 * joints)]
    figure = Figure(figsize=(11.0, 15.0), dpi=100, layout="constrained")
    FigureCanvasAgg(figure)
    rows = -(-len(shown) // 2)
    posts = -(-len(fit.unknowns.free) // 5)
    top, bottom = np.asarray(figure.subfigures(2, 1, height_ratios=[rows, 1.1 * posts]))
    grid = top.subplots(rows, 4, squeeze=False, width_ratios=[2.4, 1, 2.4, 1])
    for n, channel in enumerate(shown):
        row, half = n % rows, n // rows
        _motion(grid[row, 2 * half], fit, channel, names[channel])
        _residual(grid[row, 2 * half + 1], fit, channel)
    for axis in grid.ravel()[[r * 4 + 2 + c for r in range(rows) for c in range(2) if rows + r >= len(shown)]]:
        axis.set_axis_off()
    for half in range(2):
        grid[0, 2 * half].set_title("windows, one after the other; s", fontsize=8)
        grid[0, 2 * half + 1].set_title("error; s ahead", fontsize=8)
    grid[0, 0].legend(fontsize=6, loc="upper right")
    _posteriors(bottom.subplots(posts, 5, squeeze=False).ravel(), fit)
    bottom.suptitle("Posterior, 95 % shaded, and the assumed prior (dashed)", fontsize=9)
    sources = [log.source for log in fit.logs]
    named = ", ".join(sources[:3]) + (f" and {len(sources) - 3} more" if len(sources) > 3 else "")
    figure.suptitle(f"{fit.task.name}: {fit.seconds:.0f} s of {named}", fontsize=10)
    figure.savefig(path)


def _motion(axis, fit: ReplayFit, channel: int, name: str) -> None:
    windows = fit.cut.windows
    length = float(np.median(windows.time_s[:, -1] - windows.time_s[:, 0]))
    order = np.linspace(0, len(windows) - 1, min(len(windows), max(1, round(SHOWN_S / length)))).astype(int)
    begin = 0.0
    for n, w in enumerate(order):
        time_s = begin + windows.time_s[w] - windows.time_s[w, 0]
        labels = ("measured", "replayed") if n == 0 else (None, None)
        axis.plot(time_s, windows.measured[w, :, channel], color="0.6", lw=2, label=labels[0])
        axis.plot(time_s[1:], fit.predicted[w, :, channel], color="tab:blue", lw=1, label=labels[1])
        begin += 1.15 * length
    axis.set_ylabel(name, fontsize=7)
    axis.tick_params(labelsize=6)


def _residual(axis, fit: ReplayFit, channel: int) -> None:
    """How the error grows since the window's start; the dotted line is what changes between rows."""
    windows, error = fit.cut.windows, fit.error[..., channel]
    time_s = (windows.time_s[:, 1:] - windows.time_s[:, :1]).mean(0)
    axis.plot(time_s, error.T, color="tab:red", lw=0.3, alpha=0.3)
    axis.plot(time_s, np.sqrt(np.mean(error**2, axis=0)), color="k", lw=1.2)
    axis.axhline(fit.cut.sensor[channel], color="tab:green", lw=0.8, ls=":")
    axis.tick_params(labelsize=6)
