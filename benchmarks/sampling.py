"""Sampling in the pipeline against bare PyBullet: the same worlds, motions and contacts, in turns in one process.

The pipeline is a SimRunner with a 64x64 policy, randomization, effects, rewards, resets and columns for the
learner. The bare loop replays what the pipeline told PyBullet and reads the joints. Rates are control steps of
one world for each second of processor time, which other programs disturb least; `ratio` is the median over pairs of
fragments, one of each right after the other, of processor times, with the middle half of the pairs beside it, and
`ratio_wall` the same by the clock. Nothing is asserted.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.common import child_environment, machine, machine_line, number, parser, print_json, tables, tell
from benchmarks.peers import vectorized
from benchmarks.peers.bare_physics import Recording, play
from envs.bullet import BulletWorlds
from envs.randomization.parameters import Ranges
from envs.registry import make_task
from envs.scene import STOCK
from pipeline.actors.sim_runner import Randomization, SimRunner

STROKE_STEPS = 40


def main() -> int:
    options = _options()
    if options.part:
        print(json.dumps(_PARTS[options.part](options)), flush=True)
        return 0
    described = machine()
    report: dict[str, Any] = {"machine": described, "tasks": {}}
    for task in options.task:
        report["tasks"][task] = _one_task(task, options)
    if options.json:
        print_json(report)
    else:
        _show(report)
    return 0


def _options() -> Any:
    made = parser("benchmarks.sampling", __doc__)
    made.add_argument("--task", nargs="+", default=["push", "cartpole"], help="tasks by name")
    made.add_argument("--worlds", type=int, default=32, help="worlds a process (default 32)")
    made.add_argument("--cores", type=int, nargs="+", default=[1, 2, 4], help="numbers of runner processes at once")
    made.add_argument("--processes", type=int, default=8, help="of SubprocVecEnv, one world each (default 8)")
    made.add_argument("--growth", type=int, nargs="*", default=[1, 4, 16, 64, 256], help="worlds a process, compared")
    made.add_argument("--seconds", type=float, default=6.0, help="of processor time for each comparison")
    made.add_argument("--quick", action="store_true", help="only the comparison on one core")
    made.add_argument("--part", choices=sorted(_PARTS), help="one measurement, in this process")
    options = made.parse_args()
    if options.quick:
        options.cores, options.growth = options.cores[:1], []
    return options


def _one_task(task: str, options: Any) -> dict[str, Any]:
    def run(part: str, processes: int = 1, **changes: Any) -> list[dict[str, Any]]:
        tell(f"{task}: {part} {changes or ''} on {processes} core(s)")
        return _run(part, task, processes, worlds=changes.get("worlds", options.worlds), seconds=options.seconds)

    result: dict[str, Any] = {"worlds": options.worlds, "cores": {}, "growth": {}}
    for cores in options.cores:
        result["cores"][cores] = _together(run("compare", cores))
    for worlds in options.growth:
        result["growth"][worlds] = _together(run("compare", worlds=worlds))
    if not options.quick:
        result["peers"] = run("peers")[0]
        result["memory"] = run("memory")[0]
        result["loading"] = run("loading")[0] if make_task(task).scene.loading.engine_substeps > 1 else None
    return result


def _run(part: str, task: str, processes: int, worlds: int, seconds: float) -> list[dict[str, Any]]:
    """The same measurement in some processes at once, each with one thread."""
    command = [sys.executable, "-m", "benchmarks.sampling", "--part", part, "--task", task]
    command += ["--worlds", str(worlds), "--seconds", str(seconds)]
    children = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=child_environment()) for _ in range(processes)
    ]
    answers = [child.communicate()[0] for child in children]
    if any(child.returncode for child in children):
        raise SystemExit(f"benchmarks.sampling: '{' '.join(command[2:])}' failed; what it printed says why")
    return [json.loads(answer) for answer in answers]


def _together(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Rates add up; ratios, memory and times are means."""
    whole: dict[str, Any] = {}
    for key, value in parts[0].items():
        values = [part[key] for part in parts]
        if key == "where_us":
            whole[key] = {name: statistics.mean(v[name] for v in values) for name in value}
        elif key.endswith("_steps_s"):
            whole[key] = sum(values)
        else:
            whole[key] = statistics.mean(values)
    return whole


# ---- the parts, each in a process of its own


