"""The Panda's realities: the arm, its brakes and its lateness, the camera, and sessions on them."""

from __future__ import annotations

import json
import socket
import threading
from dataclasses import replace

import numpy as np
import pytest

from envs import panda
from envs.inverse_dynamics import ArmDynamics
from envs.tasks.push import PUCK_HEIGHT_M, Push
from envs.tasks.reach import Reach
from pipeline.config import load_experiment
from robot.arm_excitation import polled
from robot.check import check_robot
from robot.drive import make_drive
from robot.interface import Observation, RobotError, RobotFault
from robot.latency import measure
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.rollout import states
from robot.tracker import Tracker
from robot.twin.hidden import PandaHidden, PushHidden
from robot.twin.panda import PandaModel
from robot.twin.panda_table import PushModel
from robot.twin.reality import Reality
from robot.twin.rigs import find_rig
from tests.robot.policies import linear_policy

QUIET = {"torque_noise_nm": 0.0, "latency_jitter_ms": 0.0, "sensor_noise_rad": 0.0, "sensor_noise_rad_s": 0.0}
IDEAL = {**QUIET, "latency_ms": 0.0, "lag_ms": 0.0, "gain": 1.0, "encoder_offset_rad": 0.0, "compensation": 1.0}
STILL = {"camera_noise_m": 0.0, "camera_offset_m": 0.0, "camera_drop_rate": 0.0}
REST = [0.0] * 7


def at_posture(hidden: PandaHidden) -> PandaModel:
    model = PandaModel(hidden)
    model.reset(list(panda.POSTURE), REST, 1)
    return model


def at_table(**keys: float) -> PushModel:
    model = PushModel(PushHidden.model_validate({**QUIET, **STILL, **keys}))
    model.reset(list(panda.POSTURE), REST, 1)
    return model


def seen_at(position: np.ndarray) -> Observation:
    return Observation(position, np.zeros(7), 0.0, np.zeros(7))


def test_the_tip_is_where_the_own_kinematics_say():
    model = at_posture(PandaHidden())
    body = model._data.body("panda_link7")  # the hand is fused into it
    tip = body.xpos + body.xmat.reshape(3, 3) @ np.array([0.0, 0.0, 0.107 + 0.105])
    assert tip == pytest.approx(panda.chain().position(np.array([panda.POSTURE]))[0], abs=1e-6)


def test_brakes_hold_the_arm_while_the_motors_are_off_and_the_controller_once_they_are_on():
    model = at_posture(PandaHidden())
    model.advance(500)
    assert model.state[0] == pytest.approx(panda.POSTURE, abs=2e-3)
    model.push(*[0.5] * 7)
    model.cut()
    model.advance(500)
    assert model.state[0] == pytest.approx(panda.POSTURE, abs=4e-3)
    model.push(*REST)
    model.advance(1000)
    assert model.state[0] == pytest.approx(panda.POSTURE, abs=1e-2)


def test_a_joint_follows_a_velocity_and_lags_by_what_is_hidden():
    def travel(**keys: float) -> float:
        model = at_posture(PandaHidden(**{**IDEAL, **keys}))
        model.push(0.4, *REST[1:])
        model.advance(1000)
        return model.state[0][0]

    ideal = travel()
    assert ideal == pytest.approx(0.4, abs=0.01)
    assert travel(latency_ms=50.0) == pytest.approx(ideal - 0.4 * 0.05, abs=2e-3)
    assert travel(lag_ms=50.0) == pytest.approx(ideal - 0.4 * 0.05, abs=2e-3)
    assert travel(gain=0.9) == pytest.approx(0.9 * ideal, abs=5e-3)


