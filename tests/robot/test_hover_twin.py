"""The quadrotor twin: its mechanics, its landing, and flights and stops through bus and filter."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from envs.flight import angles, quaternions, rotations
from envs.registry import make_task
from envs.tasks.hover import HOVER_N, Hover
from pipeline.config import ConfigError, load_experiment
from robot.drivers import make_robot
from robot.drivers.dynamixel import DynamixelRobot
from robot.interface import Observation, RobotError
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.safety import Workspace
from robot.settings import RobotSettings
from robot.technician import SocketTechnician
from robot.thrust_filter import ThrustFilter
from robot.twin.hidden import HoverHidden
from robot.twin.hover import BELLY_M, HoverModel, _angles, _quaternion
from robot.twin.process import TwinProcess
from tests.robot.policies import hovering_gains, linear_policy

CALM = {
    name: 0.0
    for name, field in HoverHidden.model_fields.items()
    if name.endswith(("_n", "_m", "_m_s", "_rad", "_rad_s", "_ms", "_n_s2_m2", "_n_s_m", "_sag", "_effect"))
    and name != "reaction_m"
}
IDEAL = {
    **CALM,
    **{f"rotor{i}_gain": 1.0 for i in range(1, 5)},
    "mass_kg": 0.5,
    "inertia_x_kg_m2": 0.0023,
    "inertia_y_kg_m2": 0.0023,
    "inertia_z_kg_m2": 0.004,
    "reaction_m": 0.016,
}
TASK = Hover()


def model(**changes):
    return HoverModel(HoverHidden(**{**IDEAL, **changes}))


def test_angles_are_the_tasks():
    for turn in np.random.default_rng(0).uniform(-1.4, 1.4, (20, 3)):
        w, x, y, z = _quaternion(*turn)
        assert rotations(np.array([[x, y, z, w]])) == pytest.approx(rotations(quaternions(turn[None])), abs=1e-9)
        assert _angles(w, x, y, z) == pytest.approx(angles(rotations(quaternions(turn[None])))[0])


def test_without_losses_it_flies_as_the_simulation_does():
    """Half a second in both engines from the same state with the same uneven thrusts."""
    from envs.bullet import BulletWorlds

    task = make_task("hover")
    values = task.parameters.nominal.copy()
    for name in ("frame.drag_n_s_m", "rotors.ground_effect"):
        values[task.parameters.index(name)] = 0.0
    start = task.initial(np.full((1, 12), 0.7))
    thrusts = HOVER_N * np.array([1.06, 1.02, 1.05, 1.04])
    worlds = BulletWorlds(task, 1)
    worlds.reset(np.ones(1, bool), start, values[None])
    for _ in range(25):
        simulated = worlds.step(np.tile(thrusts, (1, worlds.substeps, 1)))
    worlds.close()
    twin = model()
    twin.reset(start.joint_position[0].tolist(), start.joint_velocity[0].tolist(), 1)
    twin.push(*thrusts.tolist())
    twin.advance(500)
    position, velocity = twin.state
    assert simulated.joint_position[0] == pytest.approx(np.array(position), abs=0.03)
    assert simulated.joint_velocity[0] == pytest.approx(np.array(velocity), abs=0.1)
    assert np.abs(np.array(position[3:]) - start.joint_position[0, 3:]).max() > 0.1


def test_thrust_comes_late_and_falls_more_slowly_than_it_rises():
    def half_way(goal: float) -> int:
        twin = model(lag_up_ms=40.0, lag_down_ms=80.0, latency_ms=20.0)
        twin.reset([0, 0, 5, 0, 0, 0], [0.0] * 6, 1)
        twin.push(*[goal] * 4)
        for k in range(200):
            twin.advance(1)
            if abs(twin.thrusts[0] - HOVER_N) > abs(goal - HOVER_N) / 2:
                return k
        return 200

    assert half_way(2 * HOVER_N) == pytest.approx(20 + 40 * math.log(2), abs=2)
    assert half_way(0.0) == pytest.approx(20 + 80 * math.log(2), abs=2)


def test_no_rotor_pulls_and_none_gives_more_than_it_has():
    twin = model()
    twin.push(-1e6, 1e6, 0.0, HOVER_N)
    twin.advance(5)
    assert twin.thrusts == pytest.approx([0.0, 2.4525, 0.0, HOVER_N])


@pytest.mark.parametrize("seed", range(3))
def test_cut_in_flight_it_lands_gently_where_it_was(seed):
    """The shipped reality, tilted and moving, in its own wind."""
    twin = HoverModel(HoverHidden())
    twin.reset([0.2, -0.3, 1.6, 0.4, -0.3, 0.5], [1.0, -0.5, 0.5, 1.0, 0.5, 0.0], seed)
    twin.push(2.0, 1.0, 1.5, 1.2)
    twin.advance(20)
    twin.cut()
    speed = 0.0
    for _ in range(8000):
        if not twin.landing:
            break
        before = twin.state[1][2]
        twin.advance(1)
        if twin.state[0][2] < BELLY_M + 0.05:
            speed = min(speed, before)
    position, velocity = twin.state
    assert not twin.landing and twin.thrusts == [0.0] * 4
    assert position[2] == pytest.approx(BELLY_M, abs=0.01) and np.abs(position[3:5]).max() < 0.02
    assert np.hypot(position[0] - 0.2, position[1] + 0.3) < 1.5
    assert speed > -0.9 and np.abs(velocity).max() < 0.05
    twin.reset([0, 0, 1, 0, 0, 0], [0.0] * 6, seed)
    assert not twin.landing and twin.thrusts == [HOVER_N] * 4


def test_each_episode_has_a_wind_of_its_own():
    drifts = []
    for seed in (1, 1, 2):
        twin = model(wind_m_s=3.0, rotor_drag_n_s_m=0.2)
        twin.reset([0, 0, 5, 0, 0, 0], [0.0] * 6, seed)
        twin.push(*[HOVER_N] * 4)
        twin.advance(500)
        drifts.append(twin.state[0][:2])
    assert drifts[0] == drifts[1] and np.hypot(*drifts[0]) > 0.05
    assert np.hypot(*(np.array(drifts[0]) - drifts[2])) > 0.02


def settings(**changes) -> RobotSettings:
    return load_experiment("hover").robot.model_copy(update=changes)


def seen(position=(0, 0, 1, 0, 0, 0), velocity=(0,) * 6, captured_s=0.0):
    return Observation(np.array(position, np.float32), np.array(velocity, np.float32), captured_s, np.zeros(6))


@pytest.fixture
def thrust_filter():
    robot = settings()
    box = Workspace({"z": (0.0, 2.0)}, TASK.workspace_points)
    return ThrustFilter(
        robot.limits, TASK.joints, TASK.actuated, 0.02, robot.rotors, max_age_s=0.06, workspace=box
    )  # fmt: skip


def test_thrusts_stay_inside_their_limits_and_rates_both_ways(thrust_filter):
    random = np.random.default_rng(0)
    last = None
    for _ in range(200):
        out = thrust_filter.filter(random.normal(scale=5, size=4), seen(), 0.0)
        assert (out.command >= 0.0).all() and (out.command <= 2.4525).all()
        if last is not None:
            assert (np.abs(out.command - last) <= 250.0 * 0.02 + 1e-9).all()
        last = out.command
        thrust_filter.sent(last)
    assert "thrust" in out.reasons


@pytest.mark.parametrize(
    ("command", "observation", "reason"),
    [
        ([np.nan, 1, 1, 1], seen(), "non_finite"),
        ([1, 1, 1, 1], seen(velocity=(np.inf, 0, 0, 0, 0, 0)), "non_finite"),
        ([1, 1, 1, 1], seen(captured_s=-0.1), "stale"),
    ],
)
def test_what_cannot_be_judged_sends_the_last_thrusts_again(thrust_filter, command, observation, reason):
    thrust_filter.sent(np.full(4, 1.3))
    out = thrust_filter.filter(np.array(command, float), observation, 0.0)
    assert out.reasons == (reason,) and out.command.tolist() == [1.3] * 4


@pytest.mark.parametrize(
    ("observation", "words"),
    [
        (seen(position=(1.9, 0, 1, 0, 0, 0)), "joint x: position 1.900 is outside"),
        (seen(position=(1.6, 0, 1, 0, 0, 0), velocity=(3, 0, 0, 0, 0, 0)), "about to leave"),
        (seen(position=(0, 0, 1, 1.4, 0, 0)), "joint roll"),
        (seen(velocity=(0, 0, 0, 0, 30, 0)), "joint pitch: velocity"),
        (seen(position=(0, 0, 2.2, 0, 0, 0)), "workspace: z"),
    ],
)
def test_the_geofence_and_the_attitude_limit_say_when_to_land(thrust_filter, observation, words):
    assert words in thrust_filter.unsafe(observation)
    assert not thrust_filter.unsafe(seen())


def height_m(session):
    """True, of the centre, as the twin itself recorded it."""
    assert isinstance(session.technician, SocketTechnician)
    return session.technician.record()["state"]["joint_position"][2]


def fly(session, gains, **keys):
    policy = ExportedPolicy(linear_policy(TASK, gains))
    return session.run_episode(policy, purpose="evaluation", seed=0, **{"world": 0, **keys})


def test_a_flight_through_bus_and_filter_ends_on_the_ground(tmp_path):
    session = open_session(settings(), TASK, tmp_path)
    try:
        result = fly(session, hovering_gains(TASK))
        assert not result.meta.stop and result.meta.steps == TASK.max_steps and not result.columns["terminated"].any()
        assert set(result.columns["intervention"]) == {""}
        assert result.columns["joint_position"][0, 2] > 0.5
        assert height_m(session) == pytest.approx(BELLY_M, abs=0.02)
        dropped = fly(session, np.zeros((TASK.policy_size, 4)))  # the nominal thrust is too little for this machine
        assert dropped.columns["terminated"][-1] and not dropped.meta.stop and dropped.meta.steps > 10
        assert session.robot.hold().motors_off
    finally:
        session.close()


def test_beyond_the_geofence_it_lands_and_stays_stopped(tmp_path):
    """Although the task would have gone on."""
    limits = settings().limits
    tight = {**limits, "z": limits["z"].model_copy(update={"position": (0.0, 1.3)})}
    session = open_session(settings(limits=tight), TASK, tmp_path)
    try:
        away = hovering_gains(TASK)
        away[2 - TASK.frame_size] = 1.0  # up, the higher it is
        results = [fly(session, away, world=0)]
        while not results[-1].meta.stop and len(results) < 20:
            results.append(fly(session, away, world=len(results)))
        assert "z" in results[-1].meta.stop
        with pytest.raises(RobotError, match="recover it first"):
            fly(session, away)
        assert height_m(session) == pytest.approx(BELLY_M, abs=0.02)
    finally:
        session.close()


@pytest.mark.real_time
def test_who_dies_in_flight_leaves_a_machine_that_lands():
    """In real time: the line closes, and the flight controller does the rest."""
    twin = TwinProcess(mode="realtime", task="hover")
    with twin:
        robot = make_robot(settings(mode="realtime", port=str(twin.port), technician=twin.technician), TASK)
        technician = SocketTechnician(twin.technician)
        robot.connect()
        technician.reset(TASK.initial(np.full((1, 12), 0.5)), 1)
        robot.arm()
        robot.command(np.full(4, 1.3))
        assert isinstance(robot, DynamixelRobot) and robot._link is not None
        robot._link.close()  # as when a process dies
        deadline = time.monotonic() + 20.0
        while time.monotonic() < deadline:
            state = technician.record()["state"]["joint_position"]
            if state[2] < BELLY_M + 0.01:
                break
            time.sleep(0.1)
        assert state[2] == pytest.approx(BELLY_M, abs=0.01) and abs(state[3]) < 0.05
        technician.close()


@pytest.mark.real_time
def test_hold_waits_for_the_landing_in_real_time():
    with TwinProcess(mode="realtime", task="hover") as twin:
        robot = make_robot(settings(mode="realtime", port=str(twin.port), technician=twin.technician), TASK)
        technician = SocketTechnician(twin.technician)
        robot.connect()
        technician.reset(TASK.initial(np.full((1, 12), 0.5)), 1)
        robot.arm()
        robot.command(np.full(4, 1.4))
        held = robot.hold()
        assert held.motors_off and held.elapsed_s > 0.5
        assert technician.record()["state"]["joint_position"][2] == pytest.approx(BELLY_M, abs=0.01)
        robot.disconnect()
        technician.close()


def test_what_flies_makes_no_planned_moves(tmp_path):
    session = open_session(settings(), TASK, tmp_path)
    try:
        with pytest.raises(RobotError, match="hover flies, and makes no moves of its own; accepted is an episode"):
            session.home()
    finally:
        session.close()


def test_missing_limits_are_refused():
    with pytest.raises(ConfigError, match=r"robot.rotors: none given for rotor1, and hover flies; accepted is an"):
        load_experiment("hover", ["robot.rotors={}"])
    with pytest.raises(ConfigError, match=r"thrust: \[-1.0, 2.0\] given; accepted is \[low, high\]"):
        load_experiment("hover", ["robot.rotors.rotor2={thrust: [-1, 2], thrust_rate: 100}"])
    with pytest.raises(ConfigError, match=r"robot.limits.slider.effort: none given for a motor"):
        load_experiment("cartpole", ["robot.limits.slider={position: [-1, 1], velocity: 1, effort_rate: 10}"])
