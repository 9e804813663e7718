"""identified.yaml of a task, read again: what later steps start from. Needs neither an engine nor an optimiser."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from envs.randomization.parameters import ParameterSpace, RangeError
from envs.task import Task
from robot import durable
from robot.interface import RobotError

FORMAT = 2


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

    @property
    def intervals(self) -> dict[str, list[float]]:
        """{parameter: [low, high]}, 95 %, of what was identified."""
        return {name: [float(self.low[i]), float(self.high[i])] for name, i in self._columns()}

    @property
    def centre(self) -> dict[str, float]:
        """{parameter: SI value} of what was identified."""
        return {name: float(self.value[i]) for name, i in self._columns()}

    @property
    def correlation(self) -> np.ndarray:
        """(d, d) of all parameters of the space; those that were not fitted go with no other."""
        out = np.eye(len(self.space))
        columns = [self.space.index(name) for name in self.free]
        sd = np.sqrt(np.diag(self.covariance))
        sd = np.where(sd > 0, sd, 1.0)
        out[np.ix_(columns, columns)] = self.covariance / np.outer(sd, sd)
        np.fill_diagonal(out, 1.0)
        return out

    def moved_space(self) -> ParameterSpace:
        """The space with what was identified as nominal, and what is known only together drawn together."""
        return self.space.around(self.centre, self.correlation)

    def _columns(self) -> list[tuple[str, int]]:
        return [(name, self.space.index(name)) for name in self.names]

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
    return parse(read(path), task, path)


def parse(content: Mapping[str, Any], task: Task, path: Path | str) -> Posterior:
    """The posterior of the content of an identified.yaml; `path` is what errors call it."""
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
        for name in entries:
            space.index(name)
        if mean.shape != (len(free),) or covariance.shape != (len(free), len(free)):
            raise ValueError
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # a RangeError is a ValueError
        raise RobotError(f"{path} is no identified.yaml; accepted is what 'sim2real identify' wrote") from error
    value, low, high = (space.nominal.copy() for _ in range(3))
    for name, (middle, lowest, highest) in ends.items():
        i = space.index(name)
        try:
            space[i].check(lowest, highest)
        except RangeError as error:
            raise RobotError(f"{path}: {error}") from None
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
