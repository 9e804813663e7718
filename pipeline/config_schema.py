"""What keys a configuration model has: their paths, types, defaults and descriptions."""

from __future__ import annotations

import types
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeGuard, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_jsonable_python


class ConfigError(ValueError):
    """A configuration that cannot be used: one sentence with key, value and what would be accepted."""


class Settings(BaseModel):
    """The base of every section: frozen, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def section(model: type[BaseModel], description: str) -> Any:
    """A field that holds the section `model`, with its defaults where the configuration leaves it out."""
    return Field(default_factory=lambda: model.model_validate({}), description=description)


@dataclass(frozen=True)
class Key:
    """One setting of a model. Entries of a mapping or list appear once, as `<key>` and `<n>`."""

    path: str
    description: str
    default: str


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[Key]:
    """Every setting of `model` and its sections, in the order of declaration."""
    for name, field in model.model_fields.items():
        path, kind = prefix + name, container(field.annotation)
        required = field.is_required()
        default = "(required)" if required else yaml_text(field.get_default(call_default_factory=True))
        if is_model(kind):
            if field.description and default == "null":
                yield Key(path, field.description, default)
            yield from keys(kind, f"{path}.")
            continue
        yield Key(path, field.description or "", default)
        entry = entry_type(kind)
        if is_model(entry):
            yield from keys(entry, f"{path}.{'<key>' if get_origin(kind) is dict else '<n>'}.")


def yaml_text(value: Any) -> str:
    """A value as a user would write it, on one line; entries that have a name by their names."""
    value = to_jsonable_python(value, fallback=repr)
    if isinstance(value, list):
        value = [entry["name"] if isinstance(entry, dict) and "name" in entry else entry for entry in value]
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()


def container(annotation: Any) -> Any:
    """The model, mapping or sequence among the alternatives of an annotation, or None."""
    origin = get_origin(annotation)
    if origin is Annotated:
        return container(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return next((kind for a in get_args(annotation) if (kind := container(a)) is not None), None)
    if is_model(annotation) or origin in (dict, list, tuple):
        return annotation
    return None


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def entry_type(kind: Any) -> Any:
    """The container that the entries of a mapping or list are, or None."""
    arguments = get_args(kind)
    return container(arguments[-1 if get_origin(kind) is dict else 0]) if arguments else None


def _type_at(root: type[BaseModel], parts: Sequence[str]) -> Any:
    """The model at `parts`, or None. A key of a mapping may take several parts."""
    kind: Any = root
    for part in parts:
        if is_model(kind):
            field = kind.model_fields.get(part)
            kind = container(field.annotation) if field else None
        elif get_origin(kind) is not dict or part == parts[-1]:
            kind = entry_type(kind)
    return kind


def own_keys(root: type[BaseModel], parts: Sequence[str]) -> tuple[str, ...]:
    kind = _type_at(root, parts)
    return tuple(kind.model_fields) if is_model(kind) else ()


def meaning(root: type[BaseModel], parts: Sequence[str]) -> str:
    kind = _type_at(root, parts[:-1])
    field = kind.model_fields.get(parts[-1]) if is_model(kind) else None
    return (field.description if field else None) or ""


def short_text(value: Any) -> str:
    """A value for a sentence, cut where it is long."""
    text = repr(value) if isinstance(value, str) else yaml_text(value)
    return text if len(text) <= 60 else text[:57] + "..."
