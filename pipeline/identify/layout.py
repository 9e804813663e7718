"""What every identified.yaml is made of: rounded numbers, entries of values, logs, and what a fit of a world tells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from pipeline.identify.identified import FORMAT
from pipeline.identify.words import Found, advice, degeneracies, told
from robot.logs import Log


class WorldFit(Found, Protocol):
    """What a fit of a task's own simulated world has to say, whatever it was fitted by."""

    @property
    def x(self) -> np.ndarray: ...
    @property
    def seconds(self) -> float: ...
    @property
    def residual_rms(self) -> float: ...
    @property
    def held_out_rms(self) -> float: ...


def rounded(value: float) -> float:
    return float(f"{float(value):.6g}")


def matrix(values: np.ndarray) -> list[list[float]]:
    return [[rounded(v) for v in row] for row in np.atleast_2d(values)]


def entry(value: float, low: float, high: float, unit: str) -> dict[str, Any]:
    """A value with its 95 % interval, which is made to hold it."""
    return {"value": rounded(value), "low": rounded(min(low, value)), "high": rounded(max(high, value)), "unit": unit}


def sources(logs: Iterable[Log]) -> list[dict[str, Any]]:
    return [
        {"source": log.source, "sha256": log.sha256, "rows": len(log), "problems": [p.sentence for p in log.problems]}
        for log in logs
    ]


def world(fit: WorldFit, noise: Mapping[str, dict[str, Any]], not_modelled: Sequence[str]) -> dict[str, Any]:
    """What is the same for every fit of a world; `noise` are the entries of its sensors' and motors' noise."""
    space, sought, clear = fit.task.parameters, fit.unknowns, told(fit)
    low, high = np.percentile(sought.values(fit.draws), [2.5, 97.5], axis=0)
    values: dict[str, dict[str, Any]] = {}
    for name in (*sought.free, *sought.given):
        i = space.index(name)
        known = "given" if name in sought.given else "told" if clear[sought.free.index(name)] else "open"
        values[name] = {**entry(fit.values[i], low[i], high[i], space[i].unit), "known": known}
    unclear = [name for name, known in zip(sought.free, clear, strict=True) if not known]
    own = fit.draws * sought.sd + sought.middle
    return {
        "format": FORMAT,
        "task": fit.task.name,
        "values": values | dict(noise),
        "order": list(sought.free),
        "mean": [rounded(v) for v in fit.x * sought.sd + sought.middle],
        "covariance": matrix(np.cov(own, rowvar=False)),
        "scale": ["log" if space.is_log[i] else "linear" for i in sought.columns],
        "not_identifiable": degeneracies(fit),
        "record_instead": advice(fit.task, unclear) if unclear else "",
        "not_modelled": list(not_modelled),
        "seconds": rounded(fit.seconds),
        "residual_rms": rounded(fit.residual_rms),
        "held_out_rms": rounded(fit.held_out_rms),
    }
