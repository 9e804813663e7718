"""What was wrong with a configuration, in one sentence: the key, the value, what would be accepted."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.config_schema import keys, meaning, own_keys, short_text


def sentence(root: type[BaseModel], error: ValidationError, data: Any) -> str:
    """What pydantic found, as one sentence naming the key, the value and what would be accepted.

    Of several findings one is told: an unknown key before all others, else the first.
    """
    found = error.errors(include_url=False)
    unknown = [e for e in found if e["type"] in ("extra_forbidden", "invalid_key")]
    # A value that fits no alternative of a union is reported for each; the one that got deepest was meant.
    section = found[0]["loc"][:1]
    same = [e for e in found if e["loc"][:1] == section]
    first = unknown[0] if unknown else max(same, key=lambda e: len(_real(e["loc"], data)))
    parts = _real(first["loc"], data)
    path, value = ".".join(parts), first["input"]
    if unknown:
        return unknown_key(root, path, value, own_keys(root, parts[:-1]))
    if first["type"] == "missing" and isinstance(first["loc"][-1], int):
        items = len(value) + sum(e["type"] == "missing" and e["loc"][:-1] == first["loc"][:-1] for e in found)
        return f"{path}: {short_text(list(value))} is not accepted; it should have {items} items"
    if first["type"] == "missing":
        return f"{path}: missing; it is {meaning(root, parts) or 'a key that must be given'}"
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "value_error":
        return _located(path, message)
    accepted = _accepted(first["type"], message, root, parts)
    return f"{path}: {short_text(value)} is not accepted; it should {accepted}"


def _accepted(kind: str, message: str, root: type[BaseModel], parts: Sequence[str]) -> str:
    """What pydantic would have taken, in the words of a configuration file."""
    if kind in ("model_type", "model_attributes_type"):
        return f"be a section with {', '.join(own_keys(root, parts))}"
    if kind in ("dict_type", "tuple_type", "list_type"):
        return "be a mapping such as {key: value}" if kind == "dict_type" else "be a list such as [1, 2]"
    wanted = message.partition(" should ")[2] or f"be so that {message}"
    return wanted.split(", unable to")[0].split(", got a number")[0].split(" after validation")[0]


def _located(path: str, message: str) -> str:
    """A validator's own sentence under the key it belongs to, unless it names the whole key already."""
    key = message.partition(": ")[0]
    if not path or key == path or key.startswith(f"{path}."):
        return message
    names_a_key = key != message and all(c.isalnum() or c in "._" for c in key)
    return f"{path}.{message}" if names_a_key else f"{path}: {message}"


def unknown_key(root: type[BaseModel], path: str, value: Any, known: Sequence[str]) -> str:
    """The sentence for a key that does not exist, with the nearest one that does."""
    head = f"{path}: there is no such key (value {short_text(value)})"
    every = [key.path for key in keys(root)]
    last = path.rpartition(".")[2]
    same_name = [key for key in every if key.rpartition(".")[2] == last]
    close = difflib.get_close_matches(path, every, 1, 0.75) or same_name or _close_name(last, every)
    if close:
        return f"{head}; did you mean {_filled_in(close[0], path)}?"
    accepted = f"accepted there are {', '.join(known)}" if known else "its parent is a plain value"
    return f"{head}; {accepted}"


def _filled_in(pattern: str, path: str) -> str:
    """`stages.<n>.updates` with the entry that `path` is about."""
    parts, given = pattern.split("."), path.split(".")
    return ".".join(given[i] if part[0] == "<" and i < len(given) else part for i, part in enumerate(parts))


def _close_name(name: str, every: Sequence[str]) -> list[str]:
    by_name = {k.rpartition(".")[2]: k for k in reversed(every)}
    return [by_name[n] for n in difflib.get_close_matches(name, list(by_name), 1, 0.75)]


def _real(loc: Sequence[int | str], data: Any) -> list[str]:
    """The parts of a location that are keys of `data`: pydantic adds the names of union alternatives."""
    path: list[str] = []
    for i, part in enumerate(loc):
        last = i == len(loc) - 1
        if isinstance(data, Mapping) and (part in data or last):
            data = data.get(part)
        elif isinstance(data, list | tuple) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        path.append(str(part))
    return path
