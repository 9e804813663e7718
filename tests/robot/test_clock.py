"""The control loop's clock."""

from __future__ import annotations

import time

from robot.clock import Clock


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
