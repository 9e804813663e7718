"""From the command to the verdict: what `sim2real train` reaches on the twin, with and without randomization.

Every run is the real command line in a process of its own. The stages of the configuration and one nominal stage
with as many updates as all of them together are run on the reality that ships, and the configuration's stages on
other realities besides: every hidden value times a factor of its own from [0.8, 1.2]. Only this program, which
stands outside training, reads the file of hidden values.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from rich.table import Table

import robot.twin
from benchmarks.common import (
    MemoryWatch,
    child_environment,
    machine,
    machine_line,
    middle,
    number,
    parser,
    print_json,
    tables,
    tell,
)
from pipeline.config import load_experiment, shipped_configs
from pipeline.gap import rate_text

HIDDEN = Path(robot.twin.__file__).parent / "hidden"
CONFIGURED, NOMINAL = "configured", "nominal"
SPREAD = 0.2
GUESS_S = 120.0  # of a run, before one has ended
TAIL = 15  # lines of a failed run's output that are shown


@dataclass(frozen=True)
class Reality:
    """A twin: the shipped one, or a file of perturbed hidden values with the factors it was made by."""

    name: str
    file: Path | None = None
    factors: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One run to make."""

    config: str
    seed: int
    stages: str  # CONFIGURED, NOMINAL, or what `stages=` takes
    reality: Reality

    @property
    def title(self) -> str:
        return f"{self.config}, {self.stages}, seed {self.seed}, {self.reality.name}"

    @property
    def overrides(self) -> list[str]:
        """What the command line is told besides the configuration."""
        told = [f"seed={self.seed}"]
        if self.stages == NOMINAL:
            updates = sum(stage.updates for stage in load_experiment(shipped_configs()[self.config]).stages)
            told.append(f"stages=[{{name: {NOMINAL}, updates: {updates}}}]")
        elif self.stages != CONFIGURED:
            told.append(f"stages={self.stages}")
        if self.reality.file is not None:
            told.append(f"robot.twin.hidden={self.reality.file}")
        return told


def main() -> int:
    options = _options()
    described = machine()
    with tempfile.TemporaryDirectory(prefix="transfer-") as folder:
        realities = _perturbed(options.task, options.hidden_variants, options.hidden_seed, Path(folder))
        runs = _plan(options, realities)
        run_dir = Path(options.run_dir) if options.run_dir else Path(folder) / "runs"
        results = _make_all(runs, run_dir, options.overrides, options.memory)
    report = {
        "machine": described,
        "realities": [{"name": r.name, "factors": r.factors} for r in realities],
        "runs": results,
        "summary": _summary(results),
    }
    if options.json:
        print_json(report)
    else:
        _show(report)
    return 1 if any("error" in result for result in results) else 0


def _options() -> Any:
    made = parser("benchmarks.transfer", __doc__)
    made.add_argument("--task", choices=sorted(shipped_configs()), default="cartpole", help="a configuration by name")
    made.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="on the shipped reality (default 0 1 2)")
    made.add_argument(
        "--stages",
        nargs="*",
        default=[CONFIGURED, NOMINAL],
        help=f"on the shipped reality: {CONFIGURED}, {NOMINAL} or a preset (default: {CONFIGURED} {NOMINAL})",
    )
    made.add_argument("--hidden-variants", type=int, default=3, metavar="K", help="perturbed realities (default 3)")
    made.add_argument(
        "--hidden-seed", type=int, default=0, help="of the factors: the same realities for the same number (default 0)"
    )
    made.add_argument(
        "--variant-seeds",
        type=int,
        nargs="+",
        help="run each of these on every perturbed reality (default: one of --seeds each, in turn)",
    )
    made.add_argument("--variant-stages", nargs="*", default=[CONFIGURED], help=f"on them (default: {CONFIGURED})")
    made.add_argument("--memory", action="store_true", help="watch the memory of the runs; costs them a little time")
    made.add_argument("--run-dir", help="keep the run folders here (default: a temporary folder)")
    made.add_argument(
        "--set", dest="overrides", nargs="+", default=[], metavar="KEY.PATH=VALUE", help="for every run, after all else"
    )
    return made.parse_args()


