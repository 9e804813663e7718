"""Finding a task's parameters by replaying windows of recordings (multiple shooting by simulation).

For what flies, whose motion is smooth: Gauss-Newton with finite differences, in which each window's starting state and
wind are unknowns of its own, eliminated from the normal equations. Where bodies are touched, the cost is rough: CMA-ES
(Hansen 2016, arXiv:1604.00772) looks for its minimum, and slopes are those of a regression over worlds around it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from envs.scene import Rotors
from envs.task import Task
from pipeline.identify.replay_crew import ReplayCrew
from pipeline.identify.replay_recording import Cut, Recording, cut
from pipeline.identify.replay_spread import OUTLIER, Normal, normal
from pipeline.identify.replay_unknowns import unknowns
from pipeline.identify.replay_worlds import shifts
from pipeline.identify.unknowns import Unknowns
from robot.interface import RobotError
from robot.logs import Log

STEP = 0.03  # of finite differences, in sds of the prior: large against the float32 of simulated readings
MOST_TURNS, SMALL_STEP = 7, 0.1  # the latter in sds of the result
LARGEST_STEP = 1.5  # of a parameter in one turn, in sds of the prior
OWN_STEP = 0.5  # of a window's own unknowns, in sds of what is measured
WIND_M_S = 1.5  # sd of each component, in each window
FEW_WINDOWS = 24  # enough for CMA-ES
GENERATIONS = (14, 10)
CLOUD, CLOUD_SD = 4, 0.25  # worlds for each unknown, and how far around, for slopes where the cost is rough
POLISH = 2

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ReplaySettings:
    fixed: Mapping[str, float] = field(default_factory=dict)  # parameters the user knows, SI
    extra: Sequence[str] = ()  # parameters without a default range that are to be fitted too
    window_s: float | None = None
    draws: int = 1000
    processes: int = 1


@dataclass(frozen=True)
class ReplayFit:
    """What was found. x are numbers of order one (`unknowns.values` makes them SI), F of them."""

    task: Task
    logs: tuple[Log, ...]
    unknowns: Unknowns
    x: np.ndarray  # (F,)
    draws: np.ndarray  # (b, F)
    information: np.ndarray  # (F, F) of the data alone, as far as it can be trusted
    cut: Cut
    predicted: np.ndarray  # (W, T, m) each window from its start
    shift: np.ndarray  # (W, S) of each window's own unknowns
    seconds: float
    residual_rms: float  # of the weighted residuals; 1 where they are as large as they were taken to be
    held_out_rms: float

    @property
    def values(self) -> np.ndarray:
        """(d,) SI."""
        return self.unknowns.values(self.x)

    @property
    def error(self) -> np.ndarray:
        """(W, T, m) measured less predicted."""
        return self.cut.windows.measured[:, 1:] - self.predicted


def fit_replayed(
    task: Task,
    recordings: Sequence[Recording],
    settings: ReplaySettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ReplayFit:
    """The parameters of a task from recordings of its robot; raises RobotError where nothing can be told."""
    settings, tell = settings or ReplaySettings(), progress or (lambda share, words: None)
    if not recordings:
        raise RobotError("log: none given; accepted is at least one recording")
    sought = unknowns(task, settings.fixed, settings.extra)
    windows = cut(task, recordings, settings.window_s)
    logs = tuple(recording.log for recording in recordings)
    random = np.random.default_rng(seed)
    with ReplayCrew(task, logs, windows, settings.processes) as crew:
        problem = _Problem(task, crew, windows, sought)
        smooth = isinstance(task.scene.actuation, Rotors)
        found, shift, predicted = _descend(problem, tell) if smooth else _search(problem, random, tell)
    tell(1.0, "done")
    return ReplayFit(
        task=task,
        logs=logs,
        unknowns=sought,
        x=found.x,
        draws=found.bootstrap(sought, windows.windows.log, settings.draws, random),
        information=found.information.sum(0) / found.temper,
        cut=windows,
        predicted=predicted,
        shift=shift,
        seconds=float(windows.windows.period_s.sum()),
        residual_rms=found.residual_rms(),
        held_out_rms=found.held_out_rms(),
    )


class _Problem:
    """Residuals of all windows, and their slopes."""

    def __init__(self, task: Task, crew: ReplayCrew, windows: Cut, sought: Unknowns) -> None:
        self.crew, self.windows, self.sought = crew, windows, sought
        self.all = np.arange(len(windows))
        self.shifts = shifts(task)
        states = 2 * len(task.joints)
        sd = np.concatenate([3.0 * windows.sensor[:states], [WIND_M_S] * 2])
        self.own_sd = sd[: self.shifts] if self.shifts >= states else sd[len(sd) - self.shifts :]
        step = np.concatenate([OWN_STEP * windows.sensor[:states], [0.2] * 2])
        self.own_step = step[: self.shifts] if self.shifts >= states else step[len(step) - self.shifts :]
        self.scale = np.tile(windows.sensor, (windows.windows.valid.shape[1], 1))

    def none(self) -> np.ndarray:
        return np.zeros((len(self.windows), self.shifts))

    def predict(self, x: np.ndarray, shift: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        """(c, k, T, m) for x (c, F), and shifts (k, S) or (c, k, S)."""
        which = self.all if which is None else which
        shift = np.broadcast_to(shift, (len(x), len(which), self.shifts))
        return self.crew.predict(self.sought.values(x), shift, which)

    def error(self, predicted: np.ndarray, which: np.ndarray | None = None) -> np.ndarray:
        measured = self.windows.windows.measured[:, 1:]
        return (measured if which is None else measured[which]) - predicted

    def rescale(self, error: np.ndarray) -> None:
        """Residuals are as large as they are: by channel and by time since the window's start, and not below noise."""
        typical = 1.4826 * np.median(np.abs(error), axis=0)
        self.scale = np.maximum(typical, 0.5 * self.windows.sensor)

    def cost(self, error: np.ndarray, x: np.ndarray, shift: np.ndarray, temper: float = 1.0) -> float:
        """Robust, with the priors."""
        square = np.square(error / self.scale)
        loss = 2 * OUTLIER**2 * (np.sqrt(1 + square / OUTLIER**2) - 1)
        own = np.square(shift / self.own_sd).sum() if self.shifts else 0.0
        return float((loss.sum() + own) / temper + x @ x)

    def slopes(self, x: np.ndarray, shift: np.ndarray, base: np.ndarray) -> np.ndarray:
        """(W, T, m, F) of what is predicted."""
        _, high = self.sought.bounds
        step = np.where(x + STEP <= high, STEP, -STEP)
        around = self.predict(x + np.diag(step), shift)
        return np.moveaxis((around - base) / step[:, None, None, None], 0, -1)

    def own_slopes(self, x: np.ndarray, shift: np.ndarray, base: np.ndarray) -> np.ndarray:
        """(W, T, m, S) of what is predicted, by each window's own unknowns."""
        if not self.shifts:
            return np.zeros((*base.shape, 0))
        moved = shift + np.diag(self.own_step)[:, None]
        around = self.predict(np.repeat(x[None], self.shifts, 0), moved)
        return np.moveaxis((around - base) / self.own_step[:, None, None, None], 0, -1)

    def normal(self, x: np.ndarray, error: np.ndarray, slope: np.ndarray, own: np.ndarray, shift: np.ndarray) -> Normal:
        flat = len(error), -1
        scaled = slope / self.scale[..., None]
        scaled_own = own / self.scale[..., None]
        return normal(
            x,
            (error / self.scale).reshape(flat),
            -scaled.reshape(len(error), -1, slope.shape[-1]),
            -scaled_own.reshape(len(error), error[0].size, self.shifts),
            self.own_sd,
            shift,
        )


