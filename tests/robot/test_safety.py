"""The filter's promises, for whatever is asked and whatever is measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.interface import Observation, RobotError
from robot.safety import SafetyFilter
from robot.settings import JointLimits

PERIOD = 0.02
anything = st.floats(allow_nan=True, allow_infinity=True)
limits = st.builds(
    JointLimits,
    position=st.tuples(st.floats(-2, -0.1), st.floats(0.1, 2)),
    velocity=st.floats(0.1, 10),
    effort=st.floats(0.1, 100),
    effort_rate=st.floats(1, 5000),
    acceleration=st.none() | st.floats(1, 100),
)


def observation(position: float, velocity: float, at: float = 0.0, age: float = 0.0) -> Observation:
    return Observation(np.array([position]), np.array([velocity]), at, np.array([age]))


def filter_of(limit: JointLimits, **keys) -> SafetyFilter:
    return SafetyFilter({"slider": limit}, ("slider",), ("slider",), PERIOD, **keys)


@settings(max_examples=300)
@given(
    limit=limits,
    speed=st.floats(0.1, 1),
    steps=st.lists(st.tuples(anything, st.floats(-3, 3), st.floats(-15, 15)), min_size=1, max_size=30),
)
def test_no_command_exceeds_any_limit_whatever_is_asked(limit, speed, steps):
    safety = filter_of(limit, lookahead_s=0.1)
    safety.reset(speed)
    last, last_velocity = 0.0, None
    for asked, position, velocity in steps:
        out = safety.filter(np.array([asked]), observation(position, velocity), 0.0)
        effort = float(out.command[0])
        assert math.isfinite(effort)
        assert abs(effort) <= limit.effort
        removed = effort * last >= 0 and abs(effort) <= abs(last)  # towards zero, not beyond it
        assert removed or abs(effort - last) <= limit.effort_rate * PERIOD * (1 + 1e-9)
        if velocity >= limit.velocity * speed:
            assert effort <= 0
        if velocity <= -limit.velocity * speed:
            assert effort >= 0
        if position >= limit.position[1] or position + 0.1 * velocity > limit.position[1]:
            assert effort <= 0
        if position <= limit.position[0] or position + 0.1 * velocity < limit.position[0]:
            assert effort >= 0
        if limit.acceleration is not None and last_velocity is not None and math.isfinite(asked):
            measured = (velocity - last_velocity) / PERIOD
            assert abs(measured) <= limit.acceleration or effort * measured <= 0
        if not math.isfinite(asked):
            assert effort == 0 and out.reasons == ("non_finite",)
        if math.isfinite(asked) and effort == asked:
            assert out.reasons == ()
        else:
            assert out.reasons
        safety.sent(out.command)
        last, last_velocity = effort, velocity


@given(limit=limits, asked=anything, position=anything, velocity=anything)
def test_a_measurement_that_is_no_number_gives_zero(limit, asked, position, velocity):
    out = filter_of(limit).filter(np.array([asked]), observation(position, velocity), 0.0)
    if not (math.isfinite(position) and math.isfinite(velocity) and math.isfinite(asked)):
        assert out.command[0] == 0 and out.reasons == ("non_finite",)


@given(limit=limits, asked=st.floats(-50, 50), waited=st.floats(0, 0.2), age=st.floats(0, 0.2))
def test_an_old_observation_gives_zero(limit, asked, waited, age):
    out = filter_of(limit, max_age_s=0.06).filter(np.array([asked]), observation(0.0, 0.0, 10.0, age), 10.0 + waited)
    if (10.0 + waited) - 10.0 + age > 0.06:
        assert out.command[0] == 0 and out.reasons == ("stale",)
    else:
        assert "stale" not in out.reasons


@settings(max_examples=100)
@given(
    mass=st.floats(0.5, 5),
    drag=st.floats(0, 2),
    asked=st.lists(st.floats(-1e6, 1e6), min_size=50, max_size=200),
)
def test_a_moving_mass_stays_within_velocity_whatever_is_asked(mass, drag, asked):
    limit = JointLimits(position=(-1e6, 1e6), velocity=1.5, effort=10.0, effort_rate=1e4)
    safety = filter_of(limit)
    velocity = position = 0.0
    for force in asked:
        out = safety.filter(np.array([force]), observation(position, velocity), 0.0)
        safety.sent(out.command)
        velocity += (float(out.command[0]) - drag * velocity) / mass * PERIOD
        position += velocity * PERIOD
        assert abs(velocity) <= 1.5 + 10.0 / mass * PERIOD  # at most one period of effort from below the limit


def test_reduced_speed_halves_the_velocity_limit():
    limit = JointLimits(position=(-1, 1), velocity=2.0, effort=10.0, effort_rate=1e4)
    safety = filter_of(limit)
    assert safety.filter(np.array([5.0]), observation(0.0, 1.2), 0.0).command[0] == 5.0
    safety.reset(0.5)
    assert safety.filter(np.array([5.0]), observation(0.0, 1.2), 0.0).command[0] == 0.0
    assert safety.filter(np.array([-5.0]), observation(0.0, 1.2), 0.0).command[0] == -5.0


@given(limit=limits, position=anything, velocity=anything)
def test_unsafe_states_are_named(limit, position, velocity):
    reason = filter_of(limit).unsafe(observation(position, velocity))
    inside = limit.position[0] <= position <= limit.position[1] and abs(velocity) <= 1.5 * limit.velocity
    assert bool(reason) != inside
    assert not reason or "slider" in reason


def test_an_actuated_joint_without_limits_is_refused():
    with pytest.raises(RobotError, match="slider"):
        SafetyFilter({}, ("slider",), ("slider",), PERIOD)
