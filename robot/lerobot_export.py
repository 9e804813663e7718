"""Robot episodes as a LeRobot dataset, layout v2.1 (huggingface.co/docs/lerobot), written without the package.

A frame is what was measured before a step and what was sent in it, so an episode of T steps gives T - 1 frames: what
was measured before the first step is not a column of ours. The layout demands `timestamp` = frame / fps; the times at
which the frames were really captured are the feature `observation.time_s`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from robot.episodes import EpisodeMeta, EpisodeStore, RobotEpisode
from robot.interface import RobotError

CHUNK = 1000  # episodes in a folder
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
    (part / "meta").mkdir(parents=True)
    frames, lines, stats, shapes = 0, [], [], {}
    fps = round(float(np.median([meta.steps / meta.robot_s for meta in chosen if meta.robot_s > 0] or [1.0])))
    for index, meta in enumerate(chosen):
        columns = _frames(store.read(meta.episode_id), index, frames, fps)
        shapes = shapes or {name: _width(value) for name, value in columns.items()}
        if shapes != {name: _width(value) for name, value in columns.items()}:
            raise RobotError(
                f"episode {meta.episode_id} has columns of other sizes; accepted is one robot and one task"
            )
        path = part / DATA_PATH.format(episode_chunk=index // CHUNK, episode_index=index)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table({name: _arrow(value) for name, value in columns.items()}), path)
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
        "features": {name: {"dtype": d, "shape": [n], "names": None} for name, (d, n) in shapes.items()},
    }
    (part / "meta" / "info.json").write_text(json.dumps(info, indent=4))
    _lines(part / "meta" / "episodes.jsonl", lines)
    _lines(part / "meta" / "episodes_stats.jsonl", stats)
    _lines(part / "meta" / "tasks.jsonl", [{"task_index": 0, "task": task}])
    os.replace(part, directory)
    return len(chosen), frames


def _frames(episode: RobotEpisode, index: int, first: int, fps: int) -> dict[str, np.ndarray]:
    c, n = episode.columns, episode.meta.steps - 1
    at = np.asarray(c["t_mono_s"][1:], np.float64)
    return {
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


def _width(value: np.ndarray) -> tuple[str, int]:
    return str(value.dtype), value.shape[1] if value.ndim == 2 else 1


def _arrow(value: np.ndarray) -> pa.Array:
    if value.ndim == 1:
        return pa.array(value)
    flat = pa.array(np.ascontiguousarray(value).ravel())
    return pa.FixedSizeListArray.from_arrays(flat, value.shape[1])


def _stats(value: np.ndarray) -> dict[str, list[Any]]:
    table = value.reshape(len(value), -1).astype(np.float64)
    found = {"min": table.min(0), "max": table.max(0), "mean": table.mean(0), "std": table.std(0)}
    return {**{name: v.tolist() for name, v in found.items()}, "count": [len(value)]}


def _lines(path: Path, records: Sequence[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
