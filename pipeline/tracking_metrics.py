"""What of a result and of a configuration goes into MLflow, in the form its API accepts."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

KEY_LENGTH = 250  # of metrics, parameters and tags
VALUE_LENGTH = 500  # of parameters, also on servers before 2.8
EVERY_RESULT = ("progress", "stage", "sim", "randomized", "robot", "losses")
EVERY_ROUND = ("real", "gap")
SECRET = re.compile(r"token|password|secret|credential|api_?key", re.IGNORECASE)


def result_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Finite numbers of one result: progress, stage, simulation, robot use, losses, ends of ranges."""
    metrics = {key: value for group in EVERY_RESULT for key, value in _numbers(result.get(group), group)}
    adr = result.get("adr") or {}
    metrics.update((f"adr/{key}", value) for key in ("version", "entropy") for _, value in _numbers(adr.get(key), key))
    for name, interval in (adr.get("ranges") or {}).items():
        for side, value in zip(("low", "high"), interval, strict=False):
            metrics.update(_numbers(value, f"adr/{name}/{side}"))
    return metrics


def round_metrics(result: Mapping[str, Any]) -> dict[str, float]:
    """Finite numbers of the newest robot evaluation in a result: success on the robot and the gap."""
    return {key: value for group in EVERY_ROUND for key, value in _numbers(result.get(group), group)}


def finding_metrics(finding: Mapping[str, Any]) -> dict[str, float]:
    """What one fit of recordings found of the robot: each value, and its 95 % interval with its width."""
    metrics: dict[str, float] = {}
    for name, entry in finding["values"].items():
        metrics.update(_numbers({k: entry.get(k) for k in ("value", "low", "high")}, f"identified/{name}"))
        metrics.update(_numbers(entry["high"] - entry["low"], f"identified/{name}/width"))
    return metrics | dict(_numbers({k: finding[k] for k in ("recorded_s", "flown_s", "fit_s")}, "identified"))


def clean_params(params: Mapping[str, Any]) -> dict[str, str]:
    """Nested parameters as `a.b.c: text`; lists of mappings by index, others as JSON, secrets masked."""
    flat: dict[str, str] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, Mapping) and value:
            for key, inner in value.items():
                visit(f"{prefix}.{key}" if prefix else str(key), inner)
        elif isinstance(value, (list, tuple)) and any(isinstance(inner, Mapping) for inner in value):
            visit(prefix, dict(enumerate(value)))
        elif SECRET.search(prefix.rpartition(".")[2]) and value is not None:
            flat[safe_key(prefix)] = "***"
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            flat[safe_key(prefix)] = text if len(text) <= VALUE_LENGTH else text[: VALUE_LENGTH - 1] + "…"

    visit("", params)
    return flat


def clean_tags(tags: Mapping[str, Any]) -> dict[str, str]:
    return {safe_key(key): str(value) for key, value in tags.items()}


def safe_key(key: str) -> str:
    """The key with characters MLflow refuses replaced by `_`, and cut to its length."""
    allowed = re.sub(r"[^\w\-. :/]", "_", key, flags=re.ASCII)
    # MLflow reads keys as paths: no leading slash, no empty, `.` or `..` part.
    parts = [part for part in allowed.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:KEY_LENGTH].rstrip("/") or "_"


def _numbers(value: Any, key: str) -> Iterator[tuple[str, float]]:
    """(path, number) of every finite number below `value`; flags, text and lists are left out."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _numbers(inner, f"{key}/{name}")
    elif not isinstance(value, (bool, str, bytes, list, tuple)) and value is not None:
        try:
            number = float(value)
        except (TypeError, ValueError):
            return
        if math.isfinite(number):
            yield key, number
