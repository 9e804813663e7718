"""Does the ranking of `sim2real preflight` agree with the twin's? Policies of differing quality, flown on both.

Without a folder of runs it makes its own: short trainings at several strengths of randomization and seeds, whose
checkpoints go from helpless to good.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from benchmarks.common import child_environment, tell
from pipeline import run
from pipeline.gap import wilson
from robot.open import open_session
from robot.policy import ExportedPolicy

EPISODES, SEED = 20, 77_000  # on the twin
FEW = 10  # policies below which a rank correlation says little
CONFIG = "cartpole_sources"
SET = ((0.0, 2), (0.4, 2), (0.4, 3), (1.0, 2), (1.0, 3))  # strength of randomization and seed of each training
UPDATES, EVERY_ITERATIONS = 10_000, 10  # of each; a checkpoint every 2,000 updates
RECORDINGS, SECONDS = 3, 20.0
DRAWS = 4000
MEASURES = {"rank": "the ranking", "success": "success alone", "worst_return": "the worst return alone"}


def measure(folder: str = "", posterior: str | None = None) -> dict[str, Any]:
    """Rank every policy of the runs in `folder`, fly each on the twin, compare. Empty: of a set made for it."""
    with tempfile.TemporaryDirectory(prefix="preflight-") as own:
        if not folder:
            folder = own
            _train(Path(own))
        if posterior is None:
            posterior = str(Path(own) / "identified.yaml")
            tell("identifying the robot")
            _command("identify", "cartpole", "--robot", CONFIG, "-o", posterior, "--json",
                     "--recordings", str(RECORDINGS), "--seconds", str(SECONDS))  # fmt: skip
        runs = sorted(path.parent for path in Path(folder).glob(f"**/{run.CONFIG_FILE}"))
        began = time.perf_counter()
        ranking = json.loads(_command("preflight", *map(str, runs), "--posterior", posterior, "--json"))
        preflight_s = time.perf_counter() - began
        ranking = [{**entry, "rank": k + 1} for k, entry in enumerate(ranking)]
        for k, entry in enumerate(ranking):
            owner = next(path for path in runs if Path(entry["policy"]).is_relative_to(path))
            entry["twin_successes"] = _on_twin(owner, Path(entry["policy"]))
            entry["twin"] = entry["twin_successes"] / EPISODES
            entry["policy"] = str(Path(entry["policy"]).relative_to(folder))
            tell(f"policy {k + 1} of {len(ranking)}: twin {entry['twin']:.2f}, in simulation {entry['success']:.2f}")
    answer: dict[str, Any] = {"policies": ranking, "episodes": EPISODES, "preflight_s": preflight_s}
    return answer | {"spearman": correlations(ranking)}


def correlations(ranking: list[dict[str, Any]], seed: int = 0) -> dict[str, dict[str, float]]:
    """Spearman's rank correlation with the twin's success, and its 95 % interval by a bootstrap over policies."""
    twin = np.array([e["twin"] for e in ranking])
    columns = {
        "rank": -np.array([e["rank"] for e in ranking], float),
        "success": np.array([e["success"] for e in ranking]),
        "worst_return": np.array([e["worst_return"] for e in ranking]),
    }
    random = np.random.default_rng(seed)
    found = {}
    for name, column in columns.items():
        drawn = []
        while len(drawn) < DRAWS and len(twin) > 2:
            which = random.integers(0, len(twin), len(twin))
            if np.ptp(twin[which]) > 0 and np.ptp(column[which]) > 0:  # else there is no rank to correlate
                drawn.append(_spearman(column[which], twin[which]))
        low, high = np.percentile(drawn, [2.5, 97.5]) if drawn else (float("nan"),) * 2
        found[name] = {"value": _spearman(column, twin), "low": float(low), "high": float(high)}
    return found


def _spearman(a: np.ndarray, b: np.ndarray) -> float:
    return float(spearmanr(a, b)[0])  # pyright: ignore[reportArgumentType]


def _train(folder: Path) -> None:
    for strength, seed in SET:
        began = time.perf_counter()
        stage = f"{{name: simulation, sim_ratio: 1.0, dr_strength: 1.0, updates: {UPDATES}, evaluate_episodes: 0}}"
        overrides = [f"seed={seed}", f"run_dir={folder}", f"stages=[{stage}]", f"name=strength{strength:g}"]
        overrides += [f"randomization.strength={strength}", "rounds.final_episodes=0", "tracking.enabled=false"]
        overrides += [f"checkpoint.every_iterations={EVERY_ITERATIONS}", "checkpoint.keep=10"]
        _command("train", CONFIG, *overrides)
        tell(f"trained strength {strength:g}, seed {seed}: {time.perf_counter() - began:.0f} s")


def _command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli", *arguments], capture_output=True, text=True, env=child_environment()
    )
    if done.returncode:
        raise RuntimeError(f"sim2real {' '.join(arguments)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def _on_twin(folder: Path, policy: Path) -> int:
    experiment = run.read_run(folder)
    exported = ExportedPolicy(policy.read_bytes())
    with tempfile.TemporaryDirectory(prefix="preflight-") as own:
        session = open_session(experiment.robot, experiment.make_task(), own)
        try:
            episodes = [
                session.run_episode(exported, purpose="evaluation", seed=SEED, world=world) for world in range(EPISODES)
            ]
        finally:
            session.close()
    return sum(episode.meta.success for episode in episodes)


def show(report: dict[str, Any], console: Console) -> None:
    table = Table(title=f"Ranked without moving the robot, and what the twin says ({report['episodes']} episodes each)")
    for column in ("place", "policy", "updates", "success", "worst return", "stops", "limits", "twin"):
        table.add_column(column, no_wrap=True)
    for entry in report["policies"]:
        low, high = wilson(entry["twin_successes"], report["episodes"])
        table.add_row(
            str(entry["rank"]),
            entry["policy"].partition("/")[0],
            f"{entry['updates']:,}",
            f"{entry['success']:.2f}",
            f"{entry['worst_return']:.1f}",
            f"{entry['stops']:.2f}",
            f"{entry['limit_hits']:.3f}",
            f"{entry['twin']:.2f} [{low:.2f}, {high:.2f}]",
        )
    console.print(table)
    few = f" (fewer than {FEW} policies: this says little)" if len(report["policies"]) < FEW else ""
    each = ", ".join(
        f"with {words} {one['value']:.2f} [{one['low']:.2f}, {one['high']:.2f}]"
        for key, words in MEASURES.items()
        for one in [report["spearman"][key]]
    )
    console.print(
        f"{len(report['policies'])} policies, ranked in {report['preflight_s']:.0f} s. Spearman's rank correlation "
        f"(95 %, bootstrap over policies) {each}{few}"
    )
