"""Multiple shooting: constants of the joint that make short simulations pass through what was measured.

Every window has its own starting state, estimated together with the constants, so that errors of the model do not add
up over the recording. Uncertainty comes from resampling blocks of windows: neighbouring residuals are far from
independent, and plain Gauss-Newton intervals are several times too small.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import least_squares
from scipy.signal import savgol_filter

from pipeline.identify.one_joint import CONSTANTS, EXTRA, NAMES, Windows, simulate
from pipeline.identify.windows import cut
from robot.interface import RobotError
from robot.logs import Log

POSITION_SD, VELOCITY_SD = 0.02, 2.0  # rad, rad/s: of what the model leaves out, a vibrating arm included
START_POSITION_SD, START_VELOCITY_SD = 0.01, 1.0  # of a window's first row
THIN_S, INDEPENDENT_S = 0.01, 0.1  # residuals are taken this often, and count as if they came that often
ROUGH_NM = 0.2  # scatter of the torque between rows beyond which a window counts less
BLOCK_S = 1.0  # windows that begin within such a stretch are resampled together


@dataclass(frozen=True)
class FitSettings:
    window_s: float = 0.5
    every_s: float = 0.15
    samples: int = 400  # of the bootstrap
    fixed: Mapping[str, float] = field(default_factory=dict)  # constants the user knows
    extra: Sequence[str] = ()  # of EXTRA, which are zero otherwise

    @property
    def given(self) -> dict[str, float]:
        """Every constant that is not fitted; raises RobotError for a name that is none."""
        for what, names, accepted in (("fix", self.fixed, NAMES), ("extra", self.extra, EXTRA)):
            if wrong := sorted(set(names) - set(accepted)):
                raise RobotError(f"{what}: {wrong[0]!r} is no constant; accepted are {', '.join(accepted)}")
        return {**{name: 0.0 for name in EXTRA if name not in self.extra}, **self.fixed}


@dataclass(frozen=True)
class Fit:
    values: np.ndarray  # (NAMES,)
    samples: np.ndarray  # (b, NAMES) bootstrap
    free: tuple[str, ...]
    residual_rms: dict[str, float]  # rad and rad/s, one step ahead over the windows
    held_out_rms: dict[str, float]  # the same on blocks left out of another fit

    @property
    def covariance(self) -> np.ndarray:
        return np.cov(self.samples, rowvar=False)


class Shooting:
    """The least-squares problem over windows of several logs."""

    def __init__(self, logs: Sequence[Log], settings: FitSettings, keep: Sequence[np.ndarray] | None = None) -> None:
        self.given = settings.given
        self.groups = [cut(log, settings.window_s, settings.every_s) for log in logs]
        if keep is not None:
            self.groups = [Windows(g.log, g.first[k], g.steps) for g, k in zip(self.groups, keep, strict=True)]
        self.settings = settings
        self.free = [i for i, c in enumerate(CONSTANTS) if c.name not in self.given]
        self.scale = np.array([_scale(i) for i in self.free])
        self.counts = [len(g.first) for g in self.groups]
        self._smooth = [_smoothed(g) for g in self.groups]
        self._thin = [max(1, round(THIN_S / g.log.period_s)) for g in self.groups]
        self._trust = [_trust(g) for g in self.groups]
        self._weight = np.sqrt(THIN_S / INDEPENDENT_S)

    def values(self, x: np.ndarray) -> np.ndarray:
        """(k, NAMES) from (k, free) scaled unknowns."""
        out = np.tile([self.given.get(c.name, c.start) for c in CONSTANTS], (len(x), 1)).astype(float)
        out[:, self.free] = x * self.scale
        return out

    def start(self) -> np.ndarray:
        constants = np.array([CONSTANTS[i].start for i in self.free]) / self.scale
        return np.concatenate([constants, np.zeros(2 * sum(self.counts))])

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        free = np.full(2 * sum(self.counts), np.inf)
        low = np.array([CONSTANTS[i].low for i in self.free]) / self.scale
        high = np.array([CONSTANTS[i].high for i in self.free]) / self.scale
        return np.concatenate([low, -free]), np.concatenate([high, free])

    def residual(self, x: np.ndarray) -> np.ndarray:
        return self._residual(x[None, : len(self.free)], x[None, len(self.free) :])[0]

    def _residual(self, constants: np.ndarray, states: np.ndarray) -> np.ndarray:
        """(k, m): for each group its windows' residuals window by window, then the prior of the constants."""
        parts, at = [], 0
        for group, (q0, v0), thin, trust in zip(self.groups, self._smooth, self._thin, self._trust, strict=True):
            w = len(group.first)
            dq, dv = states[:, at : at + w], states[:, at + w : at + 2 * w]
            at += 2 * w
            q, v = simulate(self.values(constants), group, q0 + dq * START_POSITION_SD, v0 + dv * START_VELOCITY_SD)
            weight = self._weight * trust[:, None]
            rq = weight * (q - group.position)[..., ::thin] / POSITION_SD
            rv = weight * (v - group.velocity)[..., ::thin] / VELOCITY_SD
            r = np.concatenate([rq, rv, dq[..., None], dv[..., None]], -1)
            parts.append(np.nan_to_num(r, nan=1e3, posinf=1e3, neginf=-1e3).clip(-1e3, 1e3).reshape(len(constants), -1))
        prior = np.array([CONSTANTS[i].prior for i in self.free]) / self.scale
        sd = np.array([CONSTANTS[i].prior_sd for i in self.free]) / self.scale
        return np.concatenate([*parts, (constants - prior) / sd], -1)

    def jacobian(self, x: np.ndarray) -> np.ndarray:
        """Forward differences: all constants and both starting states of every window in one simulation."""
        f, e = len(self.free), 1e-6
        moved = np.tile(x, (f + 3, 1))
        moved[np.arange(f), np.arange(f)] += e
        at, position, velocity = f, [], []
        for w in self.counts:
            position += range(at, at + w)
            velocity += range(at + w, at + 2 * w)
            at += 2 * w
        moved[f, position] += e
        moved[f + 1, velocity] += e
        r = self._residual(moved[:, :f], moved[:, f:])
        change = (r[:-1] - r[-1]) / e
        out = np.zeros((r.shape[1], len(x)))
        out[:, :f] = change[:f].T
        for rows, columns in zip(self.windows(), zip(position, velocity, strict=True), strict=True):
            out[rows, columns[0]], out[rows, columns[1]] = change[f, rows], change[f + 1, rows]
        return out

    def windows(self) -> list[slice]:
        """Which residuals belong to each window, over all groups."""
        found, at = [], 0
        for group, thin in zip(self.groups, self._thin, strict=True):
            size = 2 * len(range(0, group.steps + 1, thin)) + 2
            for _ in group.first:
                found.append(slice(at, at + size))
                at += size
        return found

    def rms(self, x: np.ndarray) -> dict[str, float]:
        """Of position and velocity over all windows."""
        total = {"position_rad": [], "velocity_rad_s": []}
        constants, states, at = x[None, : len(self.free)], x[len(self.free) :], 0
        for group, (q0, v0) in zip(self.groups, self._smooth, strict=True):
            w = len(group.first)
            dq, dv = states[at : at + w], states[at + w : at + 2 * w]
            at += 2 * w
            start = q0 + dq * START_POSITION_SD, v0 + dv * START_VELOCITY_SD
            q, v = simulate(self.values(constants), group, start[0][None], start[1][None])
            total["position_rad"].append((q[0] - group.position).ravel())
            total["velocity_rad_s"].append((v[0] - group.velocity).ravel())
        return {name: float(np.sqrt(np.mean(np.concatenate(r) ** 2))) for name, r in total.items()}


