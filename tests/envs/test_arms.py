"""The Panda: kinematics against PyBullet, the servo, the scene, and that the tasks can be done."""

from dataclasses import replace

import numpy as np
import pytest

from envs import panda
from envs.bullet import BulletWorlds
from envs.bullet_loading import p
from envs.kinematics import AssetError, Chain, asset_path
from envs.randomization.parameters import Ranges
from envs.registry import make_task
from envs.scene import STOCK, JointVelocity
from envs.tasks.push import Push
from envs.tasks.reach import Reach
from envs.vector_env import TaskVectorEnv
from envs.world import WorldError


class StockPush(Push):
    @property
    def scene(self):
        return replace(super().scene, loading=STOCK, link_contact={})


def test_kinematics_and_jacobian_agree_with_pybullet():
    client = p.connect(p.DIRECT)
    robot = p.loadURDF(str(asset_path(panda.URDF)), panda.BASE, useFixedBase=True, physicsClientId=client)
    infos = [p.getJointInfo(robot, j, client) for j in range(p.getNumJoints(robot, client))]
    tip = next(info[0] for info in infos if info[12].decode() == panda.TIP)
    q = np.random.default_rng(0).uniform(-1.5, 1.5, (20, 7))
    frames, jacobians = panda.chain().jacobian(q)
    for row, frame, jacobian in zip(q.tolist(), frames, jacobians, strict=True):
        for joint, angle in enumerate(row):
            p.resetJointState(robot, joint, angle, physicsClientId=client)
        state = p.getLinkState(robot, tip, computeForwardKinematics=True, physicsClientId=client)
        assert frame[:3, 3] == pytest.approx(state[4], abs=1e-6)
        assert frame[:3, :3].ravel() == pytest.approx(p.getMatrixFromQuaternion(state[5]), abs=1e-6)
        linear, angular = p.calculateJacobian(robot, tip, [0] * 3, [*row, 0, 0], [0] * 9, [0] * 9, client)
        assert jacobian == pytest.approx(np.concatenate([linear, angular])[:, :7], abs=1e-6)
    p.disconnect(client)


def test_jacobian_is_the_derivative():
    q = np.random.default_rng(1).uniform(-1, 1, (1, 7))
    _, jacobian = panda.chain().jacobian(q)
    for j in range(7):
        step = np.eye(7)[j] * 1e-6
        moved = panda.chain().position(q + step) - panda.chain().position(q - step)
        assert jacobian[0, :3, j] == pytest.approx(moved[0] / 2e-6, abs=1e-6)


def test_starts_are_where_they_are_said_to_be():
    from envs.tasks.reach import HIGH, LOW

    frames = panda.chain().forward(panda.starts(LOW, HIGH))
    assert (frames[:, :3, 3] > np.array(LOW) - 1e-4).all() and (frames[:, :3, 3] < np.array(HIGH) + 1e-4).all()
    assert frames[:, :3, 2] == pytest.approx(np.tile([0, 0, -1], (panda.STARTS, 1)), abs=1e-3)


def test_bad_chains_give_a_sentence():
    path = asset_path(panda.URDF)
    with pytest.raises(AssetError, match="do not lead to 'panda_link4'; accepted are those that do"):
        Chain.from_urdf(path, panda.JOINTS, "panda_link4")
    with pytest.raises(AssetError, match="out of reach"):
        panda.chain().solve(np.array([panda.POSTURE]), np.diag([1.0, -1, -1, 1])[None] + 5.0 * np.eye(4, k=3)[None])


def test_a_tip_velocity_is_what_the_tip_does():
    """Along each axis in turn; the other axes and the orientation are held."""
    task = Reach()
    worlds = BulletWorlds(task, 3)
    start = task.initial(np.tile([0.3, 0.5, 0.5, 0.5], (3, 1)))
    middle = panda.starts((0.45, 0.0, 1.0), (0.45, 0.0, 1.0))[:3].astype(np.float32)
    start = replace(start, joint_position=middle)
    worlds.reset(np.ones(3, bool), start, np.tile(task.parameters.nominal, (3, 1)))
    before = panda.chain().forward(start.joint_position)
    for _ in range(10):
        state = worlds.step(0.1 * np.eye(3)[:, None])
    after = panda.chain().forward(state.joint_position)
    assert after[:, :3, 3] - before[:, :3, 3] == pytest.approx(0.05 * np.eye(3), abs=2e-3)
    assert after[:, :3, :3] == pytest.approx(before[:, :3, :3], abs=0.02)
    worlds.close()


