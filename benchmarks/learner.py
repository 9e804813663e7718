"""SAC side by side on the randomized cartpole: this project's, RLlib's own, Stable-Baselines3's and bare PyTorch.

All with the same networks, minibatches, learning rates, worlds and updates for each environment step, one thread a
process. The whole loops are timed until their policy succeeds on the twin in 95 % of episodes; the learner alone is
timed against bare PyTorch, in turns. Nothing is asserted.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

from rich.table import Table

from benchmarks.common import (
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
from benchmarks.peers.contender import Settings

LEARNER, OURS, RLLIB, SB3 = "learner", "ours", "rllib", "sb3"
CONTENDERS = (LEARNER, OURS, RLLIB, SB3)
SUMMARIZED = (
    "updates_s",
    "learner_updates_s",
    "learner_updates_cpu_s",
    "env_steps_s",
    "updates_per_env_step",
    "to_095_s",
    "to_095_trained_s",
    "setup_s",
    "first_update_s",
    "trained_s",
    "best_success",
    "peak_rss_mb",
    "end_memory_mb",
)


def main() -> int:
    options = _options()
    settings = Settings(seconds=options.seconds)
    turns, turn_s = 15, 1.0
    if options.quick:
        settings = replace(settings, seconds=min(10.0, options.seconds), judge_episodes=10, confirm_episodes=20)
        turns, turn_s = 5, 0.4
    if options.contender:
        settings = replace(settings, seed=options.seeds[0])
        print(json.dumps(_measure(options.contender, settings, turns, turn_s)), flush=True)
        return 0
    described = machine()
    results, failed = _run_all(options)
    report = {
        "machine": described,
        "settings": {**vars(settings), "seeds": options.seeds, "quick": options.quick},
        "contenders": [_summary(name, runs) for name, runs in results.items()],
        "ratios": _ratios(results, settings.seconds),
        "failed": failed,
    }
    report["settings"].pop("seed")
    if options.json:
        print_json(report)
    else:
        _show(report)
    return 1 if failed else 0


def _options() -> Any:
    made = parser("benchmarks.learner", __doc__)
    made.add_argument(
        "--seconds", type=float, default=180.0, help="training time a contender has at most (default 180)"
    )
    made.add_argument("--seeds", type=int, nargs="+", default=[0], help="one run of each contender for each seed")
    made.add_argument(
        "--contenders", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="default: all of them"
    )
    made.add_argument("--quick", action="store_true", help="10 s each and few episodes: tries that everything works")
    made.add_argument("--contender", choices=CONTENDERS, help="measure this one in this process; prints JSON")
    return made.parse_args()


# -- one contender, in this process ---------------------------------------------------------------------------------


def _measure(name: str, settings: Settings, turns: int, turn_s: float) -> list[dict[str, Any]]:
    """Imports happen here, so that no contender has another's in its memory."""
    if name == LEARNER:
        from benchmarks.peers.learner_alone import compare

        return compare(settings, turns, turn_s)
    from benchmarks.peers.race import race

    def build(settings: Settings) -> Any:
        if name == OURS:
            from benchmarks.peers.whole_loop import WholeLoop as contender
        elif name == RLLIB:
            from benchmarks.peers.rllib_sac import StockRLlib as contender
        else:
            from benchmarks.peers.sb3_sac import StableBaselines as contender
        return contender(settings)

    titles = {OURS: "ours, whole loop", RLLIB: "stock RLlib SAC", SB3: "SB3 SAC"}
    return [race(titles[name], build, settings)]


# -- all of them, each in a process of its own ----------------------------------------------------------------------