def _descend(problem: _Problem, tell: Progress) -> tuple[Normal, np.ndarray, np.ndarray]:
    """Gauss-Newton from the middle of the ranges."""
    x, shift = np.zeros(len(problem.sought.free)), problem.none()
    base = problem.predict(x[None], shift)[0]
    own = problem.own_slopes(x, shift, base)
    problem.rescale(problem.error(base))
    for turn in range(MOST_TURNS):
        tell(0.1 + 0.9 * turn / MOST_TURNS, "refining")
        if turn == 2:
            own = problem.own_slopes(x, shift, base)
        error = problem.error(base)
        found = problem.normal(x, error, problem.slopes(x, shift, base), own, shift)
        step = found.step(problem.sought, LARGEST_STEP)
        before = problem.cost(error, x, shift)
        for share in (1.0, 0.5, 0.2):
            moved, moved_shift = x + share * step, shift + share * found.own_step(step)
            after = problem.predict(moved[None], moved_shift)[0]
            if np.isfinite(after).all() and problem.cost(problem.error(after), moved, moved_shift) < before:
                x, shift, base = moved, moved_shift, after
                break
        else:
            break
        problem.rescale(problem.error(base))
        if turn > 1 and found.length(step) < SMALL_STEP:
            break
    return problem.normal(x, problem.error(base), problem.slopes(x, shift, base), own, shift), shift, base


