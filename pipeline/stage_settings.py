"""What a stage is, the stages that come with the project, and how a configuration names them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from robot.settings import Mode

Block = Mapping[str, Any]  # {success, n, low, high, …}; `updates` says how far the measured policy was trained


class StageError(ValueError):
    """Stages that cannot be used; the message names the key, what was given and what would be accepted."""


class Gate(BaseModel):
    """What must hold to pass; a threshold left null is not asked for."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sim_success: float | None = Field(default=None, ge=0, le=1, description="success in the nominal simulation")
    randomized_success: float | None = Field(
        default=None, ge=0, le=1, description="success rate in simulation, sampled in the current ranges"
    )
    real_success: float | None = Field(default=None, ge=0, le=1, description="success rate on the robot")
    collected_s: float | None = Field(default=None, ge=0, description="robot seconds of training data in this run")
    by: Literal["low", "success"] = Field(
        default="low",
        description="what must reach the thresholds: the lower end of the 95 % interval, or the rate",
    )

    def missing(self, blocks: Mapping[str, Block | None], collected_s: float) -> list[str]:
        """One phrase for every condition that does not hold, none when the gate is open."""
        lacks = []
        for name, threshold in (
            ("sim", self.sim_success),
            ("randomized", self.randomized_success),
            ("real", self.real_success),
        ):
            if threshold is None:
                continue
            block = blocks.get(name)
            if not block:
                lacks.append(f"{name} success not measured, {threshold:g} asked")
            elif not block[self.by] >= threshold:
                lacks.append(f"{name} {_term(self.by)} {block[self.by]:.2f} below {threshold:g}")
        if self.collected_s is not None and collected_s < self.collected_s:
            lacks.append(f"{collected_s:.0f} s of robot data, {self.collected_s:g} s asked")
        return lacks

    def __bool__(self) -> bool:
        return any(v is not None for k, v in self if k != "by")


class IdentifySettings(BaseModel):
    """Recordings of the robot that a stage begins with, and what is known beforehand."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    recordings: int = Field(default=3, ge=1, description="how often the robot is moved and recorded")
    seconds: float = Field(default=20.0, ge=2.0, description="robot seconds of each recording")
    fixed: dict[str, float] = Field(
        default={}, description="parameters you know, such as a mass on a scale: they are given, not fitted"
    )
    extra: tuple[str, ...] = Field(
        default=(), description="parameters that are fitted too, though left alone otherwise"
    )
    wait: bool = Field(
        default=False,
        description="make no gradient update from when the stage is due until the posterior is there; false: train on "
        "in the stage before, or, in the first stage, in the ranges as they are",
    )


class StageSettings(BaseModel):
    """One stage: what it trains on, how long at most, and when it is entered, left and fallen back from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1, description="names the stage in results and reports")
    sim_ratio: float = Field(ge=0, le=1, description="fraction of every minibatch that comes from simulation")
    dr_strength: float = Field(ge=0, le=1, description="share of the ranges sampled: 0 nominal, 1 all")
    updates: int = Field(ge=1, description="gradient updates after which the stage ends, gate met or not")
    min_updates: int = Field(default=0, ge=0, description="gradient updates before which the stage does not end")
    adr: bool = Field(default=False, description="evaluate the bounds of the ranges and let ADR move them")
    enter: Gate = Field(
        default=Gate(),
        description="must hold before the stage begins; until then the one before goes on",
    )
    identify: IdentifySettings | None = Field(
        default=None,
        description="identify the robot before the stage begins, and train around what was found; recorded once a run, "
        "while the stage before trains",
    )
    exit: Gate = Field(default=Gate(), description="ends the stage early once it holds; empty: only the budget ends it")
    collect_episodes: int = Field(
        default=0, ge=0, description="robot episodes flown to collect training data in this stage"
    )
    evaluate_episodes: int = Field(
        default=20, ge=0, description="robot episodes of an evaluation in and after this stage"
    )
    robot_mode: Mode = Field(
        default="auto",
        description="the least careful mode of the robot in this stage: shadow, confirm_each, confirm_episode or auto; "
        "robot.confirmation may ask for more care",
    )
    demote_below: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="fall back one stage if the robot's success is surely (95 %) below this",
    )

    @model_validator(mode="after")
    def _consistent(self) -> StageSettings:
        if self.min_updates > self.updates:
            raise ValueError(f"min_updates: {self.min_updates} given; accepted is at most updates, {self.updates}")
        return self