def test_a_motor_gives_no_more_than_it_has_whoever_asks():
    model, limit = at_posture(PandaHidden(**IDEAL)), at_posture(PandaHidden(**IDEAL))
    model.push(1e6, *REST[1:])
    limit.push(panda.MAX_VELOCITY[0], *REST[1:])
    for one in (model, limit):
        for _ in range(50):
            one.advance(1)
            assert (np.abs(one._data.qfrc_applied[:7]) <= np.array(panda.MAX_EFFORT) + 1e-9).all()
    assert model.state == limit.state


def test_the_puck_lies_on_its_table_and_slides_as_far_as_friction_lets_it():
    hidden, model = PushHidden(), at_table()
    model.place([[0.6, 0.1, 0.9, 0.0, 0.0, 0.0, 1.0]])
    model.advance(300)
    assert model.truth[0, :3] == pytest.approx([0.6, 0.1, hidden.table_height_m + PUCK_HEIGHT_M / 2], abs=1e-3)
    model._data.qvel[7] = 0.5
    model.advance(1000)
    drag = hidden.puck_damping_n_s_m / hidden.puck_mass_kg
    decel = hidden.puck_friction * hidden.gravity_m_s2
    slides = 0.5 / drag - decel / drag**2 * np.log1p(0.5 * drag / decel)
    assert model.truth[0, 0] - 0.6 == pytest.approx(slides, rel=0.1)


def test_the_camera_sees_late_at_its_own_rate_and_not_always():
    model = at_table(camera_latency_ms=80.0, camera_hz=20.0)
    model.place([[0.6, 0.0, 0.9, 0.0, 0.0, 0.0, 1.0]])
    ages, truth = [], []
    model._data.qvel[8] = 0.3
    for _ in range(400):
        model.advance(1)
        truth.append(model.truth[0, 1])
        poses, age_s = model.look()
        ages.append(age_s)
        if len(truth) > 140:
            assert poses[0][1] == pytest.approx(truth[-1 - round(age_s * 1e3)], abs=1e-6)
    assert min(ages[140:]) == pytest.approx(0.080, abs=2e-3) and max(ages[140:]) == pytest.approx(0.130, abs=3e-3)
    blind = at_table(camera_drop_rate=0.99)
    blind.advance(400)
    assert blind.look()[1] > 0.3


@pytest.mark.parametrize("task", [Reach(), Push()], ids=["reach", "push"])
def test_what_the_joints_are_sent_is_what_the_task_asked_and_what_they_are_not_sent_is_missing(task):
    drive = make_drive(task)
    seen = seen_at(task.initial(np.full((1, task.initial_size), 0.4)).joint_position[0].astype(float))
    drive.reset(seen)
    asked = task.command(np.full((1, task.action_size), 0.2))[0]
    motors = drive.motors(asked, seen)
    assert motors.shape == (7,) and drive.task(motors) == pytest.approx(asked)
    tip = panda.chain().jacobian(seen.joint_position[None])[1][0] @ motors
    axes = list(task.scene.actuation.axes)
    assert drive.task(motors / 2) == pytest.approx(asked - tip[axes] / 2)
    assert drive.task(np.zeros(7)) == pytest.approx(asked - tip[axes])


def session_on(name: str, tmp_path, task=None, **keys):
    settings = load_experiment(name).robot
    return open_session(settings.model_copy(update=keys), task or TASKS[name], tmp_path)


TASKS = {"reach": Reach(), "push": Push()}


def towards_goal(task) -> ExportedPolicy:
    """Moves the tip against what `to_goal` says is missing (reach), or straight ahead (push)."""
    gains = np.zeros((task.policy_size, task.action_size))
    frame = task.policy_size - task.frame_size
    first = task.frame_names.index("to_goal_x_m" if task.name == "reach" else "to_puck_x_m")
    for axis in range(task.action_size):
        gains[frame + first + axis, axis] = 0.3 if task.name == "reach" else 1.0
    return ExportedPolicy(linear_policy(task, gains))


