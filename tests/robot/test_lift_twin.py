"""The reality of lift: fingers, grip and what becomes of it at a stop, and a script that lifts through a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from envs import panda
from envs.tasks.lift import HELD_OUT, LIFTED_M, OBJECTS, Lift
from pipeline.config import load_experiment
from robot.drive import make_drive
from robot.interface import Observation
from robot.open import open_session
from robot.rollout import states
from robot.settings import TwinSettings
from robot.twin.hidden import LiftHidden
from robot.twin.panda_gripper import LiftModel
from robot.velocity_filter import VelocityFilter
from tests.lifting import ScriptedLift
from tests.robot.test_panda_twin import QUIET, STILL

TASK = Lift()
AROUND = panda.starts((0.5, 0.0, 0.775), (0.5, 0.0, 0.775))[0].tolist()  # the tip of the gripper
STILL_ARM = [0.0] * 7


def around_object(**keys) -> LiftModel:
    """The tip at the centre of an object, with open fingers."""
    model = LiftModel(LiftHidden.model_validate({**QUIET, **STILL, **keys}))
    model.reset([*AROUND, panda.STROKE[1]], [0.0] * 8, 1)
    model.place([[0.5, 0.0, 0.9, 0.0, 0.0, 0.0, 1.0]])
    return model


def close_and_raise(model: LiftModel) -> float:
    """Height of the object, m, after the fingers closed and joint 4 pulled the hand up."""
    for _ in range(10):
        model.push(*STILL_ARM, -0.05)
        model.advance(100)
    for _ in range(10):
        model.push(0.0, -0.1, 0.0, 0.1, 0.0, 0.0, 0.0, -0.05)
        model.advance(100)
    return float(model.truth[0, 2])


def below_tip_m(model: LiftModel) -> float:
    return float(panda.chain().position(np.array([model.state[0][:7]]))[0, 2] - model.truth[0, 2])


def width_m(model: LiftModel) -> float:
    shape, scale = OBJECTS[model._object], model._table.object_scale
    return scale * shape.size[1 if shape.kind == "box" else 0]


def test_fingers_follow_their_velocity_together_and_stop_at_the_object():
    model = around_object()
    model.push(*STILL_ARM, -0.03)
    model.advance(300)
    one, two = model._data.qpos[7:9]
    assert one == pytest.approx(two, abs=2e-4) and one == pytest.approx(0.04 - 0.03 * 0.94 * 0.25, abs=2e-3)
    for _ in range(10):
        model.push(*STILL_ARM, -0.05)
        model.advance(100)
    assert model.state[0][7] == pytest.approx(width_m(model) / 2, abs=2e-3)
    assert (np.abs(model._data.qfrc_applied[7:9]) <= LiftHidden().grip_force_n + 1e-9).all()


def test_what_is_gripped_comes_along_and_is_not_let_go_of_at_a_stop():
    """The spindle is self-locking, and brakes hold the arm."""
    model = around_object()
    before = model.truth[0, 2]
    height = close_and_raise(model)
    assert height > before + 0.05
    model.cut()
    model.advance(300)
    assert model.truth[0, 2] == pytest.approx(height, abs=0.015)
    hangs, opening = below_tip_m(model), model.state[0][7]
    model.advance(2000)
    assert below_tip_m(model) == pytest.approx(hangs, abs=1e-3)
    assert model.state[0][7] == pytest.approx(opening, abs=3e-4)
    slippery = around_object(object_friction=0.02)
    assert close_and_raise(slippery) < before + 0.02


@pytest.mark.parametrize("shove_n", [[0.0, 40.0, 0.0], [0.0, -80.0, 0.0], [40.0, 20.0, 0.0], [0.0, 0.0, -30.0]])
def test_fingers_that_are_shoved_or_lose_their_object_stay_within_their_speed(shove_n):
    """A reality that exceeds its own limits would stop the robot for what no policy did."""
    model, fastest = around_object(), 0.0
    close_and_raise(model)
    thing = model._model.body("object").id
    for step in range(400):
        model._data.xfrc_applied[thing, :3] = shove_n if step < 200 else [0.0] * 3
        if step % 100 == 0:
            model.push(*STILL_ARM, -0.05)
        model.advance(1)
        fastest = max(fastest, float(np.abs(model._data.qvel[7:9]).max()))
    limit = load_experiment("lift").robot.limits[panda.FINGERS[0]]
    assert fastest < limit.velocity


def test_the_technician_brings_another_object_for_each_episode_and_held_out_ones_if_told():
    def seen(objects: str) -> set[int]:
        model, numbers = LiftModel(LiftHidden.model_validate({"objects": objects})), set()
        for seed in range(25):
            model.reset([*AROUND, panda.STROKE[1]], [0.0] * 8, seed)
            numbers.add(model._object)
        return numbers

    assert seen("training") == set(range(HELD_OUT)) and seen("held_out") == set(range(HELD_OUT, len(OBJECTS)))


def test_an_object_has_its_size_and_stands_on_the_table():
    model = around_object(object_scale=0.95, table_height_m=0.747)
    shape = OBJECTS[model._object]
    model.advance(300)
    assert model.truth[0, 2] == pytest.approx(0.747 + 0.95 * shape.height_m / 2, abs=1e-3)


def test_what_fingers_are_sent_is_what_the_task_asked():
    drive = make_drive(TASK)
    at = np.array([*AROUND, 0.03])
    seen = Observation(at, np.zeros(8), 0.0, np.zeros(8))
    drive.reset(seen)
    asked = TASK.command(np.array([[0.1, 0.0, 0.2, -0.3]]))[0]
    motors = drive.motors(asked, seen)
    assert motors.shape == (8,) and drive.task(motors) == pytest.approx(asked)
    assert drive.task(np.array([*motors[:7], 0.0]))[3] == pytest.approx(asked[3] - motors[7])
    assert drive.task(np.array([*motors[:7], 0.0]))[:3] == pytest.approx(asked[:3])


@pytest.mark.parametrize("height_m", [0.77, 0.785, 0.8, 0.81])
@pytest.mark.parametrize("finger_m", [0.004, 0.02, 0.036])
@pytest.mark.parametrize("way", [-1.0, 1.0])
def test_near_the_table_and_the_ends_of_fingers_the_servo_leaves_the_filter_nothing_to_slow(height_m, finger_m, way):
    settings, place = load_experiment("lift").robot, (0.5, 0.0, height_m)
    at = np.array([*panda.starts(place, place)[0], finger_m])
    drive, seen = make_drive(TASK), Observation(at, np.zeros(8), 0.0, np.zeros(8))
    drive.reset(seen)
    asked = TASK.command(np.array([[0.0, 0.0, -1.0, way]]))[0]
    for _ in range(20):  # accelerations are limited
        motors = drive.motors(asked, seen)
    down_m_s = -float((panda.chain().jacobian(at[None, :7])[1][0] @ motors[:7])[2])
    border, low_and_high = settings.workspace["z"][0], settings.limits[panda.GRIPPER].position
    assert 0.0 < down_m_s <= (height_m - border) / VelocityFilter.LOOKAHEAD_S + 1e-6
    room_m = abs(low_and_high[int(way > 0)] - finger_m)
    assert 0.0 < way * motors[7] <= room_m / VelocityFilter.LOOKAHEAD_S + 1e-9


@pytest.mark.parametrize("objects", ["training", "held_out"])
def test_a_script_lifts_through_bus_filter_and_tracker(objects, tmp_path: Path):
    hidden = tmp_path / "hidden.yaml"
    hidden.write_text(f"objects: {objects}\n")
    settings = load_experiment("lift").robot
    session = open_session(settings.model_copy(update={"twin": TwinSettings(hidden=hidden)}), TASK, tmp_path)
    try:
        results = [
            session.run_episode(ScriptedLift(TASK), purpose="evaluation", seed=0, world=world)  # pyright: ignore
            for world in (3, 4, 7)
        ]
        stored = session.store.read(results[-1].meta.episode_id)
    finally:
        session.close()
    assert all(not one.meta.stop for one in results)
    assert np.mean([one.meta.success for one in results]) >= 0.6
    measured = states(TASK, stored.columns)
    assert TASK.reward(measured, stored.columns["sent"]) == pytest.approx(stored.columns["reward"], abs=1e-6)
    assert results[-1].meta.success == bool((measured.body_pose[-5:, 0, 2] > LIFTED_M).all())
