"""The pendulum's task: what counts, and what its motor cannot do."""

from __future__ import annotations

import math

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from envs.bullet import BulletWorlds
from envs.randomization.parameters import Ranges
from envs.task import State
from envs.tasks.pendulum import CABLE_RAD, MAX_TORQUE_NM, Pendulum
from envs.vector_env import TaskVectorEnv

TASK = Pendulum()


def state(angle, speed=0.0) -> State:
    return State(np.array([[angle]], np.float32), np.array([[speed]], np.float32))


def no_friction(world: BulletWorlds, angle: float) -> None:
    row = TASK.parameters.nominal.copy()
    for name in ("pivot.viscous_nm_s", "pivot.coulomb_nm"):
        row[TASK.parameters.index(name)] = 0.0
    world.reset(np.ones(1, bool), state(angle), row[None])


@pytest.mark.filterwarnings("ignore:.*infinity:UserWarning", "ignore:.*Not able to test alternative render")
def test_gymnasium_finds_nothing_to_complain_about():
    env = gymnasium.make("sim2real/Pendulum-v0", ranges={}, groups=("policy", "privileged"))
    check_env(env.unwrapped)
    env.close()


def test_the_simulated_arm_is_the_published_one():
    """Free swinging: the period of J = 0.06259 kg m^2 and m c = 0.1022 kg m; and it swings towards +x."""
    world = BulletWorlds(TASK, 1)
    no_friction(world, 0.05)
    crossings, last = [], 0.05
    for k in range(250):
        angle = float(world.step(np.zeros((1, world.substeps, 1))).joint_position[0, 0])
        if last > 0 >= angle:
            crossings.append(k + last / (last - angle))
        last = angle
    world.close()
    assert np.diff(crossings).mean() / 50 == pytest.approx(2 * math.pi * math.sqrt(0.06259 / (0.1022 * 9.81)), rel=0.01)


@pytest.mark.parametrize("torque", [MAX_TORQUE_NM, -MAX_TORQUE_NM])
def test_the_motor_alone_cannot_lift_it(torque):
    world = BulletWorlds(TASK, 1)
    world.reset(np.ones(1, bool), state(0.0), TASK.parameters.nominal[None])
    highest = 0.0
    for _ in range(400):
        measured = world.step(np.full((1, world.substeps, 1), torque))
        highest = max(highest, math.copysign(1.0, torque) * float(measured.joint_position[0, 0]))
    world.close()
    assert 0.3 < highest < math.pi / 2


@pytest.mark.parametrize("ranges", [None, Ranges.default(TASK.parameters)], ids=["nominal", "randomized"])
def test_pumping_lifts_it(ranges):
    """Pushing the way it moves, and turning round where it sticks, gets it to the top in nearly every world."""
    env = TaskVectorEnv(TASK, 40, seed=1, ranges=ranges)
    env.reset()
    over, push = np.zeros(40, bool), np.ones(40)
    for k in range(390):
        angle, speed = env._true.joint_position[:, 0], env._true.joint_velocity[:, 0]
        over |= np.abs(angle) > math.pi
        still = (np.abs(speed) < 0.05) & (k % 10 == 0)
        push = np.where(still, -push, np.where(np.abs(speed) > 0.1, np.sign(speed), push))
        env.step(push[:, None].astype(np.float32))
    env.close()
    assert over.mean() > 0.95


def test_success_is_upright_and_calm_for_the_whole_last_second():
    class Scripted:
        """A world that does as told."""

        n, substeps = 1, 5

        def __init__(self):
            self.angles: list[float] = []

        def reset(self, mask, state, parameters): ...

        def step(self, profile, extra_s=None, forces=None):
            return state(self.angles.pop(0))

        def close(self): ...

    def succeeds(angles):
        world = Scripted()
        world.angles = list(angles)
        env = TaskVectorEnv(TASK, 1, world=world)
        env.reset()
        info = {}
        for _ in range(400):
            *_, info = env.step(np.zeros((1, 1)))
        return bool(info["success"][0])

    up = [math.pi] * 400
    assert succeeds(up) and succeeds([-math.pi] * 400) and succeeds([0.0] * 350 + up[:50])
    assert not succeeds([0.0] * 351 + up[:49])
    assert not succeeds(up[:380] + [2.0] + up[:19])
    assert not succeeds([0.0] * 400)


def test_angles_of_whole_turns_are_the_same_place():
    nothing = np.zeros((1, 1), np.float32)
    for angle in (0.3, -2.0):
        a, b = state(angle, 1.0), state(angle + 2 * math.pi, 1.0)
        np.testing.assert_allclose(TASK.features(a, nothing), TASK.features(b, nothing), atol=1e-6)
        np.testing.assert_allclose(TASK.reward(a, nothing), TASK.reward(b, nothing), atol=1e-6)


def test_standing_pays_most_and_the_cable_ends_it():
    nothing = np.zeros((1, 1), np.float32)
    best = float(TASK.reward(state(math.pi), nothing)[0])
    assert best == pytest.approx(1.0)
    others = [float(TASK.reward(state(a, v), nothing)[0]) for a in np.linspace(0, 3, 9) for v in np.linspace(-9, 9, 9)]
    assert max(others) < best and min(others) >= -0.52
    assert TASK.reward(state(1.6), nothing)[0] < TASK.reward(state(1.6, 1.0), nothing)[0]  # leaning does not pay
    assert not TASK.failed(state(CABLE_RAD - 0.01))[0] and TASK.failed(state(-CABLE_RAD - 0.01))[0]