def _perturbed(task: str, count: int, seed: int, folder: Path) -> list[Reality]:
    """Files with every shipped hidden value times a factor of its own, uniform in 1 ± SPREAD."""
    shipped = yaml.safe_load((HIDDEN / f"{task}.yaml").read_text(encoding="utf-8")) if count else {}
    realities = []
    for k in range(count):
        random = np.random.default_rng([seed, k])
        factors = {name: float(random.uniform(1 - SPREAD, 1 + SPREAD)) for name in shipped}
        file = folder / f"reality{k + 1}.yaml"
        file.write_text(yaml.safe_dump({name: float(value * factors[name]) for name, value in shipped.items()}))
        realities.append(Reality(f"reality {k + 1}", file, factors))
    return realities


def _plan(options: Any, realities: list[Reality]) -> list[Run]:
    shipped = Reality("shipped")
    runs = [Run(options.task, seed, stages, shipped) for seed in options.seeds for stages in options.stages]
    for k, reality in enumerate(realities):
        seeds = options.variant_seeds or [options.seeds[k % len(options.seeds)]]
        runs += [Run(options.task, seed, stages, reality) for seed in seeds for stages in options.variant_stages]
    return runs


# -- running --------------------------------------------------------------------------------------------------------


def _make_all(runs: list[Run], run_dir: Path, overrides: list[str], memory: bool) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = []
    for i, run in enumerate(runs):
        took = [result["command_s"] for result in results] or [GUESS_S]
        left_s = sum(took) / len(took) * (len(runs) - i)
        tell(f"run {i + 1} of {len(runs)}: {run.title}; about {left_s / 60:.0f} min to go")
        results.append(_make(run, run_dir / f"run{i + 1}", overrides, memory))
        tell(f"run {i + 1} of {len(runs)}: {_line(results[-1])}")
    return results


def _make(run: Run, run_dir: Path, overrides: list[str], memory: bool) -> dict[str, Any]:
    """Run the command line and read what it left behind. A run that failed has `error` and no measurements."""
    command = [sys.executable, "-m", "pipeline.cli", "train", run.config, *run.overrides, f"run_dir={run_dir}"]
    began, clock = time.time(), time.perf_counter()
    process = subprocess.Popen(
        [*command, *overrides],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=child_environment(COLUMNS="120"),
    )
    watch = MemoryWatch(process.pid) if memory else None
    with watch or nullcontext():
        try:
            output, _ = process.communicate()
        except KeyboardInterrupt:  # the run has had its Ctrl-C too, and is closing
            process.communicate()
            raise
    result: dict[str, Any] = {
        "seed": run.seed,
        "stages": run.stages,
        "reality": run.reality.name,
        "command_s": time.perf_counter() - clock,
    }
    summaries = list(run_dir.glob("*/summary.json"))
    if process.returncode or not summaries:
        tail = "\n".join(output.splitlines()[-TAIL:])
        return {**result, "error": f"exit code {process.returncode}", "output": tail}
    result |= _read(summaries[0], began)
    return {**result, **({"memory": watch.summary()} if watch else {})}


def _read(summary_file: Path, began: float) -> dict[str, Any]:
    summary = json.loads(summary_file.read_text())
    newest = _last_result(summary_file.parent.glob("tune/*/result.json"))
    first = newest.get("progress", {}).get("first_update_at")
    started = json.loads((summary_file.parent / "started.json").read_text())["time"]
    return {
        "real": summary["final"]["real"],
        "sim": summary["final"]["sim"],
        "gap": summary["final"]["gap"],
        "wall_s": summary["wall_s"],
        "updates": summary["updates"],
        "env_steps": summary["env_steps"],
        "robot_s": summary["robot_s"],
        "robot_episodes": summary["robot_episodes"],
        "by_stage": [{"name": row["name"], "real": row["real"], "sim": row["sim"]} for row in summary["stages"]],
        "first_update_s": {
            "from_command": first - began if first else None,  # Python and every import included
            "from_run_folder": first - started if first else None,
        },
    }


