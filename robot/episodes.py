"""Real episodes on disk: durable before anyone uses them, never changed afterwards.

One Parquet file for each episode, one row for each control step, one row group:

    observation, next_observation   list<float32>   the policy group before and after the step
    policy_action                   list<float32>   what the policy asked, in [-1, 1]
    filtered                        list<float32>   what the safety filter let through, as an action
    sent                            list<float32>   what went to the motors, as an action: learn from this
    reward                          float32         from the measured state after the step
    terminated                      bool            the task failed; a stop or a time limit is no failure
    joint_position, joint_velocity  list<float32>   measured after the step, SI units
    t_mono_s, t_wall_s              float64         when the observation before the step was captured
    intervention                    string          the limits that changed the command, joined by '+'
    body_pose                       list<float32>   optional: of each tracked body x, y, z, m, and xyzw, after the step
    goal                            list<float32>   optional: of the task, the same in every row
    image                           binary          optional: the camera after the step, PNG or JPEG as it was encoded

The episode's meta data is JSON under the key "episode" of the schema.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot import durable
from robot.interface import RobotError

LISTS = (
    "observation",
    "next_observation",
    "policy_action",
    "filtered",
    "sent",
    "joint_position",
    "joint_velocity",
)
OPTIONAL_LISTS = ("body_pose", "goal")
SCHEMA = pa.schema(
    [
        *((name, pa.list_(pa.float32())) for name in LISTS[:5]),
        ("reward", pa.float32()),
        ("terminated", pa.bool_()),
        *((name, pa.list_(pa.float32())) for name in LISTS[5:]),
        ("t_mono_s", pa.float64()),
        ("t_wall_s", pa.float64()),
        ("intervention", pa.string()),
    ]
)
COLUMNS = tuple(SCHEMA.names)
IMAGE = "image"
OPTIONAL = {**{name: pa.list_(pa.float32()) for name in OPTIONAL_LISTS}, IMAGE: pa.binary()}
MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")  # how a PNG and a JPEG begin


@dataclass(frozen=True)
class EpisodeMeta:
    episode_id: str
    robot: str
    purpose: str  # collection | evaluation | identification
    success: bool
    episode_return: float
    steps: int
    robot_s: float  # of the robot's own time
    stop: str  # why a safety stop ended it; empty: none did
    void: bool  # says nothing about the policy: the link failed or the clock was late
    seed: int
    world: int
    episode: int
    round_id: str
    policy_version: int
    policy_run: str
    lateness_p99_ms: float
    overruns: int


@dataclass(frozen=True)
class RobotEpisode:
    """`columns` as in the module's table: arrays of `meta.steps` rows, (T, size) where the file has lists."""

    meta: EpisodeMeta
    columns: dict[str, np.ndarray]


