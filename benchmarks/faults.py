"""Randomized faults over the twin: are limits exceeded, do stops stay, are committed episodes intact?

Every answer comes from the twin's own recorder, from a session that is opened afterwards, and from the files. Most
faults happen in lockstep, where the world waits; those of time itself in real time. At the end a control process is
killed `--kills` times in real time, and the time until the motor is off is measured by the twin.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.common import Progress, machine, parser, print_json, tables
from benchmarks.rig.bench import Bench, later
from benchmarks.rig.judge import Verdict
from benchmarks.rig.pilot import Pilot, wrongs
from benchmarks.rig.proxy import Proxy, harms
from robot.interface import RobotError

Told = Callable[[bool, str], None]
REALTIME_SHARE = 20  # one fault in so many runs with the wall clock
STEPS = 60  # a fault comes within so many control steps


def bad_policy(bench: Bench, kind: str, told: Told) -> None:
    pilot = Pilot(bench.task, int(bench.random.integers(STEPS)), wrongs(bench.random)[kind], kind == "late_policy")
    with closing(bench.open()) as session:
        stop = bench.fly(session, pilot)
    told(pilot.injected, stop)


def bad_line(bench: Bench, kind: str, told: Told) -> None:
    direction = str(bench.random.choice(["to", "from"]))
    proxy = Proxy(bench.twin.port, direction, int(bench.random.integers(5, 2 * STEPS)), harms(bench.random)[kind])
    stop = ""
    with closing(proxy):
        try:
            with closing(bench.open(proxy.port)) as session:
                stop = bench.fly(session, Pilot(bench.task))
        except RobotError as error:  # it came while connecting: nothing has moved, and that is no stop
            stop = "" if "no robot answers" in str(error) else str(error)
    connected = not (kind == "frozen" and not stop)
    told(proxy.injected.is_set() and connected, stop)


def closed_link(bench: Bench, kind: str, told: Told) -> None:
    proxy = Proxy(bench.twin.port)
    with closing(proxy):
        with closing(bench.open(proxy.port)) as session:
            timer = later(float(bench.random.uniform(0.0, 0.1)), proxy.cut)
            stop = ""
            while not stop:
                stop = bench.fly(session, Pilot(bench.task))
            timer.join()
    told(True, stop)


def wrong_units(bench: Bench, kind: str, told: Told) -> None:
    """The policy speaks newtons, or somebody wrote degrees, millimetres or amperes into the configuration.

    Not among them: a scale that makes a joint look slower than it is, or turns it round. Nothing inside the loop can
    see that; comparing the robot's response with the simulation's before the first episode can.
    """
    if bench.random.random() < 0.4:
        return bad_policy(bench, kind, told)
    servos = dict(bench.settings.servos)
    slider = servos["slider"]
    factor = float(bench.random.choice([57.3, 1000.0]))
    if bench.random.random() < 0.5:
        change = {"scale": slider.scale * factor}
    else:
        assert slider.effort_per_unit is not None
        change = {"effort_per_unit": slider.effort_per_unit * float(bench.random.choice([1e-5, 1e-4, 1e-3, 50, 1e3]))}
    servos["slider"] = slider.model_copy(update=change)
    try:
        with closing(bench.open(servos=servos)) as session:
            stop = bench.fly(session, Pilot(bench.task))
    except RobotError as error:  # refused before anything moved
        stop = "" if "effort_per_unit" in str(error) else str(error)
    told(True, stop)


def killed_control(bench: Bench, kind: str, told: Told) -> None:
    _, flying = bench.in_child(float(bench.random.uniform(0.0, 0.1)))
    told(flying, "killed")


def killed_twin(bench: Bench, kind: str, told: Told) -> None:
    with closing(bench.open()) as session:
        assert bench.twin.pid is not None
        timer = later(float(bench.random.uniform(0.0, 0.1)), os.kill, bench.twin.pid, signal.SIGKILL)
        stop = ""
        while not stop:
            stop = bench.fly(session, Pilot(bench.task))
        timer.join()
    told(True, stop)


def clock_jump(bench: Bench, kind: str, told: Told) -> None:
    """The wall clock of the machine is set, in the middle of an episode."""
    real, jump = time.time, float(bench.random.choice([-1, 1]) * 10 ** bench.random.uniform(0, 9))

    def wrong(action: np.ndarray) -> np.ndarray:
        time.time = lambda: real() + jump
        return action

    pilot = Pilot(bench.task, int(bench.random.integers(STEPS)), wrong, once=True)
    try:
        with closing(bench.open()) as session:
            stop = bench.fly(session, pilot)
    finally:
        time.time = real
    told(pilot.injected, stop)


def stop_in_reset(bench: Bench, kind: str, told: Told) -> None:
    home = float(bench.random.uniform(-0.3, 0.3))
    with closing(bench.open(home={"slider": home})) as session:
        timer = later(float(bench.random.uniform(0.0, 0.08)), session.hold, "the button")
        stop = ""
        while not stop:
            try:
                stop = bench.fly(session, Pilot(bench.task))
            except RobotError:  # pressed between two episodes
                stop = session.status().reason
        timer.join()
    told(True, stop)


def stop_in_episode(bench: Bench, kind: str, told: Told) -> None:
    with closing(bench.open()) as session:
        timer = later(float(bench.random.uniform(0.0, 0.1)), session.hold, "the button")
        stop = ""
        while not stop:
            try:
                stop = bench.fly(session, Pilot(bench.task))
            except RobotError:
                stop = session.status().reason
        timer.join()
    told(True, stop)


# name: how it is injected, and whether the robot has to stop for it
LOCKSTEP: dict[str, tuple[Callable[[Bench, str, Told], None], bool]] = {
    "nan_action": (bad_policy, True),
    "out_of_range": (bad_policy, False),
    "dead_policy": (bad_policy, True),
    "wrong_units": (wrong_units, False),
    "dropped": (bad_line, False),
    "duplicated": (bad_line, False),
    "corrupted": (bad_line, False),
    "frozen": (bad_line, True),
    "replayed": (bad_line, False),
    "noise": (bad_line, False),
    "closed_link": (closed_link, True),
    "killed_control": (killed_control, True),
    "killed_twin": (killed_twin, True),
    "clock_jump": (clock_jump, False),
    "stop_in_reset": (stop_in_reset, True),
    "stop_in_episode": (stop_in_episode, True),
}
REALTIME: dict[str, tuple[Callable[[Bench, str, Told], None], bool]] = {
    "late_policy": (bad_policy, True),
    "frozen": (bad_line, True),
    "dropped": (bad_line, False),
    "closed_link": (closed_link, True),
    "killed_control": (killed_control, True),
}


def inject(n: int, seed: int) -> tuple[dict[str, Verdict], list[str]]:
    """`n` faults in turn of kind; the verdict on each kind, and what was found wrong in words."""
    verdicts: dict[str, Verdict] = {}
    trouble: list[str] = []
    realtime = n // REALTIME_SHARE
    for mode, kinds, count in (("lockstep", LOCKSTEP, n - realtime), ("realtime", REALTIME, realtime)):
        if not count:
            continue
        bench = Bench(mode, np.random.default_rng([seed, mode == "realtime"]))  # type: ignore[arg-type]
        progress = Progress(count)
        try:
            for k in range(count):
                kind = list(kinds)[k % len(kinds)]
                how, must_stop = kinds[kind]
                name = kind if mode == "lockstep" else f"{kind} (real time)"
                verdict = verdicts.setdefault(name, Verdict())
                before = verdict.injected
                for _ in range(20):  # an episode may end before its fault comes
                    with bench.fault(name, verdict, must_stop) as told:
                        how(bench, kind, told)
                    if verdict.injected > before:
                        break
                progress.step(f"{mode} faults")
        finally:
            trouble += bench.trouble
            bench.close()
    return verdicts, trouble


def time_to_hold(tries: int, seed: int) -> dict[str, Any]:
    """From SIGKILL of the control process to the twin's "motor off", in real time, ms."""
    bench = Bench("realtime", np.random.default_rng([seed, 2]))
    times: list[float] = []
    progress = Progress(tries)
    try:
        while len(times) < tries:
            with bench.fault("kill -9", Verdict(), True) as told:
                killed_s, flying = bench.in_child(float(bench.random.uniform(0.0, 0.5)))
                time.sleep(0.2)
                events = bench.technician.record(killed_s - 1.0)["events"]
                power = [e for e in events if e["event"] in ("motor on", "motor off")]
                if flying and power and power[-1]["event"] == "motor off" and power[-1]["why"] == "hang-up":
                    times.append((power[-1]["at_s"] - killed_s) * 1e3)
                    progress.step("kills")
                told(flying, "killed")
    finally:
        bench.close()
    values, period_ms = np.maximum(times, 0.0), bench.task.control_period_s * 1e3
    figures = {f"p{q}_ms": float(np.percentile(values, q)) for q in (50, 90, 99)}
    within = int(np.sum(values <= 2 * period_ms))
    return {"tries": tries, **figures, "max_ms": float(values.max()), "within_2_periods": within}


def main() -> None:
    arguments = parser("benchmarks.faults", __doc__)
    arguments.add_argument("--n", type=int, default=200, help="faults")
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--kills", type=int, default=50, help="how often a control process is killed and timed")
    given = arguments.parse_args()
    where = machine()
    began = time.monotonic()
    verdicts, trouble = inject(given.n, given.seed)
    kills = time_to_hold(given.kills, given.seed) if given.kills else {}
    kinds = {name: vars(verdict) for name, verdict in verdicts.items()}
    names = ("injected", "stopped", "limits_exceeded", "stops_not_latched", "episodes_lost")
    total = {name: sum(kind[name] for kind in kinds.values()) for name in names}
    result = {"n": given.n, "seed": given.seed, "kinds": kinds, "total": total, "kill_to_hold": kills}
    if given.json:
        print_json({**result, "trouble": trouble, "seconds": time.monotonic() - began, "machine": where})
        return
    table = Table(title="Faults")
    for name in ("kind", *names):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for name, kind in [*kinds.items(), ("total", total)]:
        table.add_row(name, *(str(kind[column]) for column in names))
    tables().print(table)
    if kills:
        tables().print(f"kill -9 to motor off: {kills}")


if __name__ == "__main__":
    main()
