"""Where a body was over time, as a tracker saw it: from an episode, from a CSV of any tracker, or straight from one."""

from __future__ import annotations

import csv
import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from robot.episodes import read_file
from robot.interface import RobotError
from robot.log_files import UNITS
from robot.logs import GAP, own_time, spans
from robot.tracker import Tracker

DEFAULT_MAP = ("time=time", "x=x", "y=y", "z=z")
MAP_HELP = "time, x, y or z = COLUMN[:UNIT], units s, ms, us, ns and m, cm, mm"
LEAST_ROWS = 10
STALE = 5  # rows: a tracker read faster than it sees repeats a picture so often at most


@dataclass(frozen=True)
class BodyLog:
    """`t` rows of one body's centre in a frame whose z points up. Time strictly rises."""

    time_s: np.ndarray  # (t,)
    position_m: np.ndarray  # (t, 3)
    source: str = ""
    sha256: str = ""
    problems: tuple[str, ...] = ()  # sentences

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def period_s(self) -> float:
        return float(np.median(np.diff(self.time_s)))


def read_body(path: Path | str, entries: Sequence[str] = (), body: int = 0) -> BodyLog:
    """From an episode's Parquet (its body number `body`), or a CSV whose columns `entries` name.

    Raises RobotError with a sentence where nothing can be used.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RobotError(f"{path} cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if data[:4] != b"PAR1":
        return replace(_from_csv(path.name, data, entries or DEFAULT_MAP), sha256=digest)
    episode = read_file(path)
    if "body_pose" not in episode.columns:
        raise RobotError(f"{path.name}: no column body_pose; accepted is an episode of a robot with a tracker")
    poses = np.asarray(episode.columns["body_pose"], float)
    times = own_time(np.asarray(episode.columns["t_mono_s"], float), episode.meta.robot_s)
    # What was seen after a step was captured at the time of the next.
    return replace(tidy(times[1:], poses[:-1, 7 * body : 7 * body + 3], path.name), sha256=digest)


def record(tracker: Tracker, seconds: float, body: int, source: str) -> BodyLog:
    """Watch a body for so long, as often as the tracker has a new picture; the times are those of the pictures."""
    rows: list[tuple[float, np.ndarray]] = []
    end = time.monotonic() + seconds
    while (now := time.monotonic()) < end:
        poses, age_s = tracker.look()
        if not rows or now - age_s > rows[-1][0] + 1e-4:
            rows.append((now - age_s, poses[body, :3].astype(float)))
        time.sleep(0.002)
    times = np.array([at for at, _ in rows])
    return tidy(times, np.array([place for _, place in rows]).reshape(-1, 3), source)


def tidy(time_s: np.ndarray, position_m: np.ndarray, source: str, lines: np.ndarray | None = None) -> BodyLog:
    """Without rows that cannot be used, and the longest stretch without a gap; both are told in `problems`."""
    lines = np.arange(len(time_s)) if lines is None else lines
    problems = []

    def leave_out(bad: np.ndarray, tail: str) -> None:
        nonlocal time_s, position_m, lines
        if bad.any():
            problems.append(f"{source}: {bad.sum()} row{'s' if bad.sum() > 1 else ''} ({spans(lines[bad])}) {tail}")
            time_s, position_m, lines = time_s[~bad], position_m[~bad], lines[~bad]

    leave_out(~(np.isfinite(time_s) & np.isfinite(position_m).all(1)), "are not finite and are left out")
    leave_out(np.diff(time_s, prepend=-np.inf) == 0, "repeat the time before them and are left out")
    steps = np.diff(time_s)
    if len(time_s) >= 2 and (steps > 0).any():
        cut = (steps < 0) | (steps > GAP * np.median(steps[steps > 0]))
        edges = [0, *(np.flatnonzero(cut) + 1).tolist(), len(time_s)]
        longest = max(zip(edges[:-1], edges[1:], strict=True), key=lambda ends: ends[1] - ends[0])
        outside = np.ones(len(time_s), bool)
        outside[slice(*longest)] = False
        leave_out(outside, "lie beyond a gap or a jump of the clock and are left out")
    stale = _stale(position_m)
    time_s, position_m = time_s[~stale], position_m[~stale]
    if len(time_s) < LEAST_ROWS:
        raise RobotError(f"{source}: {len(time_s)} rows can be used, and at least {LEAST_ROWS} are needed")
    return BodyLog(time_s, position_m, source, problems=tuple(problems))


def _stale(position: np.ndarray) -> np.ndarray:
    """(t,) rows that repeat a picture: in short runs of equal places, all but the first."""
    same = np.concatenate([[False], (np.diff(position, axis=0) == 0).all(1)])[: len(position)]
    run = np.cumsum(~same)
    return same & (np.bincount(run)[run] <= STALE)


def _from_csv(source: str, data: bytes, entries: Sequence[str]) -> BodyLog:
    columns: dict[str, tuple[str, float]] = {}
    for entry in entries:
        match = re.fullmatch(r"(time|x|y|z)=(.+?)(?::([^:]*))?", entry)
        units = UNITS["time" if match and match[1] == "time" else "position"]
        if match is None or (match[3] or "m") not in (*units, "m"):
            raise RobotError(f"map: {entry!r} is not understood; accepted for a tracked body is {MAP_HELP}")
        columns[match[1]] = match[2], units.get(match[3] or "", 1.0)
    text = data.decode("utf-8-sig", errors="replace").replace("\0", "\ufffd")
    header = text.split("\n", 1)[0]
    reader = csv.DictReader(text.splitlines(), delimiter=max(",;\t", key=header.count))
    names = ("time", "x", "y", "z")
    has = [name.strip() for name in reader.fieldnames or ()]
    reader.fieldnames = has
    missing = [columns.get(name, (name, 1.0))[0] for name in names if columns.get(name, (name, 1.0))[0] not in has]
    if missing:
        raise RobotError(
            f"{source}: no column {', '.join(missing)}; it has {', '.join(has)[:200] or 'no header at all'}, and --map "
            f"names others: {MAP_HELP}"
        )
    rows, lines = [], []
    try:
        for row in reader:
            rows.append([_number(row[columns.get(n, (n, 1.0))[0]]) * columns.get(n, (n, 1.0))[1] for n in names])
            lines.append(reader.line_num)
    except csv.Error as error:
        raise RobotError(f"{source}: line {len(rows) + 2} is no CSV ({error})") from error
    table = np.array(rows, float).reshape(-1, 4)
    return tidy(table[:, 0], table[:, 1:], source, np.array(lines, int))


def _number(cell: str | None) -> float:
    try:
        return float(cell or "nan")
    except ValueError:
        return float("nan")
