"""identified.yaml: what was found, how well it is known, and from which data."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from pipeline.identify.fit import Fit
from pipeline.identify.layout import entry, matrix, rounded, sources
from pipeline.identify.one_joint import CONSTANTS, NAMES
from robot import durable
from robot.interface import RobotError
from robot.logs import Log

FORMAT = 1
TOGETHER = 0.9  # correlation beyond which two constants are known only together
LEARNT = 0.7  # of the prior's width: a constant with a wider posterior was not told by the data
NOT_MODELLED = (
    "elasticity and play of the gear (the arm vibrates near 60 Hz under stiff control; the model is one rigid body)",
    "torque between samples (the current is read once a row, and its spikes are not averages)",
    "change of friction with temperature and wear",
)


def to_dict(fit: Fit, logs: Sequence[Log], task: str) -> dict[str, Any]:
    """Plain values in the file's layout; docs/identification.md describes it."""
    free = [NAMES.index(name) for name in fit.free]
    low, high = np.percentile(fit.samples, [2.5, 97.5], axis=0)
    return {
        "format": FORMAT,
        "task": task,
        "values": {
            c.name: {
                **entry(fit.values[i], low[i], high[i], c.unit),
                "fixed": i not in free,
            }
            for i, c in enumerate(CONSTANTS)
        },
        "order": list(fit.free),
        "covariance": matrix(np.atleast_2d(fit.covariance)[np.ix_(free, free)]),
        "not_identifiable": degeneracies(fit),
        "not_modelled": list(NOT_MODELLED),
        "residual_rms": {k: rounded(v) for k, v in fit.residual_rms.items()},
        "held_out_rms": {k: rounded(v) for k, v in fit.held_out_rms.items()},
        "logs": sources(logs),
    }


def degeneracies(fit: Fit) -> list[str]:
    """Sentences on what the data do not tell, and on which combination they do."""
    told = ["the gain of the torque: it scales every other constant alike, so all are per unit of measured torque"]
    free = [NAMES.index(name) for name in fit.free]
    sd = fit.samples[:, free].std(0)
    for i, spread in zip(free, sd, strict=True):
        c = CONSTANTS[i]
        if np.isfinite(c.prior_sd) and spread > LEARNT * c.prior_sd:
            told.append(f"{c.name}: not told by the data; {fit.values[i]:.3g} ± {spread:.2g} {c.unit} is a guess")
    for a in range(len(free)):
        for b in range(a):
            if sd[a] * sd[b] == 0:
                continue
            tie = float(np.corrcoef(fit.samples[:, free[a]], fit.samples[:, free[b]])[0, 1])
            if abs(tie) > TOGETHER:
                first, second = CONSTANTS[free[b]], CONSTANTS[free[a]]
                factor = -np.sign(tie) * sd[b] / sd[a]
                rest = (fit.samples[:, free[b]] + factor * fit.samples[:, free[a]]).std()
                told.append(
                    f"{first.name} and {second.name} trade off (correlation {tie:.2f}); known to ± {rest:.2g} "
                    f"{first.unit} is {first.name} {'+' if factor > 0 else '-'} {abs(factor):.3g} {second.name}"
                )
    return told


def save(content: dict[str, Any], path: Path) -> None:
    durable.write(path, yaml.safe_dump(content, sort_keys=False, width=120, allow_unicode=True).encode())


def load_values(path: Path) -> np.ndarray:
    """(NAMES,) constants of an identified.yaml; raises RobotError with a sentence for anything else."""
    try:
        content = yaml.safe_load(path.read_text())
        values = np.array([float(content["values"][name]["value"]) for name in NAMES])
    except OSError as error:
        raise RobotError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise RobotError(f"{path} is no identified.yaml; accepted is what 'sim2real identify' wrote") from error
    for value, c in zip(values, CONSTANTS, strict=True):
        if not c.low <= value <= c.high:
            raise RobotError(f"{path}: {c.name} is {value:g}; accepted is {c.low:g} to {c.high:g} {c.unit}")
    return values
