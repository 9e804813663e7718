"""Planned moves: what homing, resets and jogging send to the motors, through the same filter as a policy."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from ruckig import InputParameter, Ruckig, Trajectory

from robot.clock import Clock
from robot.interface import Observation, Robot, RobotError, RobotFault
from robot.safety import SafetyFilter
from robot.settings import JointLimits, MotionSettings
from robot.watchdog import Watchdog

FOLLOW_PER_S = 2.0  # velocity for each unit of position error, where motors take velocities
AT_REST = 0.1  # m/s or rad/s: slower counts as arrived


@dataclass
class Moved:
    """How a planned move ended."""

    steps: int = 0
    error: float = math.inf  # m or rad, the largest distance of an actuated joint from its target
    interventions: Counter[str] = field(default_factory=Counter)  # how often the filter changed a command, and why
    stop: str = ""  # why the robot must stay stopped; empty: it arrived
    link: bool = False


class Plan:
    """A time-optimal trajectory within velocity, acceleration and jerk (Berscheid and Kröger 2021, Ruckig).

    Starts and ends at rest. Positions in m or rad, one for each actuated joint. Raises RobotError when a target is
    not inside the joint's limits.
    """

    def __init__(
        self,
        start: np.ndarray,
        target: np.ndarray,
        joints: Sequence[str],
        limits: Mapping[str, JointLimits],
        motion: MotionSettings,
    ) -> None:
        size = len(joints)
        for name, goal in zip(joints, target.tolist(), strict=True):
            low, high = limits[name].position
            if not (math.isfinite(goal) and low <= goal <= high):
                raise RobotError(f"move: {name} to {goal:g} asked; accepted is a position inside [{low:g}, {high:g}]")
        bounds = [limits[name] for name in joints]
        wanted = InputParameter(size)
        wanted.current_position, wanted.target_position = start.tolist(), target.tolist()
        wanted.max_velocity = [min(motion.velocity, one.velocity) for one in bounds]
        wanted.max_acceleration = [min(motion.acceleration, one.acceleration or math.inf) for one in bounds]
        wanted.max_jerk = [min(motion.jerk, one.jerk or math.inf) for one in bounds]
        self._trajectory = Trajectory(size)
        result = Ruckig(size).calculate(wanted, self._trajectory)
        if result.value < 0:
            raise RobotError(f"move: no trajectory from {start.tolist()} to {target.tolist()} within the limits")
        self.target = target

    @property
    def duration_s(self) -> float:
        return self._trajectory.duration

    def at(self, time_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, velocity and acceleration at a time since the start; at rest on the target after the end."""
        position, velocity, acceleration = self._trajectory.at_time(min(time_s, self.duration_s))[:3]
        return np.array(position), np.array(velocity), np.array(acceleration)


def move(
    robot: Robot,
    safety: SafetyFilter,
    clock: Clock,
    watchdog: Watchdog | None,
    target: Callable[[np.ndarray], np.ndarray],
    motion: MotionSettings,
    interrupted: Callable[[], str],
) -> Moved:
    """Drive an armed robot along a plan with a position servo on efforts or velocities, through the filter.

    `target` maps the actuated joints' positions now to where they shall go. The motors are left as they are.
    """
    spec, done = robot.spec, Moved()
    rows = [spec.joints.index(name) for name in spec.actuated]
    period_s = 1.0 / spec.control_hz
    try:
        seen = robot.observe()
        done.stop = safety.unsafe(seen)
        if done.stop:
            return done
        start = seen.joint_position[rows].astype(float)
        plan = Plan(start, target(start), spec.actuated, spec.limits, motion)
        last_step = math.ceil((plan.duration_s + motion.patience_s) / period_s)
        summed = np.zeros(len(rows))
        clock.start()
        if watchdog:
            watchdog.arm()
        while not (done.stop or (done.steps * period_s >= plan.duration_s and _arrived(seen, rows, plan, motion))):
            if done.steps >= last_step:
                done.error = _error(seen, rows, plan)
                done.stop = (
                    f"a planned move ended {done.error:.3f} from its target, and {motion.tolerance:g} is allowed"
                )
                break
            reference, speed, _ = plan.at((done.steps + 1) * period_s)
            behind = reference - seen.joint_position[rows]
            summed += behind * period_s
            if spec.takes == "velocity":
                command = speed + FOLLOW_PER_S * behind
            else:
                command = motion.stiffness * behind + motion.damping * (speed - seen.joint_velocity[rows])
                command += motion.integral * summed
            filtered = safety.filter(command, seen, time.monotonic())
            sent = robot.command(filtered.command)
            if watchdog:
                watchdog.feed()
            safety.sent(sent.command)
            done.interventions.update(filtered.reasons)
            clock.wait()
            seen = robot.observe()
            done.steps += 1
            done.stop = interrupted() or safety.unsafe(seen)
        done.error = _error(seen, rows, plan)
    except RobotFault as fault:
        done.stop, done.link = str(fault), fault.link
    finally:
        if watchdog:
            watchdog.disarm()
    return done


def excite(
    robot: Robot,
    safety: SafetyFilter,
    clock: Clock,
    watchdog: Watchdog | None,
    command: Callable[[int, Observation], np.ndarray],
    heard: Callable[[int, float, Observation, np.ndarray], None],
    steps: int,
    interrupted: Callable[[], str],
) -> Moved:
    """Send `command(k, seen)` (u,) through the filter for `steps` periods: for measuring how the robot responds.

    `heard(k, time_s, observation, sent)` gets what was measured after command k, of which (u,) was sent, with the time
    since the first command: of the wall clock in real time, of whole periods in lockstep. The motors are left as they
    are.
    """
    done = Moved()
    period_s = 1.0 / robot.spec.control_hz
    try:
        seen = robot.observe()
        done.stop = safety.unsafe(seen)
        clock.start()
        if watchdog:
            watchdog.arm()
        began_s = time.monotonic()
        for k in range(steps):
            done.stop = done.stop or interrupted()
            if done.stop:
                break
            filtered = safety.filter(command(k, seen), seen, time.monotonic())
            sent = robot.command(filtered.command)
            began_s = sent.sent_s if k == 0 else began_s
            if watchdog:
                watchdog.feed()
            safety.sent(sent.command)
            done.interventions.update(filtered.reasons)
            clock.wait()
            seen = robot.observe()
            done.steps += 1
            at_s = seen.captured_s - began_s if robot.spec.realtime else done.steps * period_s
            heard(k, at_s, seen, sent.command)
            done.stop = safety.unsafe(seen)
    except RobotFault as fault:
        done.stop, done.link = str(fault), fault.link
    finally:
        if watchdog:
            watchdog.disarm()
    return done


def _error(seen: Observation, rows: list[int], plan: Plan) -> float:
    return float(np.abs(seen.joint_position[rows] - plan.target).max())


def _arrived(seen: Observation, rows: list[int], plan: Plan, motion: MotionSettings) -> bool:
    slow = float(np.abs(seen.joint_velocity[rows]).max()) < AT_REST
    return slow and _error(seen, rows, plan) <= motion.tolerance
