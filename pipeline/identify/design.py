"""Which motion tells most: multisines chosen for the information that they give about a task's parameters.

D-optimal design: the recordings together shall have the largest determinant of Fisher information (Fedorov 1972;
for robots Swevers et al. 1997, IEEE Trans. Robotics and Automation 13:730). The information comes from finite
differences through the task's simulated worlds, behind the safety filter, averaged over robots drawn from the prior.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from envs.task import Task
from pipeline.identify.crew import Filter
from pipeline.identify.estimate import STEP
from pipeline.identify.kalman import Noise, gains
from pipeline.identify.recording import cut
from pipeline.identify.simulated import record
from pipeline.identify.unknowns import Unknowns, noise_of
from robot.excitation import Multisine
from robot.interface import RobotError
from robot.settings import JointLimits

CANDIDATES, MUTANTS, ROBOTS = 12, 8, 2
LOOK_S = 6.0  # of each candidate that is simulated
FREQUENCIES = 12
LOWEST_HZ, RATE_SHARE = 0.3, 0.12  # the highest frequency is this share of the control rate
AT_LIMIT = 0.8  # share of the effort limit with which the spring pulls a joint at the end of its range
DAMPING_S = 0.25  # damping for each unit of stiffness
NOT_QUITE = 0.97  # of the range: a candidate that goes further is not taken
SMALLEST_SD = 1e-3  # of the noise that is assumed where a task names none


def design(
    task: Task,
    limits: Mapping[str, JointLimits],
    sought: Unknowns,
    recordings: int,
    speed: float,
    seed: int = 0,
    told: Callable[[float], None] = lambda share: None,
) -> list[Multisine]:
    """A multisine for each recording. Raises RobotError where every candidate leaves the limits."""
    random = np.random.default_rng(seed)
    robots = sought.values(np.clip(random.normal(0.0, 0.5, (ROBOTS, len(sought.free))), *sought.bounds))
    for name in noise_of(task).values():
        parameter = task.parameters[task.parameters.index(name)]
        robots[:, task.parameters.index(name)] = np.mean(parameter.default)
    pool = [_draw(task, limits, random) for _ in range(CANDIDATES)]
    found = _informations(task, limits, sought, pool, robots, speed, lambda share: told(share / 2))
    best = _choose(found, recordings)
    pool += [_mutant(pool[best[k % len(best)]], random) for k in range(MUTANTS)]
    rest = _informations(task, limits, sought, pool[CANDIDATES:], robots, speed, lambda share: told(0.5 + share / 2))
    return [pool[i] for i in _choose(np.concatenate([found, rest]), recordings)]


def score(information: np.ndarray) -> float:
    """Mean over robots of log det (information + prior), (R, F, F)."""
    return float(np.mean(np.linalg.slogdet(information + np.eye(information.shape[-1]))[1]))


def _choose(information: np.ndarray, count: int) -> list[int]:
    """Greedily, which candidates (c, R, F, F) tell most together; those that are NaN are out."""
    usable = np.flatnonzero(np.isfinite(information).all((1, 2, 3)))
    if not len(usable):
        raise RobotError("robot.limits: every motion that was tried leaves them; accepted are wider position limits")
    chosen: list[int] = []
    total = np.zeros(information.shape[1:])
    for _ in range(count):
        best = max(usable.tolist(), key=lambda i: score(total + information[i]))
        chosen.append(best)
        total = total + information[best]
    return chosen


def _draw(task: Task, limits: Mapping[str, JointLimits], random: np.random.Generator) -> Multisine:
    """The amplitudes of a motor add up to no more than its limit."""
    bounds = [limits[name] for name in task.actuated]
    most = np.array([one.effort for one in bounds])
    low, high = (np.array([one.position[side] for one in bounds]) for side in (0, 1))
    stiffness = AT_LIMIT * most / ((high - low) / 2)
    share = random.dirichlet(np.full(FREQUENCIES, 0.7), len(bounds)) * random.uniform(0.5, 1.0, (len(bounds), 1))
    return Multisine(
        frequency_hz=np.geomspace(LOWEST_HZ, RATE_SHARE * task.control_hz, FREQUENCIES),
        amplitude=share * most[:, None],
        phase_rad=random.uniform(0, 2 * np.pi, share.shape),
        rows=np.array([task.joints.index(name) for name in task.actuated]),
        centre=(low + high) / 2,
        stiffness=stiffness,
        damping=DAMPING_S * stiffness,
    )


def _mutant(parent: Multisine, random: np.random.Generator) -> Multisine:
    total = parent.amplitude.sum(1, keepdims=True)
    amplitude = parent.amplitude * np.exp(random.normal(0, 0.5, parent.amplitude.shape))
    return Multisine(
        frequency_hz=parent.frequency_hz,
        amplitude=amplitude * total / amplitude.sum(1, keepdims=True),
        phase_rad=parent.phase_rad + random.normal(0, 0.7, parent.phase_rad.shape),
        rows=parent.rows,
        centre=parent.centre,
        stiffness=parent.stiffness,
        damping=parent.damping,
    )


def _informations(
    task: Task,
    limits: Mapping[str, JointLimits],
    sought: Unknowns,
    pool: list[Multisine],
    robots: np.ndarray,
    speed: float,
    told: Callable[[float], None],
) -> np.ndarray:
    """(c, R, F, F) Fisher information of each candidate on each robot; NaN where it leaves the limits."""
    out = np.empty((len(pool), len(robots), len(sought.free), len(sought.free)))
    for r, robot in enumerate(robots):
        logs = record(task, limits, np.tile(robot, (len(pool), 1)), pool, LOOK_S, speed)
        windows = cut(logs, LOOK_S)
        x = sought.x(robot)
        step = np.where(x < 0, STEP, -STEP)
        worlds = Filter(task, logs, windows, len(x) + 1)
        try:
            filtered = gains(worlds.linearise(robot, noise := assumed_noise(task, robot)), noise)
            around = np.concatenate([x[None], x + np.diag(step)])
            raw = worlds.innovations(sought.values(around), filtered)
        finally:
            worlds.close()
        white = (filtered.whiten @ raw[..., None])[..., 0]
        slope = (white[1:] - white[0]) / step[:, None, None, None]
        rows = np.einsum("awtm,bwtm->wab", slope, slope)
        for c, log in enumerate(logs):
            away = max(_reach(log.position[:, task.joints.index(name)], limits[name]) for name in task.actuated)
            out[c, r] = rows[windows.log == c].sum(0) if away < NOT_QUITE else np.nan
        told((r + 1) / len(robots))
    return out


def _reach(position: np.ndarray, limit: JointLimits) -> float:
    """How far from the middle of its range a joint came, 1 at an end."""
    low, high = limit.position
    return float(np.abs(position - (low + high) / 2).max() / ((high - low) / 2))


def assumed_noise(task: Task, robot: np.ndarray) -> Noise:
    """What a robot with parameters (d,) is expected to add to efforts and readings."""
    named = {kind: robot[task.parameters.index(name)] for kind, name in noise_of(task).items()}
    sensor = np.full(2 * len(task.joints), max(named.get("sensor", 0.0), SMALLEST_SD))
    return Noise(sensor, np.full(len(task.actuated), max(named.get("effort", 0.0), SMALLEST_SD)))
