"""How well replayed windows tell the parameters: normal equations without what is each window's own, and draws.

The errors of a window go together (a gust, a start that is a little off, what the model has not), so that its rows say
less than their number: their information is divided by how much more the windows' pulls differ than it alone explains
(Pauli, Racugno and Ventura 2011, Statistica Sinica 21:149, equation 6).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import lsq_linear

from pipeline.identify.unknowns import Unknowns

OUTLIER = 3.0  # residuals beyond so many sds count linearly
SHRUNK = 0.3  # how much of the spread of pulls is taken from the information, since windows are few
FOLDS = 5


@dataclass(frozen=True)
class Normal:
    """Normal equations of each window at x: information (W, F, F) and pull (W, F), with nuisances eliminated."""

    x: np.ndarray  # (F,)
    information: np.ndarray
    pull: np.ndarray
    square: np.ndarray  # (W,) of weighted residuals, nuisances at their best
    rows: int  # residuals in a window
    back: np.ndarray  # (W, S, F + 1) from a step of x (and 1) to the windows' own step

    @property
    def temper(self) -> float:
        """By how much the information is too large, at least 1."""
        if len(self.pull) < 3:
            return 1.0
        between = np.square(self.pull - self.pull.mean(0)).sum(0) * len(self.pull) / (len(self.pull) - 1)
        own = np.einsum("waa->a", self.information)
        told = own > 1e-3 * own.max()
        return max(1.0, float(np.median(between[told] / own[told])))

    def step(self, sought: Unknowns, most: float) -> np.ndarray:
        """(F,) Newton step inside the bounds, no entry larger than `most`."""
        low, high = sought.bounds
        curvature, gradient = self._whole(self.temper)
        root = np.linalg.cholesky(curvature).T
        wanted = -np.linalg.solve(root.T, gradient)
        low, high = np.maximum(low - self.x, -most) - 1e-9, np.minimum(high - self.x, most) + 1e-9
        return lsq_linear(root, wanted, (low, high)).x

    def length(self, step: np.ndarray) -> float:
        """Of a step, rms in sds of the result."""
        curvature, _ = self._whole(self.temper)
        return float(np.sqrt(step @ curvature @ step / len(step)))

    def own_step(self, step: np.ndarray) -> np.ndarray:
        """(W, S) what the windows' own unknowns do when x makes this step."""
        return self.back[..., :-1] @ step + self.back[..., -1]

    def _whole(self, temper: float) -> tuple[np.ndarray, np.ndarray]:
        size = len(self.x)
        return self.information.sum(0) / temper + np.eye(size), self.pull.sum(0) / temper + self.x

    def bootstrap(self, sought: Unknowns, group: np.ndarray, draws: int, random: np.random.Generator) -> np.ndarray:
        """(draws, F): a Newton step for each draw of windows with replacement, `group` (W,) says of which recording.

        The prior's centre is drawn too: where the data say nothing, the interval is the prior's. Where recordings
        differ by more than their windows explain, it is so much wider (Birge 1932, Phys. Rev. 40:207).
        """
        temper, count = self.temper, len(self.pull)
        curvature, _ = self._whole(temper)
        spread = np.linalg.inv(curvature)
        mean = self.pull.mean(0)
        values, vectors = np.linalg.eigh(self.information.sum(0) / temper)
        root = vectors * np.sqrt(np.maximum(values, 0.0))
        times = random.multinomial(count, np.full(count, 1.0 / count), draws) - 1.0
        data = times @ (self.pull - mean) / temper * np.sqrt((1.0 - SHRUNK) * count / max(count - 1, 1))
        data += np.sqrt(SHRUNK) * random.normal(size=(draws, len(mean))) @ root.T
        moved = -(data @ spread) * self._between(group, spread) - random.normal(size=data.shape) @ spread
        low, high = sought.bounds
        return np.clip(self.x + moved, low, high)

    def held_out_rms(self) -> float:
        """Weighted residuals of a fifth of the windows after a Newton step on the others, all fifths."""
        total, size, temper = 0.0, len(self.x), self.temper
        for fold in range(FOLDS):
            out = np.arange(len(self.pull)) % FOLDS == fold
            if out.all() or not out.any():
                return float("nan")
            kept = self.information[~out].sum(0) / temper + np.eye(size)
            step = -np.linalg.solve(kept, self.pull[~out].sum(0) / temper + self.x)
            total += float(self.square[out].sum() + 2 * self.pull[out].sum(0) @ step)
            total += float(step @ self.information[out].sum(0) @ step)
        return float(np.sqrt(total / (self.rows * len(self.pull))))

    def residual_rms(self) -> float:
        return float(np.sqrt(self.square.sum() / (self.rows * len(self.pull))))

    def _between(self, group: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """(F,) by how much recordings differ more than their windows explain, at least 1."""
        groups = np.unique(group)
        if len(groups) < 3:
            return np.ones(len(self.x))
        influence = self.pull @ spread
        part = np.stack([influence[group == g].sum(0) for g in groups])
        expected = np.square(influence - influence.mean(0)).sum(0) * (len(groups) - 1) / len(groups)
        ratio = np.square(part - part.mean(0)).sum(0) / np.maximum(expected, 1e-30)
        return np.sqrt(np.maximum(ratio, 1.0))


def normal(
    x: np.ndarray, residual: np.ndarray, slope: np.ndarray, own: np.ndarray, own_sd: np.ndarray, shift: np.ndarray
) -> Normal:
    """Normal equations of residuals (W, R), with slopes (W, R, F), and (W, R, S) for what is each window's own.

    `shift` (W, S) is where the windows' own unknowns are, `own_sd` (S,) their priors' sds about zero.
    """
    weight = (1 + np.square(residual / OUTLIER)) ** -0.25  # square root of the derivative of the robust loss
    r, j, k = weight * residual, weight[..., None] * slope, weight[..., None] * own
    information = np.einsum("wra,wrb->wab", j, j)
    pull = np.einsum("wra,wr->wa", j, r)
    square = np.square(r).sum(1)
    windows, _, size = slope.shape
    if not own.shape[2]:
        return Normal(x, information, pull, square, r.shape[1], np.zeros((windows, 0, size + 1)))
    within = np.einsum("wra,wrb->wab", k, k) + np.diag(own_sd**-2.0)
    across = np.einsum("wra,wrb->wab", k, j)
    toward = np.einsum("wra,wr->wa", k, r) + shift / own_sd**2
    back = -np.linalg.solve(within, np.concatenate([across, toward[..., None]], axis=2))
    information += np.einsum("wsa,wsb->wab", across, back[..., :-1])
    pull += np.einsum("wsa,ws->wa", across, back[..., -1])
    square += np.einsum("ws,ws->w", toward, back[..., -1])
    square = np.maximum(square, 0.0)
    information = (information + np.swapaxes(information, 1, 2)) / 2
    return Normal(x, information, pull, square, r.shape[1], back)
