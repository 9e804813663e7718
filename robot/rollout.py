"""The control loop of one episode."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np

from envs.history import HistoryStack
from envs.task import State, Task
from robot.clock import Clock
from robot.drive import Drive, make_drive
from robot.interface import Observation, Robot, RobotError, RobotFault, Sent
from robot.policy import Policy
from robot.safety import Filtered, SafetyFilter
from robot.watchdog import Watchdog

UNFIT_START = "the robot does not stand in a starting state: the task has failed before its first step"


@dataclass
class Recording:
    """What happened, step by step; a step counts once its outcome was measured."""

    goal: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))  # (g,) of the episode
    observation: list[np.ndarray] = field(default_factory=list)
    next_observation: list[np.ndarray] = field(default_factory=list)
    policy_action: list[np.ndarray] = field(default_factory=list)
    filtered: list[np.ndarray] = field(default_factory=list)  # the task's commands, SI
    sent: list[np.ndarray] = field(default_factory=list)  # the task's commands, SI
    after: list[Observation] = field(default_factory=list)
    intervention: list[str] = field(default_factory=list)
    t_mono_s: list[float] = field(default_factory=list)
    t_wall_s: list[float] = field(default_factory=list)
    terminated: bool = False
    stop: str = ""  # why it ended early, if it was not the task's doing
    link: bool = False  # the stop was the link's or the host's fault

    def __len__(self) -> int:
        return len(self.next_observation)

    def asked(self, before: np.ndarray, action: np.ndarray, seen: Observation) -> None:
        """The policy saw `before` (policy_size,), made of `seen`, and asked for `action`."""
        self.observation.append(before)
        self.policy_action.append(action)
        self.t_mono_s.append(seen.captured_s)
        self.t_wall_s.append(time.time() - (time.monotonic() - seen.captured_s))

    def went(self, filtered: Filtered, sent: Sent, drive: Drive) -> None:
        self.filtered.append(drive.task(filtered.command))
        self.sent.append(drive.task(sent.command))
        self.intervention.append("+".join(filtered.reasons + sent.reasons))

    def came(self, seen: Observation, after: np.ndarray) -> None:
        """The outcome was measured: the step counts."""
        self.after.append(seen)
        self.next_observation.append(after)

    def columns(self, task: Task) -> dict[str, np.ndarray]:
        """The columns of `robot.episodes`; reward comes from the measured states, as in simulation."""
        n = len(self)
        position = np.array([after.joint_position for after in self.after], np.float32).reshape(n, len(task.joints))
        velocity = np.array([after.joint_velocity for after in self.after], np.float32).reshape(n, len(task.joints))
        width = len(task.actuated)
        sent = task.action(np.array(self.sent[:n]).reshape(n, width)).astype(np.float32)
        terminated = np.zeros(n, bool)
        terminated[-1:] = self.terminated
        measured = {"joint_position": position, "joint_velocity": velocity}
        if task.bodies:
            poses = np.array([after.body_pose for after in self.after], np.float32)
            measured["body_pose"] = poses.reshape(n, 7 * len(task.bodies))
        if task.goal_size:
            measured["goal"] = np.tile(self.goal, (n, 1))
        return {
            "observation": np.array(self.observation[:n], np.float32).reshape(n, task.policy_size),
            "next_observation": np.array(self.next_observation, np.float32).reshape(n, task.policy_size),
            "policy_action": np.array(self.policy_action[:n], np.float32).reshape(n, task.action_size),
            "filtered": task.action(np.array(self.filtered[:n]).reshape(n, width)).astype(np.float32),
            "sent": sent,
            "reward": np.asarray(task.reward(states(task, measured), sent), np.float32).reshape(n),
            "terminated": terminated,
            **measured,
            "t_mono_s": np.array(self.t_mono_s[:n], np.float64),
            "t_wall_s": np.array(self.t_wall_s[:n], np.float64),
            "intervention": np.array(self.intervention[:n], object),
        }


def states(task: Task, columns: Mapping[str, np.ndarray], rows: slice = slice(None)) -> State:
    """What was measured in these rows of an episode's columns, with its goal."""
    position, velocity = columns["joint_position"][rows], columns["joint_velocity"][rows]
    state = State(position, velocity)
    if task.bodies:
        pose = columns["body_pose"][rows].reshape(len(position), len(task.bodies), 7)
        state = replace(state, body_pose=pose, body_twist=np.zeros((*pose.shape[:2], 6), np.float32))
    return replace(state, goal=columns["goal"][rows]) if task.goal_size else state


