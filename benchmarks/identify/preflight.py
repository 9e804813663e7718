"""Does the ranking of `sim2real preflight` agree with the twin's? Every policy of some runs, flown on both."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console
from scipy.stats import spearmanr

from benchmarks.common import child_environment, tell
from pipeline import run
from robot.open import open_session
from robot.policy import ExportedPolicy

EPISODES, SEED = 20, 77_000
FEW = 10  # policies below which a rank correlation says little


def measure(folder: str, posterior: str | None = None) -> dict[str, Any]:
    runs = sorted(path.parent for path in Path(folder).glob(f"*/{run.CONFIG_FILE}"))
    command = [sys.executable, "-m", "pipeline.cli", "preflight", *map(str, runs), "--json"]
    command += ["--posterior", posterior] if posterior else []
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=True)
    ranking = json.loads(done.stdout)
    for k, entry in enumerate(ranking):
        owner = next(path for path in runs if Path(entry["policy"]).is_relative_to(path))
        entry["twin"] = _on_twin(owner, Path(entry["policy"]))
        tell(
            f"policy {k + 1} of {len(ranking)}: {entry['policy']}: twin {entry['twin']:.2f}, worst {entry['worst']:.2f}"
        )
    merit = [-k for k in range(len(ranking))]
    answer: dict[str, Any] = {"policies": ranking, "episodes": EPISODES}
    for name, values in (
        ("rank", merit),
        ("worst", [e["worst"] for e in ranking]),
        ("success", [e["success"] for e in ranking]),
    ):
        answer[f"spearman_{name}"] = float(spearmanr(values, [e["twin"] for e in ranking])[0])  # pyright: ignore[reportArgumentType]
    return answer


def _on_twin(folder: Path, policy: Path) -> float:
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
    return sum(episode.meta.success for episode in episodes) / len(episodes)


def show(report: dict[str, Any], console: Console) -> None:
    few = f" (fewer than {FEW} policies: this says little)" if len(report["policies"]) < FEW else ""
    names = {"rank": "the ranking", "worst": "the worst case", "success": "the mean"}
    each = ", ".join(f"with {words} {report[f'spearman_{key}']:.2f}" for key, words in names.items())
    console.print(
        f"{len(report['policies'])} policies, {report['episodes']} episodes each on the twin. Spearman's rank "
        f"correlation {each}{few}"
    )
