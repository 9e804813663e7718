"""`key.path=value` overrides: reading them and putting the value where it belongs."""

from __future__ import annotations

from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from pipeline.config_errors import unknown_key
from pipeline.config_schema import ConfigError, container, entry_type, is_model


def parse(text: str) -> tuple[str, Any]:
    """Split "key.path=value"; the value is read as YAML."""
    path, equals, value = text.partition("=")
    path = path.strip()
    if not equals or not path or not all(path.split(".")):
        raise ConfigError(f"{text}: not an override; accepted is key.path=value, such as seed=1")
    try:
        return path, yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(
            f"{path}: {value!r} cannot be read; accepted is a YAML value such as 1, true or [a, b]"
        ) from None


def assign(model: type[BaseModel], data: MutableMapping[str, Any], path: str, value: Any) -> None:
    """Put `value` at `path` of the nested `data`, making sections on the way; `model` says what keys exist.

    Keys that contain dots are recognised where the model has a mapping. Raises ConfigError.
    """
    _assign_in_model(model, data, path.split("."), _Target(model, path, value))


@dataclass(frozen=True)
class _Target:
    """The override being applied, for the error sentence."""

    root: type[BaseModel]
    path: str
    value: Any

    def unknown(self, known: Sequence[str]) -> ConfigError:
        return ConfigError(unknown_key(self.root, self.path, self.value, known))


def _assign_in_model(model: type[BaseModel], data: MutableMapping[str, Any], parts: list[str], target: _Target) -> None:
    name, rest = parts[0], parts[1:]
    field = model.model_fields.get(name)
    if field is None:
        raise target.unknown(tuple(model.model_fields))
    if not rest:
        data[name] = target.value
        return
    kind = container(field.annotation)
    if kind is None:
        raise target.unknown(())
    if data.get(name) is None:
        data[name] = _default_section(field, kind)
    data[name] = _assign_in(kind, data[name], rest, target)


def _assign_in(kind: Any, inside: Any, parts: list[str], target: _Target) -> Any:
    """`inside`, a section of the type `kind`, with the value put at `parts`."""
    if is_model(kind):
        inside = inside if isinstance(inside, dict) else {}
        _assign_in_model(kind, inside, parts, target)
    elif get_origin(kind) is dict:
        inside = inside if isinstance(inside, dict) else {}
        _assign_in_mapping(entry_type(kind), inside, parts, target)
    else:
        inside = inside if isinstance(inside, list) else []
        _assign_in_list(entry_type(kind), inside, parts, target)
    return inside


def _assign_in_mapping(kind: Any, data: dict[str, Any], parts: list[str], target: _Target) -> None:
    """A key with dots is the longest one that is there; a new one ends where its entry's own keys begin."""
    existing = (n for n in range(len(parts), 0, -1) if ".".join(parts[:n]) in data)
    own = kind.model_fields if is_model(kind) else ()
    new = (n for n in range(1, len(parts)) if parts[n] in own)
    n = next(existing, None) or next(new, len(parts))
    key, rest = ".".join(parts[:n]), parts[n:]
    if not rest:
        data[key] = target.value
    elif kind is None:
        raise target.unknown(())
    else:
        data[key] = _assign_in(kind, data.get(key), rest, target)


def _assign_in_list(kind: Any, data: list[Any], parts: list[str], target: _Target) -> None:
    index, rest = parts[0], parts[1:]
    if not (index.isdecimal() and int(index) < len(data)):
        accepted = f"an index from 0 to {len(data) - 1}" if data else "no index, since the list is empty"
        raise ConfigError(
            f"{target.path}: there is no entry '{index}' (value {target.value!r}); accepted is {accepted}"
        )
    if not rest:
        data[int(index)] = target.value
    elif kind is None:
        raise target.unknown(())
    else:
        data[int(index)] = _assign_in(kind, data[int(index)], rest, target)


def _default_section(field: FieldInfo, kind: Any) -> Any:
    if not field.is_required():
        default = to_jsonable_python(field.get_default(call_default_factory=True))
        if isinstance(default, dict | list):
            return default
    return {} if is_model(kind) or get_origin(kind) is dict else []
