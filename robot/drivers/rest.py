"""What drivers do alike at a stop: see that the joints came to rest, and say how the link has been."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np

from robot.interface import Held, Observation, Status

STILL = 0.15  # m/s or rad/s: below this an actuated joint counts as at rest
WAIT_S = 1.0
LOOK_S = 0.02


def until_still(
    observe: Callable[[], Observation],
    rows: Sequence[int],
    motors_off: bool,
    start_s: float,
    *,
    realtime: bool = True,
    slower_than: float = STILL,
    wait_s: float = WAIT_S,
) -> Held:
    """What `hold`, begun at `start_s` (monotonic clock), returns once the joints `rows` rest or `wait_s` is over.

    A world that waits for commands does not move meanwhile: one look is all there is to see.
    """
    while True:
        velocity = observe().joint_velocity
        still = bool(np.all(np.abs(velocity[list(rows)]) < slower_than))
        elapsed = time.monotonic() - start_s
        if still or not realtime or elapsed > wait_s:
            return Held(motors_off, still and realtime, velocity, elapsed)
        time.sleep(LOOK_S)


def link_status(connected: bool, trouble: str, errors: int) -> Status:
    """The status of a driver that knows nothing but its link."""
    if not connected:
        return Status("disconnected", trouble, errors)
    return Status("degraded" if errors else "ok", f"{errors} link errors" if errors else "", errors)