@pytest.mark.parametrize("name", ["reach", "push"])
def test_an_episode_through_bus_filter_and_tracker_is_judged_by_the_task(name, tmp_path):
    task = TASKS[name]
    session = session_on(name, tmp_path)
    try:
        result = session.run_episode(towards_goal(task), purpose="evaluation", seed=0, world=3)
        stored = session.store.read(result.meta.episode_id)
    finally:
        session.close()
    assert not result.meta.stop and result.meta.steps == task.max_steps
    measured = states(task, stored.columns)
    assert task.reward(measured, stored.columns["sent"]) == pytest.approx(stored.columns["reward"], abs=1e-6)
    assert bool(task.success(replace_last(measured), np.array([task.max_steps]))[0]) == result.meta.success
    assert (stored.columns["goal"] == stored.columns["goal"][0]).all()
    distance = task.distance(measured)
    if name == "reach":
        assert distance[-1] < 0.5 * distance[0]
    else:
        assert stored.columns["body_pose"].shape == (task.max_steps, 7)
        assert np.ptp(stored.columns["body_pose"][:, 0]) > 0.05  # the puck was pushed


def replace_last(state):
    return replace(
        state,
        **{
            key: getattr(state, key)[-1:]
            for key in ("joint_position", "joint_velocity", "body_pose", "body_twist", "goal")
            if len(getattr(state, key))
        },
    )


def test_jogging_and_homing_work_with_velocities(tmp_path):
    session = session_on("reach", tmp_path)
    try:
        assert session.technician is not None
        start = TASKS["reach"].initial(np.full((1, 4), 0.5))
        session.technician.reset(start, 1)
        moved = session.jog("panda_joint1", 0.1, "Ada")
        record = session.technician.record()  # pyright: ignore[reportAttributeAccessIssue]
    finally:
        session.close()
    assert moved.stop == "" and moved.error < 0.05
    assert record["state"]["joint_position"][0] == pytest.approx(start.joint_position[0, 0] + 0.1, abs=0.06)
    assert max(abs(v) for event in record["events"] if event["event"] == "goal" for v in event["velocities"]) < 0.5


def test_a_servo_that_may_push_harder_than_the_joints_limit_is_refused(tmp_path):
    settings = load_experiment("reach").robot
    weak = settings.limits["panda_joint1"].model_copy(update={"effort": 20.0})
    with pytest.raises(RobotError, match="panda_joint1: servo 1 may push with 87 N m"):
        session_on("reach", tmp_path, limits={**settings.limits, "panda_joint1": weak})
    fast = settings.limits["panda_joint1"].model_copy(update={"velocity": 9.0})
    with pytest.raises(RobotError, match="panda_joint1: its velocity limit is .* accepted is a scale of at least"):
        session_on("reach", tmp_path, limits={**settings.limits, "panda_joint1": fast})


def test_drivers_that_send_efforts_refuse_an_arm_that_takes_velocities(tmp_path):
    with pytest.raises(RobotError, match="this node passes on efforts, and the motors of reach take none"):
        session_on("reach", tmp_path, driver="rosbridge")


def test_bodies_need_a_tracker_where_no_twin_has_one(tmp_path):
    with pytest.raises(RobotError, match="robot.tracker: none given, and push has to know where puck is"):
        session_on("push", tmp_path, port="/dev/null", twin=None, mode="realtime")


