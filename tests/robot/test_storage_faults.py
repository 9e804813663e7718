"""A full disk at every step, images, and the export: what was committed is never lost, what is not is told."""

from __future__ import annotations

import errno
import json
import os
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from benchmarks.rig.pilot import ShortCartpole
from pipeline import cli
from pipeline.config import load_experiment, save_experiment
from pipeline.tracking_metrics import result_metrics
from robot import durable
from robot.episodes import EpisodeStore, RobotEpisode
from robot.interface import RobotError
from robot.latch import Latch
from robot.ledger import PURPOSES, BudgetSpent, Ledger, Stopwatch
from robot.lerobot_export import export
from robot.open import open_session
from tests.robot.test_episodes import make_episode, same

PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


class FullDisk:
    """Lets `allowed` calls of write, fsync and rename pass and fails the next ones as a full disk does."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, allowed: int) -> None:
        self.left, self.fired = allowed, False
        real_open, real_fsync, real_replace = open, os.fsync, os.replace

        def spend() -> None:
            self.left -= 1
            if self.left < 0:
                self.fired = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def opened(path, mode="r", *rest, **keys):
            file = real_open(path, mode, *rest, **keys)
            if "w" in mode or "a" in mode:
                write = file.write

                def half(data):
                    try:
                        spend()
                    except OSError:
                        write(data[: len(data) // 2])
                        file.flush()
                        raise
                    return write(data)

                file = _Writes(file, half)
            return file

        def synced(descriptor):
            spend()
            real_fsync(descriptor)

        def replaced(old, new):
            spend()
            real_replace(old, new)

        monkeypatch.setattr(durable, "open", opened, raising=False)
        monkeypatch.setattr(os, "fsync", synced)
        monkeypatch.setattr(os, "replace", replaced)


class _Writes:
    def __init__(self, file, write) -> None:
        self._file, self.write = file, write

    def __getattr__(self, name):
        return getattr(self._file, name)

    def __enter__(self):
        self._file.__enter__()
        return self

    def __exit__(self, *rest):
        return self._file.__exit__(*rest)


@pytest.mark.parametrize("allowed", range(8))
def test_a_full_disk_at_any_step_loses_no_committed_episode(tmp_path, allowed):
    """An append has 8 steps that can fail: write, fsync, rename, fsync of the folder, for episode and manifest."""
    store = EpisodeStore(tmp_path)
    for i in range(2):
        store.append(make_episode(store.next_id("r"), 10, seed=i))
    with pytest.MonkeyPatch.context() as patch:
        disk = FullDisk(patch, allowed)
        with pytest.raises(RobotError, match="No space left"):
            store.append(make_episode("r-000002", 10, seed=2))
        assert disk.fired
    for again in (store, EpisodeStore(tmp_path)):
        names = [meta.episode_id for meta in again.list()]
        assert names[:2] == ["r-000000", "r-000001"]
        for i, name in enumerate(names):
            assert same(again.read(name), make_episode(name, 10, seed=i))
        assert all(name.endswith(".tmp") for name in again.verify())
    again = EpisodeStore(tmp_path)
    name = again.next_id("r")
    again.append(make_episode(name, 5, seed=9))  # there is room again
    assert same(EpisodeStore(tmp_path).read(name), make_episode(name, 5, seed=9))
    assert all(name.endswith(".tmp") for name in EpisodeStore(tmp_path).verify())


def test_all_steps_of_an_append_are_covered(tmp_path, monkeypatch):
    store = EpisodeStore(tmp_path)
    disk = FullDisk(monkeypatch, 8)
    store.append(make_episode("r-000000", 10))
    assert disk.left == 0 and not disk.fired


@pytest.mark.parametrize("allowed", range(2))
def test_a_full_disk_cuts_no_earlier_line_of_the_ledger(tmp_path, allowed):
    ledger = Ledger(tmp_path / "ledger.jsonl", 90.0)
    ledger.book("collection", 10.0, "a")
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, allowed)
        with pytest.raises(RobotError, match="No space left.*1 bookings are kept"):
            ledger.book("collection", 5.0, "b")
    assert ledger.totals()["collection"] == 15.0
    assert Ledger(tmp_path / "ledger.jsonl", 90.0).totals()["collection"] == 10.0
    ledger.book("evaluation", 2.0, "c")  # there is room again
    for view in (ledger, Ledger(tmp_path / "ledger.jsonl", 90.0)):
        assert view.totals() == {"collection": 15.0, "evaluation": 2.0}


def test_a_stop_that_cannot_be_written_is_latched_and_outlives_the_session(tmp_path):
    latch = Latch(tmp_path)
    latch.open("robot0")
    with pytest.MonkeyPatch.context() as patch:
        FullDisk(patch, 0)
        latch.stop("smoke")
    assert latch.reason.startswith("smoke") and "No space left" in latch.reason
    latch.close()
    again = Latch(tmp_path)
    again.open("robot0")
    assert "without closing" in again.reason


def test_seconds_flown_are_booked_when_the_episode_cannot_be_kept(session, balancer, monkeypatch):
    def full(episode):
        raise RobotError("No space left")

    monkeypatch.setattr(session.store, "append", full)
    with pytest.raises(RobotError, match="No space left"):
        session.run_episode(balancer, purpose="evaluation", seed=3, world=0)
    assert session.ledger.totals()["evaluation"] > 0


def test_images_are_kept_as_they_were_encoded(tmp_path):
    plain = make_episode("r-000000", 3)
    images = np.array([PNG, b"\xff\xd8\xff" + bytes(9), PNG], object)
    store = EpisodeStore(tmp_path)
    store.append(RobotEpisode(plain.meta, {**plain.columns, "image": images}))
    back = EpisodeStore(tmp_path).read("r-000000")
    assert list(back.columns["image"]) == list(images) and same(back, plain)
    assert pq.read_table(tmp_path / "r-000000.parquet").column("image").to_pylist() == list(images)
    other = make_episode("r-000001", 3)
    with pytest.raises(RobotError, match="row 1"):
        store.append(RobotEpisode(other.meta, {**other.columns, "image": np.array([PNG, b"raw", PNG], object)}))
    assert EpisodeStore(tmp_path).verify() == {}


def test_the_export_has_lerobots_layout(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store = EpisodeStore("run/robot/episodes")
    for i, steps in enumerate((10, 7)):
        store.append(make_episode(store.next_id("r"), steps, seed=i))
    assert cli.main(["robot", "export-lerobot", "run", "out"]) == 0
    assert "2 episodes, 15 frames" in capsys.readouterr().out
    info = json.loads(Path("out/meta/info.json").read_text())
    assert (info["codebase_version"], info["total_episodes"], info["total_frames"]) == ("v2.1", 2, 15)
    lines = [json.loads(line) for line in Path("out/meta/episodes.jsonl").read_text().splitlines()]
    assert [line["length"] for line in lines] == [9, 6]
    assert len(Path("out/meta/episodes_stats.jsonl").read_text().splitlines()) == 2
    assert json.loads(Path("out/meta/tasks.jsonl").read_text())["task_index"] == 0
    index = []
    for i in range(2):
        table = pq.read_table(Path("out") / info["data_path"].format(episode_chunk=0, episode_index=i))
        assert set(table.column_names) == set(info["features"])
        index += table.column("index").to_pylist()
        sent = np.array(table.column("action").to_pylist(), np.float32)
        assert np.array_equal(sent, store.read(f"r-00000{i}").columns["sent"][1:])
    assert index == list(range(15))
    assert cli.main(["robot", "export-lerobot", "run", "out"]) == cli.EXIT_USER
    assert cli.main(["robot", "export-lerobot", "nowhere", "out2"]) == cli.EXIT_USER


def png(colour: int, size: tuple[int, int] = (6, 4)) -> bytes:
    """`size` is width and height."""
    encoded = BytesIO()
    Image.new("RGB", size, (colour, 0, 255)).save(encoded, "PNG")
    return encoded.getvalue()


def test_the_export_carries_images_as_they_were_encoded(tmp_path):
    store, images = EpisodeStore(tmp_path / "in"), [png(10 * k) for k in range(5)]
    plain = make_episode("r-000000", 5)
    store.append(RobotEpisode(plain.meta, {**plain.columns, "image": np.array(images, object)}))
    assert export(store, store.list(), tmp_path / "out") == (1, 4)
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    feature = {"dtype": "image", "shape": [4, 6, 3], "names": ["height", "width", "channels"]}
    assert info["features"]["observation.image"] == feature
    table = pq.read_table(tmp_path / "out" / info["data_path"].format(episode_chunk=0, episode_index=0))
    assert [one["bytes"] for one in table.column("observation.image").to_pylist()] == images[:4]
    declared = json.loads(table.schema.metadata[b"huggingface"])["info"]["features"]
    assert declared["observation.image"] == {"_type": "Image"} and set(declared) == set(table.column_names)
    stats = json.loads((tmp_path / "out/meta/episodes_stats.jsonl").read_text())["stats"]["observation.image"]
    assert stats["max"] == [[[pytest.approx(30 / 255)]], [[0.0]], [[1.0]]] and stats["count"] == [4]


@pytest.mark.parametrize(("second", "why"), [(PNG, "cannot be decoded"), (png(0, (5, 5)), "different sizes")])
def test_images_that_cannot_be_exported_are_named_and_nothing_is_left(tmp_path, second, why):
    store, plain = EpisodeStore(tmp_path / "in"), make_episode("r-000000", 3)
    images = np.array([png(1), second, png(1)], object)
    store.append(RobotEpisode(plain.meta, {**plain.columns, "image": images}))
    with pytest.raises(RobotError, match=why):
        export(store, store.list(), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_budgets_refuse_before_they_are_overspent(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 90.0, {"collection": 25.0, "total": 40.0}, 0.9)
    assert ledger.refusal({"collection": 25.0}) == ""
    assert "at least 25.1 s" in ledger.refusal({"collection": 25.1})
    ledger.book("collection", 20.0, "a")
    assert "budget_s.collection: 5.0 s of 25 s are left" in ledger.refusal({"collection": 10.0})
    assert "budget_usd: 0.40 USD of 0.9 are left" in ledger.refusal({"evaluation": 17.0})
    assert "budget_s.total: 20.0 s of 40 s" in ledger.refusal({"evaluation": 10.0, "reset": 11.0})
    assert (ledger.left_s("collection"), ledger.left_s("evaluation")) == (5.0, pytest.approx(16.0))
    ledger.book("idle", 12.0, "a")  # costs, and is no use of the robot
    assert ledger.left_s("evaluation") == pytest.approx(4.0) and ledger.budget_left()["total"] == 20.0
    with pytest.raises(BudgetSpent, match="accepted is"):
        ledger.afford({"evaluation": 5.0})
    for purpose, seconds in (("flying", 1.0), ("idle", -1.0), ("idle", float("nan"))):
        with pytest.raises(RobotError, match="ledger"):
            ledger.book(purpose, seconds, "")


def test_a_round_ends_before_its_budget_is_overspent(tmp_path, task, make_settings, balancer):
    session = open_session(make_settings(budget_s={"evaluation": 25.0}), task, tmp_path)
    flown = 0
    with pytest.raises(BudgetSpent, match="evaluation.*of 25 s are left"):
        while True:
            session.run_episode(balancer, purpose="evaluation", seed=3, world=flown)
            flown += 1
    spent = session.ledger.totals()["evaluation"]
    assert flown >= 2 and 15.0 < spent <= 25.0 and session.status().state == "ok"
    session.run_episode(balancer, purpose="collection", seed=3, world=0)
    session.close()


@pytest.mark.real_time
def test_every_second_of_a_real_robot_is_booked(patient, tmp_path, make_settings, balancer):
    before = time.monotonic()
    session = open_session(make_settings(mode="realtime", watchdog_ms=2500.0), ShortCartpole(), tmp_path)
    opened = time.monotonic()
    flown = session.run_episode(balancer, purpose="collection", seed=3, world=0).meta.robot_s
    time.sleep(0.2)
    session.hold("the button")
    time.sleep(0.1)
    session.recover("Ada")
    open_s = time.monotonic() - opened
    session.close()
    seconds = Ledger(tmp_path / "ledger.jsonl", 0.0).metrics()
    assert open_s <= seconds["total_s"] <= time.monotonic() - before
    assert seconds["collection_s"] == pytest.approx(flown) and flown > 0.1
    assert seconds["idle_s"] >= 0.2 and seconds["stopped_s"] >= 0.1 and seconds["reset_s"] > 0


def test_every_second_is_shown(tmp_path, capsys):
    ledger = Ledger(tmp_path / "robot" / "ledger.jsonl", 3600.0)
    for purpose, seconds in (("idle", 3.0), ("reset", 1.0), ("collection", 10.0), ("stopped", 6.0)):
        ledger.book(purpose, seconds, "")
    ledger.book("evaluation", 10.0, "b")
    metrics = ledger.metrics()
    assert metrics["total_s"] == metrics["cost_usd"] == 30.0 and metrics["stopped_s"] == 6.0
    assert result_metrics({"robot": {"ledger": metrics}})["robot/ledger/idle_s"] == 3.0
    budgets = ["robot.budget_s={collection: 25, total: 100}", "robot.budget_usd=50"]
    save_experiment(load_experiment(None, budgets), tmp_path / "config.yaml")
    assert cli.main(["robot", "ledger", str(tmp_path), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["total"] == {"bookings": 5, "seconds": 30.0, "cost_usd": 30.0} and set(PURPOSES) < set(shown)
    assert shown["budget_left"] == {"collection": 15.0, "total": 79.0, "usd": 20.0}
    assert cli.main(["robot", "ledger", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "identification" in out and "20.00 of 50 USD are left" in out
    assert cli.main(["robot", "ledger", str(tmp_path / "none")]) == cli.EXIT_USER


def test_a_booking_that_passes_takes_what_went_before_it_along(tmp_path):
    ledger = Ledger(tmp_path / "ledger.jsonl", 0.0)
    for runs in (False, True):
        watch = Stopwatch(ledger, runs)
        watch.mark("idle")
        time.sleep(0.02)
        watch.book("evaluation", 0.01, "a", then="stopped")
        watch.mark("")
    assert ledger.totals()["evaluation"] == 0.02 and 0.01 <= ledger.totals()["idle"]
    lines = (tmp_path / "ledger.jsonl").read_text().splitlines()
    assert [json.loads(line)["purpose"] for line in lines] == ["evaluation", "idle", "evaluation", "stopped"]