def test_engine_substeps_leave_the_strength_of_servos_alone():
    """An arm too weak to hold itself sags alike with one call for 12 physics steps and with twelve."""
    sagged = []
    for loading in (panda.TUNED, replace(panda.TUNED, engine_substeps=1)):
        task = Reach()
        servos = JointVelocity(panda.MAX_EFFORT, panda.MAX_VELOCITY)
        scene = replace(task.scene, loading=loading, actuation=servos, actuated=panda.JOINTS)
        weak = type("Weak", (Reach,), {"scene": scene})()
        worlds = BulletWorlds(weak, 1)
        values = task.parameters.nominal.copy()
        values[task.parameters.index("arm.effort_scale")] = 0.05
        start = task.initial(np.full((1, 4), 0.5))
        worlds.reset(np.ones(1, bool), start, values[None])
        for _ in range(4):
            state = worlds.step(np.zeros((1, worlds.substeps, 7)))
        sagged.append(state.joint_position - start.joint_position)
        worlds.close()
    assert np.abs(sagged[0]).max() > 0.05
    assert sagged[0] == pytest.approx(sagged[1], abs=0.02 * float(np.abs(sagged[0]).max()))


def test_tuned_loading_moves_the_puck_as_the_stock_scene_does():
    """The puck ends within a centimetre after 40 cm/s strokes (the benchmark gives the figures)."""
    ends = []
    for task in (Push(), StockPush()):
        worlds = BulletWorlds(task, 1)
        start = task.initial(np.full((1, 5), 0.5))
        worlds.reset(np.ones(1, bool), start, task.parameters.nominal[None])
        for t in range(30):
            state = worlds.step(np.tile([0.25 if t < 15 else 0.0, 0.0], (1, worlds.substeps, 1)))
        ends.append(state.body_pose[0, 0, :3])
        assert ends[-1][0] > start.body_pose[0, 0, 0] + 0.03
        worlds.close()
    assert np.linalg.norm(ends[0] - ends[1]) < 0.01


def test_the_inertia_of_a_body_follows_its_mass():
    task = Push()
    worlds = BulletWorlds(task, 1)
    values = task.parameters.nominal.copy()
    worlds.reset(np.ones(1, bool), task.initial(np.full((1, 5), 0.5)), values[None])
    nominal = {name: worlds.read_inertia(name) for name in ("puck", "panda_link4")}
    values[task.parameters.index("puck.mass_kg")] = 0.4
    values[task.parameters.index("arm.mass_scale")] = 3.0
    worlds.reset(np.ones(1, bool), task.initial(np.full((1, 5), 0.5)), values[None])
    assert worlds.read_inertia("puck") == pytest.approx(2.0 * nominal["puck"])
    assert worlds.read_inertia("panda_link4") == pytest.approx(3.0 * nominal["panda_link4"])
    worlds.close()


def test_period_jitter_makes_periods_longer():
    task = Reach()
    ranges = Ranges.nominal(task.parameters).to_dict() | {"action.period_jitter_ms": [8.0, 8.0]}
    went = []
    for intervals in (None, Ranges.from_dict(task.parameters, ranges)):
        env = TaskVectorEnv(task, 8, seed=0, ranges=intervals)
        env.reset()
        before = panda.chain().position(env._true.joint_position).copy()
        for _ in range(4):
            env.step(np.tile([0.0, 0.5, 0.0], (8, 1)))
        went.append((panda.chain().position(env._true.joint_position) - before)[:, 1])
        env.close()
    assert (went[1] > went[0]).all()
    assert went[1].mean() / went[0].mean() == pytest.approx(1 + 8 / 50, abs=0.08)


def test_no_puck_starts_at_its_goal():
    """And all of the field of goals is still drawn, nothing outside it."""
    from envs.tasks.push import APART_M, GOAL, SUCCESS_M

    uniform = np.random.default_rng(0).uniform(size=(20_000, 5))
    start = Push().initial(uniform)
    distance = Push().distance(start)
    assert distance.min() >= APART_M - 1e-6 > SUCCESS_M
    assert start.goal.min(axis=0) == pytest.approx(GOAL[0], abs=1e-3)
    assert start.goal.max(axis=0) == pytest.approx(GOAL[1], abs=1e-3)
    assert np.array_equal(start.goal[7:9], Push().initial(uniform[7:9]).goal)