def _search(problem: _Problem, random: np.random.Generator, tell: Progress) -> tuple[Normal, np.ndarray, np.ndarray]:
    """CMA-ES on some of the windows, then steps on all along slopes of a regression."""
    import cma

    size = len(problem.sought.free)
    low, high = problem.sought.bounds
    few = problem.all[:: max(1, len(problem.windows) // FEW_WINDOWS)]
    x, shift, sigma = np.zeros(size), problem.none(), 0.5
    temper = max(1.0, problem.scale.size / 10)
    for stage, generations in enumerate(GENERATIONS):
        problem.rescale(problem.error(problem.predict(x[None], shift[few], few)[0], few))
        options = {"bounds": [low.tolist(), high.tolist()], "seed": int(random.integers(1, 2**31)), "verbose": -9}
        search = cma.CMAEvolutionStrategy(x, sigma, options)
        for generation in range(generations):
            tell(0.7 * (stage + generation / generations) / len(GENERATIONS), "searching")
            asked = np.array(search.ask())
            error = problem.error(problem.predict(asked, shift[few], few), few)
            search.tell(
                list(asked), [problem.cost(e, a, shift[few], temper) for e, a in zip(error, asked, strict=True)]
            )
            if search.stop():
                break
        x, sigma = np.clip(search.result.xfavorite, low, high), 0.25
    base = problem.predict(x[None], shift)[0]
    for turn in range(POLISH + 1):
        tell(0.7 + 0.3 * turn / (POLISH + 1), "refining")
        problem.rescale(problem.error(base))
        slope = _regressed(problem, x, shift, base, random)
        found = problem.normal(x, problem.error(base), slope, problem.own_slopes(x, shift, base), shift)
        step = found.step(problem.sought, LARGEST_STEP)
        before = problem.cost(problem.error(base), x, shift, found.temper)
        tried = np.stack([np.clip(x + share * step, low, high) for share in (1.0, 0.5, 0.2)])
        after = problem.predict(tried, shift)
        costs = [problem.cost(problem.error(a), t, shift, found.temper) for a, t in zip(after, tried, strict=True)]
        best = int(np.argmin(costs))
        if costs[best] >= before or found.length(step) < SMALL_STEP:
            break
        x, base = tried[best], after[best]
        found = problem.normal(x, problem.error(base), slope, problem.own_slopes(x, shift, base), shift)
    return found, shift, base


def _regressed(
    problem: _Problem, x: np.ndarray, shift: np.ndarray, base: np.ndarray, random: np.random.Generator
) -> np.ndarray:
    """(W, T, m, F) slopes of a linear regression over pairs of worlds on opposite sides of x: roughness averages out.

    What is left of it looks like information about parameters that do nothing. As much as the regression's own
    residuals explain, nineteen times in twenty, is taken off, direction by direction (as errors in variables are
    corrected for; Fuller 1987). Rows of a window go together, so that windows are what is counted.
    """
    low, high = problem.sought.bounds
    half = random.normal(0.0, CLOUD_SD, (CLOUD * len(x) // 2, len(x)))
    around = np.clip(x + np.concatenate([half, -half]), low, high)
    found = problem.predict(around, shift).reshape(len(around), -1)
    change, moved = ((part[: len(half)] - part[len(half) :]) / 2 for part in (found, around))
    slope, *_ = np.linalg.lstsq(moved, change, rcond=None)
    spare, windows = max(len(half) - len(x), 1), len(base)
    chance = np.square(change - moved @ slope).sum(0) / spare * stats.f.ppf(0.95, windows, windows * spare)
    residual = problem.error(base) / problem.scale
    share = ((1 + np.square(residual / OUTLIER)) ** -0.5 / np.square(problem.scale)).ravel()
    whole = (slope * share) @ slope.T
    size, direction = np.linalg.eigh(whole - (share @ chance) * np.linalg.inv(moved.T @ moved))
    left = (direction * np.maximum(size, 0.0)) @ direction.T
    slope = (np.linalg.pinv(whole) @ left).T @ slope
    return np.moveaxis(slope.reshape(len(x), *base.shape), 0, -1)
