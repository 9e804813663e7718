"""A doctor for a robot: do small pushes do to it what they do to the simulation?

Every number is taken twice in the same way: from short episodes on the robot, which go through the session and
so through the safety filter, and from the same episodes in simulated worlds drawn from the whole randomization
range. What lies outside of what the simulation does is wrong on one of the two sides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np

from envs.randomization.keyed import KeyedRandom
from envs.task import Task
from robot.interface import RobotError, only_efforts
from robot.policy import ExportedPolicy
from robot.session import RobotSession

PUSH = (2, 6, 8)  # control steps of rest, of the push, and of the push back
STEPS = 32  # of one episode at most
PUSHES = 16  # episodes for each actuated joint
DRAWS = 40  # simulated robots to compare with
MOST = (5, 95)  # percentiles: the few that barely move say nothing about where the others are
MARGIN = 0.4  # of what those differ by, on either side
LATEST_STEPS = 16.0  # the longest delay that is looked for
RATE_TOLERANCE = 0.1


@dataclass(frozen=True)
class Trace:
    """One short episode. Rows are what was measured after each step."""

    driven: int  # which actuated joint was pushed
    position: np.ndarray  # (T, j)
    velocity: np.ndarray  # (T, j)
    command: np.ndarray  # (T, u) SI, as sent
    start: np.ndarray | None = None  # (j,) where somebody put it, if anybody did
    t_mono_s: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (T,) when it was read before each step


@dataclass(frozen=True)
class Finding:
    """One sentence about the robot. `unknown`: could not be looked at."""

    about: str
    verdict: Literal["ok", "wrong", "unknown"]
    sentence: str


Simulate = Callable[[np.ndarray, int], list[list[Trace]]]  # ((E, T, a) actions, draws) -> traces of each draw


class Probe:
    """Asks for what `actions` (T, a) say, whatever it sees. Stands where a policy stands."""

    version = 0

    def __init__(self, task: Task, actions: np.ndarray, run: str) -> None:
        self.metadata: dict[str, Any] = {"task": task.name}
        self.run = run  # a new one for each check: its first episodes go slower
        self._actions, self._step = actions.astype(np.float32), 0

    def check(self, task: Task) -> None: ...

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None, explore: float = 1.0) -> np.ndarray:
        action = self._actions[min(self._step, len(self._actions) - 1)]
        self._step += 1
        return action[None]


def pushes(task: Task, push: float) -> np.ndarray:
    """(E, T, a) actions: each actuated joint in turn, one way and back, the sides alternating."""
    rest, there, back = PUSH
    actions = np.zeros((PUSHES * task.action_size, STEPS, task.action_size), np.float32)
    for e in range(len(actions)):
        side, driven = (1, -1)[e // task.action_size % 2], e % task.action_size
        actions[e, rest : rest + there, driven] = side * push
        actions[e, rest + there : rest + there + back, driven] = -side * push
    return actions


def short(task: Task) -> Task:
    """The same task with episodes no longer than the pushes."""
    brief = copy(task)
    brief.max_steps = STEPS
    return brief


def check_robot(session: RobotSession, simulate: Simulate, seed: int = 0, push: float = 0.6) -> list[Finding]:
    """Push the robot of a connected session, whose task is a `short` one; returns what was found, worst first.

    `push` is the action asked for, of 1 at most; start with little. Raises RobotError where the robot is
    stopped already.
    """
    if session.robot.spec.takes == "thrust":
        raise RobotError(f"check: {session.task.name} falls where a push ends; accepted is a robot that stands")
    only_efforts(session.robot.spec, "check")
    task, actions = session.task, pushes(session.task, push)
    traces, findings = _fly(session, actions, seed)
    findings += _rate(session, traces) + _limits(session)
    if sum(len(trace.command) > sum(PUSH[:2]) for trace in traces) >= 4:
        ensemble = [_numbers(draw, task) for draw in simulate(actions, DRAWS)]
        findings += _compare(_numbers(traces, task), ensemble, task)
    else:
        findings.append(Finding("response", "wrong", "too few pushes went through to say anything about the response"))
    findings.append(Finding("quaternion order", "unknown", "this robot measures joints alone, and no poses of bodies"))
    return sorted(findings, key=lambda finding: ("wrong", "unknown", "ok").index(finding.verdict))


def fit(findings: Sequence[Finding]) -> bool:
    """Whether the robot may be run."""
    return all(finding.verdict != "wrong" for finding in findings)


def _fly(session: RobotSession, actions: np.ndarray, seed: int) -> tuple[list[Trace], list[Finding]]:
    """The pushes on the robot; ends at the first stop."""
    task, traces, changed = session.task, [], set()
    random, run = KeyedRandom(seed), f"check {time.time():.0f}"
    for world, plan in enumerate(actions):
        policy = cast(ExportedPolicy, Probe(task, plan, run))
        episode = session.run_episode(policy, purpose="evaluation", seed=seed, world=world, round_id="check")
        columns, start = episode.columns, None
        if session.technician is not None:
            initial = task.initial(random.uniform("initial", world, 0, task.initial_size))
            start = initial.joint_position[0] + initial.joint_velocity[0] * task.control_period_s
        command = np.asarray(task.command(columns["sent"]), np.float64)
        driven = world % task.action_size
        position, velocity = columns["joint_position"].astype(float), columns["joint_velocity"].astype(float)
        traces.append(Trace(driven, position, velocity, command, start, columns["t_mono_s"]))
        changed |= {name for text in columns["intervention"] for name in text.split("+") if name}
        if episode.meta.stop:
            return traces, [Finding("stop", "wrong", f"push {world + 1} ended in a stop: {episode.meta.stop}")]
    if changed - {"velocity"}:
        names = ", ".join(sorted(changed))
        return traces, [Finding("filter", "unknown", f"the safety filter changed some of the pushes ({names})")]
    return traces, []


def _rate(session: RobotSession, traces: list[Trace]) -> list[Finding]:
    if not session.robot.spec.realtime:
        return [Finding("rate", "unknown", "in lockstep the robot waits, and has no rate")]
    gaps = np.concatenate([np.diff(trace.t_mono_s) for trace in traces])
    if not len(gaps):
        return [Finding("rate", "wrong", "no two readings came, so there is no rate")]
    wanted, found, slow = session.task.control_period_s, float(np.median(gaps)), float(np.percentile(gaps, 99))
    good = abs(found / wanted - 1) < RATE_TOLERANCE
    sentence = f"readings come every {found * 1e3:.1f} ms (1 % later than {slow * 1e3:.1f}); {wanted * 1e3:.1f} are due"
    return [Finding("rate", "ok" if good else "wrong", sentence)]


def _limits(session: RobotSession) -> list[Finding]:
    """Limits against what the task's policies may ask for."""
    task, findings = session.task, []
    most = np.abs(task.command(np.ones((1, task.action_size), np.float32)))[0]
    for joint, asked in zip(task.actuated, most.tolist(), strict=True):
        limit = session.robot.spec.limits[joint].effort
        sentence = f"{joint}: policies ask for up to {asked:g}, and {limit:g} is allowed"
        if limit < asked:
            sentence += "; what lies between is cut off, and the simulation knows nothing of that"
        findings.append(Finding("limits", "ok" if limit >= asked else "wrong", sentence))
    return findings


