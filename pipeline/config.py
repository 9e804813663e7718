"""Experiment: everything that decides what a run does, frozen, validated when built, saved with the run."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, Field, ValidationError, model_validator
from pydantic_core import to_jsonable_python

from envs.randomization.parameters import RangeError, Ranges
from envs.registry import make_task
from envs.task import Task
from pipeline.config_errors import sentence
from pipeline.config_schema import ConfigError, Settings, section
from pipeline.identify.identified import Posterior
from pipeline.identify.identified import load as load_posterior
from pipeline.identify.recording import fits
from pipeline.identify.unknowns import unknowns
from pipeline.overrides import assign, parse
from pipeline.rounds import RoundSettings
from pipeline.schedulers.adr_rule import AdrSettings
from pipeline.stage_settings import StageSettings, resolve_stages
from pipeline.sweep import SweepSettings
from pipeline.tracking import TrackingSettings
from robot.interface import RobotError
from robot.settings import ROTORS, RobotSettings

__all__ = ["ConfigError", "Experiment", "default_config", "load_experiment", "save_experiment"]

PATHS = (
    "run_dir",
    "randomization.posterior",
    "robot.twin.hidden",
    "robot.technician",
    "robot.tracker",
    "robot.port",
    "robot.driver_options.store",
    "robot.state_dir",
)  # made absolute when loaded
SHIPPED = (  # in a checkout, and installed
    Path(__file__).parents[1] / "tune_configs",
    Path(__file__).parent / "tune_configs",
)


class Randomization(Settings):
    """What differs between simulated worlds."""

    ranges: dict[str, tuple[float, float]] = Field(
        default={},
        description="parameter: [low, high] at full strength, in its unit; others as the task has them",
    )
    posterior: Path | None = Field(
        default=None,
        description="identified.yaml of this task: nominal values, ranges (95 %) and correlations are taken from it; "
        "ranges given above go before",
    )
    strength: float = Field(
        default=1.0, ge=0, le=1, description="multiplies every stage's dr_strength; 0 is the nominal world"
    )
    refine: bool | None = Field(
        default=None,
        description="after each robot round, fit the posterior again to all that the run has recorded so far, in the "
        "background and at no robot time, and move the ranges with it; null: where a stage identifies",
    )
    refine_limit_s: float = Field(
        default=120.0,
        ge=10,
        description="robot seconds of episodes, the newest, in such a fit; recordings made to identify are all in it",
    )
    adr: AdrSettings = section(AdrSettings, "automatic domain randomization")


class SimSettings(Settings):
    """The simulation runners."""

    runners: int = Field(default=1, ge=0, description="processes; 0 simulates in the learner's, step by step")
    worlds_per_runner: int = Field(default=16, ge=1, description="simulated worlds in one runner process")
    fragment_steps: int = Field(
        default=64, ge=1, description="control steps of every world in one delivery to the learner"
    )
    runner_cpus: float = Field(default=0.5, ge=0, description="CPUs Ray reserves for a runner")


class LearnerSettings(Settings):
    """Soft actor-critic (Haarnoja et al. 2018) on a mixture of simulated and robot transitions."""

    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        default=(64, 64), min_length=1, description="units of each hidden layer"
    )
    batch_size: int = Field(default=256, ge=2, description="transitions in a minibatch")
    actor_lr: float = Field(default=7e-4, gt=0, description="Adam step size of the policy")
    critic_lr: float = Field(default=7e-4, gt=0, description="Adam step size of the two critics")
    alpha_lr: float = Field(default=7e-4, gt=0, description="Adam step size of the entropy temperature")
    tau: float = Field(
        default=0.01, gt=0, le=1, description="how far the target critics follow the critics in one update"
    )
    gamma: float = Field(default=0.99, ge=0, lt=1, description="discount per control step")
    target_entropy: float | None = Field(default=None, description="nats; null: minus the number of action dimensions")
    grad_clip: float | None = Field(default=None, gt=0, description="largest gradient norm; null: not clipped")
    updates_per_iteration: int = Field(default=200, ge=1, description="gradient updates between two results")
    updates_per_call: int = Field(
        default=20, ge=1, description="gradient updates between two policies handed to the runners"
    )
    updates_per_env_step: float = Field(
        default=0.25, gt=0, description="gradient updates per simulated control step, as runners aim for"
    )
    max_reuse: float = Field(
        default=2.0,
        ge=1,
        description="the learner may exceed updates_per_env_step by this factor, then it waits",
    )
    warmup_steps: int = Field(default=1000, ge=0, description="simulated control steps before the first update")
    sim_capacity: int = Field(default=200_000, ge=1, description="simulated transitions kept for replay")
    real_capacity: int = Field(default=50_000, ge=1, description="robot transitions kept for replay")
    privileged_dropout: float = Field(
        default=0.25, ge=0, le=1, description="share of simulated rows that hide their privileged values"
    )
    min_real: int = Field(default=256, ge=1, description="robot transitions before any are mixed into minibatches")
    cpus: float = Field(default=1.0, ge=0, description="CPUs Ray reserves for the learner")


class EvaluationSettings(Settings):
    """Evaluations in simulation while the learner goes on."""

    evaluators: int = Field(default=1, ge=0, description="processes; 0 evaluates in the learner's")
    cpus: float = Field(default=0.25, ge=0, description="CPUs Ray reserves for an evaluator")
    episodes: int = Field(default=25, ge=1, description="episodes of one look, nominal and in the ranges each")
    boundary_episodes: int = Field(
        default=50, ge=1, description="episodes of one look at the bounds of the ranges, in turn, for ADR"
    )
    every_updates: int = Field(default=1000, ge=1, description="gradient updates between two evaluations")
    worlds: int = Field(default=25, ge=1, description="simulated worlds in one evaluator process")


class CheckpointSettings(Settings):
    """What `sim2real resume` continues from."""

    every_iterations: int = Field(default=10, ge=1, description="results between two checkpoints")
    keep: int = Field(default=3, ge=1, description="newest checkpoints kept")


class Experiment(Settings):
    """One run, or the sweep of runs, that `sim2real train` starts."""

    name: str = Field(
        default="cartpole", pattern=r"^[A-Za-z0-9_.-]+$", description="begins the name of the run's folder"
    )
    task: str = Field(default="cartpole", description="a task that ships with the project, or your own as module:Class")
    seed: int = Field(default=0, ge=0, lt=2**31, description="everything random in the run follows from it")
    deterministic: bool = Field(
        default=False,
        description="no remote runners or evaluators, robot in lockstep: a seed gives the same numbers",
    )
    stages: Annotated[tuple[StageSettings, ...], BeforeValidator(resolve_stages)] = Field(
        default=resolve_stages("default"), description="the preset default or nominal, or a list of stages"
    )
    randomization: Randomization = section(Randomization, "how simulated worlds differ")
    sim: SimSettings = section(SimSettings, "simulation runners")
    learner: LearnerSettings = section(LearnerSettings, "soft actor-critic")
    evaluation: EvaluationSettings = section(EvaluationSettings, "evaluation in simulation")
    rounds: RoundSettings = section(RoundSettings, "when the robot is used")
    robot: RobotSettings = Field(description="the robot or its twin: how to reach it and what it may do")
    tracking: TrackingSettings = section(TrackingSettings, "MLflow")
    checkpoint: CheckpointSettings = section(CheckpointSettings, "checkpoints")
    sweep: SweepSettings | None = Field(default=None, description="trials that differ in some keys; null: one trial")
    run_dir: str = Field(default="runs", min_length=1, description="folder in which the run's own folder is made")

    @model_validator(mode="after")
    def _fits_together(self) -> Experiment:
        task = self.make_task()
        self._check_ranges(task)
        self._check_joints(task)
        try:
            self.known()
        except RobotError as error:
            raise ValueError(f"randomization.posterior: {error}") from None
        self._check_identification(task)
        if self.deterministic and self.robot.mode != "lockstep":
            raise ValueError(f"robot.mode: {self.robot.mode} given with deterministic; accepted is lockstep")
        for key, values in self.sweep.parameters.items() if self.sweep else ():
            for value in values.samples():
                self.with_values({key: value})
        return self

    def _check_ranges(self, task: Task) -> None:
        for name, interval in self.randomization.ranges.items():
            if name not in task.parameters.names:
                near = difflib.get_close_matches(name, task.parameters.names, 1)
                raise ValueError(
                    f"randomization.ranges.{name}: {self.task} has no such parameter; accepted is "
                    f"{near[0] if near else ', '.join(task.parameters.names)}"
                )
            try:
                task.parameters[task.parameters.index(name)].check(*interval)
            except RangeError as error:
                raise ValueError(f"randomization.ranges.{error}") from None

    def _check_identification(self, task: Task) -> None:
        asked = {f"stages.{i}.identify": stage.identify for i, stage in enumerate(self.stages) if stage.identify}
        for key, settings in asked.items():
            try:
                unknowns(task, settings.fixed, settings.extra)
                fits(task)
            except RobotError as error:
                raise ValueError(
                    f"{key}: {error}".replace(": fix:", ".fixed:").replace(": extra:", ".extra:")
                ) from None
        if not self.refines:
            return
        if self.randomization.posterior is not None and not asked:
            raise ValueError(
                "randomization.refine: true given with randomization.posterior; accepted is identify in a stage in its "
                "place, since a fit is made to recordings, and this run has none of those behind that file"
            )
        try:
            fits(task)
        except RobotError as error:
            raise ValueError(f"randomization.refine: {error}") from None

    @property
    def identifies(self) -> bool:
        """Whether the run may fit recordings while it trains."""
        return self.refines or any(stage.identify for stage in self.stages)

    @property
    def refines(self) -> bool:
        """Whether episodes are fitted too."""
        asked = self.randomization.refine
        return any(stage.identify for stage in self.stages) if asked is None else asked

    def _check_joints(self, task: Task) -> None:
        limits, motors = self.robot.limits, task.scene.limited
        if missing := task.scene.unlimited_rotors(self.robot.rotors):
            raise ValueError(f"robot.rotors: none given for {missing[0]}, and {self.task} flies; {ROTORS}")
        if missing := [joint for joint in motors if joint not in limits]:
            raise ValueError(
                f"robot.limits: none for {', '.join(missing)}, and a robot without limits is refused; "
                f"accepted is an entry for each actuated joint of {self.task}: {', '.join(motors)}"
            )
        for joint in set(motors) & set(task.scene.motors):
            if limits[joint].effort == math.inf:
                raise ValueError(
                    f"robot.limits.{joint}.effort: none given for a motor; accepted is the most in N or N m"
                )
        if unknown := [joint for joint in limits if joint not in task.joints]:
            joints = ", ".join(task.joints)
            raise ValueError(f"robot.limits.{unknown[0]}: {self.task} has no such joint; accepted are {joints}")

    def make_task(self) -> Task:
        return make_task(self.task)

    def ranges(self, known: Posterior | None = None) -> Ranges:
        """The ranges at full strength that the run starts with, version 0; around what is `known` of the robot.

        None: what `randomization.posterior` says of it, if it is given.
        """
        known = known or self.known()
        if known is None:
            return Ranges.from_dict(self.make_task().parameters, self.randomization.ranges)
        return Ranges.from_dict(known.moved_space(), {**known.intervals, **self.randomization.ranges})

    def adr(self, known: Posterior | None = None) -> AdrSettings:
        """How ranges move: never inside what identification says with 95 %; `known` as in `ranges`."""
        known, settings = known or self.known(), self.randomization.adr
        if known is None:
            return settings
        least = dict(settings.least)
        for name, (low, high) in known.intervals.items():
            if high > low and name not in self.randomization.ranges:
                given = least.get(name, (low, high))
                least[name] = (min(low, given[0]), max(high, given[1]))
        return settings.model_copy(update={"least": least})

    def known(self) -> Posterior | None:
        """What `randomization.posterior` says of the robot."""
        path = self.randomization.posterior
        return None if path is None else load_posterior(path, self.make_task())

    def with_values(self, values: Mapping[str, Any]) -> Experiment:
        """The experiment of one trial: these {key.path: value} set, and no sweep. Raises ConfigError."""
        return _build(self.to_dict() | {"sweep": None}, values.items(), resolve_paths=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values that a YAML file can hold."""
        return self.model_dump(mode="json")


