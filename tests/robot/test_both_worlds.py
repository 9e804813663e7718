"""A task is judged alike in both worlds: from the same states the simulation computes what a robot recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from envs.registry import TASKS, make_task
from envs.task import State, Task
from envs.vector_env import TaskVectorEnv
from pipeline.config import load_experiment
from robot import rollout as loop
from robot.clock import Clock
from robot.interface import Held, Observation, Sent, Status
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.rollout import Recording, succeeded
from robot.safety import Filtered
from tests.robot.policies import linear_policy


class Told:
    """A world that goes through given states, whatever it is commanded."""

    n = substeps = 1

    def __init__(self, states: list[State]) -> None:
        self._states = list(states)

    def reset(self, mask, state, parameters) -> None: ...

    def step(self, profile, extra_s=None, forces=None) -> State:
        return self._states.pop(0)

    def close(self) -> None: ...


def simulated(task: Task, states: list[State], actions: np.ndarray) -> dict[str, np.ndarray | bool]:
    """What the vectorised environment makes of an episode through `states`, the first being where it begins."""
    kind = type("Told", (type(task),), {"initial": lambda self, u: states[0], "settle": lambda self, s, v: s})
    env = TaskVectorEnv(kind(), 1, world=Told(states[1:]))
    before = env.reset()[0]
    columns: dict[str, list] = {key: [] for key in ("observation", "next_observation", "reward", "terminated")}
    success = ended = False
    for action in actions:
        assert not ended
        after, reward, terminated, truncated, info = env.step(action[None])
        ended = bool(terminated[0] or truncated[0])
        if ended:
            success = bool(info["success"][0])
        for key, value in zip(
            columns, (before, info["final_obs"] if ended else after, reward, terminated), strict=True
        ):
            columns[key].append(value[0].copy())
        before = after
    return {**{key: np.array(value) for key, value in columns.items()}, "success": success, "ended": ended}


def assert_alike(task: Task, columns, success: bool, states: list[State]) -> None:
    simulation = simulated(task, states, columns["sent"])
    assert len(states) == len(columns["reward"]) + 1
    for key in ("observation", "next_observation", "terminated"):
        assert np.array_equal(simulation[key], columns[key]), key
    assert columns["reward"] == pytest.approx(simulation["reward"], abs=1e-6)
    assert simulation["success"] == success
    assert simulation["ended"]


def random_policy(task: Task) -> ExportedPolicy:
    gains = np.random.default_rng(0).normal(size=(task.policy_size, task.action_size)) / task.policy_size
    return ExportedPolicy(linear_policy(task, gains))


@pytest.mark.parametrize("name", TASKS)
def test_what_a_twin_did_is_judged_alike(name, tmp_path, monkeypatch):
    """Observations, rewards, failure and success of an episode through bus, filter and recorder."""
    task, states = make_task(name), []
    inner = loop._state

    def noted(*args):
        states.append(inner(*args))
        return states[-1]

    monkeypatch.setattr(loop, "_state", noted)
    session = open_session(load_experiment(name).robot, task, tmp_path)
    try:
        result = session.run_episode(random_policy(task), purpose="evaluation", seed=0, world=1)
        stored = session.store.read(result.meta.episode_id)
    finally:
        session.close()
    assert not result.meta.stop and result.meta.steps > 5
    assert_alike(task, stored.columns, result.meta.success, states)


class Scripted:
    """A robot that shows given states one after the other, and takes any command."""

    def __init__(self, states: list[State]) -> None:
        self._states = list(states)

    def observe(self) -> Observation:
        state = self._states.pop(0)
        pose = state.body_pose[0] if len(state.body_pose) else np.zeros((0, 7), np.float32)
        at, speed = state.joint_position[0], state.joint_velocity[0]
        return Observation(at, speed, 0.0, np.zeros(len(at)), pose)

    def command(self, command: np.ndarray) -> Sent:
        return Sent(command, 0.0)

    def connect(self) -> None: ...
    def arm(self) -> None: ...
    def hold(self) -> Held:
        return Held(True, True, np.zeros(1), 0.0)

    def status(self) -> Status:
        return Status("ok")

    def recover(self, operator: str) -> None: ...
    def disconnect(self) -> None: ...


class Unfiltered:
    """Lets everything through."""

    def unsafe(self, seen) -> str:
        return ""

    def filter(self, command, seen, now_s) -> Filtered:
        return Filtered(command)

    def sent(self, command) -> None: ...


def recorded(task: Task, states: list[State]) -> Recording:
    """What the robot's loop makes of an episode through `states`."""
    policy, clock = random_policy(task), Clock(task.control_period_s, False)
    goal = states[0].goal[0] if task.goal_size else None
    return loop.rollout(Scripted(states), task, policy, Unfiltered(), clock, None, None, 0.0, goal=goal)  # pyright: ignore


