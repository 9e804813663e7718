"""Cutting a log into windows for multiple shooting."""

from __future__ import annotations

import numpy as np

from pipeline.identify.one_joint import Windows
from robot.interface import RobotError
from robot.logs import Log

LEAST_MOTION_RAD = 0.2
LEAST_SECONDS = 1.5
TAKEN = -0.2  # of the work that the torque does either way: more than that is taken out only by the other sign


def cut(log: Log, length_s: float, every_s: float) -> Windows:
    """Windows of `length_s`, one every `every_s`, none across a gap; raises RobotError where there is too little."""
    check(log)
    steps = max(4, round(length_s / log.period_s))
    hop = max(1, round(every_s / log.period_s))
    first = [np.arange(rows.start, rows.stop - steps, hop) for rows in log.pieces()]
    found = np.concatenate(first) if first else np.zeros(0, int)
    if len(found) < 4:
        raise RobotError(
            f"{log.source}: {len(found)} windows of {length_s:g} s without a gap; at least 4 are needed: "
            "record a longer stretch without interruptions"
        )
    return Windows(log, found, steps)


def check(log: Log) -> None:
    """Raise RobotError with a sentence where the motion cannot tell the constants of one joint."""
    if log.position.shape[1] != 1 or log.effort.shape[1] != 1:
        raise RobotError(f"{log.source}: {log.position.shape[1]} joints and {log.effort.shape[1]} torques; accepted: 1")
    if wrong := next((p for p in log.problems if p.kind in ("units", "constant")), None):
        raise RobotError(wrong.sentence)
    if log.units.get("effort") == "action":
        raise RobotError(f"{log.source}: its effort is an action, not a torque; accepted is a recording in N m")
    seconds = sum(float(log.time_s[rows][-1] - log.time_s[rows][0]) for rows in log.pieces())
    swing = float(np.ptp(log.position))
    if seconds < LEAST_SECONDS or swing < LEAST_MOTION_RAD:
        raise RobotError(
            f"{log.source}: {seconds:.2g} s with {swing:.2g} rad of motion tell neither inertia nor gravity from "
            f"friction; at least {LEAST_SECONDS:g} s and {LEAST_MOTION_RAD:g} rad are needed: "
            "record swings in both directions"
        )
    if float(np.ptp(log.effort)) == 0.0:
        raise RobotError(
            f"{log.source}: the torque never changes, so inertia, gravity and friction are known only by their ratio; "
            "record a motion that is driven"
        )
    power = log.effort[:, 0] * log.velocity[:, 0]
    done = [np.trapezoid([power[rows], np.abs(power[rows])], log.time_s[rows]) for rows in log.pieces()]
    work, either = np.sum(done, 0)
    if work < TAKEN * either:
        raise RobotError(
            f"{log.source}: on balance the torque takes {-work:.3g} J out of the motion, which no joint with friction "
            "has to give; is it of the other sign than position and velocity (--map torque=COLUMN:-Nm), or another's?"
        )
