"""What a run came to: `summary.json`, the table by stage, and `report.png`."""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.gap import rate_text

if TYPE_CHECKING:
    from rich.table import Table

PACKAGES = (
    "sim2real",
    "ray",
    "torch",
    "numpy",
    "gymnasium",
    "pybullet",
    "mujoco",
    "onnx",
    "onnxruntime",
    "mlflow",
)
ROBOT_S = ("collection", "evaluation")  # always told
ROW_KEYS = ("name", "sim_ratio", "dr_strength", "ranges_version")
BLOCK_KEYS = ("success", "n", "low", "high", "mean_return")
GAP_KEYS = ("success", "low", "high", "verdict")
VERDICT_STYLE = {"good": "green", "moderate": "yellow", "poor": "red", "not settled": "magenta"}


def build_summary(
    *,
    run: str,
    task: str,
    seed: int,
    wall_s: float,
    env_steps: int,
    updates: int,
    robot_s: Mapping[str, float],
    robot_episodes: int,
    stages: Sequence[Mapping[str, Any]],
    final: Mapping[str, Any],
    robot_ledger: Mapping[str, float] | None = None,
    budgets_spent: Mapping[str, str] | None = None,
    identification: Mapping[str, Any] | None = None,
    versions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The content of `summary.json`: plain numbers and text, blocks cut to their documented keys.

    `stages` are rows of finished stages, `final` the blocks `sim`, `real` and `gap` of the policy
    that ships, with the `stage` it comes from and its `updates`, `robot_s` the seconds of `collection` and
    `evaluation`, `robot_ledger` all that the run's ledger has, and `budgets_spent` a sentence for each purpose that the
    robot's budgets allow no more of: from then on the run was one of simulation. `identification` is what the run found
    out about its robot, fit by fit, and sentences on it; left out where nothing was asked. Versions default to those
    installed. A block that was not measured is {}.
    """
    found = identification or {}
    return _plain(
        {
            "run": run,
            "task": task,
            "seed": seed,
            "wall_s": round(float(wall_s), 3),
            "env_steps": env_steps,
            "updates": updates,
            "robot_s": {k: round(float(robot_s.get(k, 0.0)), 3) for k in ROBOT_S}
            | {k: round(float(v), 3) for k, v in robot_s.items() if k == "identification" and v},
            "robot_episodes": robot_episodes,
            "robot_ledger": dict(robot_ledger or {}),
            "budgets_spent": dict(budgets_spent or {}),
            "stages": [_row(row) for row in stages],
            "final": {
                **measured(final.get("sim"), final.get("real"), final.get("gap")),
                **{key: final[key] for key in ("stage", "updates", "note") if key in final},
            },
            "versions": installed_versions() if versions is None else dict(versions),
            **({"identification": {k: found[k] for k in ("findings", "told")}} if found.get("told") else {}),
        }
    )


def measured(
    sim: Mapping[str, Any] | None, real: Mapping[str, Any] | None, gap: Mapping[str, Any] | None
) -> dict[str, Any]:
    """{sim, real, gap}, each cut to its documented keys and {} where nothing was measured."""
    return {
        "sim": {k: sim[k] for k in BLOCK_KEYS} if sim else {},
        "real": {k: real[k] for k in BLOCK_KEYS} if real else {},
        "gap": {k: gap[k] for k in GAP_KEYS} if gap else {},
    }


def installed_versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide a run's numbers."""
    versions = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def write_summary(run_dir: Path, summary: Mapping[str, Any]) -> Path:
    """Write `summary.json` so that a reader finds the old one or the new one, never half of it."""
    path = Path(run_dir) / "summary.json"
    partial = path.with_suffix(".json.partial")
    with open(partial, "w") as file:
        json.dump(_plain(summary), file, indent=2, allow_nan=False)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    return path


def write_report(run_dir: Path, results: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> Path:
    """Write `report.png` from all results of a run, oldest first, a resumed run's overlap included."""
    from pipeline.figure import draw  # matplotlib takes a second to import

    path = Path(run_dir) / "report.png"
    partial = path.with_suffix(".partial.png")
    draw(results, summary, partial)
    os.replace(partial, path)
    return path


def stage_table(summary: Mapping[str, Any]) -> Table:
    """The stages and the final result as a table for the terminal."""
    from rich.table import Table

    seconds, told = summary["robot_s"], summary.get("identification", {}).get("told", [])
    head = (
        f"{summary['task']}, seed {summary['seed']}",
        f"{summary['wall_s']:.0f} s",
        f"{summary['updates']:,} updates",
    )
    table = Table(
        title=" · ".join(head),
        caption=f"robot: {robot_time(seconds)}, {summary['robot_episodes']} episodes · success with 95 % intervals · "
        "gap = simulation - robot"
        + "".join(f"\n{sentence}" for sentence in told)
        + "".join(f"\n{purpose} went on in simulation: {why}" for purpose, why in summary["budgets_spent"].items()),
    )
    for name in ("stage", "sim_ratio", "dr_strength", "ranges"):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for name in ("simulation", "robot", "gap", "verdict"):
        table.add_column(name)
    for row in summary["stages"]:
        settings = (f"{row['sim_ratio']:g}", f"{row['dr_strength']:g}", f"v{row['ranges_version']}")
        table.add_row(row["name"], *settings, *_measured_cells(row))
    table.add_section()
    shipped = summary["final"].get("stage")
    table.add_row(
        f"final: {shipped}" if shipped else "final", "", "", "", *_measured_cells(summary["final"]), style="bold"
    )
    return table


def posterior_table(summary: Mapping[str, Any]) -> Table | None:
    """What the run found out about its robot: values and 95 % intervals of its first and its last fit."""
    from rich.table import Table

    findings = summary.get("identification", {}).get("findings", [])
    if not findings:
        return None
    shown = [findings[0], findings[-1]] if len(findings) > 1 else findings
    table = Table(title=f"The robot, as identified in the run ({len(findings)} fit{'s' * (len(findings) > 1)})")
    table.add_column("parameter", no_wrap=True)
    for one in shown:
        seconds = f"{one['recorded_s']:.0f} s recorded, {one['flown_s']:.0f} s flown"
        table.add_column(f"{one['why']}\n{seconds}")
    table.add_column("unit")
    for name, entry in shown[-1]["values"].items():
        table.add_row(name, *(_interval(one["values"].get(name)) for one in shown), entry["unit"])
    return table


def _interval(entry: Mapping[str, Any] | None) -> str:
    if entry is None:
        return "–"
    known = entry["known"]
    text = f"{entry['value']:.4g}"
    return (
        f"{text} given"
        if known == "given"
        else f"{text} [{entry['low']:.4g}, {entry['high']:.4g}]" + (" not told" if known == "open" else "")
    )


def robot_time(seconds: Mapping[str, float]) -> str:
    """What the robot's seconds went to, in words."""
    words = f"{seconds['collection']:.0f} s collecting, {seconds['evaluation']:.0f} s evaluating"
    identifying = seconds.get("identification", 0.0)
    return f"{identifying:.0f} s identifying, {words}" if identifying else words


def _row(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row: documented keys first, its blocks cut to theirs, then whatever else the run noted."""
    head = {key: row[key] for key in ROW_KEYS}
    notes = {key: value for key, value in row.items() if key not in (*head, "sim", "real", "gap")}
    return {**head, **measured(row["sim"], row["real"], row["gap"]), **notes}


def _measured_cells(row: Mapping[str, Any]) -> tuple[str, str, str, str]:
    gap = row["gap"]
    word = gap.get("verdict", "–")
    style = VERDICT_STYLE.get(word)
    return (
        rate_text(row["sim"]),
        rate_text(row["real"]),
        rate_text(gap),
        f"[{style}]{word}[/{style}]" if style else word,
    )


def _plain(value: Any) -> Any:
    """Plain JSON values: NumPy scalars and arrays unpacked, numbers that are not finite as null."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
