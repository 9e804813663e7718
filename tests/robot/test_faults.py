"""The fault benchmark in small: no fault does harm, and its judge would notice if one did."""

from __future__ import annotations

import pytest

from benchmarks.faults import inject
from benchmarks.rig.judge import exceeded, lost, motor_is_off
from robot.episodes import EpisodeStore
from robot.settings import JointLimits

LIMIT = JointLimits(position=(-0.4, 0.4), velocity=1.5, effort=8.0, effort_rate=300.0)


def goal(force: float, x: float = 0.0, speed: float = 0.0) -> dict:
    return {"event": "goal", "efforts": [force], "position": [x], "velocity": [speed]}


ON, OFF = {"event": "motor on"}, {"event": "motor off"}


def test_one_fault_of_each_kind_does_no_harm():
    verdicts, trouble = inject(16, seed=5)
    assert trouble == [] and sum(v.injected for v in verdicts.values()) == 16
    for verdict in verdicts.values():
        assert (verdict.limits_exceeded, verdict.stops_not_latched, verdict.episodes_lost) == (0, 0, 0)


@pytest.mark.parametrize(
    ("events", "word"),
    [
        ([goal(1)], "motor off"),
        ([ON, goal(6), goal(8.5)], "effort 8.50"),
        ([ON, goal(7)], "in one period"),
        ([ON, goal(-3), goal(4)], "in one period"),
        ([ON, goal(1, x=0.6)], "outwards"),
        ([ON, goal(-1, speed=-1.7)], "faster"),
        ([ON, goal(1, speed=-2.3)], "speed"),
    ],
)
def test_the_judge_sees_each_kind_of_harm(events, word):
    assert word in exceeded(events, LIMIT, 0.02)[0]


def test_the_judge_accepts_what_is_allowed():
    fine = [ON, goal(6), goal(8), goal(0), goal(-6), goal(-1), goal(3, x=-0.7), goal(2, speed=-1.9), OFF]
    assert exceeded(fine, LIMIT, 0.02) == []
    assert motor_is_off(fine) and not motor_is_off(fine[:-1]) and motor_is_off([])


def test_the_judge_misses_no_episode(session, balancer, tmp_path):
    names = {session.run_episode(balancer, purpose="evaluation", seed=1, world=w).meta.episode_id for w in range(2)}
    folder = tmp_path / "episodes"
    assert lost(folder, names) == set() and lost(folder, {"gone"}) == {"gone"}
    path = folder / f"{min(names)}.parquet"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(bytes(data))
    assert min(names) in {name.removesuffix(".parquet") for name in lost(folder, names)}
    assert len(EpisodeStore(folder)) == 2