def _numbers(traces: list[Trace], task: Task) -> dict[tuple[str, str], float]:
    """{(what, joint): number} of one robot, real or simulated; absent where it cannot be had."""
    found: dict[tuple[str, str], float] = {}
    period = task.control_period_s
    whole = [trace for trace in traces if len(trace.command) > sum(PUSH[:2])]
    for row, joint in enumerate(task.joints):
        moved = np.concatenate([t.position[:, row] - t.position[:3, row].mean() for t in whole])
        summed = np.concatenate([_integral(t.velocity[:, row], period) for t in whole])
        found["units", joint] = _slope(summed, moved)
        if all(trace.start is not None for trace in traces):
            put = np.array([cast(np.ndarray, trace.start)[row] for trace in traces if len(trace.position)])
            read = np.array([trace.position[0, row] for trace in traces if len(trace.position)])
            found["zero", joint] = float(np.mean(read - put))
            found["scale", joint] = _slope(put - put.mean(), read - read.mean())
    for column, joint in enumerate(task.actuated):
        row, mine = task.joints.index(joint), [trace for trace in whole if trace.driven == column]
        if not mine:
            continue
        gain, delay = _response(mine, row, column, period)
        found["response", joint], found["latency", joint] = gain, delay * period * 1e3
        for other, name in enumerate(task.joints):
            if name not in task.actuated:
                pushed = np.concatenate([_twice(t.command[:, column], delay, period) for t in mine])
                moved = np.concatenate([t.position[:, other] - t.position[:3, other].mean() for t in mine])
                found["coupling", name] = _slope(pushed, moved)
    return found


