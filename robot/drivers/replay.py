"""A recorded episode in the place of a robot: it answers what was measured, to whoever asks the same of it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
from pydantic import Field

from envs.task import State, Task
from robot.drivers.options import DriverOptions, parse
from robot.drivers.spec import make_spec
from robot.episodes import EpisodeStore
from robot.interface import Held, Observation, RobotError, RobotFault, Sent, Status
from robot.settings import RobotSettings


class ReplayOptions(DriverOptions):
    store: Path = Field(description="the folder of an episode store, such as runs/NAME/robot/episodes")
    episode_id: str | None = Field(default=None, description="which episode (null: the last one)")
    tolerance: float | None = Field(
        default=0.01,
        ge=0,
        description="SI units a command may differ from the recorded one before the replay refuses to go on; "
        "null: it goes on, and each such step says so",
    )


class ReplayRobot:
    """Satisfies `robot.interface.Robot`; time passes by commands, `arm` rewinds.

    A command that differs from what was sent then raises RobotFault naming the step, since what was measured
    would not have followed from it. So does a command after the last step.
    """

    Options = ReplayOptions

    def __init__(self, settings: RobotSettings, task: Task) -> None:
        self._options = options = parse(ReplayOptions, settings.driver_options)
        self.spec = make_spec(settings, task, "hold")
        if self.spec.realtime:
            raise RobotError("robot.mode: realtime with the driver replay, which has no clock; accepted is lockstep")
        self._task = task
        if not options.store.is_dir():
            raise RobotError(f"robot.driver_options.store: {options.store} is no folder; accepted is an episode store")
        self._lock = threading.RLock()
        self._connected = self._armed = False
        self._step = self._diverged = 0

    def connect(self) -> None:
        store = EpisodeStore(self._options.store)
        names = [meta.episode_id for meta in store.list()]
        if not names:
            raise RobotError(f"robot.driver_options.store: {self._options.store} holds no episodes")
        episode = store.read(self._options.episode_id or names[-1])
        columns, task = episode.columns, self._task
        shape = (episode.meta.steps, len(task.joints))
        if columns["joint_position"].shape != shape or columns["observation"].shape[1] != task.policy_size:
            raise RobotError(
                f"robot.driver_options.episode_id: {episode.meta.episode_id} was not recorded with the task "
                f"{task.name}; accepted is an episode of this task"
            )
        start = self._start(columns)
        self._position = np.concatenate([start.joint_position, columns["joint_position"]])
        self._velocity = np.concatenate([start.joint_velocity, columns["joint_velocity"]])
        self._sent = np.asarray(task.command(columns["sent"]), np.float64)
        self._end = f"the recording {episode.meta.episode_id} ends after {episode.meta.steps} steps"
        self._connected, self._armed, self._step = True, False, 0

    def arm(self) -> None:
        with self._lock:
            self._check()
            self._armed, self._step, self._diverged = True, 0, 0

    def observe(self) -> Observation:
        with self._lock:
            self._check()
            position, velocity = self._position[self._step].copy(), self._velocity[self._step].copy()
        return Observation(position, velocity, time.monotonic(), np.zeros(len(position)))

    def command(self, command: np.ndarray) -> Sent:
        with self._lock:
            self._check()
            if not self._armed:
                raise RobotFault("the motors are off: the robot was held and must be armed before a command")
            if self._step >= len(self._sent):
                raise RobotFault(self._end)
            then, reasons = self._sent[self._step], ()
            tolerance = self._options.tolerance
            if not np.allclose(command, then, rtol=0, atol=0.01 if tolerance is None else tolerance):
                if tolerance is not None:
                    self._armed = False
                    raise RobotFault(
                        f"step {self._step}: {np.round(command, 4).tolist()} was asked where "
                        f"{np.round(then, 4).tolist()} was recorded; what was measured does not follow from it"
                    )
                self._diverged += 1
                reasons = ("replay_diverged",)
            self._step += 1
            return Sent(then.copy(), time.monotonic(), reasons)

    def hold(self) -> Held:
        with self._lock:
            self._armed = False
            self._check()
            return Held(True, False, self._velocity[self._step].copy(), 0.0)

    def status(self) -> Status:
        if not self._connected:
            return Status("disconnected")
        if self._diverged:
            return Status("degraded", f"{self._diverged} commands differed from the recording")
        return Status("ok")

    def recover(self, operator: str) -> None:
        if not self._connected:
            self.connect()

    def disconnect(self) -> None:
        self._connected = self._armed = False

    def _check(self) -> None:
        if not self._connected:
            raise RobotFault("not connected to the recording", link=True)

    def _start(self, columns: dict[str, np.ndarray]) -> State:
        """The state before the first step, read back from the first observation.

        Rows hold what was measured after each step, so the first state is only in the policy's first frame.
        Where features are not an affine, invertible function of the state, there is no way back.
        """
        task, j = self._task, len(self._task.joints)
        nothing = np.zeros((1, task.action_size), np.float32)

        def features(state: np.ndarray) -> np.ndarray:
            one = np.asarray(state, np.float32)[None]
            return task.features(State(one[:, :j], one[:, j:]), nothing)[0].astype(np.float64)

        zero = features(np.zeros(2 * j))
        slopes = np.stack([features(unit) - zero for unit in np.eye(2 * j)], axis=1)  # (frame, 2 j)
        frame = columns["observation"][0, -task.frame_size :] / task.frame_scale
        state = np.linalg.lstsq(slopes, frame - zero, rcond=None)[0].astype(np.float32)
        if np.linalg.matrix_rank(slopes) < 2 * j or not np.allclose(features(state), frame, atol=1e-4):
            raise RobotError(
                f"robot.driver_options.episode_id: the first state cannot be read back from the features of "
                f"{task.name}; accepted is a task whose features contain positions and velocities"
            )
        return State(state[None, :j], state[None, j:])
