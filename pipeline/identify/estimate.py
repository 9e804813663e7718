"""Finding a task's parameters from recordings, with their uncertainty.

The recordings are cut into windows, and each is followed by a filter whose model is the task's own PyBullet world
(multiple shooting, with every window corrected on its way by what was measured). Parameters are those that make the
innovations smallest, by Gauss-Newton under a robust loss; the noise is the most likely one. Uncertainty comes from
resampling blocks of rows, widened where recordings differ by more than their blocks explain (Birge 1932, Phys. Rev.
40:207).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from scipy.optimize import least_squares, lsq_linear

from envs.task import Task
from pipeline.identify.crew import Crew
from pipeline.identify.kalman import Gains, Linear, Noise, fit_noise, gains
from pipeline.identify.recording import Windows, as_recorded_by, cut
from pipeline.identify.unknowns import Unknowns, unknowns
from robot.interface import RobotError
from robot.logs import Log

# In sds of the prior. Small: where parameters trade off their slopes nearly cancel, and a slope that is a little off
# looks like information.
STEP = 1e-3
OUTLIER = 3.0  # innovations beyond so many sds count linearly
PULLED = 0.884  # mean square of what a standard normal innovation pulls, in units of the loss's mean curvature
SEARCHES = ((8, 6), (16, 3))  # windows, and evaluations on them, to begin with
NOISE_WINDOWS, STEP_WINDOWS = 40, 50  # enough for the noise; enough for a step from there
FOLDS = 5
SURE = 4.0  # recordings that agree, before any is seen
SMALL_STEP, LARGE_STEP, MOST_STEPS = 0.15, 2.0, 6  # in sds of the result; slopes hold over less than a large one

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class FitSettings:
    fixed: Mapping[str, float] = field(default_factory=dict)  # parameters the user knows, SI
    extra: Sequence[str] = ()  # parameters without a default range that are to be fitted too
    window_s: float = 2.0
    block_s: float = 0.5  # rows that are resampled together
    draws: int = 1000
    processes: int = 1
    start: np.ndarray | None = None  # (d,) SI, where the search begins; None: the middle of the ranges


@dataclass(frozen=True)
class TaskFit:
    """What was found. x are numbers of order one (`unknowns.values` makes them SI), F of them."""

    task: Task
    logs: tuple[Log, ...]  # as the task has them
    unknowns: Unknowns
    x: np.ndarray  # (F,)
    draws: np.ndarray  # (b, F) bootstrap
    information: np.ndarray  # (F, F) of the data alone: inverse covariance of x
    noise: Noise
    noise_covariance: np.ndarray  # of the logarithms of the sds
    seconds: float  # of recording that were used
    residual_rms: float  # of the whitened innovations; 1 where the model explains all but the noise
    held_out_rms: float  # the same on a fifth of the windows left out, each in turn
    one_step_rms: np.ndarray  # (2j,) SI, a row ahead

    @property
    def values(self) -> np.ndarray:
        """(d,) SI."""
        return self.unknowns.values(self.x)


def fit_task(
    task: Task,
    logs: Sequence[Log],
    settings: FitSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> TaskFit:
    """The parameters of a task from recordings of its robot; raises RobotError where nothing can be told."""
    settings, tell = settings or FitSettings(), progress or (lambda share, words: None)
    if not logs:
        raise RobotError("log: none given; accepted is at least one recording")
    sought = unknowns(task, settings.fixed, settings.extra)
    logs = tuple(as_recorded_by(task, log) for log in logs)
    windows = cut(logs, settings.window_s)
    noise, x = _first_guess(logs), np.zeros(len(sought.free))
    if settings.start is not None:
        x = np.clip(sought.x(settings.start), *sought.bounds)
    with Crew(task, logs, windows, len(sought.free) + 1, settings.processes) as crew:
        problem = _Problem(crew, sought)
        tell(0.05, "first look")
        x, noise = problem.search(x, noise, len(windows))
        tell(0.4, "all windows")
        linear = crew.linearise(sought.values(x), noise)
        noise, noise_covariance = fit_noise(_every(linear, max(1, len(windows) // NOISE_WINDOWS)), noise)
        filtered = gains(linear, noise)
        tell(0.6, "refining")
        if len(windows) >= 2 * STEP_WINDOWS:
            x = problem.stepped(x, linear, noise, windows, settings.block_s)
        slope, change = None, np.inf
        for _ in range(MOST_STEPS):
            if slope is None or change > LARGE_STEP:
                innovations, slope, now = problem.slopes(x, filtered, 1)
            else:
                innovations, now = problem.innovations(x, filtered, 1)
            parts = _Parts(innovations, slope, windows, settings.block_s, x)
            x, change = parts.step(sought)
            tell(0.9, "refining")
            if change < SMALL_STEP:
                break
    tell(1.0, "done")
    used = windows.valid
    return TaskFit(
        task=task,
        logs=logs,
        unknowns=sought,
        x=x,
        draws=parts.bootstrap(sought, settings.draws, np.random.default_rng(seed)),
        information=parts.information.sum(0),
        noise=noise,
        noise_covariance=noise_covariance,
        seconds=float(windows.period_s[used].sum()),
        residual_rms=parts.residual_rms(),
        held_out_rms=parts.held_out_rms(),
        one_step_rms=np.sqrt(np.mean(np.square(now[used]), axis=0)),
    )


class _Problem:
    """Residuals and slopes of the unknowns over all windows, or every so-manyth."""

    def __init__(self, crew: Crew, sought: Unknowns) -> None:
        self._crew, self._sought = crew, sought

    def search(self, x: np.ndarray, noise: Noise, windows: int) -> tuple[np.ndarray, Noise]:
        """Parameters and noise from few of the windows: linearise, find the noise, then the parameters, twice."""
        low, high = self._sought.bounds
        for few, evaluations in SEARCHES:
            every = -(-windows // few)
            linear = self._crew.linearise(self._sought.values(x), noise, every)
            noise, _ = fit_noise(linear, noise, exact=False)
            filtered = gains(linear, noise)
            x = least_squares(
                partial(self._residual, filtered, every),
                np.clip(x, low + 1e-6, high - 1e-6),
                partial(self._jacobian, filtered, every),  # pyright: ignore[reportArgumentType]
                bounds=(low, high),
                loss="soft_l1",
                f_scale=OUTLIER,
                max_nfev=evaluations,
                ftol=1e-3,
                xtol=1e-3,
            ).x
        return x, noise

    def stepped(self, x: np.ndarray, linear: Linear, noise: Noise, windows: Windows, block_s: float) -> np.ndarray:
        """x after a Gauss-Newton step on some of the windows."""
        every = len(windows) // STEP_WINDOWS
        innovations, slope, _ = self.slopes(x, gains(_every(linear, every), noise), every)
        return _Parts(innovations, slope, windows.pick(slice(None, None, every)), block_s, x).step(self._sought)[0]

    def innovations(self, x: np.ndarray, filtered: Gains, every: int) -> tuple[np.ndarray, np.ndarray]:
        """Whitened innovations (W, T, m), and the innovations as they are, SI."""
        raw = self._crew.innovations(self._sought.values(x[None]), filtered, every)[0]
        return (filtered.whiten @ raw[..., None])[..., 0], raw

    def slopes(self, x: np.ndarray, filtered: Gains, every: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Whitened innovations, their slopes (W, T, m, F), and the innovations as they are, SI."""
        low, high = self._sought.bounds
        step = np.where(x + STEP <= high, STEP, -STEP)
        around = np.concatenate([x[None], x + np.diag(step)])
        raw = self._crew.innovations(self._sought.values(around), filtered, every)
        white = (filtered.whiten @ raw[..., None])[..., 0]
        return white[0], np.moveaxis((white[1:] - white[0]) / step[:, None, None, None], 0, -1), raw[0]

    def _residual(self, filtered: Gains, every: int, x: np.ndarray) -> np.ndarray:
        return np.concatenate([self.innovations(x, filtered, every)[0].ravel(), x])

    def _jacobian(self, filtered: Gains, every: int, x: np.ndarray) -> np.ndarray:
        slope = self.slopes(x, filtered, every)[1]
        return np.concatenate([slope.reshape(-1, len(x)), np.eye(len(x))])


