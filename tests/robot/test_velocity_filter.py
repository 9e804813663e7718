"""The promises of the filter for motors that take velocities, whatever is asked and whatever is measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.interface import Observation, RobotError
from robot.safety import Workspace
from robot.settings import JointLimits
from robot.velocity_filter import VelocityFilter

PERIOD, JOINTS = 0.05, ("one", "two")
anything = st.floats(allow_nan=True, allow_infinity=True)
pair = st.tuples(st.floats(-2, 2), st.floats(-2, 2))


def limit(**keys) -> JointLimits:
    return JointLimits.model_validate(
        {"position": (-1.0, 1.0), "velocity": 2.0, "acceleration": 10.0, "effort": 5.0, **keys}
    )


def filter_of(one: JointLimits, two: JointLimits, **keys) -> VelocityFilter:
    return VelocityFilter({"one": one, "two": two}, JOINTS, JOINTS, PERIOD, **keys)


def seen(position, velocity=(0.0, 0.0), at: float = 0.0, age: float = 0.0) -> Observation:
    return Observation(np.array(position), np.array(velocity), at, np.full(2, age))


@settings(max_examples=300)
@given(
    steps=st.lists(st.tuples(st.tuples(anything, anything), pair), min_size=1, max_size=20),
    speed=st.floats(0.1, 1),
    acceleration=st.floats(0.5, 50),
)
def test_no_limit_is_exceeded_whatever_is_asked_and_measured(steps, speed, acceleration):
    one, two = limit(acceleration=acceleration), limit(velocity=0.5, acceleration=acceleration)
    safety = filter_of(one, two)
    safety.reset(speed)
    last = np.zeros(2)
    for asked, position in steps:
        command = safety.filter(np.array(asked), seen(position), 0.0).command
        safety.sent(command)
        assert np.isfinite(command).all()
        assert abs(command[0]) <= 2.0 * speed + 1e-9 and abs(command[1]) <= 0.5 * speed + 1e-9
        faster = np.abs(command) > np.abs(last) + acceleration * PERIOD + 1e-9
        assert not faster.any()
        for q, v in zip(position, command, strict=True):
            assert not (q >= 1.0 and v > 1e-9) and not (q <= -1.0 and v < -1e-9)
        last = command


@given(asked=st.tuples(st.floats(-5, 5), st.floats(-5, 5)), position=st.tuples(st.floats(-1, 1), st.floats(-1, 1)))
def test_from_rest_the_direction_of_the_motion_is_kept(asked, position):
    command = filter_of(limit(), limit()).filter(np.array(asked), seen(position), 0.0).command
    assert command[0] * asked[1] == pytest.approx(command[1] * asked[0], abs=1e-6)
    assert command @ np.array(asked) >= -1e-12


def test_what_is_allowed_passes_unchanged_and_unnamed():
    filtered = filter_of(limit(), limit()).filter(np.array([0.4, -0.3]), seen((0.1, 0.2)), 0.0)
    assert filtered.command.tolist() == [0.4, -0.3] and filtered.reasons == ()


@pytest.mark.parametrize(
    ("asked", "keys", "reason"),
    [
        ((4.0, 0.0), {"acceleration": 100.0}, "velocity"),
        ((1.9, 0.0), {}, "acceleration"),
    ],
)
def test_the_limit_that_bites_is_named(asked, keys, reason):
    assert filter_of(limit(**keys), limit(**keys)).filter(np.array(asked), seen((0, 0)), 0.0).reasons == (reason,)


def test_a_delayed_joint_driven_at_its_border_stops_before_it():
    """As an arm whose velocity follows 0.1 s late."""
    safety, late, q = filter_of(limit(), limit()), [0.0, 0.0], 0.0
    for _ in range(200):
        command = safety.filter(np.array([2.0, 0.0]), seen((q, 0.0)), 0.0).command
        safety.sent(command)
        late.append(float(command[0]))
        q += late.pop(0) * PERIOD
        assert q < 1.0
    assert q > 0.95


@pytest.mark.parametrize("bad", [(math.nan, 0.0), (0.0, math.inf)])
def test_what_is_not_finite_gives_zero(bad):
    safety = filter_of(limit(), limit())
    assert safety.filter(np.array(bad), seen((0, 0)), 0.0).reasons == ("non_finite",)
    assert not safety.filter(np.ones(2), seen(bad), 0.0).command.any()
    assert not safety.filter(np.ones(2), seen((0, 0), bad), 0.0).command.any()


def test_an_old_observation_gives_zero():
    safety = filter_of(limit(), limit(), max_age_s=0.1)
    assert safety.filter(np.ones(2), seen((0, 0), at=1.0, age=0.05), 1.06).reasons == ("stale",)
    assert safety.filter(np.full(2, 0.1), seen((0, 0), at=1.0), 1.06).reasons == ()


def test_a_point_stops_at_the_workspace_and_may_come_back():
    workspace = Workspace({"x": (-0.5, 0.5)}, lambda q: np.stack([q.sum(1), 0 * q[:, 0], 0 * q[:, 0]], 1)[:, None])
    safety = filter_of(limit(), limit(), workspace=workspace)
    out = np.array([0.2, 0.2])
    assert not safety.filter(out, seen((0.25, 0.25)), 0.0).command.any()
    near = safety.filter(out, seen((0.24, 0.24)), 0.0)
    assert near.reasons == ("workspace",) and 0 < near.command.sum() * VelocityFilter.LOOKAHEAD_S <= 0.02 + 1e-9
    assert safety.filter(-out, seen((0.3, 0.3)), 0.0).command.tolist() == (-out).tolist()
    assert safety.filter(np.array([0.2, -0.2]), seen((0.25, 0.25)), 0.0).reasons == ()


def test_how_fast_a_velocity_may_change_must_be_given():
    with pytest.raises(RobotError, match="robot.limits.one.acceleration: none given"):
        filter_of(limit(acceleration=None), limit())


def test_a_finger_at_its_limit_does_not_stop_the_arm_and_neither_the_arm_the_finger():
    wide, finger = limit(), limit(position=(0.0, 0.04), velocity=0.2, acceleration=2.0)
    safety = filter_of(wide, finger, apart=("two",))
    sent = safety.filter(np.array([0.3, 0.1]), seen((0.0, 0.04)), 0.0)
    assert sent.command.tolist() == pytest.approx([0.3, 0.0]) and sent.reasons == ("position",)
    sent = safety.filter(np.array([0.3, -0.05]), seen((1.0, 0.03)), 0.0)
    assert sent.command.tolist() == pytest.approx([0.0, -0.05])
    together = filter_of(wide, finger).filter(np.array([0.3, 0.1]), seen((0.0, 0.04)), 0.0)
    assert together.command.tolist() == [0.0, 0.0]


def test_groups_that_share_a_point_stay_inside_the_workspace_together():
    room = Workspace({"x": (-1.0, 0.1)}, lambda q: np.stack([q.sum(axis=1), *[np.zeros(len(q))] * 2], axis=1)[:, None])
    safety = filter_of(limit(), limit(), apart=("two",), workspace=room)
    command = safety.filter(np.array([0.4, 0.4]), seen((0.0, 0.0)), 0.0).command
    assert command.sum() * VelocityFilter.LOOKAHEAD_S <= 0.1 + 1e-9 and command[0] > 0.0
