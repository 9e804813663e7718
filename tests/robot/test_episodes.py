"""The episode store: round trips, append-only, and what a crash leaves behind."""

from __future__ import annotations

import subprocess
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.episodes import COLUMNS, EpisodeMeta, EpisodeStore, RobotEpisode
from robot.interface import RobotError

WRITER = """
import sys
from robot.episodes import EpisodeStore
from tests.robot.test_episodes import make_episode
store = EpisodeStore(sys.argv[1])
while True:
    name = store.next_id("r")
    store.append(make_episode(name, 500, seed=len(store)))
    print(name, flush=True)
"""


def make_episode(name: str, steps: int, seed: int = 0) -> RobotEpisode:
    random = np.random.default_rng(seed)
    widths = {"observation": 25, "next_observation": 25, "policy_action": 1, "filtered": 1, "sent": 1}
    widths |= {"joint_position": 2, "joint_velocity": 2}
    columns: dict[str, np.ndarray] = {}
    for column, width in widths.items():
        columns[column] = random.normal(size=(steps, width)).astype(np.float32)
    columns["reward"] = random.normal(size=steps).astype(np.float32)
    columns["terminated"] = random.random(steps) < 0.1
    columns["t_mono_s"] = np.arange(steps) * 0.02
    columns["t_wall_s"] = np.arange(steps) * 0.02 + 1e9
    columns["intervention"] = np.array(["", "effort+velocity"] * steps, object)[:steps]
    meta = EpisodeMeta(
        episode_id=name,
        robot="r",
        purpose="collection",
        success=False,
        episode_return=1.5,
        steps=steps,
        robot_s=0.02 * steps,
        stop="",
        void=False,
        seed=seed,
        world=3,
        episode=0,
        round_id="x",
        policy_version=2,
        policy_run="run",
        lateness_p99_ms=0.0,
        overruns=0,
    )
    return RobotEpisode(meta, columns)


def same(a: RobotEpisode, b: RobotEpisode) -> bool:
    return a.meta == b.meta and all(np.array_equal(a.columns[name], b.columns[name]) for name in COLUMNS)


@settings(max_examples=10, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=4))
def test_what_is_read_is_what_was_written_also_by_another_store(tmp_path_factory, lengths):
    path = tmp_path_factory.mktemp("store")
    store = EpisodeStore(path)
    for i, n in enumerate(lengths):
        store.append(make_episode(store.next_id("r"), n, seed=i))
    again = EpisodeStore(path)
    assert [meta.steps for meta in again.list()] == lengths
    for i, (meta, n) in enumerate(zip(again.list(), lengths, strict=True)):
        assert same(again.read(meta.episode_id), make_episode(meta.episode_id, n, seed=i))
    assert again.verify() == {}


def test_episodes_never_change(tmp_path):
    store = EpisodeStore(tmp_path)
    store.append(make_episode("r-000000", 3))
    before = (tmp_path / "r-000000.parquet").read_bytes()
    with pytest.raises(RobotError, match="never change"):
        store.append(make_episode("r-000000", 4))
    assert (tmp_path / "r-000000.parquet").read_bytes() == before
    with pytest.raises(RobotError, match="not in"):
        store.read("r-000009")
    with pytest.raises(RobotError, match="rows"):
        store.append(RobotEpisode(make_episode("r-000001", 4).meta, make_episode("r-000001", 3).columns))
    assert [meta.episode_id for meta in EpisodeStore(tmp_path).list()] == ["r-000000"]


def test_the_schema_is_plain_parquet(tmp_path):
    EpisodeStore(tmp_path).append(make_episode("r-000000", 5))
    file = pq.ParquetFile(tmp_path / "r-000000.parquet")
    assert file.num_row_groups == 1 and file.metadata.num_rows == 5
    assert tuple(file.schema_arrow.names) == COLUMNS


def test_kill_in_the_middle_of_an_episode_loses_no_announced_one(tmp_path):
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    announced = [writer.stdout.readline().strip() for _ in range(5)]
    time.sleep(0.0137)  # anywhere in the next one
    writer.kill()
    announced += writer.stdout.read().split()
    writer.wait()
    store = EpisodeStore(tmp_path)
    names = [meta.episode_id for meta in store.list()]
    assert set(announced) <= set(names)
    for i, name in enumerate(names):
        assert same(store.read(name), make_episode(name, 500, seed=i))
    assert all(name.endswith(".tmp") for name in store.verify())
    store.append(make_episode(store.next_id("r"), 4))  # and life goes on


def test_torn_damaged_and_missing_files_are_named(tmp_path):
    store = EpisodeStore(tmp_path)
    for i in range(3):
        store.append(make_episode(f"r-00000{i}", 10, seed=i))
    whole = (tmp_path / "r-000000.parquet").read_bytes()
    (tmp_path / "r-000003.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "r-000004.parquet.tmp").write_bytes(whole[:100])
    (tmp_path / "r-000001.parquet").write_bytes(whole[:-1] + b"?")
    (tmp_path / "r-000002.parquet").unlink()
    again = EpisodeStore(tmp_path)
    assert len(again) == 3 and again.next_id("r") == "r-000004"
    problems = again.verify()
    assert set(problems) == {
        "r-000001.parquet",
        "r-000002.parquet",
        "r-000003.parquet",
        "r-000004.parquet.tmp",
    }
    with pytest.raises(RobotError, match="damaged"):
        again.read("r-000001")
    assert same(again.read("r-000000"), make_episode("r-000000", 10))


def test_a_whole_file_that_missed_the_manifest_is_taken_in(tmp_path):
    store = EpisodeStore(tmp_path)
    store.append(make_episode("r-000000", 10))
    manifest = (tmp_path / "manifest.json").read_bytes()
    store.append(make_episode("r-000001", 10, seed=1))
    (tmp_path / "manifest.json").write_bytes(manifest)  # as if the crash came between the two renames
    again = EpisodeStore(tmp_path)
    assert [meta.episode_id for meta in again.list()] == ["r-000000", "r-000001"]
    assert again.verify() == {}