def _run_all(options: Any) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Results by the names they give themselves, one for each seed; and which of them failed."""
    results: dict[str, list[dict[str, Any]]] = {}
    failed = []
    for seed in options.seeds:
        for contender in options.contenders:
            begun = time.perf_counter()
            tell(f"-- {contender}, seed {seed}")
            command = [sys.executable, "-m", "benchmarks.learner", "--contender", contender, "--seeds", str(seed)]
            command += ["--seconds", str(options.seconds), *(["--quick"] if options.quick else [])]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=child_environment())
            lines = [line for line in done.stdout.splitlines() if line.startswith("[{")]
            if done.returncode or not lines:
                failed.append(f"{contender}, seed {seed}: exit code {done.returncode}")
                tell(f"-- {failed[-1]}")
                continue
            for result in json.loads(lines[-1]):
                results.setdefault(result["name"], []).append(result)
            tell(f"-- {contender}, seed {seed}: took {time.perf_counter() - begun:.0f} s in all")
    return results, failed


def _summary(name: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the seeds, `range` [least, most] of each where there are several, and every run as it was.

    A time to 0.95 that was not reached counts as larger than any other: the median is null if half were not.
    """
    medians = {key: middle([run.get(key) for run in runs]) for key in SUMMARIZED if key in runs[0]}
    summary: dict[str, Any] = {"name": name, **medians}
    if len(runs) > 1:
        spread = {key: [run.get(key) for run in runs] for key in medians}
        known = {key: [value for value in values if value is not None] for key, values in spread.items()}
        summary["range"] = {key: [min(values), max(values)] for key, values in known.items() if values}
        summary["reached"] = sum(run.get("to_095_s") is not None for run in runs)
    return {**summary, "runs": runs}


def _ratios(results: dict[str, list[dict[str, Any]]], seconds: float) -> dict[str, Any]:
    """What the project aims at. Where SB3 was too slow to be timed, `time_vs_sb3_below` bounds its ratio."""

    def median(name: str, key: str) -> float | None:
        return middle([run.get(key) for run in results.get(name, [])])

    def over(a: float | None, b: float | None) -> float | None:
        return a / b if a is not None and b else None

    ours, rllib, sb3 = "ours, whole loop", "stock RLlib SAC", "SB3 SAC"
    turns = [run["ratio"] for run in results.get("ours, learner alone", [])]
    ratios = {
        "updates_vs_stock_rllib": over(median(ours, "updates_s"), median(rllib, "updates_s")),
        "env_steps_vs_stock_rllib": over(median(ours, "env_steps_s"), median(rllib, "env_steps_s")),
        "learner_vs_bare_torch": middle([ratio[1] for ratio in turns]),
        "learner_vs_bare_torch_range": [min(r[0] for r in turns), max(r[2] for r in turns)] if turns else None,
        "time_vs_sb3": over(median(ours, "to_095_s"), median(sb3, "to_095_s")),
        "time_vs_sb3_without_setup": over(median(ours, "to_095_trained_s"), median(sb3, "to_095_trained_s")),
    }
    if sb3 in results and ratios["time_vs_sb3"] is None:
        ratios["time_vs_sb3_below"] = over(median(ours, "to_095_s"), seconds)
    return ratios


def _show(report: dict[str, Any]) -> None:
    console, settings = tables(), report["settings"]
    table = Table(title="SAC on the randomized cartpole, one thread a process", caption=machine_line(report["machine"]))
    table.add_column("")
    names = ("updates/s", "of the update alone", "env steps/s", "updates/step", "first update", "0.95 on the twin")
    for name in (*names, "peak RSS", "PSS"):
        table.add_column(name, justify="right")
    for row in report["contenders"]:
        reached = number(row.get("to_095_s"), ".1f", "–")
        if row.get("to_095_s") is None and row.get("trained_s") is not None:
            reached = f"not in {row['trained_s']:.0f} s (best {number(row.get('best_success'), '.2f')})"
        elif row.get("to_095_s") is not None:
            reached += f" s ({number(row.get('setup_s'), '.1f')} s of it set-up)"
        first = number(row.get("first_update_s"), ".1f")
        table.add_row(
            row["name"],
            number(row.get("updates_s")),
            number(row.get("learner_updates_s")),
            number(row.get("env_steps_s")),
            number(row.get("updates_per_env_step"), ".2f"),
            f"{first} s" if first != "–" else first,
            reached,
            f"{number(row.get('peak_rss_mb'))} MB",
            f"{number(row.get('end_memory_mb'))} MB" if "end_memory_mb" in row else "–",
        )
    console.print(table)
    for name, value in report["ratios"].items():
        if isinstance(value, list):
            console.print(f"{name}: {value[0]:.2f} to {value[1]:.2f}")
        else:
            console.print(f"{name}: {number(value, '.2f')}")
    console.print(
        f"Seeds {settings['seeds']}, medians. Times begin before imports and include set-up; the clock stands "
        "still while policies are judged. Peak RSS sums every process of a contender and counts shared pages "
        "for each; PSS, at the end of training, counts them once."
    )
    for line in report["failed"]:
        console.print(f"failed: {line}")


if __name__ == "__main__":
    sys.exit(main())
