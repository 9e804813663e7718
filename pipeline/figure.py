"""The figure of a run: success in simulation and on the robot, and the ranges, over gradient updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.gap import rate_text
from pipeline.report import robot_time

SIM, RANDOMIZED, ROBOT, INK, FAINT = "#2f6db5", "#3f9e8f", "#c8442e", "#22262b", "#7b828b"
SHADES = ("#f1f3f6", "#ffffff")
COLUMNS = 6  # small multiples in a row
MOST_RANGES = 24  # beyond, only those that moved most are drawn


@dataclass(frozen=True)
class Curve:
    """A success rate with its 95 % interval over gradient updates."""

    x: np.ndarray
    success: np.ndarray
    low: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Span:
    """One visit of a stage, in gradient updates."""

    name: str
    start: float
    end: float
    text: str


def superseded_removed(results: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Results in the order of their updates, without those that a resumed run made again."""
    kept: list[Mapping[str, Any]] = []
    for result in results:
        updates = _updates(result)
        while kept and _updates(kept[-1]) >= updates:
            kept.pop()
        kept.append(result)
    return kept


def curve(results: Sequence[Mapping[str, Any]], key: str) -> Curve:
    """Every distinct block `key` of the results, at the updates of its policy if it says so."""
    points: dict[float, Mapping[str, Any]] = {}
    last: Any = None
    for result in results:
        block = result.get(key)
        if not block or block == last:
            continue
        last = block
        points[float(block.get("updates", _updates(result)))] = block
    x = sorted(points)
    columns = [np.array([points[i][name] for i in x], float) for name in ("success", "low", "high")]
    return Curve(np.array(x, float), *columns)


def spans(results: Sequence[Mapping[str, Any]]) -> list[Span]:
    """The visits of stages in the order they were made."""
    found: list[Span] = []
    for result in results:
        stage, end = result.get("stage") or {}, _updates(result)
        name = str(stage.get("name", ""))
        if found and found[-1].name == name:
            found[-1] = Span(name, found[-1].start, end, found[-1].text)
        elif name:
            text = f"sim {stage.get('sim_ratio', 1):g} · DR {stage.get('dr_strength', 0):g}"
            found.append(Span(name, found[-1].end if found else 0.0, end, text))
    return found