def _last_result(files: Iterable[Path]) -> dict[str, Any]:
    newest: dict[str, Any] = {}
    for file in files:
        for line in file.read_text().splitlines():
            try:
                newest = json.loads(line)
            except ValueError:
                continue
    return newest


# -- telling --------------------------------------------------------------------------------------------------------


def _summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """By stages and kind of reality: the least, median and highest of the final success and of what it cost."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for result in results:
        kind = "shipped" if result["reality"] == "shipped" else "perturbed"
        groups.setdefault(f"{result['stages']}, {kind}", []).append(result)
    summary = {}
    for name, group in groups.items():
        done = [result for result in group if "error" not in result]
        summary[name] = {
            "runs": len(group),
            "failed": len(group) - len(done),
            "real_success": _spread([r["real"].get("success") for r in done]),
            "wall_s": _spread([r["wall_s"] for r in done]),
            "collection_s": _spread([r["robot_s"]["collection"] for r in done]),
            "first_update_s": _spread([r["first_update_s"]["from_command"] for r in done]),
        }
    return summary


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    return {"least": min(known, default=None), "median": middle(known), "most": max(known, default=None)}


def _line(result: dict[str, Any]) -> str:
    if "error" in result:
        return f"{result['error']}\n{result['output']}"
    return f"{result['wall_s']:.0f} s, robot {rate_text(result['real'])}, simulation {rate_text(result['sim'])}"


def _show(report: dict[str, Any]) -> None:
    console = tables()
    title = "Success in the last evaluation of each run, with 95 % intervals"
    table = Table(title=title, caption=machine_line(report["machine"]))
    for name in ("stages", "reality"):
        table.add_column(name, no_wrap=True)
    for name in ("seed", "n"):
        table.add_column(name, justify="right")
    for name in ("robot", "simulation", "gap", "verdict"):
        table.add_column(name, no_wrap=True)
    for name in ("wall", "first update", "collected", "evaluated", "memory"):
        table.add_column(name, justify="right")
    for result in report["runs"]:
        head = (result["stages"], result["reality"], str(result["seed"]))
        if "error" in result:
            table.add_row(*head, result["error"], style="red")
            continue
        memory = result.get("memory")
        table.add_row(
            *head,
            str(result["real"].get("n", 0)),
            rate_text(result["real"], with_n=False),
            rate_text(result["sim"], with_n=False),
            rate_text(result["gap"]),
            result["gap"].get("verdict", "–"),
            f"{result['wall_s']:.0f} s",
            f"{number(result['first_update_s']['from_command'], '.1f')} s",
            f"{result['robot_s']['collection']:.0f} s",
            f"{result['robot_s']['evaluation']:.0f} s",
            f"{memory['peak_mb']:,.0f} MB" if memory else "–",
        )
    console.print(table)
    for name, group in report["summary"].items():
        success = group["real_success"]
        spread = ", ".join(f"{key} {number(value, '.2f')}" for key, value in success.items())
        console.print(f"{name}: {group['runs']} runs, {group['failed']} failed, success on the robot {spread}")
    console.print(
        "First update: seconds from the command on. Collected, evaluated: seconds on the robot. Memory: the "
        "highest sum over the processes of a run, shared pages counted once (PSS)."
    )
    for reality in report["realities"]:
        factors = ", ".join(f"{name} x{factor:.2f}" for name, factor in reality["factors"].items())
        console.print(f"{reality['name']}: {factors}")


if __name__ == "__main__":
    sys.exit(main())
