"""Moved centres of mass: the motion is that of the same thing loaded with its centre there."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from envs import panda
from envs.bindings import BodyMass, CentreOfMass, LinkMassScale, LinkPayload, LinkPayloadOffset
from envs.bullet import BulletWorlds
from envs.bullet_loading import p
from envs.kinematics import asset_path
from envs.randomization.parameters import Parameter, ParameterSpace
from envs.scene import Body, Effort, Gravity
from envs.tasks.cartpole import Cartpole
from envs.tasks.push import Push
from envs.tasks.reach import Reach
from envs.world import WorldError

ONE = np.ones(1, bool)
AXES: tuple[Literal["x", "y", "z"], ...] = ("x", "y", "z")


def valued(task, **values):
    row = task.parameters.nominal.copy()
    for name, value in values.items():
        row[task.parameters.index(name.replace("__", "."))] = value
    return row[None]


def changed(task, **changes) -> Any:
    return type("Changed", (type(task),), changes)()


def test_a_pole_with_its_mass_higher_up_moves_as_one_loaded_so(tmp_path):
    text = asset_path("cartpole.urdf").read_text()
    before, pole = text.split('<link name="pole">')
    (tmp_path / "high.urdf").write_text(before + '<link name="pole">' + pole.replace("0 0 0.2", "0 0 0.23", 1))
    task = Cartpole()
    high = changed(task, scene=replace(task.scene, urdf=str(tmp_path / "high.urdf")))
    ways = []
    for made, com in ((task, 0.03), (high, 0.0), (task, 0.0)):
        worlds = BulletWorlds(made, 1)
        start = task.initial(np.full((1, 4), 0.8))
        worlds.reset(ONE, start, valued(task, pole__com_m=com, pole__mass_kg=0.2))
        ways.append([worlds.step(np.full((1, worlds.substeps, 1), 3.0 * np.sin(t / 5))) for t in range(50)])
        worlds.close()
    moved, loaded, nominal = (np.array([s.joint_position[0] for s in way]) for way in ways)
    assert np.abs(moved - loaded).max() < 1e-6
    assert np.abs(moved - nominal).max() > 0.01


class Thrown(Push):
    """A brick in the air, of which all three axes can be moved."""

    parameters = ParameterSpace(
        [
            Parameter("brick.mass_kg", "kg", 0.3, (0.1, 1.0), (0.3, 0.3)),
            *(Parameter(f"brick.com_{axis}_m", "m", 0.0, (-0.03, 0.03), (0.0, 0.0)) for axis in AXES),
        ]
    )
    bodies = ("brick",)
    brick = Body("brick", "box", (0.2, 0.12, 0.05), 0.3, position=(0.0, 0.0, 5.0))

    @property
    def scene(self):
        return replace(
            super().scene,
            actuated=panda.JOINTS,
            actuation=Effort(),
            bodies=(self.brick,),
            fixtures=(),
            bindings={"brick.mass_kg": BodyMass("brick")}
            | {f"brick.com_{axis}_m": CentreOfMass("brick", axis) for axis in AXES},
        )


@pytest.mark.parametrize("centre", [(0.02, 0.0, 0.0), (0.0, -0.03, 0.02), (0.03, 0.02, -0.01)])
def test_a_thrown_body_tumbles_as_one_loaded_with_its_centre_there(centre):
    """Moments and products of inertia about the new centre included: it is spun about an axis of no symmetry."""
    task, spin, speed = Thrown(), np.array([3.0, 2.0, 1.0]), np.array([1.0, 0.0, 2.0])
    worlds = BulletWorlds(task, 1)
    start = Push().initial(np.full((1, 5), 0.5))
    pose = np.array([[[0, 0, 5, 0, 0, 0, 1]]], np.float32)
    twist = np.concatenate([speed - np.cross(spin, centre), spin])[None, None].astype(np.float32)  # of its middle
    start = replace(start, body_pose=pose, body_twist=twist)
    x, y, z = centre
    worlds.reset(ONE, start, valued(task, brick__mass_kg=0.5, brick__com_x_m=x, brick__com_y_m=y, brick__com_z_m=z))
    assert worlds.read_parameters() == pytest.approx(np.array([[0.5, *centre]]))
    client = p.connect(p.DIRECT)
    step_s, moments = 1 / 20, worlds.read_inertia("brick")[0]
    p.setPhysicsEngineParameter(fixedTimeStep=step_s, numSubSteps=12, physicsClientId=client)
    half = [length / 2 for length in task.brick.size]
    shape = p.createCollisionShape(p.GEOM_BOX, halfExtents=half, physicsClientId=client)
    loaded = p.createMultiBody(0.5, shape, baseInertialFramePosition=centre, physicsClientId=client)
    p.changeDynamics(
        loaded, -1, localInertiaDiagonal=moments, linearDamping=0, angularDamping=0, physicsClientId=client
    )
    p.resetBasePositionAndOrientation(loaded, np.add(centre, (0, 0, 5)), (0, 0, 0, 1), client)
    p.resetBaseVelocity(loaded, speed, spin, physicsClientId=client)
    for _ in range(12):
        state = worlds.step(np.zeros((1, worlds.substeps, 7)))
        p.stepSimulation(client)
    at, turn = p.getBasePositionAndOrientation(loaded, client)
    p.disconnect(client)
    worlds.close()
    middle = p.multiplyTransforms(at, turn, [-c for c in centre], (0, 0, 0, 1))[0]
    assert abs(turn[0]) > 0.1  # it tumbled
    assert state.body_pose[0, 0, 3:] == pytest.approx(turn, abs=1e-6)
    assert state.body_pose[0, 0, :3] == pytest.approx(middle, abs=1e-3)


def test_a_payload_out_of_the_flange_pulls_as_a_link_of_its_own_does(tmp_path):
    """The arm falls without motors; the reference has the payload in its description, as a point."""
    plain = Reach()
    names = ("world.gravity_m_s2", "arm.mass_scale", "arm.payload_kg", "arm.payload_offset_m")
    bindings = {names[0]: Gravity(), names[1]: LinkMassScale(panda.LINKS), names[2]: LinkPayload("panda_link7")}
    bindings[names[3]] = LinkPayloadOffset("panda_link7", "z")
    scene = replace(plain.scene, actuation=Effort(), actuated=panda.JOINTS, bindings=bindings)
    task = changed(plain, scene=scene)
    worlds = BulletWorlds(task, 1)
    link = worlds._handles.links["panda_link7"]
    x, y, z = p.getDynamicsInfo(worlds._robot, link, worlds._clients[0])[3]
    text = asset_path(panda.URDF).read_text().replace("package://", f"{asset_path(panda.URDF).parent}/")
    point = (
        '<link name="load"><inertial><mass value="1.5"/>'
        '<inertia ixx="0" ixy="0" ixz="0" iyy="0" iyz="0" izz="0"/></inertial></link>'
        '<joint name="loaded" type="floating"><parent link="panda_link7"/><child link="load"/>'
        f'<origin xyz="{x} {y} {z + 0.15}"/></joint>'
    )
    (tmp_path / "loaded.urdf").write_text(text.replace("</robot>", point + "</robot>"))
    reference = changed(plain, scene=replace(scene, urdf=str(tmp_path / "loaded.urdf")))
    ends = []
    for made, kg, offset in ((task, 1.5, 0.15), (reference, 0.0, 0.0), (task, 1.5, 0.0)):
        worlds = BulletWorlds(made, 1) if made is reference else worlds
        row = valued(plain, arm__payload_kg=kg, arm__payload_offset_m=offset)
        worlds.reset(ONE, plain.initial(np.full((1, 4), 0.5)), row)
        for _ in range(5):
            state = worlds.step(np.zeros((1, worlds.substeps, 7)))
        ends.append(state.joint_position[0])
        if made is reference:
            worlds.close()
            worlds = BulletWorlds(task, 1)
    worlds.close()
    assert ends[0] == pytest.approx(ends[1], abs=1e-4)
    assert np.abs(ends[0] - ends[2]).max() > 0.01


def test_a_base_has_no_centre_to_move():
    task = Cartpole()
    bindings = {**task.scene.bindings, "pole.com_m": CentreOfMass("rail", "z")}
    with pytest.raises(
        WorldError, match="'rail' is the base of cartpole.urdf; accepted is another link or a free body"
    ):
        BulletWorlds(changed(task, scene=replace(task.scene, bindings=bindings)), 1)


def test_back_at_the_middle_nothing_is_left_of_having_moved():
    """Bit by bit, in contact, also after other episodes."""
    task = Push()
    worlds, ways = BulletWorlds(task, 1), []
    for com in (0.0, 0.01, 0.0, 0.01):
        start = task.initial(np.full((1, 5), 0.5))
        worlds.reset(ONE, start, valued(task, puck__com_x_m=com, puck__com_y_m=-com))
        for t in range(25):
            state = worlds.step(np.tile([0.3 if t < 15 else 0.0, 0.02], (1, worlds.substeps, 1)))
        ways.append(state.body_pose.tobytes())
    worlds.close()
    assert ways[0] == ways[2] != ways[1] == ways[3]