class EpisodeStore:
    """Episodes in `directory`, in the order of appending; one counts once the manifest names it."""

    def __init__(self, directory: Path | str) -> None:
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        self._manifest = self._directory / "manifest.json"
        self._entries: list[dict[str, Any]] = self._read_manifest()
        self._adopt()

    def __len__(self) -> int:
        return len(self._entries)

    def next_id(self, robot: str) -> str:
        """A name no file here has, not even a torn one."""
        number = len(self._entries)
        while (self._directory / f"{robot}-{number:06d}.parquet").exists():
            number += 1
        return f"{robot}-{number:06d}"

    def append(self, episode: RobotEpisode) -> None:
        """Write, fsync, rename, then name it in the manifest the same way: on return it is durable."""
        name = f"{episode.meta.episode_id}.parquet"
        path = self._directory / name
        if path.exists():
            raise RobotError(
                f"episode {episode.meta.episode_id} exists in {self._directory}, and episodes never change"
            )
        data = _encode(episode)
        try:
            durable.write(path, data)
        except OSError as error:
            if not path.exists():
                raise RobotError(f"episode {episode.meta.episode_id} could not be written: {error}") from error
            self._enter(name, data)  # whole, but perhaps not after a power cut
            text = f"episode {episode.meta.episode_id} is written, but {self._directory} could not be synced: {error}"
            raise RobotError(text) from error
        self._enter(name, data)
        try:
            durable.write(self._manifest, json.dumps({"format": 1, "episodes": self._entries}).encode())
        except OSError as error:  # the episode itself is on disk, and found there when the store is opened again
            text = f"episode {episode.meta.episode_id} is kept, but {self._manifest} could not be written: {error}"
            raise RobotError(text) from error

    def list(self) -> list[EpisodeMeta]:
        """The meta data of every episode, oldest first."""
        return [_meta(entry["meta"]) for entry in self._entries]

    def read(self, episode_id: str) -> RobotEpisode:
        """One episode; raises RobotError when it is not here or its file is damaged."""
        for entry in self._entries:
            if entry["meta"]["episode_id"] == episode_id:
                return read_file(self._directory / entry["file"])
        raise RobotError(f"episode {episode_id} is not in {self._directory}, which has {len(self)} episodes")

    def verify(self) -> dict[str, str]:
        """What is wrong, by file name: damaged or missing episodes, torn files of a crash. Empty: nothing."""
        problems: dict[str, str] = {}
        for entry in self._entries:
            path = self._directory / entry["file"]
            if not path.exists():
                problems[entry["file"]] = "named in the manifest, and missing"
            elif hashlib.sha256(path.read_bytes()).hexdigest() != entry["sha256"]:
                problems[entry["file"]] = "not what was written"
        known = {entry["file"] for entry in self._entries}
        for path in sorted(self._directory.iterdir()):
            if path.name.endswith(".tmp"):
                problems[path.name] = "torn: a crash came while it was written; no episode counts on it"
            elif path.suffix == ".parquet" and path.name not in known:
                problems[path.name] = "torn: not a whole episode"
        return problems

    def _enter(self, name: str, data: bytes) -> None:
        meta = json.loads(pq.read_schema(pa.BufferReader(data)).metadata[b"episode"])
        self._entries.append({"file": name, "sha256": hashlib.sha256(data).hexdigest(), "meta": meta})

    def _adopt(self) -> None:
        """Take in whole files that a crash kept from the manifest; the next append writes them into it.

        Opening a store changes nothing on disk, so one may read while another appends.
        """
        known = {entry["file"] for entry in self._entries}
        for path in sorted(self._directory.glob("*.parquet")):
            if path.name not in known:
                try:
                    read_file(path)
                except RobotError:
                    continue  # verify names it
                self._enter(path.name, path.read_bytes())

    def _read_manifest(self) -> list[dict[str, Any]]:
        if not self._manifest.exists():
            return []
        try:
            return json.loads(self._manifest.read_text())["episodes"]
        except (ValueError, KeyError, TypeError) as error:
            raise RobotError(f"{self._manifest} is damaged; accepted is the manifest of an episode store") from error


def read_file(path: Path) -> RobotEpisode:
    """The episode in one Parquet file; raises RobotError when it is damaged or something else."""
    try:
        table = pq.read_table(path)
        meta = _meta(json.loads(table.schema.metadata[b"episode"]))
        names = [*COLUMNS, *(name for name in OPTIONAL if name in table.column_names)]
        columns = {name: _array(table, name) for name in names}
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError, AttributeError) as error:
        raise RobotError(f"episode file {path} is damaged ({type(error).__name__})") from error
    if len(table) != meta.steps:
        raise RobotError(f"episode file {path} is damaged: it says {meta.steps} steps and has {len(table)}")
    return RobotEpisode(meta, columns)


def _encode(episode: RobotEpisode) -> bytes:
    arrays = []
    schema = pa.schema([*SCHEMA, *((name, kind) for name, kind in OPTIONAL.items() if name in episode.columns)])
    for field in schema:
        column = episode.columns[field.name]
        if len(column) != episode.meta.steps:
            raise RobotError(f"column {field.name} has {len(column)} rows; accepted are {episode.meta.steps}")
        if field.name == IMAGE:
            _check_images(column)
        if field.name in (*LISTS, *OPTIONAL_LISTS):
            flat = pa.array(np.ascontiguousarray(column, np.float32).ravel())
            ends = np.arange(len(column) + 1, dtype=np.int32) * column.shape[1]
            arrays.append(pa.ListArray.from_arrays(pa.array(ends), flat))
        else:
            arrays.append(pa.array(column, field.type))
    meta = json.dumps(asdict(episode.meta)).encode()
    table = pa.Table.from_arrays(arrays, schema=schema.with_metadata({"episode": meta, "format": "1"}))
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, row_group_size=max(len(table), 1), compression="zstd")
    return sink.getvalue().to_pybytes()


def _check_images(images: np.ndarray) -> None:
    for row, image in enumerate(images):
        if not (isinstance(image, bytes) and image.startswith(MAGIC)):
            raise RobotError(f"column image, row {row}: no PNG and no JPEG; accepted are the bytes of an encoded image")


def _array(table: pa.Table, name: str) -> np.ndarray:
    column = table.column(name).combine_chunks()
    if name not in (*LISTS, *OPTIONAL_LISTS):
        return column.to_numpy(zero_copy_only=False)
    flat = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(column), -1) if len(column) else flat.reshape(0, 0)


def _meta(values: dict[str, Any]) -> EpisodeMeta:
    return EpisodeMeta(**{field.name: values[field.name] for field in fields(EpisodeMeta)})
