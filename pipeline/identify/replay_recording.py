"""Recordings to be replayed: what was measured of robot and bodies, what was sent, and windows of both."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from envs.effects.groups import GroupDelay
from envs.scene import Effort, Rotors
from envs.task import Task
from pipeline.identify.recording import WARM_S, Windows
from robot.episodes import EpisodeStore, RobotEpisode, read_file
from robot.interface import RobotError
from robot.log_files import read_log
from robot.logs import Log, clean, from_episode

LEAST_S = 5.0  # in all recordings together
WINDOW_S = {True: 0.4, False: 1.0}  # of what flies, and of what stands
HALF_ROWS = 2  # on either side of a row, by which it is smoothed
STILL_M_S = 0.03  # a body that seems slower is at rest


@dataclass(frozen=True)
class Recording:
    """One recording: `log` with commands in SI, and with bodies their poses (t, b, 7), m and xyzw, row by row."""

    log: Log
    pose: np.ndarray


def can_replay(task: Task) -> bool:
    """Whether a task is identified by replaying: it flies, is driven by servos, or touches bodies."""
    return task.scene.actuation != Effort() or bool(task.bodies)


def read(task: Task, paths: Sequence[Path]) -> list[Recording]:
    """Recordings out of files, of folders of episodes, or of runs; raises RobotError where there are none.

    Episodes that are void, and those of other robots' tasks, are refused by a sentence.
    """
    found: list[Recording] = []
    for path in paths:
        if not path.is_dir():
            found.append(_of_file(task, path))
            continue
        folder = next((f for f in (path / "robot" / "episodes", path / "episodes", path) if f.is_dir()), path)
        store = EpisodeStore(folder)
        names = [meta.episode_id for meta in store.list() if not meta.void and meta.steps >= 3]
        if not names:
            raise RobotError(f"{path}: no episodes are kept there; accepted is a run whose robot has flown some")
        found += [of_episode(task, store.read(name)) for name in names]
    return found


def of_episode(task: Task, episode: RobotEpisode, sha256: str = "") -> Recording:
    """A stored episode; raises RobotError for another task's."""
    joints, columns = len(task.joints), episode.columns
    pose = columns.get("body_pose", np.zeros((episode.meta.steps, 0)))
    shapes = columns["joint_position"].shape[1:], columns["sent"].shape[1:], pose.shape[1:]
    if shapes != ((joints,), (task.action_size,), (7 * len(task.bodies),)):
        raise RobotError(
            f"episode {episode.meta.episode_id}: it has {shapes[0][0]} joints, {shapes[1][0]} commands and "
            f"{pose.shape[1] // 7} bodies; accepted is an episode of {task.name}"
        )
    log = from_episode(episode, task)
    if len(log) != episode.meta.steps - 1:
        raise RobotError(f"{log.source}: rows of it are not finite or repeat a time; accepted are whole episodes")
    log = replace(log, sha256=sha256, problems=tuple(p for p in log.problems if p.kind not in ("units", "constant")))
    return Recording(log, pose[:-1].reshape(len(log), len(task.bodies), 7).astype(float))


def of_log(task: Task, log: Log) -> Recording:
    """A log without bodies; raises RobotError where it has other joints or motors, or the task has bodies."""
    if task.bodies:
        raise RobotError(
            f"{log.source}: it does not say where {', '.join(task.bodies)} was; accepted are episodes of {task.name}"
        )
    if set(log.joints) != set(task.joints) or set(log.motors) != set(task.actuated):
        raise RobotError(
            f"{log.source}: it has {', '.join(log.joints)} and {', '.join(log.motors)}; accepted are "
            f"{', '.join(task.joints)} and {', '.join(task.actuated)}"
        )
    rows, motors = [log.joints.index(j) for j in task.joints], [log.motors.index(m) for m in task.actuated]
    effort = log.effort[:, motors]
    if log.units.get("effort") == "action":
        effort = np.asarray(task.command(effort), float)
    names = {"joints": task.joints, "motors": task.actuated, "units": {**log.units, "effort": "SI"}}
    log = replace(log, position=log.position[:, rows], velocity=log.velocity[:, rows], effort=effort, **names)
    return Recording(log, np.zeros((len(log), 0, 7)))


def _of_file(task: Task, path: Path) -> Recording:
    log = read_log(path)
    if log.source.startswith("episode "):
        return of_episode(task, read_file(path), log.sha256 or hashlib.sha256(path.read_bytes()).hexdigest())
    return of_log(task, log)