def scripted(env):
    """Actions that do the job from the true state, as a person would write them."""
    state = env._true
    tip = panda.chain().position(state.joint_position)
    if env.task.name == "reach":
        return np.clip((state.goal - tip) * 8.0, -1, 1)
    tip, puck = tip[:, :2], state.body_pose[:, 0, :2]
    ahead = state.goal - puck
    far = np.linalg.norm(ahead, axis=1, keepdims=True)
    along = ahead / np.maximum(far, 1e-6)
    to_puck = puck - tip
    depth = (to_puck * along).sum(axis=1, keepdims=True)
    to_behind = puck - along * 0.085 - tip
    aside = np.linalg.norm(to_puck - depth * along, axis=1, keepdims=True)
    pushing = (np.linalg.norm(to_behind, axis=1, keepdims=True) < 0.02) | ((depth > 0.03) & (aside < 0.02))
    left = np.stack([-along[:, 1], along[:, 0]], axis=1)
    left = left * np.sign(((tip - puck) * left).sum(axis=1, keepdims=True) + 1e-9)
    around = ~pushing & (depth < 0.02) & (np.linalg.norm(to_puck, axis=1, keepdims=True) < 0.13)
    way = np.where(pushing, np.where(far > 0.03, along * np.minimum(0.05, far / 2 + 0.005), 0.0), to_behind)
    way = np.where(around, to_behind / 2 + left * 0.06, way)
    return np.clip(way * 17.0, -1, 1)


@pytest.mark.parametrize(("name", "least"), [("reach", 1.0), ("push", 0.7)])
def test_the_task_can_be_done(name, least):
    env = TaskVectorEnv(make_task(name), 16, seed=0)
    env.reset()
    ended, succeeded = np.zeros(16, bool), np.zeros(16, bool)
    for _ in range(env.task.max_steps):
        _, _, terminated, truncated, info = env.step(scripted(env))
        first = (terminated | truncated) & ~ended
        if first.any():
            succeeded |= info["success"] & first
            ended |= first
    env.close()
    assert ended.all() and succeeded.mean() >= least


def test_bad_scenes_give_a_sentence():
    from envs.bindings import BodyHeight, BodyMass, JointCoulomb
    from envs.scene import Body

    def build(**changes):
        task = Push()
        BulletWorlds(type("Changed", (Push,), {"scene": replace(task.scene, **changes)})(), 1)

    bindings = Push().scene.bindings
    with pytest.raises(WorldError, match="body: 'cube' is not in this scene; accepted is one of table, puck"):
        build(bindings={"puck.mass_kg": BodyMass("cube")})
    with pytest.raises(WorldError, match="fixture: 'puck' is not in this scene; accepted is one of table"):
        build(bindings={"table.height_m": BodyHeight("puck")})
    with pytest.raises(WorldError, match="'panda_joint1' has a velocity servo"):
        build(bindings={**bindings, "puck.friction": JointCoulomb("panda_joint1")})
    with pytest.raises(WorldError, match="shape: 'ball' of body 'puck' is unknown; accepted is box or cylinder"):
        build(bodies=(Body("puck", "ball", (0.1,), 0.1),))
    with pytest.raises(WorldError, match="multiple of 12 times its 20 Hz"):
        build(physics_hz=250.0)


def test_factors_on_one_link_multiply_and_a_payload_adds():
    """A point at the centre of mass leaves the inertia alone."""
    task = Reach()
    worlds = BulletWorlds(task, 1)
    values = task.parameters.nominal.copy()
    start = task.initial(np.full((1, 4), 0.5))

    def mass_kg(link):
        return p.getDynamicsInfo(worlds._robot, worlds._handles.links[link], worlds._clients[0])[0]

    worlds.reset(np.ones(1, bool), start, values[None])
    nominal, inertia = {link: mass_kg(link) for link in panda.LINKS}, worlds.read_inertia("panda_link7")
    for name, value in (("arm.mass_scale", 2.0), ("arm.link3_mass_scale", 1.5), ("arm.payload_kg", 0.7)):
        values[task.parameters.index(name)] = value
    worlds.reset(np.ones(1, bool), start, values[None])
    assert mass_kg("panda_link2") == pytest.approx(2.0 * nominal["panda_link2"])
    assert mass_kg("panda_link3") == pytest.approx(3.0 * nominal["panda_link3"])
    assert mass_kg("panda_link7") == pytest.approx(2.0 * nominal["panda_link7"] + 0.7)
    assert worlds.read_inertia("panda_link7") == pytest.approx(2.0 * inertia)
    worlds.close()
