"""The control loop against the wall clock: 50 and 100 Hz over the real-time twin, idle and with every core busy.

Lateness is that of each tick against its absolute deadline, as the session's clock has it. Episodes whose p99 lateness
passes `robot.max_lateness_ms` are void and counted. A pilot of a few lines stands in for the policy; the pole may fall,
so episodes follow one another until the time is over. Run it on a quiet machine.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks.common import child_environment, machine, parser, print_json, tables, tell
from benchmarks.rig.pilot import Pilot
from envs.tasks.cartpole import Cartpole
from robot.open import open_session
from robot.session import RobotSession
from robot.settings import RobotSettings

LIMITS = {"slider": {"position": (-0.75, 0.75), "velocity": 3.0, "effort": 10.0, "effort_rate": 2000.0}}
BURN = "while True: sum(range(10000))"
GOAL_MS = 2.0  # p99 at 50 Hz with both cores busy


def task_at(hz: float) -> Cartpole:
    """The cartpole with another control rate; its pilot and its success are the same."""
    task = Cartpole()
    task.control_hz = hz
    return task


@contextmanager
def busy(cores: int):
    """So many processes that do nothing but compute."""
    burners = [subprocess.Popen([sys.executable, "-c", BURN], env=child_environment()) for _ in range(cores)]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def measure(hz: float, cores: int, seconds: float) -> dict[str, Any]:
    """One condition: ms of lateness over every tick of `seconds`, overruns, and how many episodes are void."""
    task, lateness = task_at(hz), []
    figures = {"hz": hz, "busy_cores": cores, "episodes": 0, "voided": 0, "stopped": 0, "overruns": 0}
    with ExitStack() as stack:
        place = stack.enter_context(tempfile.TemporaryDirectory(prefix="realtime-"))
        settings = RobotSettings.model_validate({"limits": LIMITS, "mode": "realtime", "watchdog_ms": 200})
        session = stack.enter_context(closing(open_session(settings, task, Path(place))))
        stack.enter_context(busy(cores))
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            _fly(session, Pilot(task), figures)
            lateness += session._clock._lateness_s
    values = np.maximum(np.array(lateness), 0.0) * 1e3
    quantiles = {f"p{q}_ms": round(float(np.percentile(values, q)), 3) for q in (50, 99)} if len(values) else {}
    return {**figures, "ticks": len(values), **quantiles, "max_ms": round(float(values.max(initial=0.0)), 3)}


def _fly(session: RobotSession, pilot: Pilot, figures: dict[str, Any]) -> None:
    meta = session.run_episode(pilot, purpose="evaluation", seed=0, world=figures["episodes"]).meta  # type: ignore
    figures["episodes"] += 1
    figures["voided"] += meta.void
    figures["overruns"] += meta.overruns
    if meta.stop:
        figures["stopped"] += 1
        figures["last_stop"] = meta.stop
        session.recover("the bench")


def main() -> None:
    arguments = parser("benchmarks.realtime", __doc__)
    arguments.add_argument("--seconds", type=float, default=60.0, help="of each of the four conditions")
    given = arguments.parse_args()
    where, rows = machine(), []
    for hz in (50.0, 100.0):
        for cores in (0, where["cores"]):
            tell(f"{hz:g} Hz, {cores} cores busy, {given.seconds:g} s")
            rows.append(measure(hz, cores, given.seconds))
    met = next(row["p99_ms"] <= GOAL_MS for row in rows if row["hz"] == 50 and row["busy_cores"])
    if given.json:
        print_json({"conditions": rows, "goal_p99_ms_at_50_hz_busy": GOAL_MS, "met": met, "machine": where})
        return
    table = Table(title="Lateness of the control loop, ms")
    columns = ("hz", "busy_cores", "ticks", "p50_ms", "p99_ms", "max_ms", "overruns", "episodes", "voided", "stopped")
    for name in columns:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(row.get(name, "–")) for name in columns))
    tables().print(table)


if __name__ == "__main__":
    main()