def _compare(options: Any) -> dict[str, Any]:
    """The pipeline and the bare loop, a fragment of each in turn."""
    task, n = make_task(options.task[0]), options.worlds
    before_mb = _resident_mb()
    began = time.perf_counter()
    runner = SimRunner(task.name, n, seed=0)
    built_s = time.perf_counter() - began
    memory_mb = _resident_mb() - before_mb
    worlds = runner._env.world
    assert isinstance(worlds, BulletWorlds)
    randomization = Randomization(0, Ranges.default(task.parameters).to_dict(), 1.0)
    weights, version = vectorized.policy_weights(task), 0
    steps = max(8, min(task.max_steps, 2000 // n))
    clocks = _Clocks(runner)
    pairs, wall, episode = [], [], 0
    spent = 0.0
    while spent < options.seconds or len(pairs) < 5:
        runner.restart_episodes(np.full(n, episode))
        episode += 100
        recording = Recording()
        recording.attach(worlds)
        runner.sample(weights, version, randomization, steps)  # records; the timed ones are without the recorder
        recording.detach()
        runner.restart_episodes(np.full(n, episode - 100))
        with clocks:  # a fragment of its own, because reading clocks takes time as well
            clocks.whole_s += _timed(lambda: runner.sample(weights, version, randomization, steps))[0]
        runner.restart_episodes(np.full(n, episode - 100))
        ours, ours_wall = _timed(lambda: runner.sample(weights, version, randomization, steps))
        bare, bare_wall = _timed(lambda events=recording.events: play(worlds, events))
        spent += ours + bare
        pairs.append((ours, bare))
        wall.append((ours_wall, bare_wall))
    same = play(worlds, recording.events)
    assert recording.last is not None
    if not np.array_equal(np.array(same, np.float32), recording.last.joint_position):
        apart = float(np.abs(np.array(same, np.float32) - recording.last.joint_position).max())
        raise SystemExit(f"benchmarks.sampling: the bare loop moved {apart:.1e} rad otherwise; no rate")
    pairs, wall = pairs[1:], wall[1:]
    ours, bare = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    ratios = sorted(b / o for o, b in pairs)
    result = {
        "bare_steps_s": steps * n / bare,
        "pipeline_steps_s": steps * n / ours,
        "ratio": statistics.median(ratios),
        "ratio_low": ratios[len(ratios) // 4],  # the middle half of the pairs: how far load disturbed them
        "ratio_high": ratios[(3 * len(ratios)) // 4],
        "ratio_wall": statistics.median(b / o for o, b in wall),
        "reset_us": _reset_us(runner, task),
        "mb_per_world": memory_mb / n,
        "build_s": built_s,
        "where_us": clocks.each(bare / (steps * n) * 1e6, (len(pairs) + 1) * steps * n),
    }
    runner.close()
    return result


class _Clocks:
    """Processor time inside the parts of a runner's step, of what it samples in a `with` block."""

    def __init__(self, runner: SimRunner) -> None:
        self.whole_s = 0.0
        self._seconds: dict[str, float] = {}
        self._inside = False
        env, task = runner._env, runner._task
        self._parts: list[tuple[str, Any, str]] = [
            ("policy", runner, "_act"),
            ("features", task, "frame"),
            ("reward", task, "reward"),
            ("resets", env, "_begin"),
            ("observation", env, "_observe"),
            *(("effects", env._effects, method) for method in ("delivered", "measured", "forces", "extra_s")),
            ("noise", env._noise, "advance"),
        ]
        arm = getattr(env.world, "_arm", None)
        if arm is not None:
            self._parts.append(("inverse kinematics", arm, "targets"))

    def __enter__(self) -> None:
        for name, owner, method in self._parts:
            setattr(owner, method, self._timed(name, getattr(owner, method)))

    def __exit__(self, *_: object) -> None:
        for _name, owner, method in self._parts:
            delattr(owner, method)

    def each(self, bare_us: float, steps: int) -> dict[str, float]:
        """µs for one step of one world, `steps` of them; what is in none of the parts is `rest`."""
        parts = {name: seconds / steps * 1e6 for name, seconds in self._seconds.items()}
        return {"bare physics": bare_us, **parts, "rest": self.whole_s / steps * 1e6 - bare_us - sum(parts.values())}

    def _timed(self, name: str, inner: Any) -> Any:
        def timed(*args: Any) -> Any:
            if self._inside:
                return inner(*args)
            self._inside = True
            began = time.process_time()
            try:
                return inner(*args)
            finally:
                self._seconds[name] = self._seconds.get(name, 0.0) + time.process_time() - began
                self._inside = False

        return timed


def _reset_us(runner: SimRunner, task: Any) -> float:
    """Processor time a world of a reset with full randomization, all worlds at once, without PyBullet's."""
    env = runner._env
    env.set_randomization(Ranges.default(task.parameters))
    env.reset()
    everyone = np.ones(env.num_envs, bool)
    whole = statistics.median(_timed(lambda: env._begin(everyone))[0] for _ in range(7))
    state, values = env._true, env._parameters
    inside = statistics.median(_timed(lambda: env.world.reset(everyone, state, values))[0] for _ in range(7))
    return 1e6 * (whole - inside) / env.num_envs


def _peers(options: Any) -> dict[str, Any]:
    return vectorized.rates(options.task[0], options.worlds, options.processes)


def _memory(options: Any) -> dict[str, Any]:
    """MB of a runner's process in Ray before it has worlds: an actor that has imported what a runner needs."""
    import ray

    from benchmarks.peers.contender import start_ray

    class Idle:
        def __init__(self) -> None:
            import pipeline.actors.sim_runner  # noqa: F401

        def resident_mb(self) -> tuple[float, list[str]]:
            return _resident_mb(), [name for name in ("torch", "ray.rllib") if name in sys.modules]

    start_ray(1)
    resident, heavy = ray.get(ray.remote(num_cpus=1)(Idle).remote().resident_mb.remote())
    ray.shutdown()
    return {"runner_mb_before_worlds": resident, "heavy_imports": ", ".join(heavy) or "none"}


def _loading(options: Any) -> dict[str, Any]:
    """The tuned scene against the stock one: rate of the bare loop, and how far they come apart.

    Straight strokes with the same joint velocities in both; the difference of what the first body (or else the
    tip's joints) did in the end.
    """
    task, n = make_task(options.task[0]), min(options.worlds, 8)
    scene = task.scene
    stock_scene = replace(scene, loading=STOCK, link_contact={})
    stock = type("Stock", (type(task),), {"scene": stock_scene})()
    uniform = np.random.default_rng(0).uniform(size=(n, task.initial_size))
    start, values = task.initial(uniform), np.tile(task.parameters.nominal, (n, 1))
    worlds, other = BulletWorlds(task, n), BulletWorlds(stock, n)
    recording = Recording()
    everyone = np.ones(n, bool)
    worlds.reset(everyone, start, values)
    recording.attach(worlds)
    directions = np.zeros((n, len(task.actuated)))
    directions[:, 0] = 0.25
    if task.bodies:  # towards the body and on
        directions[:, 1] = 0.25 * (start.body_pose[:, 0, 1] - 0.0) / (start.body_pose[:, 0, 0] - 0.38)
    for step in range(STROKE_STEPS):
        worlds.step((directions if step < STROKE_STEPS // 2 else 0.0 * directions)[:, None])
    recording.detach()
    told = [(kind, what) for kind, what in recording.events if kind == "velocities"]
    repeated = [event for event in told for _ in range(other.substeps)]
    results = {}
    ends = []
    for label, made, events in (("tuned", worlds, told), ("stock", other, repeated)):
        times = []
        for _ in range(3):
            made.reset(everyone, start, values)
            times.append(_timed(lambda made=made, events=events: play(made, events))[0])
        results[f"{label}_steps_s"] = STROKE_STEPS * n / statistics.median(times)
        bodies = [p_place(made, i) for i in range(n)] if task.bodies else None
        ends.append(np.array(bodies if bodies else play(made, events[-1:])))
    apart = np.linalg.norm(ends[0] - ends[1], axis=1)
    moved = np.linalg.norm(ends[1] - start.body_pose[:, 0, :3], axis=1) if task.bodies else np.zeros(n)
    results["speedup"] = results["tuned_steps_s"] / results["stock_steps_s"]
    results["apart_median"], results["apart_max"] = float(np.median(apart)), float(apart.max())
    results["moved_median_m"] = float(np.median(moved))
    worlds.close()
    other.close()
    return results


def p_place(worlds: BulletWorlds, i: int) -> tuple[float, ...]:
    """Where world i's first free body is, m."""
    from envs.bullet_loading import p

    return p.getBasePositionAndOrientation(worlds._bodies[i][0], worlds._clients[i])[0]


def _timed(call: Any) -> tuple[float, float]:
    """Processor and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    call()
    return time.process_time() - cpu, time.perf_counter() - wall


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


_PARTS = {"compare": _compare, "peers": _peers, "loading": _loading, "memory": _memory}


def _show(report: dict[str, Any]) -> None:
    console = tables()
    for name, result in report["tasks"].items():
        table = Table(title=f"Sampling, task {name}", caption=machine_line(report["machine"]))
        columns = "cores x worlds", "bare/s", "pipeline/s", "ratio", "middle half", "by wall", "reset µs", "MB/world"
        for column in columns:
            table.add_column(column, justify="right")
        rows = [(f"{cores} x {result['worlds']}", row) for cores, row in result["cores"].items()]
        rows += [(f"1 x {worlds}", row) for worlds, row in result["growth"].items()]
        for label, row in rows:
            table.add_row(
                label,
                number(row["bare_steps_s"]),
                number(row["pipeline_steps_s"]),
                f"{row['ratio']:.3f}",
                f"{row['ratio_low']:.3f}–{row['ratio_high']:.3f}",
                f"{row['ratio_wall']:.2f}",
                f"{row['reset_us']:.0f}",
                f"{row['mb_per_world']:.1f}",
            )
        console.print(table)
        where = next(iter(result["cores"].values()))["where_us"]
        console.print("µs a step: " + ", ".join(f"{part} {value:.1f}" for part, value in where.items()))
        for extra in ("peers", "memory", "loading"):
            if result.get(extra):
                told = (
                    f"{key} {value if isinstance(value, str) else f'{value:,.4g}'}"
                    for key, value in result[extra].items()
                )
                console.print(f"{extra}: " + ", ".join(told))


if __name__ == "__main__":
    sys.exit(main())
