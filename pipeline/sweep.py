"""Sweeps: several trials of one experiment that differ in some keys."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from pipeline.config_schema import Settings


class SweptValues(Settings):
    """The values one key takes over the trials of a sweep: give exactly one of these."""

    grid: tuple[Any, ...] | None = Field(
        default=None, min_length=1, description="every one of these values, in trials of its own"
    )
    choice: tuple[Any, ...] | None = Field(
        default=None, min_length=1, description="one of these values, drawn for each trial"
    )
    uniform: tuple[float, float] | None = Field(default=None, description="a number drawn from [low, high]")
    loguniform: tuple[float, float] | None = Field(
        default=None,
        description="a number drawn from [low, high], uniform in its logarithm; low is above zero",
    )

    @model_validator(mode="after")
    def _one_kind(self) -> SweptValues:
        given = [name for name, value in self if value is not None]
        if len(given) != 1:
            known = ", ".join(type(self).model_fields)
            raise ValueError(f"{' and '.join(given) or 'nothing'} given; accepted is exactly one of {known}")
        for name, least in (("uniform", float("-inf")), ("loguniform", 0.0)):
            interval = getattr(self, name)
            if interval is not None and not least < interval[0] < interval[1]:
                wanted = "low < high" if name == "uniform" else "0 < low < high"
                raise ValueError(f"{name}: {list(interval)} is not accepted; it should be {wanted}")
        return self

    def samples(self) -> tuple[Any, ...]:
        """Every value listed, or the two ends of an interval: what a check has to try."""
        return next(value for _, value in self if value is not None)

    def domain(self) -> Any:
        """The same for `tune.Tuner(param_space=…)`."""
        from ray import tune

        kind = {"grid": tune.grid_search, "choice": tune.choice}
        for name, value in self:
            if value is not None:
                return kind[name](list(value)) if name in kind else getattr(tune, name)(*value)


class SweepSettings(Settings):
    """Several trials that differ in some keys."""

    parameters: dict[str, SweptValues] = Field(
        min_length=1,
        description="key.path: {grid: […]}, or with choice, uniform or loguniform instead of grid",
    )
    samples: int = Field(default=1, ge=1, description="draws of each grid point, or trials where there is no grid")
    concurrent: int = Field(default=1, ge=1, description="trials that run at the same time")

    def param_space(self) -> dict[str, Any]:
        """Flat {key.path: domain} for `tune.Tuner`; a trial hands its values to `Experiment.with_values`."""
        return {key: values.domain() for key, values in self.parameters.items()}
