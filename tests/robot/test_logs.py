"""Recordings from elsewhere: what is read, what is refused, and that every refusal is a sentence."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.tasks.cartpole import Cartpole
from pipeline import cli
from robot.episodes import EpisodeStore
from robot.interface import RobotError
from robot.log_files import parse_map, read_log, write_log
from robot.logs import Log, from_episode
from tests.robot.test_episodes import make_episode

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "real_logs" / "pendulum"
needs_recordings = pytest.mark.skipif(not REAL.exists(), reason="the recordings of real robots are not on this machine")


def rows(n: int = 50) -> np.ndarray:
    """(n, 4): a swing at 100 Hz with a little jitter in time."""
    t = np.arange(n) * 0.01 + 1e-4 * np.sin(np.arange(n))
    return np.stack([t, np.sin(5 * t), 5 * np.cos(5 * t), np.cos(t)], 1)


def write(path: Path, table: np.ndarray, header: str = "time,position,velocity,torque") -> Path:
    path.write_text("\n".join([header, *(",".join(f"{x:.17g}" for x in row) for row in table)]) + "\n")
    return path


def same(a: Log, b: Log) -> bool:
    arrays = ("time_s", "position", "velocity", "effort", "piece")
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in arrays) and (a.joints, a.units, a.problems) == (
        b.joints,
        b.units,
        b.problems,
    )


@needs_recordings
@pytest.mark.parametrize(("name", "count", "period"), [("pd_excitation", 1170, 1 / 300), ("ddp_swingup", 3000, 0.002)])
def test_real_recordings_are_read_as_they_are(name, count, period, tmp_path):
    log = read_log(REAL / f"{name}.csv")
    raw = np.loadtxt(REAL / f"{name}.csv", delimiter=",", skiprows=1)
    assert len(log) == count and log.problems == () and len(log.pieces()) == 1
    assert log.period_s == pytest.approx(period, rel=1e-3)
    assert np.array_equal(log.time_s, raw[:, 0]) and np.array_equal(log.effort[:, 0], raw[:, 3])
    write_log(log, tmp_path / "log.parquet")
    assert same(read_log(tmp_path / "log.parquet"), log)


def test_time_stays_as_recorded_and_units_become_si(tmp_path):
    table = rows()
    log = read_log(write(tmp_path / "a.csv", table))
    assert np.array_equal(log.time_s, table[:, 0]) and log.problems == ()
    other = table * [1e3, 180 / np.pi, 60 / (2 * np.pi), 1e3]
    path = write(tmp_path / "b.csv", other[:, ::-1], "tau;w;q;stamp".replace(";", ","))
    mapped = read_log(path, ["time=stamp:ms", "position.hinge=q:deg", "velocity.hinge=w:rpm", "torque.hinge=tau:mNm"])
    assert mapped.joints == ("hinge",) and mapped.units["position.hinge"] == "deg" and mapped.problems == ()
    for column in ("time_s", "position", "velocity", "effort"):
        assert np.allclose(getattr(mapped, column), getattr(log, column), atol=1e-12)
    assert mapped.sha256 != log.sha256 and len(log.sha256) == 64


def test_rows_that_cannot_be_used_are_named_and_the_rest_is_used(tmp_path):
    table = rows(100)
    table[3, 1] = np.nan
    table[10, 0] = table[9, 0]
    table[40:, 0] += 1.0
    table[70:, 0] -= 0.9
    log = read_log(write(tmp_path / "a.csv", table))
    kinds = {p.kind: p for p in log.problems}
    assert kinds["not finite"].lines == (5,) and "line 5" in kinds["not finite"].sentence
    assert kinds["gap"].lines == (42,) and "1 s" in kinds["gap"].sentence
    assert {line for p in log.problems if p.kind == "clock" for line in p.lines} == {12, 72}
    assert len(log) == 98
    for piece in log.pieces():
        assert (np.diff(log.time_s[piece]) > 0).all()
    cuts = [log.time_s[piece][0] for piece in log.pieces()]
    assert table[40, 0] in cuts and table[70, 0] in cuts


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t[:1], ["1 rows"]),
        (lambda t: t * np.nan, ["0 of 50 rows are finite"]),
        (lambda t: t * [0, 1, 1, 1], ["time never rises"]),
        (lambda t: t[::-1], ["time never rises"]),
    ],
)
def test_a_recording_without_use_is_refused(tmp_path, change, words):
    with pytest.raises(RobotError) as error:
        read_log(write(tmp_path / "a.csv", change(rows())))
    assert all(word in str(error.value) for word in ["a.csv", *words])


def test_columns_and_maps_that_do_not_fit_are_refused(tmp_path):
    path = write(tmp_path / "a.csv", rows()[:, :3], "time,position,velocity")
    with pytest.raises(RobotError, match="no column torque; it has time, position, velocity"):
        read_log(path)
    with pytest.raises(RobotError, match="cannot be read"):
        read_log(tmp_path / "none.csv")
    good = ["time=t", "position=q", "velocity=w", "torque=u"]
    for bad, words in (
        ([*good, "speed=x"], "'speed'"),
        ([*good[:3], "torque=u:kNm"], "'kNm'"),
        (good[:3], "for effort"),
        ([*good, "torque=v"], "twice"),
        ([*good, "position.arm=v"], "joints differ"),
        (["time"], "'time'"),
    ):
        with pytest.raises(RobotError, match=words):
            parse_map(bad)


@pytest.mark.parametrize(("column", "factor"), [(1, 180 / np.pi), (2, 180 / np.pi), (2, -1.0), (0, 1e3)])
def test_wrong_units_are_suspected(tmp_path, column, factor):
    table = rows()
    table[:, column] *= factor
    (problem,) = read_log(write(tmp_path / "a.csv", table)).problems
    assert problem.kind == "units" and "as " in problem.sentence


def swing(n: int = 400) -> np.ndarray:
    """(n, 4): a joint with friction that is driven to swing; its torque is no derivative of anything."""
    t = np.arange(n) * 0.01
    q, v = np.sin(3 * t) + 0.3 * np.sin(7.1 * t), 3 * np.cos(3 * t) + 2.13 * np.cos(7.1 * t)
    return np.stack([t, q, v, 0.4 * v - 0.2 * q + 0.6 * np.sin(11 * t)], 1)


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        (lambda t: t[:, [0, 2, 1, 3]], "units", "seem to be swapped; accepted is to name them"),
        (lambda t: t[:, [0, 1, 3, 2]], "units", "the effort of joint is what the velocity"),
        (lambda t: t * [1, 1, 0, 1], "constant", "is 0 in every row while its position moves"),
        (lambda t: t * [1, 1, -1, 1], "units", "COLUMN:-rad/s turns one round"),
    ],
)
def test_columns_that_cannot_be_what_they_are_called_are_told(tmp_path, change, kind, words):
    (problem,) = read_log(write(tmp_path / "a.csv", change(swing()))).problems
    assert problem.kind == kind and words in problem.sentence


def test_spikes_repeats_and_whole_turns_are_put_right_and_told(tmp_path):
    table = swing()
    clean_log = read_log(write(tmp_path / "a.csv", table))
    assert clean_log.problems == ()
    bad = table.copy()
    bad[[50, 200], 1] += 5.0
    log = read_log(write(tmp_path / "b.csv", bad))
    assert [p.kind for p in log.problems] == ["spike"] and log.problems[0].lines == (52, 202) and len(log) == 398
    often = np.repeat(table, 4, axis=0)
    often[:, 0] = np.arange(len(often)) * 0.0025
    log = read_log(write(tmp_path / "c.csv", often))
    assert [p.kind for p in log.problems] == ["repeated"] and np.array_equal(log.position[:, 0], table[:, 1])
    turning = table * [1, 4, 4, 1]
    wrapped = turning.copy()
    wrapped[:, 1] = np.mod(turning[:, 1] + np.pi, 2 * np.pi) - np.pi
    log = read_log(write(tmp_path / "d.csv", wrapped))
    assert [p.kind for p in log.problems] == ["turn"]
    assert np.allclose(log.position[:, 0], turning[:, 1] - turning[0, 1] + wrapped[0, 1])


def test_other_ways_to_write_the_same(tmp_path):
    table = swing()
    log = read_log(write(tmp_path / "a.csv", table))
    lines = [";".join(f"{x:.17g}".replace(".", ",") for x in row) for row in table]
    (tmp_path / "comma.csv").write_text("\n".join(["time;position;velocity;torque", *lines]))
    assert np.array_equal(read_log(tmp_path / "comma.csv").position, log.position)
    names = ["time", "position", "velocity", "torque"]
    pq.write_table(pa.table(dict(zip(names, table.T, strict=True))), tmp_path / "other.parquet")
    assert np.array_equal(read_log(tmp_path / "other.parquet").effort, log.effort)
    turned = read_log(
        write(tmp_path / "b.csv", table * [1, 1, 1, -1]), [*(f"{n}={n}" for n in names[:3]), "torque=torque:-Nm"]
    )
    assert np.array_equal(turned.effort, log.effort)
    with pytest.raises(RobotError, match="no column torque; it has time, position"):
        pq.write_table(pa.table(dict(zip(names[:3], table.T, strict=False))), tmp_path / "less.parquet")
        read_log(tmp_path / "less.parquet")
    with pytest.raises(RobotError, match="first line holds numbers"):
        read_log(write(tmp_path / "c.csv", table[1:], "0,0.5,1,2"))


def test_noise_that_hides_the_units_of_a_column_is_no_reason_to_doubt_them(tmp_path):
    random, table = np.random.default_rng(0), rows(2000)
    table[:, 1:3] *= 0.1  # a motion not much larger than the noise of its readings
    table[:, 1:3] += random.normal(0, 0.05, (2000, 2))
    assert not read_log(write(tmp_path / "a.csv", table)).problems
    table[:, 2] *= 1e3
    assert [problem.kind for problem in read_log(write(tmp_path / "b.csv", table)).problems] == ["units"]


def test_a_robot_that_waits_for_commands_has_a_time_of_its_own():
    episode = make_episode("r-0", 20)
    quick = episode.columns | {"t_mono_s": episode.columns["t_mono_s"] * 0.05}
    assert np.allclose(np.diff(from_episode(replace(episode, columns=quick)).time_s), 0.02)
    late = episode.columns | {"t_mono_s": episode.columns["t_mono_s"] * 1.1}
    assert np.allclose(np.diff(from_episode(replace(episode, columns=late)).time_s), 0.022)


def test_an_episode_is_a_log(tmp_path):
    store, episode = EpisodeStore(tmp_path), make_episode("r-000000", 20)
    store.append(episode)
    log = read_log(tmp_path / "r-000000.parquet")
    assert len(log) == 19 and log.units["effort"] == "action"
    assert np.allclose(log.position[3], episode.columns["joint_position"][3])
    assert log.time_s[3] == episode.columns["t_mono_s"][4]
    task = Cartpole()
    known = from_episode(episode, task)
    assert known.joints == task.joints and np.allclose(known.effort, task.command(episode.columns["sent"][1:]))
    with pytest.raises(RobotError, match="2 steps"):
        from_episode(make_episode("r-1", 2))


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=400),
        st.lists(
            st.lists(
                st.one_of(
                    st.floats().map(str), st.text(max_size=5), st.sampled_from(["1e999", "-", "nan", '"', "0x1", "1,2"])
                ),
                max_size=5,
            ).map(",".join),
            max_size=12,
        ).map(lambda lines: "\n".join(["time,position,velocity,torque", *lines]).encode("utf-8", "replace")),
    )
)
def test_any_bytes_give_a_log_or_a_sentence(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("fuzz") / "a.csv"
    path.write_bytes(data)
    try:
        log = read_log(path)
    except RobotError as error:
        assert len(str(error)) > 20 and "\n" not in str(error).strip()
    else:
        assert all(np.isfinite(a).all() for a in (log.time_s, log.position, log.velocity, log.effort))
        assert all((np.diff(log.time_s[piece]) > 0).all() for piece in log.pieces())


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damaged_parquet_gives_a_log_or_a_sentence(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("fuzz")
    write_log(read_log(write(folder / "a.csv", rows(20))), folder / "a.parquet")
    EpisodeStore(folder).append(make_episode("r-000000", 5))
    name = data.draw(st.sampled_from(["a.parquet", "r-000000.parquet"]))
    damaged = bytearray((folder / name).read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (folder / "x.parquet").write_bytes(damaged[: data.draw(st.integers(0, len(damaged)))])
    try:
        read_log(folder / "x.parquet")
    except RobotError as error:
        assert "x.parquet" in str(error) or "r-000000" in str(error) or "no column" in str(error)


def test_the_command_imports_and_tells(tmp_path, capsys):
    table = rows()
    table[7, 3] = np.nan
    path = write(tmp_path / "a.csv", table)
    assert cli.main(["robot", "import", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "49 rows" in out and "line 9" in err
    assert len(read_log(tmp_path / "a.parquet")) == 49
    assert cli.main(["robot", "import", str(path)]) == cli.EXIT_USER
    assert "exists" in capsys.readouterr().err
    assert cli.main(["robot", "import", str(path), "--map", "time=t"]) == cli.EXIT_USER
    assert "map:" in capsys.readouterr().err


def test_the_code_in_the_documentation_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    store = EpisodeStore("runs/demo/robot/episodes")
    for i in range(2):
        store.append(make_episode(store.next_id("r"), 5, seed=i))
    write(tmp_path / "rig.csv", rows() * [1e3, 180 / np.pi, 180 / np.pi, 1e3], "stamp,angle,rate,tau")
    page = (ROOT / "docs" / "episodes.md").read_text()
    namespace: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "docs/episodes.md", "exec"), namespace)
    assert "50 rows 0.01 s apart; []" in capsys.readouterr().out
