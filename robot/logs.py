"""Recordings of a robot from anywhere, as one `Log`: measured values with the times at which they were measured.

A log keeps irregular timestamps as they were recorded and is never resampled. What is wrong with a file is told by
rows, in sentences; the rest of it is used. `robot.log_files` reads and writes them, docs/episodes.md has the layout.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from robot.interface import RobotError
from robot.log_doubts import doubts
from robot.log_rows import repeated, spikes, turns

if TYPE_CHECKING:
    from envs.task import Task
    from robot.episodes import EpisodeMeta, RobotEpisode

GAP = 5.0  # times the median period: longer than that between two rows, and they belong to different pieces


@dataclass(frozen=True)
class Problem:
    """Something wrong with a recording, and the rows it concerns (lines of the file it came from)."""

    kind: str  # not finite | clock | gap | repeated | spike | turn | units | constant
    lines: tuple[int, ...]
    sentence: str


@dataclass(frozen=True)
class Log:
    """`t` rows of `j` joints and `u` motors, SI units. Time strictly rises within a piece."""

    time_s: np.ndarray  # (t,) float64, as recorded
    position: np.ndarray  # (t, j) m or rad
    velocity: np.ndarray  # (t, j) m/s or rad/s, as the robot measured it
    effort: np.ndarray  # (t, u) N or N m; what acted from this row to the next
    joints: tuple[str, ...] = ("joint",)
    motors: tuple[str, ...] = ("joint",)
    units: dict[str, str] = field(default_factory=dict)  # of the recording, by name, before conversion to SI
    source: str = ""  # where it came from
    sha256: str = ""  # of the file it came from
    piece: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))  # (t,) rows of one number follow on
    problems: tuple[Problem, ...] = ()

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def period_s(self) -> float:
        """The median time between rows of a piece."""
        steps = np.diff(self.time_s)[np.diff(self.piece) == 0]
        return float(np.median(steps)) if len(steps) else float("nan")

    def pieces(self) -> list[slice]:
        """The rows between gaps and clock jumps, in the order of the recording."""
        edges = np.flatnonzero(np.diff(self.piece)) + 1
        ends = [0, *edges.tolist(), len(self)]
        return [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True) if b > a]


def clean(log: Log, lines: np.ndarray | None = None) -> Log:
    """Leave out rows that cannot be used, cut at gaps and clock jumps, and say so in `problems`.

    `lines` (t,) are the file's line numbers, for the sentences. Raises RobotError where nothing is left.
    """
    lines = np.arange(len(log)) if lines is None else lines
    problems = list(log.problems)
    values = {"time": log.time_s[:, None], "position": log.position, "velocity": log.velocity, "effort": log.effort}
    good = np.ones(len(log), bool)
    never = [name for name, value in values.items() if len(value) and not np.isfinite(value).any()]
    for name, value in values.items():
        bad = ~np.isfinite(value).all(1)
        if bad.any():
            problems.append(_problem("not finite", lines[bad], f"{{have}} no finite {name} and {{are}} left out", log))
        good &= ~bad
    if good.sum() < 2:
        why = f", and {', '.join(never)} never {'is' if len(never) == 1 else 'are'}" if never else ""
        raise RobotError(f"{log.source}: {int(good.sum())} of {len(log)} rows are finite{why}; at least 2 are needed")
    rows = np.flatnonzero(good)  # what is left of the file
    log = _rows(log, good)

    def leave_out(kind: str, bad: np.ndarray, tail: str) -> None:
        nonlocal log, rows
        if bad.any():
            problems.append(_problem(kind, lines[rows[bad]], f"{tail} and {{are}} left out", log))
            log, rows = _rows(log, ~bad), rows[~bad]

    leave_out("clock", np.diff(log.time_s, prepend=-np.inf) == 0, "{repeat} the time before")
    tail = "{repeat} every value of the row before, as if written more often than the robot was read,"
    leave_out("repeated", repeated(log.position, log.velocity, log.effort), tail)
    leave_out("spike", spikes(log.time_s, log.position, log.velocity), "{have} a position far off those around")
    added = turns(log.time_s, log.position, log.velocity)
    if (jumps := np.diff(added, axis=0).any(1)).any():
        problems.append(_problem("turn", lines[rows[1:][jumps]], "{jump} by a whole turn, which is taken out", log))
        log = replace(log, position=log.position + added)
    dropped = np.diff(rows) > 1
    lines = lines[rows]
    steps = np.diff(log.time_s)
    if len(log) < 2 or not (steps > 0).any():
        raise RobotError(f"{log.source}: time never rises from one row to the next; accepted are times in order")
    back = steps < 0
    period = float(np.median(steps[steps > 0]))
    gap = (steps > GAP * period) & ~back
    if back.any():
        tail = "{go} back in time; the recording is cut there"
        problems.append(_problem("clock", lines[1:][back], tail, log))
    if gap.any():
        longest = float(steps[gap].max())
        tail = f"{{follow}} a gap of up to {longest:.3g} s (rows are {period:.3g} s apart); the recording is cut there"
        problems.append(_problem("gap", lines[1:][gap], tail, log))
    cut = back | gap | (dropped & (steps > 1.5 * period))
    piece = np.concatenate([[0], np.cumsum(cut)])
    log = replace(log, piece=piece, problems=tuple(problems))
    return replace(log, problems=(*log.problems, *(Problem(kind, (), text) for kind, text in doubts(log))))


def from_episode(episode: RobotEpisode, task: Task | None = None, realtime: bool | None = None) -> Log:
    """A recorded episode as a log. The measurement after step k is what step k + 1 saw, at that step's time.

    Where the robot waited for commands (lockstep: `realtime` False; None: judged by the times), clock times mean
    nothing and its own, evenly spaced, are taken.

    Without the `task` the effort stays an action in [-1, 1], and `units` says so.
    """
    c, meta = episode.columns, episode.meta
    if meta.steps < 3:
        raise RobotError(f"episode {meta.episode_id} has {meta.steps} steps; a log needs at least 3")
    if realtime is None and task is not None and _waited(meta, task):
        realtime = False
    sent = np.asarray(c["sent"][1:], np.float64)
    width = c["joint_position"].shape[1]
    log = Log(
        time_s=own_time(np.asarray(c["t_mono_s"], np.float64), meta.robot_s, realtime)[1:],
        position=np.asarray(c["joint_position"][:-1], np.float64),
        velocity=np.asarray(c["joint_velocity"][:-1], np.float64),
        effort=sent if task is None else np.asarray(task.command(sent), np.float64),
        joints=tuple(f"joint{i}" for i in range(width)) if task is None else task.joints,
        motors=tuple(f"motor{i}" for i in range(sent.shape[1])) if task is None else task.actuated,
        units={"effort": "action" if task is None else "SI"},
        source=f"episode {meta.episode_id}",
    )
    return clean(log)


def _waited(meta: EpisodeMeta, task: Task) -> bool:
    """Whether the robot is known to have waited for commands: its time is then the very number of periods."""
    return abs(meta.robot_s - meta.steps * task.control_period_s) < 1e-9 * (1.0 + meta.robot_s)


def own_time(clock_s: np.ndarray, robot_s: float, realtime: bool | None = None) -> np.ndarray:
    """Times of the steps on the robot's own clock, on which they took `robot_s`."""
    steps = len(clock_s)
    span, own = clock_s[-1] - clock_s[0], robot_s * (steps - 1) / steps
    if realtime is None:
        realtime = not own > 0 or 0.5 < span / own < 2.0
    if not realtime:
        return robot_s / steps * np.arange(steps)
    return clock_s


