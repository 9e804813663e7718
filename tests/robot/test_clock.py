"""The control loop's clock."""

from __future__ import annotations

import time

import pytest

from robot.clock import Clock

pytestmark = pytest.mark.real_time


def test_lockstep_time_is_counted_in_ticks():
    clock = Clock(0.02, realtime=False)
    for _ in range(25):
        clock.wait()
    assert clock.elapsed_s == 0.5 and clock.p99_ms == 0.0 and clock.overruns == 0


def test_deadlines_are_absolute_and_missed_ticks_are_skipped_and_counted():
    clock = Clock(0.01, realtime=True)
    begin = time.monotonic()
    for _ in range(10):
        time.sleep(0.004)  # work inside the period does not move the next deadline
        clock.wait()
    assert time.monotonic() - begin >= 0.1
    before = clock.overruns
    time.sleep(0.055)
    clock.wait()
    assert clock.overruns >= before + 4
    assert clock.p99_ms > 30
    assert sum(clock.histogram().values()) == 11
    clock.start()
    assert clock.overruns == 0 and clock.p99_ms == 0.0


def test_latency_and_jitter_are_kept_beside_lateness():
    clock = Clock(0.01, realtime=True)
    for k, sent_s in enumerate((0.001, 0.011, 0.024)):
        clock.acted(0.01 * k, sent_s)
    summary = clock.summary()
    assert summary["latency"]["n"] == 3 and summary["latency"]["max_ms"] == 4.0
    assert summary["jitter"]["n"] == 2 and summary["jitter"]["max_ms"] == 3.0
    assert summary["jitter"]["histogram"]["<= 5.0 ms"] == 1
    quiet = Clock(0.01, realtime=False)
    quiet.acted(0.0, 1.0)
    assert quiet.summary()["latency"]["n"] == 0 and quiet.summary()["latency"]["p99_ms"] is None


def test_a_pause_that_was_asked_for_is_not_late():
    clock = Clock(0.01, realtime=True)
    clock.wait()
    time.sleep(0.1)
    clock.resume()
    clock.wait()
    assert clock.overruns <= 2 and sum(clock.histogram().values()) == 2
