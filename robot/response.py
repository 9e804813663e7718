"""From commanded to measured velocity: delay, lag and gain of a velocity controller, with intervals.

A command holds until the next, passes a delay of any length, a gain and a first-order lag; what comes out, r, is what a
joint's controller is to follow. Most are proportional and integral in velocity, torque = (c + k / s) (r - q'), so that
q' = r - s / (c s + k) torque. Where the torque is measured that is used as it stands: inertia and friction, which would
be taken for lateness, are then in the torque. Where it is not, a joint follows as a mass between spring and damper
does, q' = (b s + w^2) / (s^2 + b s + w^2) r. Uncertainty comes from resampling blocks of rows, and joints: where these
disagree, the model is not the robot's.

Measured torques are noisy, and least squares would take that for a controller that gives way less than it does, and the
rest for lateness (errors in variables; Fuller 1987, Measurement Error Models). So with torques both sides are compared
below `FORCED_HZ` alone, where there is far more torque than noise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.signal import butter, lfilter, sosfiltfilt
from scipy.stats import t as student

from robot.interface import RobotError

CELL_S = 0.002  # of the grid on which the model runs
OUTLIER = 3.0  # residuals beyond so many sds count linearly
LONGEST_DELAY_S, LONGEST_LAG_S = 0.3, 0.3
SETTLE_S = 0.3  # after the start of a piece, what was commanded before it may still act
FORCED_HZ, LEAST_RATE = 6.0, 3.0  # the latter: rows in a period of the former, without which nothing is left out
FASTEST_RAD_S = 400.0  # of a joint's own controller
LEAST_ASKED = 5.0  # times the noise that a joint must have been commanded, to say anything
STARTS = ((0.03, 0.02), (0.09, 0.02))  # s of delay and lag
NAMES = ("delay_s", "lag_s", "gain")
SHARED = 4  # numbers that all joints have in common


@dataclass(frozen=True)
class Track:
    """One uninterrupted recording of u joints: a command holds from its row to the next."""

    time_s: np.ndarray  # (t,) rising
    command: np.ndarray  # (t, u) m/s or rad/s
    velocity: np.ndarray  # (t, u)
    effort: np.ndarray | None = None  # (t, u) N or N m of the motors, where it is measured
    gravity: np.ndarray | None = None  # (t, u) what a controller that knows the arm would add by itself


@dataclass(frozen=True)
class Response:
    """What was found; `draws` are the bootstrap's."""

    delay_s: float
    lag_s: float
    gain: float
    draws: np.ndarray  # (b, 3) as NAMES
    compensated: float  # share of `gravity` that the controller adds; NaN where that was not asked
    residual: np.ndarray  # (u,) rms, m/s or rad/s
    predicted: tuple[np.ndarray, ...]  # for each track (t, u)

    def interval(self, name: str) -> tuple[float, float]:
        """95 % of `delay_s`, `lag_s`, `gain` or `total_s`, the sum of delay and lag."""
        value = self.draws[:, 0] + self.draws[:, 1] if name == "total_s" else self.draws[:, NAMES.index(name)]
        low, high = np.percentile(value, [2.5, 97.5])
        return float(low), float(high)


