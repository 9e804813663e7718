"""What identification is worth: the comparison of the sources, as one sweep of configurations and one table.

Neither: nominal simulation. SysID alone: the identified world, no randomization. DR alone: wide ranges. Both:
randomized around what was identified. Progressive: the default stages, from there on robot data too.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.common import ROOT, child_environment, number, tell
from pipeline.gap import rate_text

CONFIG = ROOT / "tune_configs" / "cartpole_sources.yaml"
RECORDINGS, SECONDS = 3, 20.0
WAYS: dict[str, tuple[bool, tuple[str, ...]]] = {  # name: (identified, overrides)
    "neither": (False, ("randomization.strength=0.0",)),
    "SysID alone": (True, ("randomization.strength=0.0",)),
    "DR alone": (False, ()),
    "both": (True, ()),
    "progressive": (False, ("stages=default",)),
    "progressive, identified": (True, ("stages=default",)),
}


def measure(seeds: list[int], overrides: list[str]) -> list[dict[str, Any]]:
    results = []
    with tempfile.TemporaryDirectory(prefix="sources-") as folder:
        for seed in seeds:
            identified = Path(folder) / f"identified{seed}.yaml"
            command = ["identify", "cartpole", "--robot", str(CONFIG), "--seed", str(seed), "-o", str(identified)]
            _run([*command, "--recordings", str(RECORDINGS), "--seconds", str(SECONDS)])
            for name, (known, changes) in WAYS.items():
                run_dir = Path(folder) / f"{name}-{seed}"
                more = [f"randomization.posterior={identified}"] if known else []
                _run(["train", str(CONFIG), f"seed={seed}", f"run_dir={run_dir}", *changes, *more, *overrides])
                results.append({"way": name, "seed": seed, **_read(run_dir, RECORDINGS * SECONDS if known else 0.0)})
                tell(f"{name}, seed {seed}: robot {rate_text(results[-1]['real'])} after {results[-1]['wall_s']:.0f} s")
    return results


def _run(arguments: list[str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments], capture_output=True, text=True, env=child_environment()
    )
    if done.returncode:
        raise RuntimeError(f"sim2real {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")


def _read(run_dir: Path, identification_s: float) -> dict[str, Any]:
    (file,) = run_dir.glob("*/summary.json")
    summary = json.loads(file.read_text())
    return {
        "real": summary["final"]["real"],
        "sim": summary["final"]["sim"],
        "updates": summary["updates"],
        "env_steps": summary["env_steps"],
        "wall_s": summary["wall_s"],
        "collected_s": summary["robot_s"].get("collection", 0.0),
        "identification_s": identification_s,
    }


def show(report: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="Success on the twin by what the training starts from (95 % intervals)")
    for name in ("way", "seed", "robot", "its own simulation", "updates", "env steps", "wall", "robot s"):
        table.add_column(name, no_wrap=True)
    for row in report:
        table.add_row(
            row["way"],
            str(row["seed"]),
            rate_text(row["real"]),
            rate_text(row["sim"], with_n=False),
            f"{row['updates']:,}",
            f"{row['env_steps']:,}",
            f"{number(row['wall_s'])} s",
            f"{row['collected_s'] + row['identification_s']:.0f}",
        )
    console.print(table)
