"""Ranking policies for a robot that does not move: what they do in the worlds that fit what is known of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from envs.randomization.samplers import UniformSampler
from envs.task import State, Task
from envs.vector_env import TaskVectorEnv
from pipeline.config import Experiment
from pipeline.identify.crew import Filter
from pipeline.identify.design import assumed_noise
from pipeline.identify.identified import Posterior
from pipeline.identify.kalman import log_likelihood
from pipeline.identify.recording import Windows, as_recorded_by, cut
from pipeline.run import POLICY_FILE, TUNE_DIR, RunError
from pipeline.worlds import PERIODIC_WORLD
from robot.interface import Observation
from robot.logs import Log
from robot.policy import ExportedPolicy
from robot.safety import SafetyFilter

WORST = 0.25  # the worst case is the mean over this share of the robots that may be
AT_ONCE = 32  # simulated side by side
LIKELY_DRAWS, LIKELY_S = 12, 30.0  # of the training distribution; of recordings
WINDOW_S = 2.0


@dataclass(frozen=True)
class Flight:
    """What one policy would do, over the robots that may be."""

    policy: str  # where it lies
    updates: int  # gradient updates behind it
    success: float
    worst_return: float  # mean return over the quarter of the robots on which it is least; breaks ties of success
    limit_hits: float  # share of steps at which the safety filter changed the command
    stops: float  # share of episodes in which the robot would have been stopped
    likelihood: float | None  # nats a row, see `training_likelihood`; None without recordings

    @property
    def merit(self) -> tuple[float, float, float]:
        """Policies are ranked by this.

        Success first: one flight a robot says whether it succeeds, not how likely it is to, so a mean over the worst
        robots would be a threshold on the mean over all, and put all but the best policies level.
        """
        return (self.success - self.stops, self.worst_return, -self.limit_hits)


def policies_of(run_dir: Path) -> list[Path]:
    """The policies of a run's checkpoints, oldest first, and the one that ships. Raises RunError without any."""
    found = sorted((run_dir / TUNE_DIR).glob(f"*/checkpoint_*/{POLICY_FILE}"))
    found += [run_dir / POLICY_FILE] if (run_dir / POLICY_FILE).is_file() else []
    if not found:
        raise RunError(f"{run_dir}: holds no policy; accepted is a run that reached its first checkpoint")
    return found


def distinct(policies: Sequence[Path]) -> list[Path]:
    """Each policy once: what ships is one of the checkpoints."""
    return list({policy.read_bytes(): policy for policy in policies}.values())


def robots(experiment: Experiment, known: Posterior | None, count: int, seed: int) -> np.ndarray:
    """(count, d) robots that may be: from a posterior, or without one from all of the run's ranges."""
    draw = UniformSampler(experiment.ranges(), 1.0, seed).sample(np.arange(count), np.zeros(count, int))
    if known is None:
        return draw
    mine = known.draw(count, np.random.default_rng(seed))
    columns = [known.space.index(name) for name in known.names]
    draw[:, columns] = mine[:, columns]  # what nobody identified stays as wide as it was trained
    return draw


def fly(
    experiment: Experiment,
    policy: bytes,
    where: str,
    them: np.ndarray,
    seed: int,
    likelihood: float | None,
    told: Callable[[float], None] = lambda share: None,
) -> Flight:
    """One episode on each of (n, d) simulated robots, through the safety filter of the experiment's robot."""
    task, exported = experiment.make_task(), ExportedPolicy(policy)
    exported.check(task)
    success, returns, hits, stops, steps = [], [], 0, 0, 0
    for first in range(0, len(them), AT_ONCE):
        batch = them[first : first + AT_ONCE]
        won, got, hit, stopped, made = _episodes(experiment, task, exported, batch, seed, PERIODIC_WORLD + first)
        success, returns = success + won.tolist(), returns + got.tolist()
        hits, stops, steps = hits + hit, stops + stopped, steps + made
        told(min(1.0, (first + len(batch)) / len(them)))
    worst = float(np.sort(returns)[: max(1, round(WORST * len(returns)))].mean())
    share = float(np.mean(success))
    return Flight(where, exported.version, share, worst, hits / steps, stops / len(them), likelihood)


def training_likelihood(experiment: Experiment, logs: Sequence[Log], seed: int) -> float:
    """log (1/M sum_m p(recordings | theta_m)) / rows, theta_m drawn from the ranges the run trains on.

    p is the density of each measured row given those before it, by a Kalman filter around the task's simulated world.
    It says how well the worlds that a policy has seen explain the robot, whatever the policy does. Nats a row; only
    differences mean something.
    """
    task = experiment.make_task()
    mine = tuple(as_recorded_by(task, log) for log in logs)
    windows = _some(cut(mine, WINDOW_S))
    strength = max(stage.dr_strength for stage in experiment.stages) * experiment.randomization.strength
    sampler = UniformSampler(experiment.ranges(), min(1.0, strength), seed)
    drawn = sampler.sample(np.arange(LIKELY_DRAWS), np.zeros(LIKELY_DRAWS, int))
    worlds = Filter(task, mine, windows, 1)
    try:
        each = []
        for robot in drawn:
            noise = assumed_noise(task, robot)
            each.append(log_likelihood(worlds.linearise(robot, noise), noise))
    finally:
        worlds.close()
    return float((logsumexp(each) - np.log(len(each))) / windows.valid.sum())


def _some(windows: Windows) -> Windows:
    most = max(1, round(LIKELY_S / WINDOW_S))
    return windows.pick(np.linspace(0, len(windows) - 1, min(most, len(windows))).astype(int))


class _Rows:
    def __init__(self, values: np.ndarray, first_world: int) -> None:
        self._values, self._first = values, first_world

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        return self._values[world - self._first]


def _episodes(
    experiment: Experiment, task: Task, policy: ExportedPolicy, them: np.ndarray, seed: int, first_world: int
) -> tuple[np.ndarray, np.ndarray, int, int, int]:
    """(success of each, return of each, steps with a changed command, episodes stopped, steps)."""
    n, limits = len(them), experiment.robot.limits
    seen: list[State] = []
    watched = copy(task)
    watched.frame = lambda state, last_action: (seen.append(state), task.frame(state, last_action))[1]
    filters = [SafetyFilter(limits, task.joints, task.actuated, task.control_period_s) for _ in range(n)]
    env = TaskVectorEnv(watched, n, seed=seed, sampler=_Rows(them, first_world), first_world=first_world)
    success, going, stopped, returns = np.zeros(n, bool), np.ones(n, bool), np.zeros(n, bool), np.zeros(n)
    hits = steps = 0
    try:
        obs, _ = env.reset()
        now = seen[-1]
        while going.any():
            asked = np.asarray(task.command(policy.act(obs)), float)
            sent = asked.copy()
            for i in np.flatnonzero(going):
                reading = Observation(
                    now.joint_position[i].astype(float), now.joint_velocity[i].astype(float), 0.0, np.zeros(1)
                )
                if filters[i].unsafe(reading):
                    stopped[i], going[i] = True, False
                    continue
                filtered = filters[i].filter(asked[i], reading, 0.0)
                sent[i] = filtered.command
                filters[i].sent(filtered.command)
                hits += bool(filtered.reasons)
                steps += 1
            seen.clear()
            obs, reward, terminated, truncated, info = env.step(task.action(sent).astype(np.float32))
            returns += np.where(going, reward, 0.0)
            now = seen[0]
            ended = (terminated | truncated) & going
            if ended.any():
                success[ended] = info["success"][ended]
                going &= ~ended
    finally:
        env.close()
    return success, returns, hits, int(stopped.sum()), max(steps, 1)