def fit_response(
    tracks: Sequence[Track], weights: np.ndarray, random: np.random.Generator, block_s: float = 1.0
) -> Response:
    """`weights` (b, blocks) say how often each block of each track, one after the other, counts in a resample.

    `random` draws which joints do.

    Raises RobotError where the joints were hardly asked to move.
    """
    noise = np.sqrt(np.mean([np.square(_high(track.velocity)).mean(0) for track in tracks], 0)) + 1e-9
    asked = np.sqrt(np.mean([np.square(track.command).mean(0) for track in tracks], 0))
    moved = np.flatnonzero(asked > LEAST_ASKED * noise)
    if not len(moved):
        raise RobotError("the commanded velocities are no larger than the noise of the measured ones; move more")
    forced = all(track.effort is not None for track in tracks)
    kind = _Forced if forced else _Following
    problem = _Problem([kind(track, moved) for track in tracks], noise[moved])
    x = problem.solve(STARTS, rough=True)
    problem.sd = problem.rms(x)  # what moves a joint besides commands differs from joint to joint
    x = problem.solve([tuple(x[:2])], x)
    blocks = number_blocks([track.time_s for track in tracks], block_s)
    draws = problem.bootstrap(x, blocks, weights, block_weights(len(moved), len(weights), random))
    residual, predicted, left = noise.copy(), [], []
    for model in problem.models:
        whole = np.zeros_like(model.track.velocity)
        whole[:, moved] = model.follow(x, model.at)
        predicted.append(whole)
        left.append((whole - model.track.velocity)[model.used][:, moved])
    residual[moved] = np.sqrt(np.mean(np.square(np.concatenate(left)), 0))
    delay, lag, gain, compensated = x[:4].tolist()
    asked_so = forced and all(track.gravity is not None for track in tracks)
    return Response(
        delay, lag, gain, draws[:, :3], compensated if asked_so else float("nan"), residual, tuple(predicted)
    )


def number_blocks(times: Sequence[np.ndarray], block_s: float) -> np.ndarray:
    """(rows of all pieces,) the number of the block that each row is in, counted through all pieces."""
    out, first = [], 0
    for time_s in times:
        out.append(first + np.floor((time_s - time_s[0]) / block_s + 1e-6).astype(int))
        first = int(out[-1].max()) + 1
    return np.unique(np.concatenate(out), return_inverse=True)[1]


def block_weights(blocks: int, draws: int, random: np.random.Generator) -> np.ndarray:
    """(draws, blocks) how often each block was drawn, with replacement."""
    return random.multinomial(blocks, np.full(blocks, 1.0 / blocks), draws).astype(float)


def widening(blocks: int) -> float:
    """What a bootstrap over few blocks falls short of: of n - 1 for n, and of Student's distribution."""
    n = max(blocks, 2)
    return float(np.sqrt(n / (n - 1)) * student.ppf(0.975, n - 1) / student.ppf(0.975, 1e9))


class _Model:
    """The response of one track's joints on an even grid, read at the rows.

    x are delay, lag, gain, the share of gravity that is compensated, and two numbers for each joint's controller.
    """

    low, high, start, step = (0.0, 0.0), (1.0, 1.0), (0.5, 0.5), (1e-3, 1e-3)  # of those two
    compared_hz = np.inf  # up to which frequency

    def __init__(self, track: Track, moved: np.ndarray) -> None:
        self.track = track
        time_s = track.time_s - track.time_s[0]
        self.used = time_s >= SETTLE_S
        self.measured = track.velocity[self.used][:, moved]
        self.at = time_s
        self._grid = np.arange(0.0, time_s[-1] + CELL_S, CELL_S)
        held = track.command[:-1, moved] * np.diff(time_s)[:, None]
        self._way = np.cumsum(np.concatenate([np.zeros((1, len(moved))), held]), 0)
        rate, self._low_pass = 1.0 / float(np.median(np.diff(time_s))), None
        if rate >= LEAST_RATE * self.compared_hz:
            self._low_pass = butter(2, self.compared_hz, fs=rate, output="sos")

    def follow(self, x: np.ndarray, at: np.ndarray) -> np.ndarray:
        """(rows, u) velocities at times since the first row."""
        u = self._way.shape[1]
        delay, lag, gain, first, second = x[0], x[1], x[2], x[SHARED : SHARED + u], x[SHARED + u :]
        keep, mean = _lag(lag)
        edges = np.append(self._grid, self._grid[-1] + CELL_S) - delay
        out = np.empty((len(at), u))
        for j in range(u):
            arrived = np.diff(np.interp(edges, self.at, self._way[:, j])) / CELL_S  # the mean over each cell, exactly
            lagged = np.array([1.0 - mean, mean - keep]) * gain, np.array([1.0, -keep])
            moved = self._joint(arrived, lagged, first[j], second[j], j, x[3])
            out[:, j] = np.interp(at, self._grid + CELL_S / 2, moved)  # a mean belongs to the middle of its cell
        return out

    def misfit(self, x: np.ndarray) -> np.ndarray:
        """(rows, u) predicted less measured velocities of the used rows, as far as they are compared."""
        found = self.follow(x, self.at[self.used]) - self.measured
        return found if self._low_pass is None else sosfiltfilt(self._low_pass, found, axis=0)

    def _joint(self, arrived, lagged: tuple[np.ndarray, np.ndarray], first: float, second: float, j: int, share: float):
        """(cells,) the velocity of joint j, given what has arrived and the filter of the lag."""
        raise NotImplementedError


