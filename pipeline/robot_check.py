"""`sim2real robot check`: the robot's own doctor, given simulated robots to compare with."""

from __future__ import annotations

import tempfile
from copy import copy
from pathlib import Path

import numpy as np

from envs.randomization.keyed import KeyedRandom
from envs.randomization.parameters import Ranges
from envs.randomization.samplers import UniformSampler
from envs.task import State, Task
from envs.vector_env import TaskVectorEnv
from pipeline.config import Experiment
from robot.check import Finding, Trace, check_robot, missing, short
from robot.interface import RobotError
from robot.open import open_session, state_directory


class _OneRobot:
    """All worlds get the parameters of one draw: a robot does not change between its episodes."""

    def __init__(self, ranges: Ranges, seed: int) -> None:
        self._inner = UniformSampler(ranges, 1.0, seed)
        self.draw = 0

    def sample(self, world: np.ndarray, episode: np.ndarray) -> np.ndarray:
        return self._inner.sample(np.full_like(world, self.draw), np.zeros_like(episode))


def simulated(task: Task, ranges: Ranges, actions: np.ndarray, draws: int, seed: int) -> list[list[Trace]]:
    """What `actions` (E, T, a) do to each of `draws` simulated robots, as a session would have recorded it."""
    n, steps = actions.shape[:2]
    seen: list[State] = []
    watched = copy(task)  # its hooks see what is measured, and end no episode
    watched.max_steps = steps + 1
    watched.frame = lambda state, last_action: (seen.append(state), task.frame(state, last_action))[1]
    watched.failed = lambda state: np.zeros(len(state), bool)
    sampler = _OneRobot(ranges, seed)
    env = TaskVectorEnv(watched, n, seed=seed, sampler=sampler)
    result = []
    try:
        for draw in range(draws):
            sampler.draw = draw
            env.episodes = np.full(n, draw)
            env.reset()
            seen.clear()
            for k in range(steps):
                env.step(actions[:, k])
            result.append(_traces(task, env, actions, seen, seed, draw))
    finally:
        env.close()
    return result


def _traces(
    task: Task, env: TaskVectorEnv, actions: np.ndarray, seen: list[State], seed: int, draw: int
) -> list[Trace]:
    n = len(actions)
    uniform = KeyedRandom(seed).uniform("initial", np.arange(n), draw, task.initial_size)
    initial = task.initial(uniform)
    start = initial.joint_position + initial.joint_velocity * task.control_period_s
    position = np.stack([state.joint_position for state in seen], axis=1).astype(float)  # (n, T, j)
    velocity = np.stack([state.joint_velocity for state in seen], axis=1).astype(float)
    failed = np.stack([task.failed(state) for state in seen], axis=1)
    traces = []
    for e in range(n):
        end = int(np.argmax(failed[e])) + 1 if failed[e].any() else len(seen)
        command = np.asarray(task.command(actions[e, :end]), float)
        driven = e % task.action_size
        traces.append(Trace(driven, position[e, :end], velocity[e, :end], command, start[e]))
    return traces


def check(experiment: Experiment, robot_dir: Path | None, push: float) -> list[Finding]:
    """Push the experiment's robot and say what was found; its stops are those of `robot_dir`, where there is one.

    Episodes and bookings of a check stay out of the run's own.
    """
    task, settings = short(experiment.make_task()), experiment.robot
    simulate = lambda actions, draws: simulated(task, experiment.ranges(), actions, draws, experiment.seed)  # noqa: E731
    with tempfile.TemporaryDirectory(prefix="check-") as own:
        if robot_dir is not None:
            settings = settings.model_copy(update={"state_dir": state_directory(settings, robot_dir)})
        try:
            session = open_session(settings, task, own)
        except RobotError as error:
            return [missing(error)]
        try:
            return check_robot(session, simulate, experiment.seed, push)
        except RobotError as error:
            return [missing(error)]
        finally:
            session.close()
