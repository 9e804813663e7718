"""Delay, lag and gain out of commanded and measured velocities."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from robot.interface import RobotError
from robot.response import Track, block_weights, fit_response, number_blocks

PERIOD_S, FINE = 0.01, 20  # of commands; steps of the truth in one
SECONDS = 8.0


def record(delay_s: float, lag_s: float, gain: float, friction: float = 0.0, seed: int = 0) -> Track:
    """Two joints behind a proportional and integral controller; with friction they tell their torques."""
    random = np.random.default_rng(seed)
    time_s = np.arange(0.0, SECONDS, PERIOD_S)
    waves = np.array([0.3, 0.7, 1.3, 2.1])
    phase, size = random.uniform(0, 6, (2, 4)), random.uniform(0.1, 0.3, (2, 4))
    command = np.stack([(size[j] * np.sin(2 * np.pi * waves * time_s[:, None] + phase[j])).sum(1) for j in (0, 1)], 1)
    step, stiffness, damping = PERIOD_S / FINE, 1500.0, 100.0
    followed, reference, q, v = np.zeros(2), np.zeros(2), np.zeros(2), np.zeros(2)
    velocity, effort = np.zeros_like(command), np.zeros_like(command)
    for i in range(len(time_s) * FINE):
        at = i * step - delay_s
        wanted = command[int(at // PERIOD_S)] * gain if at >= 0 else np.zeros(2)
        followed = wanted if not lag_s else followed + -np.expm1(-step / lag_s) * (wanted - followed)
        reference = reference + followed * step
        torque = stiffness * (reference - q) + damping * (followed - v)
        if i % FINE == 0:
            velocity[i // FINE], effort[i // FINE] = v, torque
        v = v + step * (torque - friction * (2.0 * v + 1.5 * np.tanh(v / 0.01))) / 0.8
        q = q + v * step
    noisy = velocity + random.normal(0, 0.01, velocity.shape)
    return Track(time_s, command, noisy, effort + random.normal(0, 0.1, effort.shape) if friction else None)


def fitted(track: Track):
    blocks = number_blocks([track.time_s], 1.0)
    random = np.random.default_rng(1)
    return fit_response([track], block_weights(int(blocks.max()) + 1, 200, random), random)


@settings(max_examples=3, deadline=None, phases=[Phase.generate])
@given(delay=st.floats(0.0, 0.08), lag=st.floats(0.0, 0.04), gain=st.floats(0.8, 1.1))
def test_the_sum_of_delay_and_lag_and_the_gain_are_found(delay: float, lag: float, gain: float):
    found = fitted(record(delay, lag, gain))
    assert found.delay_s + found.lag_s == pytest.approx(delay + lag, abs=2.5e-3)
    assert found.gain == pytest.approx(gain, rel=0.01)
    low, high = found.interval("total_s")
    assert low <= found.delay_s + found.lag_s <= high and high - low < 0.02


def test_inertia_and_friction_are_not_taken_for_lateness_where_torques_are_told():
    track = record(0.035, 0.02, 0.95, friction=1.0)
    with_torque = fitted(track)
    assert with_torque.delay_s + with_torque.lag_s == pytest.approx(0.055, abs=1.5e-3)
    without = fitted(Track(track.time_s, track.command, track.velocity))
    assert abs(without.delay_s + without.lag_s - 0.055) > abs(with_torque.delay_s + with_torque.lag_s - 0.055)
    assert np.isnan(without.compensated)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_noisy_torques_are_not_taken_for_a_delay(seed: int):
    """A hundredth of a rad/s of noise through the controller; compared at all frequencies they cost 9 ms."""
    track = record(0.035, 0.02, 0.95, friction=1.0, seed=seed)
    assert track.effort is not None
    noise = np.random.default_rng(9 + seed).normal(0.0, 1.0, track.effort.shape)
    found = fitted(replace(track, effort=track.effort + noise))
    assert found.delay_s == pytest.approx(0.035, abs=4e-3) and found.lag_s == pytest.approx(0.02, abs=4e-3)


def test_joints_that_were_not_asked_to_move_are_refused():
    track = record(0.03, 0.0, 1.0)
    with pytest.raises(RobotError, match="move more"):
        fitted(Track(track.time_s, track.command * 0.0, track.velocity))