class _Following(_Model):
    """A mass between spring and damper: natural frequency, rad/s, and damping ratio."""

    low, high, start, step = (12.0, 0.2), (FASTEST_RAD_S, 3.0), (60.0, 1.0), (0.05, 1e-3)

    def _joint(self, arrived, lagged: tuple[np.ndarray, np.ndarray], first: float, second: float, j: int, share: float):
        c, w, b = 2.0 / CELL_S, first, 2.0 * second * first
        top = np.array([b * c + w * w, 2 * w * w, w * w - b * c])  # by Tustin
        bottom = np.array([c * c + b * c + w * w, 2 * w * w - 2 * c * c, c * c - b * c + w * w])
        top, bottom = np.convolve(top, lagged[0]), np.convolve(bottom, lagged[1])
        return lfilter(top / bottom[0], bottom / bottom[0], arrived)


class _Forced(_Model):
    """Proportional and integral, with the torque measured: k / c, rad/s, and 1 / c, rad/s for each N m."""

    low, high, start, step = (0.5, 0.0), (FASTEST_RAD_S, 5.0), (15.0, 0.005), (0.02, 1e-5)
    compared_hz = FORCED_HZ

    def __init__(self, track: Track, moved: np.ndarray) -> None:
        super().__init__(track, moved)
        assert track.effort is not None
        gravity = np.zeros_like(track.effort) if track.gravity is None else track.gravity
        middle = self._grid + CELL_S / 2
        self._effort, self._gravity = (
            [np.interp(middle, self.at, one[:, j] - one[0, j]) for j in moved] for one in (track.effort, gravity)
        )

    def _joint(self, arrived, lagged: tuple[np.ndarray, np.ndarray], first: float, second: float, j: int, share: float):
        c = 2.0 / CELL_S
        yields = lfilter(  # s / (s + k / c) by Tustin
            [second * c / (c + first), -second * c / (c + first)],
            [1.0, (first - c) / (c + first)],
            self._effort[j] - share * self._gravity[j],
        )
        return np.asarray(lfilter(*lagged, arrived)) - np.asarray(yields)


