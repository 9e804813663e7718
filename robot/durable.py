"""Small files that survive a crash of the program or of the machine."""

from __future__ import annotations

import json
import os
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
    new = not path.exists()
    with open(path, "ab+") as file:
        end = file.seek(0, os.SEEK_END)
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":  # a crash cut the last line short: keep it apart
                file.write(b"\n")
        file.write(json.dumps(record).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
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
