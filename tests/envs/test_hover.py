"""The quadrotor: rotations, mechanics with payload against an integrator, ground effect, and that it can fly."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import solve_ivp

from envs.bullet import BulletWorlds
from envs.flight import FREE_JOINTS, RotorForces, angles, quaternions, rotations
from envs.randomization.parameters import Ranges
from envs.registry import make_task
from envs.task import State
from envs.tasks.hover import GOAL_M, HOVER_N, MASS_KG, ROTORS, Hover
from envs.vector_env import TaskVectorEnv
from envs.world import WorldError

TASK = Hover()
SPACE = TASK.parameters
INERTIA = np.diag([0.0023, 0.0023, 0.004])


@pytest.fixture(scope="module")
def worlds():
    made = BulletWorlds(TASK, 1)
    yield made
    made.close()


def values(**changed):
    row = SPACE.nominal.copy()
    for name, value in changed.items():
        row[SPACE.index(name.replace("__", "."))] = value
    return row[None]


def at(position=(0, 0, 50), attitude=(0, 0, 0), velocity=(0, 0, 0), rates=(0, 0, 0)):
    row = lambda a, b: np.array([[*a, *b]], np.float32)  # noqa: E731
    return State(row(position, attitude), row(velocity, rates))


def fly(worlds, start, row, thrusts, periods):
    worlds.reset(np.ones(1, bool), start, row)
    for _ in range(periods):
        state = worlds.step(np.tile(np.asarray(thrusts, float), (1, worlds.substeps, 1)))
    return state


@settings(deadline=None)
@given(st.tuples(*[st.floats(-3.1, 3.1), st.floats(-1.5, 1.5), st.floats(-3.1, 3.1)]))
def test_angles_and_rotations_are_each_others_inverse(roll_pitch_yaw):
    angle = np.array([roll_pitch_yaw])
    rotation = rotations(quaternions(angle))
    assert rotation[0] @ rotation[0].T == pytest.approx(np.eye(3), abs=1e-12)
    assert angles(rotation) == pytest.approx(angle, abs=1e-6)
    roll, pitch, yaw = roll_pitch_yaw
    x_axis = [np.cos(pitch) * np.cos(yaw), np.cos(pitch) * np.sin(yaw), -np.sin(pitch)]
    assert rotation[0, :, 0] == pytest.approx(x_axis)


def reference(start, thrusts, seconds, mass, inertia, payload_kg=0.0, payload=(0, 0, 0), gravity=9.81):
    """Position of the frame's centre, rotation, velocity and body rates after constant thrusts, two masses in one."""
    whole, offset = mass + payload_kg, payload_kg / (mass + payload_kg) * np.array(payload, float)
    reduced, r = mass * payload_kg / whole, np.array(payload, float)
    inertia = inertia + reduced * (r @ r * np.eye(3) - np.outer(r, r))
    arms, force = np.array(ROTORS.points) - offset, np.array([0.0, 0.0, np.sum(thrusts)])
    torque = np.cross(arms, np.outer(thrusts, [0, 0, 1])).sum(axis=0) + [0, 0, np.dot(thrusts, ROTORS.reaction_m)]
    rotation = rotations(quaternions(start.joint_position[:, 3:].astype(float)))[0]
    rates = start.joint_velocity[0, 3:].astype(float)
    centre = start.joint_position[0, :3] + rotation @ offset
    speed = start.joint_velocity[0, :3] + rotation @ np.cross(rates, offset)

    def change(_, y):
        R, w = y[3:12].reshape(3, 3), y[15:]
        skew = np.array([[0, -w[2], w[1]], [w[2], 0, -w[0]], [-w[1], w[0], 0]])
        accelerates = R @ force / whole - [0, 0, gravity]
        return np.concatenate(
            [y[12:15], (R @ skew).ravel(), accelerates, np.linalg.solve(inertia, torque - np.cross(w, inertia @ w))]
        )

    y = solve_ivp(change, (0, seconds), [*centre, *rotation.ravel(), *speed, *rates], rtol=1e-9, atol=1e-9).y[:, -1]
    R, w = y[3:12].reshape(3, 3), y[15:]
    return np.concatenate([y[:3] - R @ offset, angles(R[None])[0]]), np.concatenate(
        [y[12:15] - R @ np.cross(w, offset), w]
    )


@pytest.mark.parametrize("payload", [{}, {"x": 0.03}, {"y": -0.05}, {"z": -0.1}])
def test_flight_is_rigid_body_mechanics(worlds, payload):
    start = at(attitude=(0.2, -0.1, 0.7), velocity=(0.5, -0.2, 0.1), rates=(0.4, -0.6, 1.0))
    thrusts = HOVER_N * np.array([1.05, 0.98, 1.02, 1.01])
    load = {f"payload__{axis}_m": r for axis, r in payload.items()} | {"payload__mass_kg": 0.1 if payload else 0.0}
    state = fly(worlds, start, values(frame__inertia_scale=1.3, frame__mass_kg=0.6, **load), thrusts, 15)
    place = [payload.get(axis, 0.0) for axis in "xyz"]
    position, velocity = reference(
        start, thrusts, 0.3, 0.6, 1.3 * 1.2 * INERTIA, load["payload__mass_kg"], place
    )  # what a lighter frame had follows its mass
    assert state.joint_position[0] == pytest.approx(position, abs=0.012)
    assert state.joint_velocity[0] == pytest.approx(velocity, abs=0.03)
    moved = np.abs(position - start.joint_position[0])
    assert moved[:3].max() > 0.1 and moved[3:].max() > 0.1


