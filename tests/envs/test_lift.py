"""Lift: bodies that come in variants, the gripper's servo, and that a person's script can do it."""

from dataclasses import replace

import numpy as np
import pytest

from envs import panda
from envs.bindings import BodyVariant, CentreOfMass
from envs.bullet import BulletWorlds
from envs.bullet_loading import p
from envs.randomization.parameters import Parameter, ParameterSpace, Ranges
from envs.randomization.samplers import UniformSampler
from envs.scene import Shape
from envs.servo import GRIP_LEASH_M, CartesianServo
from envs.tasks.lift import HEIGHTS_M, HELD_OUT, OBJECTS, RISE_M, WORKSPACE, Lift
from envs.tasks.push import PARAMETERS, Push
from envs.vector_env import TaskVectorEnv
from envs.world import WorldError
from tests.lifting import ScriptedLift

TASK = Lift()


def worlds_with(variants: list[int], **values: float) -> tuple[BulletWorlds, np.ndarray]:
    worlds = BulletWorlds(TASK, len(variants))
    rows = np.tile(TASK.parameters.nominal, (len(variants), 1))
    rows[:, TASK.parameters.index("object.variant")] = variants
    for name, value in values.items():
        rows[:, TASK.parameters.index(name)] = value
    put(worlds, rows)
    return worlds, rows


def put(worlds: BulletWorlds, rows: np.ndarray) -> None:
    start = TASK.settle(TASK.initial(np.full((len(rows), TASK.initial_size), 0.5)), rows)
    worlds.reset(np.ones(len(rows), bool), start, rows)


def test_every_variant_stands_on_the_table_with_the_mass_of_the_parameter_and_an_inertia_of_its_own():
    worlds, rows = worlds_with(list(range(len(OBJECTS))))
    still = worlds.step(np.zeros((len(OBJECTS), 1, 4)))
    assert still.body_pose[:, 0, 2] == pytest.approx(0.75 + HEIGHTS_M / 2, abs=1e-3)
    inertia = worlds.read_inertia("object")
    for (x, y, z), shape in zip(inertia, OBJECTS, strict=True):
        a, b, c = shape.size if shape.kind == "box" else (shape.size[0] * np.sqrt(3) / 2,) * 2 + shape.size[1:]
        wanted = 0.1 / 12 * np.array([b**2 + c**2, a**2 + c**2, a**2 + b**2])
        assert (x, y, z) == pytest.approx(wanted, rel=1e-6)
    rows[:, TASK.parameters.index("object.variant")] = 3
    rows[:, TASK.parameters.index("object.mass_kg")] = 0.2
    put(worlds, rows)
    assert worlds.read_inertia("object") == pytest.approx(np.tile(2.0 * inertia[3], (len(OBJECTS), 1)), rel=1e-6)
    assert worlds.step(np.zeros((len(OBJECTS), 1, 4))).body_pose[:, 0, 2] == pytest.approx(0.775, abs=1e-3)
    worlds.close()


def test_variants_that_are_not_chosen_touch_nothing():
    worlds, rows = worlds_with([4])
    for variant in (4, 7, 0):
        rows[:, TASK.parameters.index("object.variant")] = variant
        put(worlds, rows)
        worlds.step(np.zeros((1, 1, 4)))
        chosen = worlds._handles.variants["object"][variant]
        touching = {pair[k] for pair in p.getContactPoints(physicsClientId=worlds._clients[0]) for k in (1, 2)}
        assert touching == {worlds._handles.bodies["table"], chosen}
    worlds.close()


def test_a_push_acts_on_the_variant_that_is_there():
    worlds, _ = worlds_with([0, 5])
    state = worlds.step(np.zeros((2, 1, 4)), forces={"object": np.array([[3.0, 0.0, 0.0], [3.0, 0.0, 0.0]])})
    assert (state.body_twist[:, 0, 0] > 0.5).all()
    worlds.close()


def test_any_free_body_can_have_variants():
    """Push, with a box in place of the puck."""
    shape = Parameter("puck.shape", "", 0.0, (0.0, 1.0), (0.0, 1.0), "integer")
    scene = Push().scene
    puck = replace(scene.bodies[0], others=(Shape("box", (0.08, 0.08, 0.06)),))
    both = {**scene.bindings, "puck.shape": BodyVariant("puck")}
    bindings = {name: binding for name, binding in both.items() if not isinstance(binding, CentreOfMass)}
    space = ParameterSpace([*PARAMETERS, shape])
    task = type("Shaped", (Push,), {"scene": replace(scene, bodies=(puck,), bindings=bindings), "parameters": space})()
    env = TaskVectorEnv(task, 6, ranges=Ranges.default(space))
    env.reset()
    held = env.parameters[:, space.index("puck.shape")]
    assert set(held.tolist()) == {0.0, 1.0}
    assert isinstance(env.world, BulletWorlds)
    assert (env.world.read_parameters()[:, space.index("puck.shape")] == held).all()
    env.close()