SIM_ONLY = StageSettings(
    name="sim_only",
    sim_ratio=1.0,
    dr_strength=0.5,
    updates=5000,
    min_updates=2000,
    exit=Gate(sim_success=0.8),
)
STRONG_DR = StageSettings(
    name="strong_dr",
    sim_ratio=1.0,
    dr_strength=1.0,
    updates=9000,
    min_updates=6000,
    adr=True,
    exit=Gate(randomized_success=0.75),
)
MIXED = StageSettings(
    name="mixed",
    sim_ratio=0.7,
    dr_strength=0.8,
    updates=4000,
    min_updates=3000,
    adr=True,
    enter=Gate(sim_success=0.5),
    exit=Gate(real_success=0.7),
    collect_episodes=10,
    demote_below=0.2,
)
REAL_FOCUSED = StageSettings(
    name="real_focused",
    sim_ratio=0.2,
    dr_strength=0.3,
    updates=2000,
    enter=Gate(collected_s=60.0),
    collect_episodes=6,
    demote_below=0.2,
)
NOMINAL = StageSettings(name="nominal", sim_ratio=1.0, dr_strength=0.0, updates=12000)

PRESETS: dict[str, tuple[StageSettings, ...]] = {
    "default": (SIM_ONLY, STRONG_DR, MIXED, REAL_FOCUSED),
    "nominal": (NOMINAL,),
}
KNOWN_STAGES = {stage.name: stage for preset in PRESETS.values() for stage in preset}


def resolve_stages(
    value: str | Sequence[str | Mapping[str, Any] | StageSettings],
) -> tuple[StageSettings, ...]:
    """Stages from the name of a preset or from a list.

    A list entry is the name of a known stage, or a mapping. A mapping whose `name` is a known stage starts
    from that one and changes only what it gives; any other must give name, sim_ratio, dr_strength and
    updates. Raises StageError.
    """
    if isinstance(value, str):
        if value not in PRESETS:
            raise StageError(f"stages: '{value}' is unknown; accepted is {_or(PRESETS)}, or a list of stages")
        return PRESETS[value]
    if not isinstance(value, Sequence) or not value:
        raise StageError(f"stages: {value!r} given; accepted is {_or(PRESETS)}, or a list of at least one stage")
    stages = tuple(_resolve(f"stages.{i}", entry) for i, entry in enumerate(value))
    for i, stage in enumerate(stages):
        if stage.name in (s.name for s in stages[:i]):
            raise StageError(f"stages.{i}.name: '{stage.name}' is used twice; accepted is a name of its own")
    return stages


def _resolve(key: str, entry: Any) -> StageSettings:
    if isinstance(entry, StageSettings):
        return entry
    if isinstance(entry, str):
        if entry not in KNOWN_STAGES:
            raise StageError(f"{key}: '{entry}' is unknown; accepted is {_or(KNOWN_STAGES)}, or a mapping")
        return KNOWN_STAGES[entry]
    if not isinstance(entry, Mapping):
        raise StageError(f"{key}: {entry!r} given; accepted is {_or(KNOWN_STAGES)}, or a mapping")
    base = KNOWN_STAGES.get(entry.get("name", ""))
    try:
        return StageSettings.model_validate(_overlay(base.model_dump(), entry) if base else dict(entry))
    except ValidationError as error:
        raise StageError(_sentence(key, error)) from None


def _overlay(base: dict[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with `changes` laid over it, gate by gate."""
    merged = dict(base)
    for name, value in changes.items():
        inner = base.get(name)
        merged[name] = {**inner, **value} if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged


def _sentence(key: str, error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join([key, *map(str, first["loc"])])
    if first["type"] == "missing":
        return f"{where}: missing; a stage of your own gives name, sim_ratio, dr_strength and updates"
    if first["type"] == "extra_forbidden":
        sections: dict[Any, type[BaseModel]] = {"enter": Gate, "exit": Gate, "identify": IdentifySettings}
        fields = sections.get(first["loc"][0], StageSettings).model_fields
        return f"{where}: unknown key; accepted is {_or(fields)}"
    if first["type"] == "value_error":
        return f"{key}: {first['msg'].removeprefix('Value error, ')}"
    return f"{where}: {first['input']!r} given; {first['msg'][0].lower()}{first['msg'][1:]}"


def _or(names: Any) -> str:
    *most, last = [str(n) for n in names]
    return f"{', '.join(most)} or {last}" if most else last


def _term(by: str) -> str:
    return "success (95 % lower bound)" if by == "low" else "success"
