"""Simple tests of one driven joint, each with its own estimate: friction, inertia, delay and lag, damping.

Friction, inertia and gravity come from momentum balances over short stretches, which need no acceleration:

    integral of u dt = inertia dq' + viscous dq + coulomb integral of sign(q') dt + ...

with the effort u as late as fits best. They are linear in what is sought and not troubled by noisy rates (weak form).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import product

import numpy as np

from envs.task import Task
from robot.estimate import Estimate
from robot.interface import RobotError
from robot.latency import measure
from robot.logs import Log
from robot.session import RobotSession
from robot.settings import JointLimits

STRETCH_S = 0.3  # of one balance
LATEST_S, EVERY_S = 0.2, 0.004  # delays that are tried
RESAMPLES = 200
TURN_AT, LOOK_S = 0.4, 0.25  # of the reach, where a joint will be in so long
STUCK_S = 0.3  # pushed one way for so long without moving, a joint is pushed the other way
LAGS_S = (0.0, 0.01, 0.02, 0.03, 0.05, 0.08)  # that are tried
SLOW = 0.05  # of the fastest: slower than that, friction has no clear sign


class Routine(ABC):
    """An excitation of the first driven joint, and what a recording of it says. `seconds` is how long it takes."""

    name: str
    seconds: float

    def __init__(self, task: Task, limits: JointLimits, speed: float) -> None:
        """`speed` scales the velocity limit, as the session does."""
        self.task = task
        self.row = task.joints.index(task.actuated[0])
        self.effort, self.velocity = limits.effort, limits.velocity * speed
        low, high = limits.position
        self.centre, self.reach = (low + high) / 2, (high - low) / 2
        self._side, self._turning, self._still = 1.0, False, 0

    @abstractmethod
    def command(self, time_s: float, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        """(u,) efforts, N or N m."""

    @abstractmethod
    def estimate(self, log: Log) -> list[Estimate]:
        """Raises RobotError where the recording does not show what was looked for."""

    def _along(self, effort: float) -> np.ndarray:
        out = np.zeros(len(self.task.actuated))
        out[0] = effort
        return out

    def _along_motion(self, position: float, velocity: float) -> float:
        """The direction that speeds the joint up, or slows it down in time before it leaves the middle of its range."""
        slow = SLOW * self.velocity
        ahead = (position - self.centre + LOOK_S * velocity) / self.reach
        if self._turning and velocity * self._side > slow:
            self._turning = False
        if not self._turning:
            if abs(ahead) > TURN_AT:
                self._side, self._turning = -float(np.sign(ahead)), True
            elif abs(velocity) > slow:
                self._side = float(np.sign(velocity))
            else:
                self._still += 1
                if self._still * self.task.control_period_s > STUCK_S:
                    self._side, self._still = -self._side, 0
        return self._side


class TorqueSweep(Routine):
    """Constant efforts of several sizes along the motion, reversed before the ends: viscous and Coulomb friction."""

    name, seconds = "torque_sweep", 40.0
    SIZES, EACH_S = (0.15, 0.25, 0.4, 0.55, 0.7), 4.0

    def command(self, time_s: float, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        size = self.SIZES[int(time_s / self.EACH_S) % len(self.SIZES)]
        side = self._along_motion(float(position[self.row]), float(velocity[self.row]))
        return self._along(side * size * self.effort)

    def estimate(self, log: Log) -> list[Estimate]:
        return _balance(log, self.task, self.row, ("viscous", "coulomb"))


class TorquePulse(Routine):
    """Pulses of effort from rest, both ways: inertia, friction taken out first."""

    name, seconds = "torque_pulse", 30.0
    PULSE_S, EVERY_S, SIZE = 0.2, 1.0, 0.7

    def command(self, time_s: float, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        number, since = divmod(time_s, self.EVERY_S)
        if len(self.task.joints) == len(self.task.actuated):  # along its motion, or gravity would hold it
            side = self._along_motion(float(position[self.row]), float(velocity[self.row]))
            return self._along(side * self.effort if since < 3 * self.PULSE_S else 0.0)
        off = float(position[self.row]) - self.centre
        side = -np.sign(off) if abs(off) > 0.2 * self.reach else 1.0 - 2.0 * (int(number) % 2)
        if since < self.PULSE_S:
            self._side = side if since < self.task.control_period_s else self._side
            return self._along(self._side * self.SIZE * self.effort)
        if since < 2 * self.PULSE_S:  # and brake
            return self._along(-self._side * self.SIZE * self.effort)
        return self._along(0.0)

    def estimate(self, log: Log) -> list[Estimate]:
        return _balance(log, self.task, self.row, ("inertia",))


class FreeSwing(Routine):
    """Swung up by a push, then left alone: damping and natural frequency of the joint that swings."""

    name, seconds = "free_swing", 24.0
    EACH_S, PUSH_S, PUMP_S, SIZE = 8.0, 0.3, 2.5, 0.7

    def command(self, time_s: float, position: np.ndarray, velocity: np.ndarray) -> np.ndarray:
        number, since = divmod(time_s, self.EACH_S)
        if len(self.task.joints) == len(self.task.actuated):  # pumped up along its motion
            side = self._along_motion(float(position[self.row]), float(velocity[self.row]))
            return self._along(side * self.SIZE * self.effort if since < self.PUMP_S else 0.0)
        side = 1.0 if int(number) % 2 == 0 else -1.0
        for k in range(2):  # there and back, so that a sliding joint ends where it began
            if k * self.PUSH_S <= since < (k + 1) * self.PUSH_S:
                return self._along(side * (1 - 2 * k) * self.SIZE * self.effort)
        return self._along(0.0)

    def estimate(self, log: Log) -> list[Estimate]:
        passive = [j for j, joint in enumerate(self.task.joints) if joint not in self.task.actuated]
        return _swing(log, self.task, passive[0] if passive else self.row, self.row)


def step_response(session: RobotSession, repeats: int = 24, share: float = 0.8) -> list[Estimate]:
    """Delay and lag from steps of effort, as `robot.latency` measures them; 90 % intervals."""
    found = measure(session, repeats, share)
    values = {"delay_ms": found.delay_ms, "lag_ms": found.lag_ms, "total_ms": found.total_ms}
    return [Estimate(name.removesuffix("_ms"), v, *found.ranges_ms[name], "ms") for name, v in values.items()]


ROUTINES: dict[str, type[Routine]] = {kind.name: kind for kind in (TorqueSweep, TorquePulse, FreeSwing)}
NAMES = (*ROUTINES, "step")


def _balance(log: Log, task: Task, row: int, wanted: tuple[str, ...]) -> list[Estimate]:
    """Inertia and friction of a driven joint; what other joints and gravity add is fitted beside them."""
    motor = task.actuated.index(task.joints[row])
    best: tuple[float, np.ndarray, np.ndarray, list[str]] | None = None
    for lag_s, late_s in product(LAGS_S, np.arange(0.0, LATEST_S, EVERY_S)):
        terms, pushed, names = _terms(log, task, row, motor, lag_s, float(late_s))
        found = np.linalg.lstsq(terms, pushed, rcond=None)[0]
        cost = float(np.sum(np.square(pushed - terms @ found)))
        if best is None or cost < best[0]:
            best = (cost, terms, pushed, names)
    assert best is not None
    _, terms, pushed, names = best
    return _resampled(terms, pushed, names, wanted, _units(task, row))


def _terms(
    log: Log, task: Task, row: int, motor: int, lag_s: float, late_s: float
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    stretches = _stretches(log)
    t, q, v = log.time_s, log.position[:, row], log.velocity[:, row]
    pushed = np.interp(t - late_s, t, _delivered(t, log.effort[:, motor], lag_s))
    sign = np.tanh(v / (SLOW * np.abs(v).max() + 1e-12))
    columns = {"inertia": v, "viscous": q, "coulomb": _summed(sign, t)}
    for j, joint in enumerate(task.joints):
        if joint not in task.actuated:  # a swinging part's share of the momentum
            columns[f"share of {joint}"] = log.velocity[:, j] * np.cos(log.position[:, j])
    if gravity := len(task.joints) == 1:
        columns |= {"gravity sin": _summed(np.sin(q), t), "gravity cos": _summed(np.cos(q), t)}
    columns["offset"] = t
    first, last = stretches
    if gravity:  # where it pulls, a joint comes to stand off its middle, held by less than its Coulomb friction
        first, last = (ends[_moving(log, row, *stretches)] for ends in stretches)
    return np.stack([c[last] - c[first] for c in columns.values()], 1), pushed[last] - pushed[first], list(columns)


def _swing(log: Log, task: Task, row: int, driven: int) -> list[Estimate]:
    """q'' = -w^2 sin(q - rest) - decay q' - dry sign(q') + (what the driven joint's acceleration adds)."""
    first, last = _stretches(log)
    t, q, v = log.time_s, log.position[:, row], log.velocity[:, row]
    rest = task.rest[row] if task.rest else 0.0
    swing = q - rest
    columns = {
        "stiffness": -_summed(np.sin(swing), t),
        "decay": -q,
        "dry": -_summed(np.tanh(v / (SLOW * np.abs(v).max() + 1e-12)), t),
    }
    calm = np.ones(len(first), bool)
    if row != driven:
        rate = np.diff(log.velocity[:, driven], prepend=log.velocity[0, driven])
        columns["coupling"] = np.cumsum(np.cos(swing) * rate)
    else:  # a driven joint swings freely only where nothing is commanded, and nothing is on its way
        quiet = np.concatenate([[0.0], np.cumsum(np.abs(log.effort[:-1, 0]) * np.diff(t))])
        # and moves: standing still, it is held by less than its Coulomb friction.
        calm = _moving(log, row, first, last)
        calm &= np.interp(t[last], t, quiet) - np.interp(t[first] - LATEST_S, t, quiet) < 1e-9
    if calm.sum() < 10 or np.ptp(swing[first][calm]) < 0.2:
        raise RobotError(f"{log.source}: {task.joints[row]} hardly swings; accepted is a motion of 0.2 rad and more")
    terms = np.stack([c[last] - c[first] for c in columns.values()], 1)[calm]
    units = {"stiffness": "1/s^2", "decay": "1/s", "dry": "rad/s^2"}
    return _resampled(terms, (v[last] - v[first])[calm], list(columns), ("stiffness", "decay", "dry"), units)


def _resampled(
    terms: np.ndarray, pushed: np.ndarray, names: list[str], wanted: tuple[str, ...], units: dict[str, str]
) -> list[Estimate]:
    """Least squares, with 95 % intervals from a bootstrap over runs of neighbouring stretches."""
    found = np.linalg.lstsq(terms, pushed, rcond=None)[0]
    random, block = np.random.default_rng(0), 10
    starts = np.arange(0, len(terms), block)
    drawn = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([np.arange(s, min(s + block, len(terms))) for s in random.choice(starts, len(starts))])
        drawn.append(np.linalg.lstsq(terms[rows], pushed[rows], rcond=None)[0])
    low, high = np.percentile(np.array(drawn), [2.5, 97.5], axis=0)
    picked = [names.index(name) for name in wanted]
    return [Estimate(names[i], float(found[i]), float(low[i]), float(high[i]), units[names[i]]) for i in picked]


def _stretches(log: Log) -> tuple[np.ndarray, np.ndarray]:
    """First and last rows of overlapping stretches, none across a gap."""
    length = max(2, round(STRETCH_S / log.period_s))
    first = [np.arange(rows.start, rows.stop - length) for rows in log.pieces()]
    found = np.concatenate(first) if first else np.zeros(0, int)
    if len(found) < 10:
        raise RobotError(f"{log.source}: too short; accepted is a recording of some seconds without a gap")
    return found, found + length


def _moving(log: Log, row: int, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Which stretches show friction: a joint that stands still is held by less than its Coulomb friction."""
    speed = np.abs(log.velocity[:, row])
    way = _summed(speed, log.time_s)
    return way[last] - way[first] > 2 * SLOW * speed.max() * (log.time_s[last] - log.time_s[first])


def _delivered(time_s: np.ndarray, effort: np.ndarray, lag_s: float) -> np.ndarray:
    """The integral up to each row of an effort that is held from row to row, behind a lag of first order."""
    whole, motor = np.zeros(len(time_s)), 0.0
    for k, (step, asked) in enumerate(zip(np.diff(time_s), effort[:-1], strict=True)):
        left = np.exp(-step / lag_s) if lag_s else 0.0
        whole[k + 1] = whole[k] + asked * step + (motor - asked) * lag_s * (1 - left)
        motor = asked + (motor - asked) * left
    return whole


def _summed(value: np.ndarray, time_s: np.ndarray) -> np.ndarray:
    """Its integral up to each row, by trapezia."""
    return np.concatenate([[0.0], np.cumsum((value[1:] + value[:-1]) / 2 * np.diff(time_s))])


def _units(task: Task, row: int) -> dict[str, str]:
    return {"inertia": "kg or kg m^2", "viscous": "N s/m or N m s/rad", "coulomb": "N or N m"}