def succeeded(task: Task, columns: Mapping[str, np.ndarray]) -> bool:
    """Judged by the task from the last measured state, and from as many before it as it asks for."""
    steps, hold = len(columns["reward"]), task.hold_steps
    if not steps or steps < hold:
        return False
    if not task.success(states(task, columns, slice(-1, None)), np.array([steps]))[0]:
        return False
    return bool(task.holding(states(task, columns, slice(steps - hold, None))).all())


def rollout(
    robot: Robot,
    task: Task,
    policy: Policy,
    safety: SafetyFilter,
    clock: Clock,
    watchdog: Watchdog | None,
    noise: np.ndarray | None,
    explore: float,
    *,
    goal: np.ndarray | None = None,
    interrupted: Callable[[], str] = lambda: "",
    approve: Callable[[np.ndarray], None] | None = None,
    shadow: bool = False,
) -> Recording:
    """Drive an armed robot until the task fails, the time is over, or something stops it.

    `noise` (max_steps, action_size) are the standard normals of an exploring policy. The last frame's action
    is what was really sent. `goal` (g,) is the task's of this episode. The motors are left as they are: the
    caller holds the robot, whatever happened here. `interrupted` gives the reason of a stop from elsewhere, empty
    while there is none; `approve` is asked before each command, and raises RobotError for a no; in `shadow` nothing
    is sent.
    """
    drive = make_drive(task)
    record = Recording() if goal is None else Recording(goal=goal)
    history = HistoryStack(1, task.history, task.frame_size)
    try:
        seen = robot.observe()
        drive.reset(seen)
        state = _state(task, seen, record.goal)
        nothing = np.zeros((1, task.action_size), np.float32)
        history.reset(np.ones(1, bool), task.frame(state, nothing))
        record.stop = safety.unsafe(seen) or (UNFIT_START if task.failed(state)[0] and not shadow else "")
        clock.start()
        if watchdog and not shadow:
            watchdog.arm()
        for k in range(0 if record.stop else task.max_steps):
            before = history.value
            try:
                action = policy.act(before, None if noise is None else noise[k : k + 1], explore)
            except Exception as error:  # whatever a policy may raise, the robot has lost its head
                record.stop = f"the policy failed: {type(error).__name__}: {error}"
                break
            if not np.isfinite(action).all():
                record.stop = "the policy's action is not finite"
                break
            asked = drive.motors(task.command(action)[0], seen)
            filtered = safety.filter(asked, seen, time.monotonic())
            if approve:
                with _paused(robot, clock, watchdog):
                    approve(filtered.command)
                if robot.spec.realtime:  # the world went on meanwhile
                    filtered = safety.filter(asked, robot.observe(), time.monotonic())
            record.stop = interrupted()  # a stop from elsewhere, perhaps before the motors were switched on
            if record.stop:
                break
            if shadow:
                sent = Sent(np.zeros_like(filtered.command), time.monotonic(), ("shadow",))
            else:
                sent = robot.command(filtered.command)
                if watchdog:
                    watchdog.feed()
                safety.sent(sent.command)
            clock.acted(seen.captured_s, sent.sent_s)
            record.asked(before[0], action[0], seen)
            record.went(filtered, sent, drive)
            clock.wait()
            seen = robot.observe()
            state = _state(task, seen, record.goal)
            last = task.action(record.sent[-1][None]).astype(np.float32)
            record.stop = safety.unsafe(seen)  # first: an absurd reading says nothing about the task
            if not seen.finite:
                break  # no outcome was measured
            record.came(seen, history.push(task.frame(state, last))[0])
            record.terminated = not record.stop and bool(task.failed(state)[0])
            if record.terminated or record.stop:
                break
    except RobotFault as fault:
        record.stop, record.link = str(fault), fault.link
    except RobotError as refusal:
        record.stop = str(refusal)
    except Exception as error:  # whatever it was: a loop that fails in a way nobody foresaw is a stop like any other
        record.stop = f"the control loop failed: {type(error).__name__}: {error}"
    finally:
        if watchdog:
            watchdog.disarm()
    return record


@contextmanager
def _paused(robot: Robot, clock: Clock, watchdog: Watchdog | None) -> Iterator[None]:
    """Motors off while a person thinks, where the world does not wait; back on afterwards, unless that was a no."""
    if not robot.spec.realtime:
        yield
        return
    if watchdog:
        watchdog.disarm()
    robot.hold()
    yield
    robot.arm()
    clock.resume()
    if watchdog:
        watchdog.arm()


def _state(task: Task, seen: Observation, goal: np.ndarray) -> State:
    pose = seen.body_pose[None]
    twist = np.zeros((1, len(task.bodies), 6), np.float32)  # nothing measures it, and no task asks for it
    return State(seen.joint_position[None], seen.joint_velocity[None], pose, twist, goal[None])
