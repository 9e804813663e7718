"""Robot episodes as a LeRobot dataset, layout v2.1 (huggingface.co/docs/lerobot), written without the package.

A frame is what was measured before a step and what was sent in it, so an episode of T steps gives T - 1 frames: what
was measured before the first step is not a column of ours. The layout demands `timestamp` = frame / fps; the times at
which the frames were really captured are the feature `observation.time_s`. Images stay as they were encoded, inside the
Parquet files (the layout's dtype "image"; its other way, a video beside them, would have to encode them anew).
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from robot.episodes import IMAGE, EpisodeMeta, EpisodeStore, RobotEpisode
from robot.interface import RobotError

CHUNK = 1000  # episodes in a folder
STATS_FRAMES = 100  # of an episode's images at most, for their statistics
IMAGE_AXES = ["height", "width", "channels"]
ENCODED = pa.struct([("bytes", pa.binary()), ("path", pa.string())])  # how `datasets` keeps an image
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"


def export(
    store: EpisodeStore, episodes: Sequence[EpisodeMeta], directory: Path, task: str = "sim2real"
) -> tuple[int, int]:
    """Write the episodes into a new `directory`; returns how many episodes and frames.

    The folder appears when it is whole. Raises RobotError when it exists or there is nothing to write.
    """
    chosen = [meta for meta in episodes if meta.steps > 1]
    if directory.exists():
        raise RobotError(f"{directory} exists; accepted is a folder that does not")
    if not chosen:
        raise RobotError(f"{directory}: there is no episode of at least 2 steps to write")
    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "meta").mkdir(parents=True)
        frames = _write(store, chosen, part, task)
        os.replace(part, directory)
    except OSError as error:
        raise RobotError(
            f"{directory} cannot be written ({error.strerror or error}); accepted is one that can"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return len(chosen), frames


def _write(store: EpisodeStore, chosen: Sequence[EpisodeMeta], part: Path, task: str) -> int:
    """The whole dataset into an empty folder; returns how many frames."""
    frames, lines, stats, shapes = 0, [], [], {}
    fps = round(float(np.median([meta.steps / meta.robot_s for meta in chosen if meta.robot_s > 0] or [1.0])))
    for index, meta in enumerate(chosen):
        columns = _frames(store.read(meta.episode_id), index, frames, fps)
        shapes = shapes or {name: _shape(value) for name, value in columns.items()}
        if shapes != {name: _shape(value) for name, value in columns.items()}:
            raise RobotError(
                f"episode {meta.episode_id} has columns of other sizes; accepted is one robot and one task"
            )
        path = part / DATA_PATH.format(episode_chunk=index // CHUNK, episode_index=index)
        path.parent.mkdir(parents=True, exist_ok=True)
        table = pa.table({name: _arrow(value) for name, value in columns.items()})
        pq.write_table(table.replace_schema_metadata(_readers_types(shapes)), path)
        count = len(columns["index"])
        lines.append({"episode_index": index, "tasks": [task], "length": count})
        stats.append({"episode_index": index, "stats": {name: _stats(value) for name, value in columns.items()}})
        frames += count
    info = {
        "codebase_version": "v2.1",
        "robot_type": chosen[0].robot,
        "total_episodes": len(chosen),
        "total_frames": frames,
        "total_tasks": 1,
        "total_videos": 0,
        "total_chunks": (len(chosen) - 1) // CHUNK + 1,
        "chunks_size": CHUNK,
        "fps": fps,
        "splits": {"train": f"0:{len(chosen)}"},
        "data_path": DATA_PATH,
        "video_path": None,
        "features": {
            name: {"dtype": kind, "shape": list(shape), "names": IMAGE_AXES if kind == "image" else None}
            for name, (kind, shape) in shapes.items()
        },
    }
    (part / "meta" / "info.json").write_text(json.dumps(info, indent=4))
    _lines(part / "meta" / "episodes.jsonl", lines)
    _lines(part / "meta" / "episodes_stats.jsonl", stats)
    _lines(part / "meta" / "tasks.jsonl", [{"task_index": 0, "task": task}])
    return frames


def _frames(episode: RobotEpisode, index: int, first: int, fps: int) -> dict[str, np.ndarray]:
    c, n = episode.columns, episode.meta.steps - 1
    at = np.asarray(c["t_mono_s"][1:], np.float64)
    return {
        **({"observation.image": c[IMAGE][:-1]} if IMAGE in c else {}),
        "observation.state": np.concatenate([c["joint_position"][:-1], c["joint_velocity"][:-1]], 1),
        "observation.policy": np.asarray(c["observation"][1:]),
        "action": np.asarray(c["sent"][1:]),
        "observation.time_s": at - at[0],
        "next.reward": np.asarray(c["reward"][1:], np.float32),
        "next.done": np.arange(1, n + 1) == n,
        "timestamp": (np.arange(n) / max(fps, 1)).astype(np.float32),
        "frame_index": np.arange(n),
        "episode_index": np.full(n, index),
        "index": np.arange(first, first + n),
        "task_index": np.zeros(n, np.int64),
    }


def _shape(value: np.ndarray) -> tuple[str, tuple[int, ...]]:
    """(dtype, shape) of a column as info.json tells them; all images of an episode have the size of its first."""
    if value.dtype == object:
        return "image", _pixels(value[0]).shape
    return str(value.dtype), (value.shape[1] if value.ndim == 2 else 1,)


def _pixels(encoded: bytes) -> np.ndarray:
    """(height, width, channels) of a PNG or JPEG, in [0, 1]; raises RobotError for what is neither."""
    try:
        with Image.open(BytesIO(encoded)) as image:
            return np.atleast_3d(np.asarray(image, np.float32) / 255)
    except (OSError, SyntaxError, ValueError) as error:  # the decoder's ways to say so
        raise RobotError(f"an image cannot be decoded ({error}); accepted are whole PNG and JPEG files") from error


def _readers_types(shapes: dict[str, tuple[str, tuple[int, ...]]]) -> dict[bytes, bytes]:
    """What the `datasets` library, which reads these files for LeRobot, needs in order to see images in bytes."""
    features: dict[str, Any] = {}
    for name, (kind, shape) in shapes.items():
        one: dict[str, Any] = {"_type": "Image"} if kind == "image" else {"dtype": kind, "_type": "Value"}
        long = kind != "image" and shape != (1,)
        features[name] = {"feature": one, "length": shape[0], "_type": "Sequence"} if long else one
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def _arrow(value: np.ndarray) -> pa.Array:
    if value.dtype == object:
        return pa.array([{"bytes": image, "path": None} for image in value], ENCODED)
    if value.ndim == 1:
        return pa.array(value)
    flat = pa.array(np.ascontiguousarray(value).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, value.shape[1])


def _stats(value: np.ndarray) -> dict[str, list[Any]]:
    if value.dtype == object:  # by channel, over all pixels of some frames, shaped (channels, 1, 1)
        value = value[np.unique(np.linspace(0, len(value) - 1, STATS_FRAMES).astype(int))]
        images = [_pixels(image).astype(np.float64) for image in value]
        if len({image.shape for image in images}) > 1:
            raise RobotError("an episode has images of different sizes; accepted is one size")
        pixels = np.stack(images)
        table, shape = pixels.reshape(-1, pixels.shape[-1]), (-1, 1, 1)
    else:
        table, shape = value.reshape(len(value), -1).astype(np.float64), (-1,)
    found = {"min": table.min(0), "max": table.max(0), "mean": table.mean(0), "std": table.std(0)}
    return {**{name: v.reshape(shape).tolist() for name, v in found.items()}, "count": [len(value)]}


def _lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
