"""One page of plots of a camera's calibration."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.identify.camera.optics import NAMES, Optics


def write_page(optics: Optics, path: Path) -> None:
    """A PNG: where corners were seen, errors by place, by picture and by direction, tilts of the board."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.3, 11.7), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    axes = np.asarray(figure.subplots(3, 2))
    corners = np.concatenate([view.corners for view in optics.views])
    error = optics.residual_px.reshape(-1, 2)
    width, height = optics.size
    for axis, title in ((axes[0, 0], "corners seen"), (axes[0, 1], "errors, found less predicted")):
        axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        axis.set_title(title, fontsize=9)
        for line in (1 / 3, 2 / 3):
            axis.axvline(line * width, color="0.85", lw=0.6, zorder=0)
            axis.axhline(line * height, color="0.85", lw=0.6, zorder=0)
    for view in optics.views:
        axes[0, 0].plot(*view.corners.T, ".", ms=3)
    axes[0, 0].plot(*optics.value[2:4], "k+", ms=12)
    arrows = axes[0, 1].quiver(*corners.T, error[:, 0], -error[:, 1], np.linalg.norm(error, axis=1), width=0.003)
    figure.colorbar(arrows, ax=axes[0, 1], label="px", shrink=0.6)
    _scatter(axes[1, 0], optics, error)
    _bars(axes[1, 1], optics)
    _tilts(axes[2, 0], optics)
    _values(axes[2, 1], optics)
    for axis in axes.ravel():
        axis.tick_params(labelsize=7)
    figure.suptitle(f"Camera, {len(optics.views)} pictures, rms {optics.rms_px:.3f} px", fontsize=10)
    figure.savefig(path)


def _scatter(axis, optics: Optics, error: np.ndarray) -> None:
    axis.plot(*error.T, ".", ms=2, alpha=0.5)
    most = float(np.abs(error).max()) * 1.1 + 1e-9
    axis.set(xlim=(-most, most), ylim=(-most, most), aspect="equal", xlabel="x, px", ylabel="y, px")
    axis.set_title("errors: round and about zero if the model fits", fontsize=9)


def _bars(axis, optics: Optics) -> None:
    names = [view.source for view in optics.views]
    axis.barh(range(len(names)), optics.view_rms_px, color="tab:blue")
    axis.set_yticks(range(len(names)), [name if len(name) < 22 else f"…{name[-20:]}" for name in names])
    axis.invert_yaxis()
    axis.set_xlabel("px")
    axis.set_title("rms of each picture", fontsize=9)


def _tilts(axis, optics: Optics) -> None:
    dots = axis.scatter(*optics.tilt_deg.T, c=optics.translation_m[:, 2], s=25)
    axis.figure.colorbar(dots, ax=axis, label="distance, m", shrink=0.6)
    axis.set(xlim=(-60, 60), ylim=(-60, 60), aspect="equal", xlabel="left to right, deg", ylabel="up to down, deg")
    axis.axhline(0, color="0.85", lw=0.6)
    axis.axvline(0, color="0.85", lw=0.6)
    axis.set_title("tilt of the board; 20 to 45 deg each way is good", fontsize=9)


def _values(axis, optics: Optics) -> None:
    axis.set_axis_off()
    rows = [
        [name, f"{value:.4g}", "not fitted" if low == high else f"{low:.4g} to {high:.4g}"]
        for name, value, (low, high) in zip(NAMES, optics.value, optics.interval, strict=True)
    ]
    table = axis.table(rows, colLabels=["", "value", "95 %"], loc="center", colWidths=[0.12, 0.33, 0.62])
    table.auto_set_font_size(False)
    table.set_fontsize(7)