def fit(logs: Sequence[Log], settings: FitSettings | None = None, seed: int = 0) -> Fit:
    """Constants and their uncertainty from recordings of one joint; raises RobotError where they cannot be told."""
    settings = settings or FitSettings()
    problem = Shooting(logs, settings)
    x = solve(problem, problem.start())
    blocks = _blocks(problem.groups)
    held = [b % 4 == 3 for b in blocks]
    held_rms = {"position_rad": float("nan"), "velocity_rad_s": float("nan")}
    if all(h.any() and not h.all() for h in held):
        part = Shooting(logs, settings, [~h for h in held])
        f = len(problem.free)
        theirs = solve(part, np.concatenate([x[:f], np.zeros(2 * sum(part.counts))]))[:f]
        rest = Shooting(logs, settings, held)
        held_rms = rest.rms(solve(rest, np.concatenate([theirs, np.zeros(2 * sum(rest.counts))]), constants=False))
    found = Fit(
        values=problem.values(x[None, : len(problem.free)])[0],
        samples=bootstrap(problem, x, blocks, np.random.default_rng(seed)),
        free=tuple(NAMES[i] for i in problem.free),
        residual_rms=problem.rms(x),
        held_out_rms=held_rms,
    )
    _check(found, logs)
    return found


def _check(found: Fit, logs: Sequence[Log]) -> None:
    """Raise RobotError where what came out is no machine: then the columns are not what they are said to be."""
    for name in ("inertia", "gravity"):
        i = NAMES.index(name)
        low, high = np.percentile(found.samples[:, i], [2.5, 97.5])
        value, bounds = found.values[i], (CONSTANTS[i].low, CONSTANTS[i].high)
        at_end = min(abs(value - end) for end in bounds) < 1e-3 * abs(value)
        unknown = name == "inertia" and high - low > 2 * abs(value)
        if name in found.free and (at_end or unknown):
            raise RobotError(
                f"{', '.join(log.source for log in logs)}: {name} comes out as {value:.3g} [{low:.3g}, {high:.3g}] "
                f"{CONSTANTS[i].unit}, so these torques do not make this motion; is position in rad (or :deg), torque "
                "in N m (or :mNm), of this joint and recorded at the same time?"
            )