@dataclass(frozen=True)
class Cut:
    """Windows to be replayed. Channels are joint positions, joint velocities, and x, y, z of each body."""

    windows: Windows  # `measured` (W, T + 1, m); all rows are valid
    around: np.ndarray  # (W, 2H + 1, m) smoothed, row H is the window's first
    first: np.ndarray  # (W, j) joint positions, smoothed, at the beginning of the window's piece
    sensor: np.ndarray  # (m,) sd of what changes between rows faster than a motion does

    def pick(self, which: np.ndarray | slice) -> Cut:
        return Cut(self.windows.pick(which), self.around[which], self.first[which], self.sensor)

    def __len__(self) -> int:
        return len(self.windows)


def rows_before(task: Task) -> int:
    """How many rows a late sensor may look back."""
    late = [e.parameters[0] for e in task.sensor_effects if isinstance(e, GroupDelay)]
    longest_ms = max((task.parameters[task.parameters.index(name)].bounds[1] for name in late), default=0.0)
    return int(np.ceil(longest_ms * 1e-3 / task.control_period_s)) + 1


def channels(task: Task, recording: Recording) -> np.ndarray:
    """(t, m) what was measured, angles of a flying base unwrapped."""
    position = recording.log.position
    if isinstance(task.scene.actuation, Rotors):
        position = np.concatenate([position[:, :3], np.unwrap(position[:, 3:], axis=0)], axis=1)
    body = recording.pose[:, :, :3].reshape(len(position), -1)
    return np.concatenate([position, recording.log.velocity, body], axis=1)


def cut(task: Task, recordings: Sequence[Recording], window_s: float | None = None) -> Cut:
    """Windows that follow on each other, none across a gap; raises RobotError for too little."""
    window_s = window_s or WINDOW_S[isinstance(task.scene.actuation, Rotors)]
    steps, before = max(3, round(window_s * task.control_hz)), rows_before(task)
    log, piece, time_s, measured, around, first, quick = ([] for _ in range(7))
    count, spread = 0, []
    for number, recording in enumerate(recordings):
        whole = channels(task, recording)
        for part in recording.log.pieces():
            t, values = recording.log.time_s[part], whole[part]
            smooth = smoothed(t, values, len(task.joints))
            if len(values) > 3:
                quick.append(np.diff(values, 3, axis=0))
            spread.append(values)
            begin = max(before, int(np.searchsorted(t - t[0], WARM_S)))
            for row in range(begin, len(t) - max(steps, before), steps):
                log.append(number)
                piece.append(count)
                time_s.append(t[row : row + steps + 1])
                measured.append(values[row : row + steps + 1])
                around.append(smooth[row - before : row + before + 1])
                first.append(smooth[0, : len(task.joints)])
            count += 1
    if len(log) * steps * task.control_period_s < LEAST_S:
        names = ", ".join(recording.log.source for recording in recordings[:4])
        raise RobotError(
            f"{names}: {len(log)} windows of {window_s:g} s are left, and {LEAST_S:g} s are needed: record more"
        )
    windows = Windows(
        np.array(log), np.array(piece), np.array(time_s), np.array(measured), np.ones((len(log), steps), bool)
    )
    noise = 1.4826 * np.median(np.abs(np.concatenate(quick)), axis=0) / np.sqrt(20.0)
    sensor = np.maximum(noise, 1e-3 * np.concatenate(spread).std(0) + 1e-6)
    return Cut(windows, np.array(around), np.array(first), sensor)


def smoothed(time_s: np.ndarray, values: np.ndarray, joints: int) -> np.ndarray:
    """(t, m) local quadratics through what was measured; those of joint velocities are straight lines."""
    out = np.empty_like(values, float)
    rows = len(values)
    for k in range(rows):
        near = slice(max(0, k - HALF_ROWS), min(rows, k + HALF_ROWS + 1))
        t = time_s[near] - time_s[k]
        basis = np.vander(t, 3, increasing=True)
        out[k] = np.linalg.lstsq(basis, values[near], rcond=None)[0][0]
        out[k, joints : 2 * joints] = np.linalg.lstsq(basis[:, :2], values[near, joints : 2 * joints], rcond=None)[0][0]
    return out


def simulated(
    task: Task,
    ends_s: np.ndarray,
    position: np.ndarray,
    velocity: np.ndarray,
    sent: np.ndarray,
    pose: np.ndarray,
    source: str,
) -> Recording:
    """A recording of a simulated robot: (t + 1, ...) rows measured, (t, u) commands sent on seeing them.

    `ends_s` (t,) is when each command's period ended.
    """
    log = clean(
        Log(
            time_s=np.concatenate([[0.0], ends_s[:-1]]),
            position=position[:-1].astype(float),
            velocity=velocity[:-1].astype(float),
            effort=sent.astype(float),
            joints=task.joints,
            motors=task.actuated,
            units={"effort": "SI"},
            source=source,
        )
    )
    return Recording(replace(log, problems=()), pose[:-1].astype(float))
