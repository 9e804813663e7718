"""What the columns of a recording cannot be, in sentences: constant, in other units, swapped, of the other sign."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from robot.logs import Log

DEGREES = 180 / np.pi
LEAST_TIE = 0.1  # squared correlation of position changes and velocity below which noise hides their units
NAME_UNITS = "accepted is a unit with each column, such as --map time=COLUMN:ms or --map position=COLUMN:deg"
NAME_COLUMNS = "accepted is to name them right, as in --map position=COLUMN --map velocity=COLUMN --map torque=COLUMN"


def doubts(log: Log) -> list[tuple[str, str]]:
    """(kind, sentence) of each: nothing moves, or velocity is no derivative of position."""
    found = []
    for j, joint in enumerate(log.joints):
        change, speed = increments(log, j)
        if doubt := _doubt(log, joint, j, change, speed):
            found.append(doubt)
    return found


def _doubt(log: Log, joint: str, j: int, change: np.ndarray, speed: np.ndarray) -> tuple[str, str] | None:
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        size, tie, square = float(change @ change), float(speed @ change), float(speed @ speed)
        slope = tie / size if size > 0 else float("nan")
        # Noise in either column flattens a regression on it: the truth lies between that and the reverse one.
        low, high = sorted((slope, square / tie)) if tie else (0.0, 0.0)
        clear = square == 0 or not tie * tie < LEAST_TIE * size * square
    if not size > 0:
        return (
            "constant",
            f"{log.source}: the position of {joint} never changes, so nothing can be told about its motion",
        )
    if np.ptp(log.velocity[:, j]) == 0:
        return (
            "constant",
            f"{log.source}: the velocity of {joint} is {log.velocity[0, j]:.3g} in every row while its position moves; "
            "record the velocity that the robot measures, or the difference of its positions over time",
        )
    if motor := _in_effort(log, j, change, speed):
        text = (
            f"{log.source}: the effort of {motor} is what the velocity of {joint} should be, the change of its position"
        )
        return "units", f"{text} per second: their columns seem to be swapped; {NAME_COLUMNS}"
    if not (clear and not (low < 2.0 and high > 0.5)):
        return None
    guess, advice = "", NAME_UNITS
    if _swapped(log, j):
        guess = ", and the other way round they would fit: their columns seem to be swapped"
        advice = NAME_COLUMNS
    else:
        for factor, words in ((DEGREES, "degrees for radians"), (1e3, "milli-units"), (-1.0, "the other sign")):
            if 0.7 < slope / factor < 1.4 or 0.7 < slope * factor < 1.4:
                guess = f", as {words} in one of them or in time would be"
                if factor < 0:
                    advice = "accepted are columns of one sign; --map velocity=COLUMN:-rad/s turns one round"
    text = f"{log.source}: the velocity of {joint} is {slope:.3g} times the change of its position per second{guess}; "
    return "units", text + advice


def _in_effort(log: Log, j: int, change: np.ndarray, speed: np.ndarray) -> str | None:
    """The motor whose column of effort is the derivative of the position, where the velocity's is not."""
    if _fits(change, speed):
        return None
    for k, motor in enumerate(log.motors):
        effort = replace(log, velocity=log.effort[:, [k] * len(log.joints)])
        if _fits(*increments(effort, j)):
            return motor
    return None


def _swapped(log: Log, j: int) -> bool:
    """Whether `position` is the derivative of `velocity`."""
    return _fits(*increments(log, j, swapped=True))


def _fits(change: np.ndarray, speed: np.ndarray) -> bool:
    """Whether one is the other but for noise."""
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        tie, size, square = float(speed @ change), float(change @ change), float(speed @ speed)
    return size * square > 0 and tie > 0 and tie * tie > 0.8 * size * square and 0.5 < tie / size < 2.0


def increments(log: Log, joint: int, swapped: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Changes of position and of the integral of velocity over some ten rows, within pieces."""
    change, speed = [np.zeros(0)], [np.zeros(0)]
    for rows in log.pieces():
        q, v, t = log.position[rows, joint], log.velocity[rows, joint], log.time_s[rows]
        if swapped:
            q, v = v, q
        if len(t) > 1:
            way = np.concatenate([[0.0], np.cumsum(0.5 * (v[1:] + v[:-1]) * np.diff(t))])
            k = min(10, len(t) - 1)
            change.append(q[k:] - q[:-k])
            speed.append(way[k:] - way[:-k])
    return np.concatenate(change), np.concatenate(speed)