class _Problem:
    """Residuals and slopes of x (see `_Model`)."""

    def __init__(self, models: Sequence[_Model], sd: np.ndarray) -> None:
        self.models, self.sd = models, sd
        u, kind = len(sd), models[0]
        self._u = u
        pairs = ([*[pair[0]] * u, *[pair[1]] * u] for pair in (kind.low, kind.high, kind.start, kind.step))
        low, high, start, step = pairs
        self._low = np.array([0.0, 0.0, 0.2, 0.0, *low])
        self._high = np.array([LONGEST_DELAY_S, LONGEST_LAG_S, 3.0, 1.5, *high])
        self._step = np.array([1e-4, 1e-4, 1e-4, 1e-3, *step])
        self._start = np.array([1.0, 1.0, *start])  # from the gain on

    def solve(
        self, starts: Sequence[tuple[float, ...]], x: np.ndarray | None = None, rough: bool = False
    ) -> np.ndarray:
        """The best of what is found from several pairs of delay and lag: the cost is flat along their sum."""
        best = None
        for delay, lag in starts:
            begin = np.array([delay, lag, *self._start]) if x is None else x.copy()
            found = least_squares(
                self.residual,
                np.clip(begin, self._low + 1e-9, self._high - 1e-9),
                self.slope,  # pyright: ignore[reportArgumentType]
                bounds=(self._low, self._high),
                x_scale="jac",
                loss="soft_l1",
                f_scale=OUTLIER,
                max_nfev=40,
                ftol=1e-5 if rough else 1e-9,
            )
            if best is None or found.cost < best.cost:
                best = found
        assert best is not None
        return best.x

    def residual(self, x: np.ndarray) -> np.ndarray:
        return self._white(x).ravel()

    def slope(self, x: np.ndarray) -> np.ndarray:
        """(rows u, SHARED + 2 u) by differences; what is a joint's own touches no other, and is moved together."""
        u = self._u
        step = np.where(x + self._step < self._high, self._step, -self._step)
        base = self._white(x)
        out = np.zeros((*base.shape, len(x)))
        for i in range(SHARED):
            out[..., i] = (self._white(x + step * (np.arange(len(x)) == i)) - base) / step[i]
        for first in (SHARED, SHARED + u):
            own = np.arange(first, first + u)
            moved = (self._white(x + step * np.isin(np.arange(len(x)), own)) - base) / step[own]
            out[:, np.arange(u), own] = moved
        return out.reshape(-1, len(x))

    def rms(self, x: np.ndarray) -> np.ndarray:
        """(u,) SI, of what is compared."""
        return np.sqrt(np.mean(np.square(self._white(x)), 0)) * self.sd

    def bootstrap(self, x: np.ndarray, blocks: np.ndarray, weights: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """(b, P) one Gauss-Newton step from the optimum for each resample of the blocks, and of the joints (b, u)."""
        white = self._white(x)
        robust = (1 + np.square(white / OUTLIER)) ** -0.25  # square root of the derivative of the loss
        j = self.slope(x).reshape(*white.shape, -1) * robust[..., None]
        r, count, size = white * robust, weights.shape[1], len(x)
        block = blocks[np.concatenate([model.used for model in self.models])]
        information, pull = np.zeros((count, self._u, size, size)), np.zeros((count, self._u, size))
        for k in range(count):
            mine = block == k
            information[k] = np.einsum("tua,tub->uab", j[mine], j[mine])
            pull[k] = np.einsum("tua,tu->ua", j[mine], r[mine])
        free = (x > self._low + 1e-6) & (x < self._high - 1e-6)
        whole = np.einsum("bk,bu,kuij->bij", weights, joints, information, optimize=True)[:, free][:, :, free]
        whole += np.diag(1e-6 * np.diag(information.sum((0, 1)))[free] + 1e-12)
        factors = [widening(count)] if self._u == 1 else [widening(count), widening(self._u)]
        factor = np.sqrt(np.mean(np.square(factors)))
        pulls = np.einsum("bk,bu,kui->bi", weights, joints, pull, optimize=True)[:, free]
        steps = -factor * np.linalg.solve(whole, pulls[..., None])[..., 0]
        least, most = self._low[free] - x[free], self._high[free] - x[free]
        for i in range(int(free[:2].sum())):  # delay or lag at its end: the other makes up for it
            at = np.clip(steps[:, i], least[i], most[i])
            for b in np.flatnonzero(at != steps[:, i]).tolist():
                rest = np.arange(len(least)) != i
                pulled = factor * pulls[b, rest] + whole[b, rest, i] * at[b]
                steps[b, rest] = -np.linalg.solve(whole[b][np.ix_(rest, rest)], pulled)
                steps[b, i] = at[b]
        out = np.tile(x, (len(weights), 1))
        out[:, free] += np.clip(steps, least, most)
        return out

    def _white(self, x: np.ndarray) -> np.ndarray:
        return np.concatenate([m.misfit(x) for m in self.models]) / self.sd


def _lag(lag_s: float) -> tuple[float, float]:
    """What is left of a difference after one cell, and on average over it."""
    ratio = CELL_S / max(lag_s, 1e-9)
    return float(np.exp(-ratio)), float(-np.expm1(-ratio) / ratio)


def _high(values: np.ndarray) -> np.ndarray:
    """Second differences, scaled so that white noise keeps its sd: what is left of it without slow motion."""
    return (values[2:] - 2 * values[1:-1] + values[:-2]) / np.sqrt(6.0)