def range_history(results: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Updates (t,) and {parameter: (t, 2) low and high} of the parameters whose range ever had a width.

    Nothing for a run without randomization, whatever its ranges say.
    """
    rows = [(r, r["adr"]["ranges"]) for r in results if (r.get("adr") or {}).get("ranges")]
    if not any((r.get("stage") or {}).get("dr_strength", 1) > 0 for r, _ in rows):
        return np.zeros(0), {}
    names = [n for n in rows[0][1] if any(r[n][1] > r[n][0] for _, r in rows)]
    return np.array([_updates(r) for r, _ in rows], float), {n: np.array([r[n] for _, r in rows], float) for n in names}


def draw(results: Sequence[Mapping[str, Any]], summary: Mapping[str, Any], path: Path) -> None:
    """Draw the report of a run into a PNG file."""
    from matplotlib.figure import Figure

    results = superseded_removed(results)
    x, ranges = range_history(results)
    ranges = _most_moved(ranges)
    rows = ceil(len(ranges) / COLUMNS)
    heights = [5.0, 1.6 * rows + 0.4] if rows else [5.0]  # inches
    figure = Figure(figsize=(12, sum(heights)), dpi=130, facecolor="white")
    parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _success_panel(parts[0], results, summary)
    if rows:
        _range_panels(parts[1], x, ranges, spans(results), rows)
    figure.savefig(path, format="png")


def _success_panel(part: Any, results: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    part.text(0.06, 0.955, _title(summary), fontsize=13, fontweight="bold", color=INK, va="center")
    part.text(0.06, 0.905, _subtitle(summary), fontsize=9.5, color=FAINT, va="center")
    axes = part.add_axes((0.06, 0.115, 0.925, 0.69))
    visits = spans(results)
    _shade(axes, visits)
    for visit in visits:
        middle, width = (visit.start + visit.end) / 2, visit.end - visit.start
        if width > 0.04 * visits[-1].end:
            axes.text(
                middle,
                1.145,
                visit.name,
                ha="center",
                va="center",
                fontsize=9.5,
                fontweight="bold",
                color=INK,
            )
        if width > 0.1 * visits[-1].end:
            axes.text(middle, 1.085, visit.text, ha="center", va="center", fontsize=8, color=FAINT)
    for key, label, colour, dashes in (
        ("sim", "simulation, nominal", SIM, "-"),
        ("randomized", "simulation, in the ranges", RANDOMIZED, (0, (5, 1.5))),
    ):
        line = curve(results, key)
        axes.fill_between(line.x, line.low, line.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(line.x, line.success, color=colour, linewidth=1.8, linestyle=dashes, label=label)
    _robot_points(axes, curve(results, "real"), summary)
    axes.set_ylim(-0.04, 1.2)
    axes.set_yticks(np.linspace(0, 1, 6), [f"{v:.0%}" for v in np.linspace(0, 1, 6)])
    axes.set_xlim(0, max([_updates(r) for r in results], default=1) * 1.015 or 1)
    axes.set_ylabel("success, 95 % interval", color=INK)
    axes.set_xlabel("gradient updates", color=INK)
    axes.xaxis.set_major_formatter(lambda v, _: f"{v:,.0f}")
    axes.grid(axis="y", color="#dde1e6", linewidth=0.7)
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=4, fontsize=9, frameon=False)
    _tidy(axes)


def _robot_points(axes: Any, robot: Curve, summary: Mapping[str, Any]) -> None:
    """Robot evaluations with whiskers; that of the policy which ships larger."""
    style = {"color": ROBOT, "capsize": 3, "elinewidth": 1.5, "zorder": 5}
    final, at = summary["final"].get("real"), summary["final"].get("updates", summary["updates"])
    shown = robot.x != at if final else np.ones(robot.x.size, bool)
    x, success = robot.x[shown], robot.success[shown]
    if x.size:
        errors = np.clip([success - robot.low[shown], robot.high[shown] - success], 0, None)
        axes.errorbar(x, success, errors, fmt="o", markersize=5.5, label="robot", **style)
    if final:
        errors = [[final["success"] - final["low"]], [final["high"] - final["success"]]]
        label = f"robot, the policy that ships (n={final['n']})"
        axes.errorbar([at], [final["success"]], errors, fmt="D", markersize=8, label=label, **style)
        x, success = np.append(x, at), np.append(success, final["success"])
    order = np.argsort(x)
    axes.plot(x[order], success[order], color=ROBOT, linewidth=1.2, zorder=4)


def _range_panels(part: Any, x: np.ndarray, ranges: Mapping[str, np.ndarray], visits: list[Span], rows: int) -> None:
    """One small panel a parameter, in its own unit, with the starting range dashed."""
    inches = 1.6 * rows + 0.4
    heading = "Randomization ranges at dr_strength 1: low to high, dashed where they started"
    part.text(0.06, 1 - 0.1 / inches, heading, fontsize=10, fontweight="bold", color=INK, va="center")
    grid = part.add_gridspec(
        rows,
        COLUMNS,
        left=0.06,
        right=0.985,
        top=1 - 0.5 / inches,
        bottom=0.33 / inches,
        wspace=0.42,
        hspace=0.62,
    )
    for k, (name, bounds) in enumerate(ranges.items()):
        axes = part.add_subplot(grid[k // COLUMNS, k % COLUMNS])
        _shade(axes, visits)
        low, high = bounds[:, 0], bounds[:, 1]
        axes.fill_between(x, low, high, step="post", color=RANDOMIZED, alpha=0.28, linewidth=0)
        axes.step(x, low, x, high, where="post", color=RANDOMIZED, linewidth=1.1)
        for start in bounds[0]:
            axes.axhline(start, color=INK, linewidth=0.8, linestyle=(0, (4, 3)))
        margin = 0.12 * (bounds.max() - bounds.min())
        axes.set_ylim(bounds.min() - margin, bounds.max() + margin)
        axes.set_xlim(0, max(visits[-1].end if visits else 0.0, x.max(), 1))
        axes.set_title(name, fontsize=8.5, color=INK, loc="left", pad=3)
        axes.locator_params(axis="y", nbins=4)
        axes.locator_params(axis="x", nbins=3)
        axes.xaxis.set_major_formatter(lambda v, _: f"{v / 1000:g}k" if v else "0")
        _tidy(axes, size=7)


def _shade(axes: Any, visits: Sequence[Span]) -> None:
    for k, visit in enumerate(visits):
        axes.axvspan(visit.start, visit.end, color=SHADES[k % 2], zorder=0, linewidth=0)
        if k:
            axes.axvline(visit.start, color="#c9ced6", linewidth=0.8, zorder=1)


def _tidy(axes: Any, size: float = 9) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color("#c9ced6")
    axes.tick_params(labelsize=size, colors=INK, length=3, color="#c9ced6")


def _most_moved(ranges: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """At most MOST_RANGES parameters, those whose bounds moved most for their width, in their own order."""
    moved = {n: float(np.ptp(b, axis=0).sum() / max(np.ptp(b), 1e-12)) for n, b in ranges.items()}
    chosen = sorted(moved, key=lambda n: -moved[n])[:MOST_RANGES]
    return {name: bounds for name, bounds in ranges.items() if name in chosen}


def _title(summary: Mapping[str, Any]) -> str:
    gap = summary["final"].get("gap") or {}
    head = f"{summary['task']}: robot success {rate_text(summary['final'].get('real'))}"
    return f"{head}   ·   transfer gap: {gap['verdict']}" if gap else head


def _subtitle(summary: Mapping[str, Any]) -> str:
    final, seconds = summary["final"], summary["robot_s"]
    parts = [
        f"simulation {rate_text(final.get('sim'))}",
        f"gap {rate_text(final.get('gap'))}",
        f"robot {robot_time(seconds)}",
        f"{summary['wall_s']:.0f} s wall",
        summary["run"],
    ]
    return "  ·  ".join(parts)


def _updates(result: Mapping[str, Any]) -> float:
    return float((result.get("progress") or {}).get("updates", 0))