def rows(state: State, index) -> State:
    fields = ("joint_position", "joint_velocity", "body_pose", "body_twist", "goal")
    return replace(state, **{key: getattr(state, key)[index] for key in fields if len(getattr(state, key))})


def moved(state: State, random: np.random.Generator, size: float) -> State:
    """Positions, velocities and places changed at random."""
    noise = lambda x: (x + random.normal(scale=size, size=x.shape)).astype(np.float32)  # noqa: E731
    state = replace(state, joint_position=noise(state.joint_position), joint_velocity=noise(state.joint_velocity))
    if len(state.body_pose):
        pose = state.body_pose.copy()
        pose[..., :3] = noise(pose[..., :3])
        state = replace(state, body_pose=pose)
    return state


def best(task: Task) -> State:
    """(1,) where it pays best, found by climbing from starting states, whatever the task."""
    random = np.random.default_rng(0)
    state, worth = task.initial(random.uniform(size=(400, task.initial_size))), np.full(400, -np.inf)
    for step in range(120):
        tried = moved(state, random, 0.3 * 0.95**step) if step else state
        value = task.reward(tried, np.zeros((400, task.action_size))) - 100.0 * task.failed(tried)
        keep = np.where(value > worth, np.arange(400), 400)
        both = {
            key: np.concatenate([getattr(state, key), getattr(tried, key)])
            for key in ("joint_position", "joint_velocity", "body_pose", "body_twist", "goal")
        }
        better = keep < 400
        index = np.where(better, np.arange(400) + 400, np.arange(400))
        state = replace(state, **{key: x[index] for key, x in both.items() if len(x)})
        worth = np.where(better, value, worth)
    return rows(state, [int(worth.argmax())])


def failing(task: Task, start: State) -> State | None:
    """(1,) near `start` where the task has failed, or None if nothing there fails."""
    random = np.random.default_rng(1)
    for size in np.geomspace(0.05, 3.0, 200):
        state = moved(start, random, size)
        if task.failed(state)[0]:
            return state
    return None


@pytest.mark.parametrize("name", TASKS)
def test_success_failure_and_the_time_limit_are_judged_alike(name):
    task = make_task(name)
    good = best(task)
    start = replace(task.initial(np.full((1, task.initial_size), 0.9)), goal=good.goal)
    assert not task.failed(start)[0]
    steps, hold = task.max_steps, max(task.hold_steps, 1)
    episodes = {
        "there all the time": [good] * (steps + 1),
        "there at last": [start] * (steps + 1 - hold) + [good] * hold,
        "there a step too late": [start] * (steps + 2 - hold) + [good] * (hold - 1),
        "gone at last": [good] * steps + [start],
    }
    bad = failing(task, start)
    if bad is not None:
        episodes["failed midway"] = [start] * 8 + [bad]
        episodes["failed at last"] = [good] * steps + [bad]
    outcome = {}
    for what, states in episodes.items():
        record = recorded(task, states)
        columns = record.columns(task)
        assert not record.stop, record.stop
        outcome[what] = succeeded(task, columns)
        assert_alike(task, columns, outcome[what], states)
        assert columns["terminated"].any() == what.startswith("failed")
    assert outcome["there all the time"] and outcome["there at last"]
    assert not outcome.get("failed midway") and not outcome.get("failed at last")
    if not task.success(start, np.array([steps]))[0]:
        assert not outcome["there a step too late"] and not outcome["gone at last"]
