"""Delay and lag of the twin, found from outside."""

from __future__ import annotations

import pytest
import yaml

from robot.interface import RobotError
from robot.latency import measure, to_yaml
from robot.twin.hidden import load


def test_delay_and_lag_of_the_twin_are_found(session, task):
    found = measure(session, 24, 0.8)
    hidden = load(None)
    delay_ms = hidden.latency_ms + 0.8 * hidden.latency_jitter_ms  # the mean of |standard normal| is 0.8
    assert found.total_ms == pytest.approx(delay_ms + hidden.lag_ms, abs=8)
    assert found.delay_ms == pytest.approx(delay_ms, abs=12)
    low, high = found.ranges_ms["total_ms"]
    assert low < found.total_ms < high
    ranges = yaml.safe_load(to_yaml(found, task))["randomization"]["ranges"]
    assert set(ranges) == {"action.delay_ms", "action.lag_ms"} and all(a <= b for a, b in ranges.values())
    assert session.status().state == "ok"


def test_a_stopped_robot_is_not_measured(session):
    session.hold("no")
    with pytest.raises(RobotError, match="stopped"):
        measure(session, 4, 0.8)
