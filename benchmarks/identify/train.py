"""What identification is worth: trainings of one configuration that differ in what they start from, as one table.

With the configuration `cartpole_sources` it is the comparison of the sources. Neither: nominal simulation. SysID alone:
the identified world, no randomization. DR alone: wide ranges. Both: randomized around what was identified. Progressive:
the default stages, from there on robot data too; the robot identified before, or by the run itself.

Any other configuration is trained as it is and around what was identified, with the same budget. An arm is identified
by its torques and velocities.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.common import child_environment, number, tell
from benchmarks.identify.arm import is_arm
from pipeline.config import load_experiment
from pipeline.gap import rate_text
from robot.ledger import entries

SOURCES = "cartpole_sources"
RECORDINGS, SECONDS = 3, 20.0
Ways = dict[str, tuple[bool, tuple[str, ...]]]  # name: (identified before, overrides)
OF_SOURCES: Ways = {
    "neither": (False, ("randomization.strength=0.0",)),
    "SysID alone": (True, ("randomization.strength=0.0",)),
    "DR alone": (False, ()),
    "both": (True, ()),
    "progressive": (False, ("stages=default",)),
    "progressive, identified": (True, ("stages=default",)),
    "progressive, identifies": (
        False,
        ("stages=default", f"stages.1.identify={{recordings: {RECORDINGS}, seconds: {SECONDS}}}"),
    ),
}
OF_OTHERS: Ways = {"wide ranges": (False, ()), "identified ranges": (True, ())}


def ways_of(config: str) -> Ways:
    return OF_SOURCES if config == SOURCES else OF_OTHERS


def measure(config: str, seeds: list[int], overrides: list[str], only: list[str]) -> list[dict[str, Any]]:
    """Only some of the ways, or all where `only` is empty."""
    task = load_experiment(config).task
    ways = {name: way for name, way in ways_of(config).items() if name in only or not only}
    motion = ("--model", "arm") if is_arm(task) else ("--recordings", str(RECORDINGS), "--seconds", str(SECONDS))
    results = []
    with tempfile.TemporaryDirectory(prefix="sources-") as folder:
        for seed in seeds:
            identified = Path(folder) / f"identified{seed}.yaml"
            spent_s = 0.0
            if any(known for known, _ in ways.values()):
                _run(["identify", task, "--robot", config, "--seed", str(seed), "-o", str(identified), *motion])
                spent_s = _identifying(Path(folder) / f"identified{seed}_recordings" / "ledger.jsonl")
            for name, (known, changes) in ways.items():
                run_dir = Path(folder) / f"{name}-{seed}"
                more = [f"randomization.posterior={identified}"] if known else []
                _run(["train", config, f"seed={seed}", f"run_dir={run_dir}", *changes, *more, *overrides])
                results.append({"way": name, "seed": seed, **_read(run_dir, spent_s if known else 0.0)})
                tell(f"{name}, seed {seed}: robot {rate_text(results[-1]['real'])} after {results[-1]['wall_s']:.0f} s")
    return results


def _run(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments], capture_output=True, text=True, env=child_environment()
    )
    if done.returncode:
        raise RuntimeError(f"sim2real {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")


def _identifying(ledger: Path) -> float:
    return sum(seconds for purpose, seconds, _ in entries(ledger) if purpose == "identification")


def _read(run_dir: Path, identified_s: float) -> dict[str, Any]:
    (file,) = run_dir.glob("*/summary.json")
    summary = json.loads(file.read_text())
    seconds = summary["robot_s"]
    return {
        "real": summary["final"]["real"],
        "sim": summary["final"]["sim"],
        "updates": summary["updates"],
        "env_steps": summary["env_steps"],
        "wall_s": summary["wall_s"],
        "collected_s": seconds["collection"],
        "identification_s": identified_s + seconds.get("identification", 0.0),
        "told": summary.get("identification", {}).get("told", []),
    }


def show(report: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="Success on the twin by what the training starts from (95 % intervals)")
    for name in ("way", "seed", "robot", "its own simulation", "updates", "env steps", "wall", "robot s"):
        table.add_column(name, no_wrap=True)
    for way in dict.fromkeys(row["way"] for row in report):
        rows = [row for row in report if row["way"] == way]
        for row in rows:
            table.add_row(
                way,
                str(row["seed"]),
                rate_text(row["real"]),
                rate_text(row["sim"], with_n=False),
                f"{row['updates']:,}",
                f"{row['env_steps']:,}",
                f"{number(row['wall_s'])} s",
                f"{row['collected_s'] + row['identification_s']:.0f}",
            )
        rates = [row["real"]["success"] for row in rows if row["real"]]
        if len(rates) > 1:
            table.add_row("", "all", f"{np.mean(rates):.2f}, {min(rates):.2f} to {max(rates):.2f}", style="bold")
        table.add_section()
    console.print(table)
    console.print("robot s: for training data and for identification; evaluations of the policy are not counted.")