def _rows(log: Log, keep: np.ndarray) -> Log:
    return replace(
        log,
        time_s=log.time_s[keep],
        position=log.position[keep],
        velocity=log.velocity[keep],
        effort=log.effort[keep],
    )


def _problem(kind: str, lines: np.ndarray, tail: str, log: Log) -> Problem:
    count = f"{len(lines)} row{'s' if len(lines) != 1 else ''}"
    verbs = (
        ("has", "have"),
        ("is", "are"),
        ("goes", "go"),
        ("repeats", "repeat"),
        ("follows", "follow"),
        ("jumps", "jump"),
    )
    for one, many in verbs:
        tail = tail.replace(f"{{{many}}}", one if len(lines) == 1 else many)
    return Problem(kind, tuple(int(n) for n in lines), f"{log.source}: {count} ({spans(lines)}) {tail}")


def spans(lines: np.ndarray, most: int = 4) -> str:
    """`line 3, lines 7-9`, cut after `most`."""
    edges = np.flatnonzero(np.diff(lines) != 1) + 1
    spans = [(int(part[0]), int(part[-1])) for part in np.split(lines, edges)]
    words = [f"line {a}" if a == b else f"lines {a}-{b}" for a, b in spans[:most]]
    return ", ".join(words) + (f" and {len(spans) - most} more places" if len(spans) > most else "")