def test_a_body_that_comes_in_variants_keeps_its_centre_of_mass():
    bindings = {**TASK.scene.bindings, "start.around": CentreOfMass("object", "x")}
    with pytest.raises(WorldError, match="body: 'object' comes in variants; accepted is moving the centre of mass"):
        BulletWorlds(type("Moved", (Lift,), {"scene": replace(TASK.scene, bindings=bindings)})(), 1)


def test_a_parameter_that_cannot_choose_among_the_variants_is_refused():
    few = replace(TASK.scene.bodies[0], others=OBJECTS[1:3])
    with pytest.raises(WorldError, match=r"object.variant: .* accepted are whole numbers inside \[0, 2\]"):
        BulletWorlds(type("Few", (Lift,), {"scene": replace(TASK.scene, bodies=(few,))})(), 1)


def test_training_never_draws_what_is_held_out():
    column = TASK.parameters.index("object.variant")
    drawn = UniformSampler(Ranges.default(TASK.parameters), 1.0, 0).sample(np.arange(3000), np.zeros(3000, np.int64))
    counts = np.bincount(drawn[:, column].astype(int), minlength=len(OBJECTS))
    assert counts[HELD_OUT:].sum() == 0 and counts[:HELD_OUT].min() > 0.8 * 3000 / HELD_OUT


def test_fingers_move_apart_from_the_tip_and_press_on_what_holds_them_back():
    spec = panda.gripping_servo(*WORKSPACE)
    servo = CartesianServo(spec, 1, 0.1)
    q = np.array([[*panda.POSTURE, 0.03]])
    servo.reset(np.array([0]), q)
    for _ in range(5):
        closing = servo.velocities(np.array([[0.0, 0.0, 0.0, -0.1]]), q)
    resting = servo.velocities(np.zeros((1, 4)), q)
    assert closing[0, 7] < -0.04 and resting[0, 7] == pytest.approx(-4.0 * GRIP_LEASH_M)
    assert resting[0, :7] == pytest.approx(np.zeros(7), abs=1e-6)
    open_q = np.array([[*panda.POSTURE, panda.STROKE[1]]])
    servo.reset(np.array([0]), open_q)
    assert servo.velocities(np.array([[0.0, 0.0, 0.0, 0.1]]), open_q)[0, 7] == pytest.approx(0.0)


def test_both_fingers_close_alike_on_an_object_off_the_middle():
    """And carry it to the middle, since one motor drives them."""
    worlds, rows = worlds_with([0], **{"start.around": 1.0, "object.friction": 0.5})
    start = TASK.settle(TASK.initial(np.full((1, 4), 0.5)), rows)
    pose = start.body_pose.copy()
    pose[:, 0, 1] += 0.008
    worlds.reset(np.ones(1, bool), replace(start, body_pose=pose), rows)
    for _ in range(8):
        state = worlds.step(np.array([[[0.0, 0.0, 0.0, -0.1]]]))
    both = [p.getJointState(worlds._robot, joint, worlds._clients[0])[0] for joint in worlds._actuated[-2:]]
    assert both[0] == pytest.approx(both[1], abs=1e-3) and both[0] == pytest.approx(0.025, abs=3e-3)
    assert state.body_pose[0, 0, 1] == pytest.approx(TASK.tip(state.joint_position)[0, 1], abs=3e-3)
    worlds.close()


@pytest.mark.parametrize(
    ("ranges", "least"),
    [(None, 1.0), ({"start.around": [0, 0]}, 0.7), ({"start.around": [0, 0], "object.variant": [6, 9]}, 0.7)],
    ids=["nominal", "randomized", "held out"],
)
def test_a_script_lifts_by_what_the_robot_measures(ranges, least):
    n, script = 16, ScriptedLift(TASK)
    env = TaskVectorEnv(TASK, n, ranges=None if ranges is None else Ranges.from_dict(TASK.parameters, ranges))
    obs, _ = env.reset()
    before, success = env._true.body_pose[:, 0, 2].copy(), np.zeros(n, bool)
    for _ in range(TASK.max_steps):
        highest = env._true.body_pose[:, 0, 2]
        obs, *_, info = env.step(script.act(obs))
        if info:
            success |= info["success"]
    env.close()
    assert success.mean() >= least
    assert (highest[success] - before[success] > RISE_M).all()  # a step before the end