class _Parts:
    """Information and pull of each block of rows at x; the prior is apart."""

    def __init__(self, white: np.ndarray, slope: np.ndarray, windows: Windows, block_s: float, x: np.ndarray) -> None:
        self.x = x
        far = 1 + np.square(white / OUTLIER)
        r, j = far**-0.5 * white, far[..., None] ** -0.75 * slope  # pull, and root of the curvature, of the loss
        since = windows.time_s[:, :-1] - windows.time_s[:, :1]
        block = np.floor(since / block_s + 1e-6).astype(int)
        label = (np.arange(len(windows))[:, None] * (block.max() + 1) + block)[windows.valid]
        kinds, which = np.unique(label, return_inverse=True)
        size = slope.shape[-1]
        self.information, self._pull = np.zeros((len(kinds), size, size)), np.zeros((len(kinds), size))
        rows, own = j[windows.valid], (r * white)[windows.valid]
        np.add.at(self.information, which, np.einsum("kma,kmb->kab", rows, rows))
        np.add.at(self._pull, which, np.einsum("kma,km->ka", slope[windows.valid], r[windows.valid]))
        self._square = np.bincount(which, own.sum(1))
        self._count = np.bincount(which) * r.shape[-1]
        first = np.zeros(len(kinds), int)
        first[which] = np.flatnonzero(windows.valid.ravel())
        self._log = windows.log[first // windows.valid.shape[1]]
        self._window = first // windows.valid.shape[1]
        self.gradient = self._pull.sum(0) + x

    @property
    def curvature(self) -> np.ndarray:
        """(F, F) of the loss with its prior."""
        return self.information.sum(0) + np.eye(len(self.x))

    def step(self, sought: Unknowns) -> tuple[np.ndarray, float]:
        """x after a Newton step inside the bounds, and how long that step was, in sds of the result."""
        low, high = sought.bounds
        root = np.linalg.cholesky(self.curvature).T
        wanted = -np.linalg.solve(root.T, self.gradient)
        moved = lsq_linear(root, wanted, (low - self.x - 1e-9, high - self.x + 1e-9)).x
        return np.clip(self.x + moved, low, high), float(np.linalg.norm(root @ moved) / np.sqrt(len(moved)))

    def bootstrap(self, sought: Unknowns, draws: int, random: np.random.Generator) -> np.ndarray:
        """(draws, F): the same step for each draw of blocks with replacement.

        The prior's centre is drawn too: where the data say nothing, the interval is the prior's. Where few blocks say
        most about a parameter their own spread is uncertain; it counts as no smaller than the noise would make it.
        """
        count, size = len(self._pull), len(self.x)
        low, high = sought.bounds
        whole = np.linalg.inv(self.curvature)
        times = random.multinomial(count, np.full(count, 1 / count), draws)
        out = -(times @ self._pull + self.x + random.normal(size=(draws, size))) @ whole
        least = np.sqrt(np.diag(whole @ (PULLED * self.information.sum(0) + np.eye(size)) @ whole))
        wider = np.maximum(least / out.std(0), 1.0) * np.sqrt(count / max(count - 1, 1)) * self._between()
        middle = -whole @ self.gradient
        return np.clip(self.x + middle + (out - middle) * wider, low, high)

    def residual_rms(self) -> float:
        """Whitened residuals, outliers cut as in the fit."""
        return float(np.sqrt(self._square.sum() / self._count.sum()))

    def held_out_rms(self) -> float:
        """Whitened residuals of a fifth of the windows after a Gauss-Newton step on the others, all fifths."""
        total, eye = 0.0, np.eye(self.information.shape[1])
        for fold in range(FOLDS):
            out = self._window % FOLDS == fold
            if out.all() or not out.any():
                return float("nan")
            step = -np.linalg.solve(self.information[~out].sum(0) + eye, self._pull[~out].sum(0) + self.x)
            information, pull = self.information[out].sum(0), self._pull[out].sum(0)
            total += float(self._square[out].sum() + 2 * pull @ step + step @ information @ step)
        return float(np.sqrt(total / self._count.sum()))

    def _between(self) -> np.ndarray:
        """(F,) how much wider intervals must be because recordings differ by more than their blocks explain.

        The ratio of both variances is drawn towards one, as if `SURE` more recordings had agreed.
        """
        logs = np.unique(self._log)
        size = self.information.shape[1]
        if len(logs) < 2:
            return np.ones(size)
        whole = np.linalg.inv(self.curvature)
        part = np.stack([self._pull[self._log == log].sum(0) for log in logs]) @ whole.T  # (R, F) influence of each
        block = self._pull @ whole.T
        expected = np.square(block).sum(0) * (len(logs) - 1) / len(logs)
        ratio = np.square(part - part.mean(0)).sum(0) / expected
        return np.sqrt(np.maximum((SURE + ratio * (len(logs) - 1)) / (SURE + len(logs) - 1), 1.0))


def _every(linear: Linear, every: int) -> Linear:
    columns = (linear.transition, linear.push, linear.innovation, linear.gain, linear.valid)
    return Linear(*(column[::every] for column in columns), sliding=linear.sliding)


def _first_guess(logs: Sequence[Log]) -> Noise:
    """Sensors by what changes between rows faster than a motion does (third differences); efforts by their size."""
    measured = [np.concatenate([log.position[rows], log.velocity[rows]], 1) for log in logs for rows in log.pieces()]
    quick = np.concatenate([np.diff(part, 3, axis=0) for part in measured if len(part) > 3])
    spread = np.concatenate(measured).std(0)
    sensor = np.maximum(1.4826 * np.median(np.abs(quick), axis=0) / np.sqrt(20.0), 1e-4 * spread + 1e-9)
    effort = np.concatenate([log.effort for log in logs])
    return Noise(sensor, 0.1 * effort.std(0) + 1e-9)
