"""Small files that survive a crash of the program or of the machine."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any


def sync_directory(path: Path) -> None:
    """Make renames in `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write(path: Path, data: bytes) -> None:
    """Replace a file at once: readers and crashes see the old content or the new, never a mixture."""
    fresh = path.with_name(path.name + ".tmp")
    try:
        with open(fresh, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(fresh, path)
    except OSError:
        fresh.unlink(missing_ok=True)  # a full disk needs the room
        raise
    sync_directory(path.parent)


def append_line(path: Path, record: dict[str, Any]) -> None:
    """Add one JSON object to a file of lines; durable on return."""
    append_lines(path, [record])


def append_lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    """Add JSON objects to a file of lines: all of them, durable on return, or none, with OSError."""
    if not records:
        return
    new = not path.exists()
    text = b"".join(json.dumps(record).encode() + b"\n" for record in records)
    with open(path, "ab+", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":  # a crash cut the last line short: keep it apart
                    text = b"\n" + text
            while text:
                text = text[file.write(text) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise
    if new:
        sync_directory(path.parent)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The whole objects of a file of lines; a line that a crash cut short is left out."""
    if not path.exists():
        return []
    records = []
    for line in path.read_bytes().split(b"\n"):
        try:
            records.append(json.loads(line))
        except ValueError:
            continue
    return [record for record in records if isinstance(record, dict)]
