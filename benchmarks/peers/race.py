"""The race: train, stop the clock, let the judge fly the policy, go on, until it succeeds or the time is up."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

from benchmarks.common import peak_rss_mb, resident_mb, tell, tree
from benchmarks.peers.contender import Contender, Settings
from benchmarks.peers.judge import Judge

CONFIRM_WORLD = 10_000  # other starting states than the regular judgements have
WORKERS = ("ray::SimRunner", "ray::Evaluator")  # what Ray calls the processes that go on by themselves


def race(name: str, build: Callable[[Settings], Contender], settings: Settings) -> dict[str, Any]:
    """Everything measured about one contender with one seed, as plain values.

    The clock starts before the contender is imported and built. It stands still while the judge works. What reaches
    the target must reach it again over `confirm_episodes` episodes from other starting states; the time reported is
    that of the first of the two judgements, which are of the same policy.
    """
    with Judge() as judge:
        started = time.perf_counter()
        contender = build(settings)
        setup_s = clock = time.perf_counter() - started
        points = [(clock, 0, 0)]  # clock, updates, env_steps after every piece of training
        judgements: list[dict[str, Any]] = []
        reached: dict[str, Any] | None = None
        try:
            while clock - setup_s < (settings.least_seconds if reached else settings.seconds):
                begun = time.perf_counter()
                contender.train(settings.judge_every_s)
                clock += time.perf_counter() - begun
                points.append((clock, contender.updates, contender.env_steps))
                if contender.updates and not reached:
                    judgement = _judge(judge, contender, settings, len(judgements))
                    judgements.append(
                        {"clock_s": clock, "updates": points[-1][1], "env_steps": points[-1][2], **judgement}
                    )
                    reached = judgements[-1] if judgement["reached"] else None
                    tell(f"{name}, seed {settings.seed}: {_line(judgements[-1])}")
            first_at = contender.meter.first_at
            processes = tree(os.getpid(), without=judge.pid)
            kind, now_mb = resident_mb(processes)
            return {
                "name": name,
                "seed": settings.seed,
                **_rates(points, contender),
                "to_095_s": reached["clock_s"] if reached else None,
                "to_095_trained_s": reached["clock_s"] - setup_s if reached else None,
                "to_095_updates": reached["updates"] if reached else None,
                "to_095_env_steps": reached["env_steps"] if reached else None,
                "setup_s": setup_s,
                "first_update_s": first_at - started if first_at else None,  # the judge has not worked before
                "trained_s": clock - setup_s,
                "peak_rss_mb": peak_rss_mb(processes),
                "end_memory_mb": now_mb,
                "end_memory_kind": kind,
                "processes": len(processes),
                "best_success": max((j["success"] for j in judgements), default=None),
                "judgements": judgements,
            }
        finally:
            contender.close()


def _judge(judge: Judge, contender: Contender, settings: Settings, attempt: int) -> dict[str, Any]:
    """The verdict on the present policy; the processes that the contender has running beside it are halted."""
    policy = contender.export()
    halted = [p for p in tree(os.getpid(), without=judge.pid) if _is_worker(p)]
    for process in halted:
        process.suspend()
    try:
        verdict = judge.fly(policy, settings.judge_episodes, 0, settings.target)
        result = {"success": verdict.rate, "n": verdict.flown, "reached": verdict.reached}
        if verdict.reached:
            world = CONFIRM_WORLD + attempt * settings.confirm_episodes
            confirmed = judge.fly(policy, settings.confirm_episodes, world, settings.target)
            result |= {"reached": confirmed.reached, "confirm_success": confirmed.rate, "confirm_n": confirmed.flown}
        return result
    finally:
        for process in halted:
            process.resume()


def _is_worker(process: Any) -> bool:
    try:
        return " ".join(process.cmdline()).startswith(WORKERS)
    except Exception:  # noqa: BLE001  it has ended, or is not ours to look at
        return False


def _rates(points: list[tuple[float, int, int]], contender: Contender) -> dict[str, Any]:
    """Per second of the whole loop, from the first point with updates on; and per second inside the update alone."""
    trained = [point for point in points if point[1]]
    rates: dict[str, Any] = {"updates": contender.updates, "env_steps": contender.env_steps}
    rates["learner_updates_s"] = contender.updates / contender.meter.seconds if contender.meter.seconds else None
    if len(trained) < 2:
        return {**rates, "updates_s": None, "env_steps_s": None, "updates_per_env_step": None}
    (clock, updates, env_steps), (last_clock, last_updates, last_env_steps) = trained[0], trained[-1]
    seconds = last_clock - clock
    return {
        **rates,
        "updates_s": (last_updates - updates) / seconds,
        "env_steps_s": (last_env_steps - env_steps) / seconds,
        "updates_per_env_step": (last_updates - updates) / max(1, last_env_steps - env_steps),
    }


def _line(judgement: dict[str, Any]) -> str:
    line = (
        f"{judgement['clock_s']:.1f} s, {judgement['updates']:,} updates, {judgement['env_steps']:,} steps: "
        f"success {judgement['success']:.2f} of {judgement['n']}"
    )
    if "confirm_n" in judgement:
        line += f", then {judgement['confirm_success']:.2f} of {judgement['confirm_n']}"
    return line