def _response(traces: list[Trace], row: int, column: int, period: float) -> tuple[float, float]:
    """(velocity for each unit of pushed effort times second, delay in steps): least squares over all traces."""
    best = (np.inf, 0.0, 0.0)
    velocity = [trace.velocity[:, row] - trace.velocity[:3, row].mean() for trace in traces]
    y = np.concatenate(velocity)
    for delay in np.arange(0.0, LATEST_STEPS, 0.25):
        x = np.concatenate([np.cumsum(_late(trace.command[:, column], delay)) * period for trace in traces])
        gain = _slope(x, y)
        cost = float(np.sum((y - gain * x) ** 2))
        if cost < best[0]:
            best = (cost, gain, float(delay))
    return best[1], best[2]


def _late(command: np.ndarray, delay: float) -> np.ndarray:
    """The same commands `delay` steps later, between steps by interpolation."""
    steps = np.arange(len(command))
    return np.interp(steps - delay, steps, command, left=0.0)


def _twice(command: np.ndarray, delay: float, period: float) -> np.ndarray:
    return np.cumsum(np.cumsum(_late(command, delay))) * period**2


def _integral(velocity: np.ndarray, period: float) -> np.ndarray:
    steps = (velocity[1:] + velocity[:-1]) / 2 * period
    path = np.concatenate([[0.0], np.cumsum(steps)])
    return path - path[:3].mean()


def _slope(x: np.ndarray, y: np.ndarray) -> float:
    return float(x @ y / max(float(x @ x), 1e-12))


SENTENCES = {  # what is said with (joint, number, low, high), and what it means when the number is outside
    "zero": ("{0}: reads {1:+.3f} beside where it was put", "its zero is wrong"),
    "scale": ("{0}: shows {1:.2f} times the differences between the places it was put at", "sign, scale or order"),
    "units": (
        "{0}: its position changes by {1:.2f} times its summed velocity",
        "their units, signs or rate differ",
    ),
    "response": ("{0}: gains {1:.3f} of velocity for a unit of push", "the sign or the scale of efforts or readings"),
    "coupling": ("{0}: is carried along by {1:.2f} for a push", "its sign or scale, or the mechanics"),
    "latency": (
        "{0}: answers a push after {1:.0f} ms, delay and lag together",
        "it is slower than simulated robots",
    ),
}


def _compare(
    robot: dict[tuple[str, str], float], ensemble: list[dict[tuple[str, str], float]], task: Task
) -> list[Finding]:
    """The robot's numbers against what the simulation does."""
    findings = []
    for (about, joint), value in robot.items():
        others = np.array([draw[about, joint] for draw in ensemble if (about, joint) in draw])
        if not len(others):
            continue
        low, high = np.percentile(others, MOST).tolist()
        room = MARGIN * (high - low)
        low, high = max(low - room, 0.0 if about == "latency" else -np.inf), high + room
        said, meaning = SENTENCES[about]
        sentence = f"{said.format(joint, value)}; most simulated robots {low:.3g} to {high:.3g}"
        good = low <= value <= high or (about == "latency" and value < low)
        if not good and about in ("scale", "response", "coupling", "units") and value * float(np.median(others)) < 0:
            meaning = "the sign is swapped"
        findings.append(Finding(about, "ok" if good else "wrong", sentence if good else f"{sentence}: {meaning}"))
    if not any(about == "zero" for about, _ in robot):
        findings.append(Finding("zero", "unknown", "nobody says where the robot was put, so zeros cannot be compared"))
    return findings


def missing(error: RobotError) -> Finding:
    """The finding for a robot that could not be pushed at all."""
    return Finding("robot", "wrong", str(error))