def load_experiment(
    path: Path | str | None = None, overrides: Sequence[str] = (), seed: int | None = None
) -> Experiment:
    """The experiment of a YAML file (None: the default one) with key.path=value overrides laid over it.

    `path` may also be the name of a configuration that ships. File names are taken from the present folder
    and come out absolute. Raises ConfigError with one sentence.
    """
    data = _read(_find(path))
    values = [*map(parse, overrides), *([("seed", seed)] if seed is not None else [])]
    return _build(data, values, resolve_paths=True)


def save_experiment(experiment: Experiment, path: Path | str) -> None:
    """Write every value, defaults included: `load_experiment(path)` gives the same experiment back."""
    Path(path).write_text(to_yaml(experiment), encoding="utf-8")


def to_yaml(experiment: Experiment) -> str:
    return yaml.safe_dump(experiment.to_dict(), sort_keys=False, allow_unicode=True)


def default_config() -> Path:
    """The file `sim2real train` takes when none is named."""
    return _find(None)


def shipped_configs() -> dict[str, Path]:
    """{name: file} of the configurations that come with the project."""
    folder = next((folder for folder in SHIPPED if folder.is_dir()), SHIPPED[0])
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def _find(path: Path | str | None) -> Path:
    shipped = shipped_configs()
    name = "cartpole" if path is None else str(path)
    if path is not None and Path(path).is_file():
        return Path(path)
    if name in shipped:
        return shipped[name]
    kind = "is a folder" if Path(name).is_dir() else "does not exist"
    raise ConfigError(f"{name}: {kind}; accepted is a YAML file, or one of {', '.join(shipped)}, which ship")


