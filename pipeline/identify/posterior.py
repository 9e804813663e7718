"""identified.yaml of a task: what was found, how well it is known, from which data; and reading it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from envs.randomization.parameters import ParameterSpace
from envs.task import Task
from pipeline.identify.estimate import TaskFit
from pipeline.identify.unknowns import noise_of
from pipeline.identify.words import advice, degeneracies, told
from robot import durable
from robot.interface import RobotError

FORMAT = 2
NOT_MODELLED = (
    "play and elasticity between motor and joint",
    "a delay that changes from command to command (its mean is found)",
    "friction that changes with load, temperature or place",
)


def to_dict(fit: TaskFit, ahead_rms: Mapping[str, float]) -> dict[str, Any]:
    """Plain values in the file's layout; docs/identification.md describes it."""
    space, sought, clear = fit.task.parameters, fit.unknowns, told(fit)
    low, high = np.percentile(sought.values(fit.draws), [2.5, 97.5], axis=0)
    values: dict[str, dict[str, Any]] = {}
    for name in (*sought.free, *sought.given):
        i = space.index(name)
        value = fit.values[i]
        values[name] = _entry(value, min(low[i], value), max(high[i], value), space[i].unit)
        values[name]["known"] = (
            "given" if name in sought.given else "told" if clear[sought.free.index(name)] else "open"
        )
    values |= _noise(fit)
    unclear = [name for name, known in zip(sought.free, clear, strict=True) if not known]
    names = [f"{joint} {kind}" for kind in ("position", "velocity") for joint in fit.task.joints]
    own = fit.draws * sought.sd + sought.middle
    return {
        "format": FORMAT,
        "task": fit.task.name,
        "values": values,
        "order": list(sought.free),
        "mean": [_round(v) for v in fit.x * sought.sd + sought.middle],
        "covariance": [[_round(v) for v in row] for row in np.atleast_2d(np.cov(own, rowvar=False))],
        "scale": ["log" if space.is_log[i] else "linear" for i in sought.columns],
        "not_identifiable": degeneracies(fit),
        "record_instead": advice(fit.task, unclear) if unclear else "",
        "not_modelled": list(NOT_MODELLED),
        "seconds": _round(fit.seconds),
        "residual_rms": _round(fit.residual_rms),
        "held_out_rms": _round(fit.held_out_rms),
        "one_step_rms": {name: _round(v) for name, v in zip(names, fit.one_step_rms, strict=True)},
        "ahead_rms": {name: _round(v) for name, v in ahead_rms.items()},
        "logs": [
            {
                "source": log.source,
                "sha256": log.sha256,
                "rows": len(log),
                "problems": [p.sentence for p in log.problems],
            }
            for log in fit.logs
        ],
    }


def _noise(fit: TaskFit) -> dict[str, dict[str, Any]]:
    """The task's own parameters of noise; one that stands for several channels is their root mean square."""
    size, found = len(fit.noise.sensor), {}
    for kind, name in noise_of(fit.task).items():
        if name in fit.unknowns.given:
            continue
        which = slice(0, size) if kind == "sensor" else slice(size, None)
        logs, spread = fit.noise.logs[which], np.diag(fit.noise_covariance)[which]
        value = float(np.sqrt(np.mean(np.exp(2 * logs))))
        # Channels that differ belong to no single number: their range is part of what is not known.
        sd = float(np.sqrt(np.mean(spread) / len(logs) + np.var(logs)))
        low, high = fit.task.parameters[fit.task.parameters.index(name)].bounds
        middle, least, most = np.clip(value * np.exp(1.96 * sd * np.array([0.0, -1.0, 1.0])), low, high).tolist()
        unit = fit.task.parameters[fit.task.parameters.index(name)].unit
        found[name] = {**_entry(middle, least, most, unit), "known": "told"}
    return found


@dataclass(frozen=True)
class Posterior:
    """What identification says about the parameters of a space, in its order."""

    space: ParameterSpace
    names: tuple[str, ...]  # what was identified or given; all other entries mean nothing
    value: np.ndarray  # (d,) SI; nominal where nothing was identified
    low: np.ndarray  # (d,) SI, ends of the 95 % intervals
    high: np.ndarray
    free: tuple[str, ...]  # what mean and covariance are about
    mean: np.ndarray  # (F,) in own scales
    covariance: np.ndarray  # (F, F)

    def draw(self, count: int, random: np.random.Generator) -> np.ndarray:
        """(count, d) SI parameters, inside the hard bounds; what is not `free` has its value."""
        out = np.tile(self.value, (count, 1))
        columns = [self.space.index(name) for name in self.free]
        own = random.multivariate_normal(self.mean, self.covariance, count, method="eigh")
        is_log = self.space.is_log[columns]
        found = np.where(is_log, np.exp(np.where(is_log, own, 0.0)), own)
        out[:, columns] = np.clip(found, self.space.bounds_low[columns], self.space.bounds_high[columns])
        return out


def load(path: Path, task: Task) -> Posterior:
    """The posterior of an identified.yaml; raises RobotError with a sentence for anything else."""
    content = read(path)
    if content.get("format") != FORMAT:
        raise RobotError(
            f"{path} was identified from torques, without a task's world; accepted is what "
            f"'sim2real identify {task.name}' writes from --robot or from recordings of commands"
        )
    if content.get("task") != task.name:
        raise RobotError(f"{path} is about the task {content.get('task')}; accepted is one about {task.name}")
    space = task.parameters
    try:
        entries = {str(name): entry for name, entry in content["values"].items()}
        free = tuple(str(name) for name in content["order"])
        mean, covariance = np.array(content["mean"], float), np.array(content["covariance"], float)
        ends = {name: tuple(float(entry[key]) for key in ("value", "low", "high")) for name, entry in entries.items()}
        if mean.shape != (len(free),) or covariance.shape != (len(free), len(free)):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RobotError(f"{path} is no identified.yaml; accepted is what 'sim2real identify' wrote") from error
    value, low, high = (space.nominal.copy() for _ in range(3))
    for name, (middle, lowest, highest) in ends.items():
        i = space.index(name)
        space[i].check(lowest, highest)
        value[i], low[i], high[i] = middle, lowest, highest
    return Posterior(space, tuple(entries), value, low, high, free, mean, covariance)


def read(path: Path) -> dict[str, Any]:
    """The file's content, a mapping."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise RobotError(f"{path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RobotError(f"{path} is no identified.yaml; accepted is what 'sim2real identify' wrote") from error
    if not isinstance(content, dict):
        raise RobotError(f"{path} is no identified.yaml; accepted is what 'sim2real identify' wrote")
    return content


def save(content: Mapping[str, Any], path: Path) -> None:
    durable.write(path, yaml.safe_dump(dict(content), sort_keys=False, width=120, allow_unicode=True).encode())


def _entry(value: float, low: float, high: float, unit: str) -> dict[str, Any]:
    return {"value": _round(value), "low": _round(low), "high": _round(high), "unit": unit}


def _round(value: float) -> float:
    return float(f"{float(value):.6g}")