def test_hover_thrust_hovers_and_a_rotor_only_pushes(worlds):
    still = fly(worlds, at(), values(), [HOVER_N] * 4, 50)
    assert still.joint_position[0] == pytest.approx([0, 0, 50, 0, 0, 0], abs=1e-4)
    falling = fly(worlds, at(), values(), [-HOVER_N] * 4, 10)
    assert falling.joint_velocity[0] == pytest.approx([0, 0, -9.81 * 0.2, 0, 0, 0], abs=1e-5)


def test_thrusts_turn_the_frame_as_rotors_of_an_x_do(worlds):
    """More on the left rolls to the right, more in front pitches up (negative), more on 1 and 3 yaws to the left."""
    turned = [
        fly(worlds, at(), values(), HOVER_N * (1 + 0.1 * np.array(more)), 3).joint_position[0, 3:]
        for more in ([1, 1, -1, -1], [1, -1, -1, 1], [1, -1, 1, -1])
    ]
    for axis, sign, angle in zip(range(3), (1, -1, 1), turned, strict=True):
        assert sign * angle[axis] > 0.001
        assert np.delete(angle, axis) == pytest.approx([0, 0], abs=1e-9)


def test_ground_effect_is_that_of_cheeseman_and_bennett():
    forces = RotorForces(ROTORS, 4)
    forces.ground[:] = [0.0, 1.0, 1.0, 2.0]
    height = np.array([0.1, 0.1, 10.0, 0.1])
    thrust, _ = forces.wrench(np.full((4, 4), 2.0), height, np.tile(np.eye(3), (4, 1, 1)))
    share = (ROTORS.radius_m / 4 / 0.1) ** 2
    wanted = [1.0, 1 / (1 - share), 1.0, 1 / (1 - 2 * share)]
    assert thrust[:, 2] / 8.0 == pytest.approx(wanted, rel=1e-5)
    low, _ = forces.wrench(np.full((4, 4), 2.0), np.zeros(4), np.tile(np.eye(3), (4, 1, 1)))
    assert np.isfinite(low).all() and (low[1:] >= thrust[1:]).all()


def test_a_free_base_has_its_own_joints():
    from dataclasses import replace

    scene = replace(TASK.scene, joints=FREE_JOINTS[::-1])
    with pytest.raises(WorldError, match="accepted is .*'x', 'y', 'z', 'roll', 'pitch', 'yaw'"):
        BulletWorlds(type("Reversed", (Hover,), {"scene": scene})(), 1)


def cascade(task, obs):
    """Position, then attitude, then rates: what a person would write, from one frame of the observation."""
    frame = obs[:, -task.frame_size :] / task.frame_scale
    error, speed, attitude, rates = (frame[:, 3 * k : 3 * k + 3] for k in range(4))
    wanted = -2.0 * error - 2.0 * speed
    pitch, roll = np.clip(wanted[:, 0] / 9.81, -0.4, 0.4), np.clip(-wanted[:, 1] / 9.81, -0.4, 0.4)
    x = 0.25 * (roll - attitude[:, 0]) - 0.05 * rates[:, 0]
    y = 0.25 * (pitch - attitude[:, 1]) - 0.05 * rates[:, 1]
    z = -0.3 * attitude[:, 2] - 0.15 * rates[:, 2]
    up = wanted[:, 2] / 9.81
    return np.clip(np.stack([up + x - y + z, up + x + y - z, up - x + y + z, up - x - y - z], axis=1), -1, 1)


def test_the_task_can_be_done():
    """A cascade of proportional controllers does it in the nominal world, and not in a breeze with uneven rotors."""
    done = []
    uneven = {**Ranges.nominal(SPACE).to_dict(), "wind.speed_m_s": [2.0, 2.0], "rotor1.gain": [0.8, 0.8]}
    for intervals in (Ranges.nominal(SPACE).to_dict(), uneven):
        env = TaskVectorEnv(make_task("hover"), 8, seed=0, ranges=Ranges.from_dict(SPACE, intervals))
        obs, _ = env.reset()
        ended, succeeded = np.zeros(8, bool), np.zeros(8, bool)
        for _ in range(TASK.max_steps):
            obs, _, terminated, truncated, info = env.step(cascade(env.task, obs))
            first = (terminated | truncated) & ~ended
            if first.any():
                succeeded |= info["success"] & first
                ended |= first
        env.close()
        assert ended.all()
        done.append(succeeded.mean())
    assert done[0] == 1.0 and done[1] < 0.5


def test_success_asks_for_the_whole_last_second():
    near, far = at(position=GOAL_M), at(position=(0.3, 0, 1))
    assert TASK.holding(near)[0] and not TASK.holding(far)[0] and TASK.hold_steps == TASK.control_hz
    assert TASK.success(near, np.array([300]))[0] and not TASK.success(near, np.array([299]))[0]


@pytest.mark.parametrize("state", [at(position=(0, 0, 0.05)), at(position=(1.6, 0, 1)), at((0, 0, 1), (1.2, 0, 0))])
def test_a_crash_a_flight_away_and_a_tumble_fail(state):
    assert TASK.failed(state)[0] and not TASK.failed(at(position=GOAL_M))[0]


def test_nominal_values_are_the_files():
    world = BulletWorlds(TASK, 1)
    world.reset(np.ones(1, bool), at(), values())
    assert world.read_inertia("frame")[0] == pytest.approx(np.diag(INERTIA))
    assert world.read_parameters()[0, SPACE.index("frame.mass_kg")] == MASS_KG
    world.close()
