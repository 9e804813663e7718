"""The same policy through the Dynamixel twin and the rosbridge twin, in lockstep and with the wall clock.

Success with its 95 % interval over the same starting states, and in lockstep how long 40 ten-second episodes take.
The policy is that of a run, or else a pilot of a few lines. In real time nothing else should run on the machine;
episodes that came too late are void, and flown again.
"""

from __future__ import annotations

import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

from rich.table import Table

from benchmarks.common import Progress, machine, parser, print_json, tables
from benchmarks.rig.pilot import Pilot
from envs.tasks.cartpole import Cartpole
from pipeline.gap import rate_text, wilson
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.settings import RobotSettings

LIMITS = {"slider": {"position": (-0.75, 0.75), "velocity": 3.0, "effort": 10.0, "effort_rate": 2000.0}}
GOAL_S = 8.0  # for 40 ten-second episodes in lockstep
MOST_VOID = 10  # in one condition, then the machine is too slow to say anything


def measure(driver: str, mode: str, episodes: int, policy: Path | None) -> dict[str, Any]:
    """One condition: success over `episodes` episodes that count, and voids."""
    task, good, void, steps = Cartpole(), 0, 0, 0
    settings = RobotSettings.model_validate({"limits": LIMITS, "driver": driver, "mode": mode})
    progress = Progress(episodes)
    with tempfile.TemporaryDirectory(prefix="boundaries-") as place:
        with closing(open_session(settings, task, place)) as session:
            began, flown = time.monotonic(), 0
            while flown < episodes and void < MOST_VOID:
                pilot: Any = ExportedPolicy(policy) if policy else Pilot(task)
                meta = session.run_episode(pilot, purpose="evaluation", seed=0, world=flown).meta
                if meta.stop:
                    session.recover("the bench")
                if meta.void:
                    void += 1
                    continue
                flown, good, steps = flown + 1, good + meta.success, steps + meta.steps
                progress.step(f"{driver}, {mode}")
            wall_s = time.monotonic() - began
    low, high = wilson(good, flown) if flown else (0.0, 1.0)
    whole_s = wall_s * 40 * task.max_steps / max(steps, 1)  # as if every episode had lasted its ten seconds
    success = {"success": good / max(flown, 1), "n": flown, "low": low, "high": high}
    row = {"driver": driver, "mode": mode, **success, "void": void}
    return {**row, "seconds_for_40_whole_episodes": round(whole_s, 2)} if mode == "lockstep" else row


def main() -> None:
    arguments = parser("benchmarks.boundaries", __doc__)
    arguments.add_argument("--n", type=int, default=40, help="episodes of each lockstep condition")
    arguments.add_argument("--realtime", type=int, default=8, help="episodes of each real-time condition")
    arguments.add_argument("--policy", type=Path, help="policy.onnx of a cartpole run (default: a pilot)")
    given = arguments.parse_args()
    where, rows = machine(), []
    for mode, episodes in (("lockstep", given.n), ("realtime", given.realtime)):
        for driver in ("dynamixel", "rosbridge"):
            if episodes:
                rows.append(measure(driver, mode, episodes, given.policy))
    if given.json:
        print_json({"conditions": rows, "goal_s_for_40_whole_episodes_in_lockstep": GOAL_S, "machine": where})
        return
    table = Table(title="One policy through two boundaries")
    for name in ("driver", "mode", "success", "void", "40 whole episodes, s"):
        table.add_column(name)
    for row in rows:
        cells = (rate_text(row), str(row["void"]), str(row.get("seconds_for_40_whole_episodes", "–")))
        table.add_row(row["driver"], row["mode"], *cells)
    tables().print(table)


if __name__ == "__main__":
    main()