def answering(path, *lines: bytes) -> threading.Thread:
    door = socket.socket(socket.AF_UNIX)
    door.bind(str(path))
    door.listen(1)

    def serve() -> None:
        connection, _ = door.accept()
        with door, connection:
            for line in lines:
                connection.recv(4096)
                connection.sendall(line + b"\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    return thread


POSE = [0.5, 0.1, 0.78, 0.0, 0.0, 0.0, 1.0]


def test_a_tracker_of_ones_own_is_a_few_lines(tmp_path):
    answering(tmp_path / "own", json.dumps({"poses": {"puck": POSE, "cup": POSE}, "age_s": 0.02}).encode())
    poses, age_s = Tracker(tmp_path / "own", ("puck",), realtime=True).look()
    assert poses.tolist() == np.array([POSE], np.float32).tolist() and age_s == 0.02


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ({"poses": {}, "age_s": 0.0}, "accepted are 7 numbers for each of puck"),
        ({"poses": {"puck": POSE[:3]}, "age_s": 0.0}, "accepted are 7 numbers"),
        ({"poses": {"puck": POSE}, "age_s": 0.7}, "no pose of puck within the last 0.5 s"),
        ({"poses": {"puck": [float("nan")] * 7}, "age_s": 0.0}, "no pose of puck"),
        ({"error": "no camera"}, "no camera"),
        ([1, 2], "accepted is a JSON object"),
    ],
)
def test_a_tracker_that_lost_the_body_or_talks_nonsense_is_a_fault_in_a_sentence(tmp_path, answer, sentence):
    answering(tmp_path / "bad", json.dumps(answer).encode())
    with pytest.raises(RobotError, match=sentence):
        Tracker(tmp_path / "bad", ("puck",), realtime=True).look()


def test_a_tracker_that_is_not_there_is_a_fault_of_the_link(tmp_path):
    with pytest.raises(RobotFault, match="robot.tracker: .* does not answer") as caught:
        Tracker(tmp_path / "none", ("puck",), realtime=True).look()
    assert caught.value.link


def test_what_only_pushes_with_efforts_says_so(tmp_path):
    session = session_on("reach", tmp_path)
    try:
        with pytest.raises(RobotError, match="check: it sends efforts, and each motor of robot0 takes a velocity"):
            check_robot(session, lambda actions, draws: [])
    finally:
        session.close()


def test_latency_is_measured_by_steps_of_velocity_at_a_rate_of_its_own(tmp_path):
    values = PandaHidden()
    session = session_on("reach", tmp_path, task=polled(TASKS["reach"]))
    try:
        found = measure(session, 6, 0.8)
    finally:
        session.close()
    late_ms = values.latency_ms + 0.8 * values.latency_jitter_ms  # the mean of |standard normal| is 0.8
    assert found.total_ms == pytest.approx(late_ms + values.lag_ms, abs=4.0)
    low, high = found.ranges_ms["total_ms"]
    assert low <= found.total_ms <= high


def test_motors_tell_the_torque_that_they_give_and_nothing_while_they_are_off():
    quiet = {**QUIET, "sensor_noise_nm": 0.0, "coulomb_nm": 0.0}
    model = at_posture(PandaHidden(**quiet, mass_scale=1.25))
    assert not np.any(model.efforts)
    model.push(*REST)
    model.advance(1500)
    position = np.array([model.state[0]])
    rest = np.zeros((1, 7))
    held = 1.25 * ArmDynamics.from_scene(TASKS["reach"].scene).torques(position, rest, rest).sum(0)[0]
    assert model.efforts == pytest.approx(held, abs=0.1)
    model.cut()
    assert not np.any(model.efforts)


def test_the_torque_of_each_motor_arrives_at_the_driver_and_in_the_episode(tmp_path):
    session = session_on("reach", tmp_path)
    task = TASKS["reach"]
    try:
        result = session.run_episode(towards_goal(task), purpose="evaluation", seed=0, world=3)
        effort = session.store.read(result.meta.episode_id).columns["joint_effort"]
    finally:
        session.close()
    assert effort.shape == (task.max_steps, 7) and 5.0 < np.abs(effort[:, 1]).max() < 87.0


@pytest.mark.parametrize("rate", [0.0, 300.0, float("nan")])
def test_a_rate_that_is_no_whole_number_of_ms_is_refused(rate):
    with pytest.raises(RobotError, match="accepted is a rate whose period is whole ms"):
        Reality(find_rig("reach"), PandaModel(PandaHidden()), realtime=False, control_hz=rate)