def _read(path: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"{path}: cannot be read ({why}); accepted is a YAML file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not YAML{where}; accepted is a mapping such as 'seed: 0'") from None
    if not isinstance(data, dict | None):
        raise ConfigError(f"{path}: holds a {type(data).__name__}; accepted is a mapping such as 'seed: 0'")
    return data or {}


def _build(data: Mapping[str, Any], values: Iterable[tuple[str, Any]], resolve_paths: bool) -> Experiment:
    data = deepcopy(dict(data))
    data.setdefault("run_dir", Experiment.model_fields["run_dir"].default)
    data.setdefault("robot", {})  # so that what is told to be missing is its limits
    stages: Any = None
    try:
        for path, value in values:
            given = data.get("stages", "default")
            if path.startswith("stages.") and given is not stages:  # a preset, or names of known stages
                data["stages"] = stages = to_jsonable_python(list(resolve_stages(given)))
            assign(Experiment, data, path, value)
        if resolve_paths:
            _resolve_paths(data)
        return Experiment.model_validate(data)
    except ValidationError as error:
        raise ConfigError(sentence(Experiment, error, data)) from None
    except ValueError as error:  # a preset of stages that is none
        raise ConfigError(str(error)) from None


def _resolve_paths(data: dict[str, Any]) -> None:
    """Make file names absolute, those a sweep goes through too; a trial may run in another folder."""
    for key in PATHS:
        *sections, name = key.split(".")
        _resolve(key, _dig(data, *sections), name)
        swept = _dig(data, "sweep", "parameters", key)
        for kind in ("grid", "choice"):
            values = _dig(swept, kind)
            for i in range(len(values) if isinstance(values, list) else 0):
                _resolve(key, values, i)


def _resolve(key: str, inside: Any, at: Any) -> None:
    is_there = isinstance(inside, list) or (isinstance(inside, dict) and at in inside)
    if not is_there or not isinstance(inside[at], str):
        return
    if key == "robot.port" and ("://" in inside[at] or "/" not in inside[at]):
        return  # an address or a host, no device
    inside[at] = path = str(Path(inside[at]).expanduser().absolute())
    if key == "robot.twin.hidden" and not Path(path).is_file():
        raise ConfigError(f"{key}: {path} is no file; accepted is a YAML file of hidden values, or null")


def _dig(data: Any, *keys: str) -> Any:
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    return data
