"""Logs in files: CSV from any logger, and Parquet of our own, with units converted on the way in."""

from __future__ import annotations

import csv
import hashlib
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot import durable
from robot.episodes import read_file
from robot.interface import RobotError
from robot.logs import Log, Problem, clean, from_episode

UNITS: dict[str, dict[str, float]] = {  # to SI
    "time": {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9},
    "position": {"rad": 1.0, "deg": np.pi / 180, "rev": 2 * np.pi, "m": 1.0, "cm": 1e-2, "mm": 1e-3},
    "velocity": {
        "rad/s": 1.0,
        "deg/s": np.pi / 180,
        "rpm": 2 * np.pi / 60,
        "rev/s": 2 * np.pi,
        "m/s": 1.0,
        "mm/s": 1e-3,
    },
    "effort": {"Nm": 1.0, "mNm": 1e-3, "N": 1.0, "mN": 1e-3},
}
NAMES = {"torque": "effort", "force": "effort", "angle": "position"}
DEFAULT_MAP = ("time=time", "position=position", "velocity=velocity", "torque=torque")
MAP_HELP = "NAME[.JOINT]=COLUMN[:UNIT], NAME one of time, position, velocity, torque"
SCHEMA = pa.schema(
    [
        ("time_s", pa.float64()),
        *((name, pa.list_(pa.float64())) for name in ("position", "velocity", "effort")),
        ("piece", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Column:
    """Where one quantity of one joint stands in a file, and in which unit."""

    name: str  # time | position | velocity | effort
    joint: str
    column: str
    unit: str

    @property
    def factor(self) -> float:
        sign = -1.0 if self.unit.startswith("-") else 1.0
        return sign * UNITS[self.name][self.unit.removeprefix("-")]


def parse_map(entries: tuple[str, ...] | list[str]) -> list[Column]:
    """Columns from `position.hinge=angle:deg`; raises RobotError with a sentence for anything else."""
    columns = []
    for entry in entries:
        match = re.fullmatch(r"(\w+)(?:\.([\w-]+))?=(.+?)(?::([^:]*))?", entry)
        if match is None:
            raise RobotError(f"map: {entry!r} is not understood; accepted is {MAP_HELP}")
        name = NAMES.get(match[1], match[1])
        if name not in UNITS:
            raise RobotError(f"map: {match[1]!r} in {entry!r} is no quantity; accepted is {MAP_HELP}")
        unit = match[4] or next(iter(UNITS[name]))
        if unit.removeprefix("-") not in UNITS[name]:
            raise RobotError(
                f"map: unit {unit!r} in {entry!r} is unknown; accepted are {', '.join(UNITS[name])}, with a - before "
                "it for a column of the other sign"
            )
        columns.append(Column(name, match[2] or "joint", match[3], unit))
    for name in ("time", "position", "velocity", "effort"):
        if not any(c.name == name for c in columns):
            raise RobotError(f"map: no column is named for {name}; accepted is {MAP_HELP}")
    seen = [(c.name, c.joint) for c in columns]
    if twice := next((key for key in seen if seen.count(key) > 1), None):
        raise RobotError(f"map: {twice[0]} of {twice[1]} is named twice; accepted is one column for each")
    joints = {name: {c.joint for c in columns if c.name == name} for name in UNITS}
    if joints["position"] != joints["velocity"] or not joints["effort"] <= joints["position"]:
        raise RobotError("map: the joints differ; accepted is a position and a velocity for each joint with a torque")
    if len([c for c in columns if c.name == "time"]) != 1:
        raise RobotError("map: time is named for several joints; accepted is one column of time")
    return columns


def read_log(path: Path | str, entries: tuple[str, ...] | list[str] = DEFAULT_MAP) -> Log:
    """A log from CSV or another program's Parquet (with `entries` as in `parse_map`), of `write_log`, or of an episode.

    Raises RobotError with a sentence where nothing of the file can be used.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RobotError(f"{path} cannot be read: {error.strerror or error}") from error
    digest = hashlib.sha256(data).hexdigest()
    if data[:4] == b"PAR1":
        return replace(_from_parquet(path, data, entries), sha256=digest)
    return replace(_from_csv(path.name, data, parse_map(entries)), sha256=digest)


def write_log(log: Log, path: Path | str) -> None:
    """As Parquet, durable on return; `read_log` gives the same log back."""
    lists = [pa.array(list(value), pa.list_(pa.float64())) for value in (log.position, log.velocity, log.effort)]
    about = {
        "joints": log.joints,
        "motors": log.motors,
        "units": log.units,
        "source": log.source,
        "sha256": log.sha256,
        "problems": [[p.kind, p.lines, p.sentence] for p in log.problems],
    }
    schema = SCHEMA.with_metadata({"log": json.dumps(about), "format": "1"})
    table = pa.Table.from_arrays([pa.array(log.time_s), *lists, pa.array(log.piece)], schema=schema)
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    durable.write(Path(path), sink.getvalue().to_pybytes())


def _from_csv(source: str, data: bytes, columns: list[Column]) -> Log:
    text = data.decode("utf-8-sig", errors="replace").replace("\0", "\ufffd")
    first = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=first.count)
    rows, lines = [], []
    try:
        reader = csv.reader(text.splitlines(), delimiter=delimiter)
        header = [name.strip() for name in next(reader, [])]
        missing = [c.column for c in columns if c.column not in header]
        if missing:
            raise _missing(source, missing, header)
        where = [header.index(c.column) for c in columns]
        for cells in reader:
            if cells:
                rows.append([_number(cells[i], delimiter) if i < len(cells) else np.nan for i in where])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise RobotError(f"{source}: line {len(lines) + 2} is no CSV ({error})") from error
    return _log(source, np.array(rows, float).reshape(-1, len(columns)), columns, np.array(lines, int))


def _log(source: str, table: np.ndarray, columns: list[Column], lines: np.ndarray) -> Log:
    """From (rows, columns) numbers in the columns' own units."""
    if len(table) < 2:
        raise RobotError(f"{source}: {len(table)} rows of data; at least 2 are needed")
    table = table * [c.factor for c in columns]
    names = [c.name for c in columns]
    joints = tuple(c.joint for c in columns if c.name == "position")
    motors = tuple(c.joint for c in columns if c.name == "effort")
    velocity = [next(i for i, c in enumerate(columns) if (c.name, c.joint) == ("velocity", j)) for j in joints]
    log = Log(
        time_s=table[:, names.index("time")],
        position=table[:, [i for i, n in enumerate(names) if n == "position"]],
        velocity=table[:, velocity],
        effort=table[:, [i for i, n in enumerate(names) if n == "effort"]],
        joints=joints,
        motors=motors,
        units={f"{c.name}.{c.joint}" if c.name != "time" else "time": c.unit for c in columns},
        source=source,
    )
    return clean(log, lines)


def _from_table(path: Path, data: bytes, names: list[str], columns: list[Column]) -> Log:
    """Parquet of another program: one number in each row of each column."""
    if missing := [c.column for c in columns if c.column not in names]:
        raise _missing(path.name, missing, names)
    table = pq.read_table(pa.BufferReader(data), columns=list(dict.fromkeys(c.column for c in columns)))
    try:
        values = [table.column(c.column).cast(pa.float64()).to_numpy() for c in columns]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise RobotError(f"{path.name}: a column is no number in each row ({error}); --map names others") from error
    return _log(path.name, np.stack(values, 1), columns, np.arange(len(table)))


def _missing(source: str, missing: list[str], header: list[str]) -> RobotError:
    if header and all(np.isfinite(_number(name, ",")) for name in header):
        return RobotError(
            f"{source}: its first line holds numbers; accepted is a header line with the names of the columns, such as "
            "time,position,velocity,torque"
        )
    has = ", ".join(header[:12])[:200] or "no header at all"
    return RobotError(f"{source}: no column {', '.join(missing)}; it has {has}, and --map names others")


def _number(cell: str, delimiter: str) -> float:
    try:
        return float(cell if delimiter == "," else cell.replace(",", "."))
    except ValueError:
        return float("nan")


def _from_parquet(path: Path, data: bytes, entries: tuple[str, ...] | list[str]) -> Log:
    try:
        schema = pq.read_schema(pa.BufferReader(data))
        if b"episode" in (schema.metadata or {}):
            return from_episode(read_file(path))
        if b"log" not in (schema.metadata or {}):
            return _from_table(path, data, schema.names, parse_map(entries))
        table = pq.read_table(pa.BufferReader(data), columns=SCHEMA.names)
        about = json.loads(table.schema.metadata[b"log"])
        size = {"position": len(about["joints"]), "velocity": len(about["joints"]), "effort": len(about["motors"])}
        q, v, u = (np.array(table.column(name).to_pylist(), float).reshape(-1, n) for name, n in size.items())
        return Log(
            time_s=table.column("time_s").to_numpy().astype(float),
            position=q,
            velocity=v,
            effort=u,
            joints=tuple(about["joints"]),
            motors=tuple(about["motors"]),
            units=dict(about["units"]),
            source=str(about["source"]),
            piece=table.column("piece").to_numpy().astype(np.int64),
            problems=tuple(Problem(str(k), tuple(rows), str(text)) for k, rows, text in about["problems"]),
        )
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RobotError(f"{path} is no log and no episode, or damaged ({type(error).__name__})") from error