def solve(problem: Shooting, x: np.ndarray, constants: bool = True) -> np.ndarray:
    """The minimum with a robust loss; with `constants` False only starting states move."""
    low, high = problem.bounds()
    f = 0 if constants else len(problem.free)
    head = x[:f]
    x = np.clip(x, low + 1e-9, high - 1e-9)
    found = least_squares(
        lambda y: problem.residual(np.concatenate([head, y])),
        x[f:],
        lambda y: problem.jacobian(np.concatenate([head, y]))[:, f:],  # pyright: ignore[reportArgumentType]
        bounds=(low[f:], high[f:]),
        loss="soft_l1",
        max_nfev=60,
        ftol=1e-5,
        xtol=1e-5,
    )
    return np.concatenate([head, found.x])


def bootstrap(problem: Shooting, x: np.ndarray, blocks: list[np.ndarray], random: np.random.Generator) -> np.ndarray:
    """(samples, NAMES): one Gauss-Newton step from the fit for each draw of blocks with replacement.

    Starting states are eliminated window by window, so that a draw needs no simulation.
    """
    f, r, j = len(problem.free), problem.residual(x), problem.jacobian(x)
    robust = (1 + r**2) ** -0.25  # square root of the derivative of soft_l1
    r, j = r * robust, j * robust[:, None]
    information, pull, at = [], [], f
    columns = []
    for w in problem.counts:
        columns += [(at + k, at + w + k) for k in range(w)]
        at += 2 * w
    for rows, own in zip(problem.windows(), columns, strict=True):
        a, b = j[rows, :f], j[rows][:, list(own)]
        a = a - b @ np.linalg.lstsq(b, a, rcond=None)[0]
        information.append(a.T @ a)
        pull.append(a.T @ r[rows])
    prior = j[-f:, :f]
    base, ground = prior.T @ prior, prior.T @ r[-f:]
    labels = np.concatenate([b + 10_000 * i for i, b in enumerate(blocks)])
    kinds, which = np.unique(labels, return_inverse=True)
    h = np.zeros((len(kinds), f, f))
    g = np.zeros((len(kinds), f))
    np.add.at(h, which, np.array(information))
    np.add.at(g, which, np.array(pull))
    low, high = (b[:f] for b in problem.bounds())
    out = np.empty((problem.settings.samples, f))
    for k in range(len(out)):
        n = np.bincount(random.integers(0, len(kinds), len(kinds)), minlength=len(kinds))
        matrix = np.einsum("b,bij->ij", n, h) + base + 1e-9 * np.eye(f)
        # The prior's centre is drawn too: where the data say nothing, the interval is the prior's.
        centre = prior.T @ random.normal(size=f)
        out[k] = np.clip(x[:f] - np.linalg.solve(matrix, n @ g + ground + centre), low, high)
    return problem.values(out)


def _blocks(groups: Sequence[Windows]) -> list[np.ndarray]:
    return [((g.log.time_s[g.first] - g.log.time_s[0]) / BLOCK_S).astype(int) for g in groups]


def _smoothed(group: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Measured position and smoothed velocity at the first row of each window: where the search begins."""
    velocity = group.log.velocity[:, 0].copy()
    for rows in group.log.pieces():
        if rows.stop - rows.start >= 11:
            velocity[rows] = savgol_filter(velocity[rows], 11, 2)
    return group.log.position[group.first, 0], velocity[group.first]


def _trust(group: Windows) -> np.ndarray:
    """(w,) weights: a torque that jumps from row to row is not known between the rows, nor is what it does."""
    jumps = np.diff(group.log.effort[group.rows, 0], axis=1)
    return 1 / np.sqrt(1 + np.square(jumps).mean(1) / (2 * ROUGH_NM**2))


def _scale(i: int) -> float:
    c = CONSTANTS[i]
    return c.prior_sd if np.isfinite(c.prior_sd) else max(abs(c.start), 0.01)
