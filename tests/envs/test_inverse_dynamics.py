"""Inverse dynamics of the arm against another engine, and by what must hold for any arm."""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from envs import panda
from envs.inverse_dynamics import ArmDynamics
from envs.kinematics import AssetError, asset_path
from envs.tasks.reach import Reach
from robot.twin.panda import load_arm


@pytest.fixture(scope="module")
def arm() -> ArmDynamics:
    return ArmDynamics.from_scene(Reach().scene)


def some_motion(n: int = 12) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return random.uniform(-2, 2, (n, 7)), random.normal(0, 1, (n, 7)), random.normal(0, 4, (n, 7))


def test_the_torques_are_those_of_another_engine(arm: ArmDynamics):
    spec = load_arm(panda.FINGERS)
    for geom in spec.geoms:
        geom.contype = geom.conaffinity = 0
    spec.option.disableflags |= mujoco.mjtDisableBit.mjDSBL_CONSTRAINT
    model = spec.compile()
    data = mujoco.MjData(model)
    q, dq, ddq = some_motion()
    mine = arm.torques(q, dq, ddq).sum(0)
    for k in range(len(q)):
        data.qpos[:7], data.qvel[:7], data.qacc[:7] = q[k], dq[k], ddq[k]
        mujoco.mj_inverse(model, data)
        assert mine[k] == pytest.approx(data.qfrc_inverse[:7], abs=1e-6)


def test_power_is_the_change_of_energy(arm: ArmDynamics):
    """Without gravity: the work of the joints is kinetic energy, so that q' tau is its rate of change."""
    q, dq, ddq = some_motion()

    def energy(q: np.ndarray, dq: np.ndarray) -> np.ndarray:
        zero = np.zeros_like(q)
        return 0.5 * np.einsum("nk,nk->n", arm.torques(q, zero, dq, 0.0).sum(0), dq)

    step = 1e-5
    later = energy(q + dq * step + ddq * step**2 / 2, dq + ddq * step)
    before = energy(q - dq * step + ddq * step**2 / 2, dq - ddq * step)
    power = np.einsum("nk,nk->n", arm.torques(q, dq, ddq, 0.0).sum(0), dq)
    assert power == pytest.approx((later - before) / (2 * step), rel=1e-5, abs=1e-5)


def test_a_body_asks_nothing_of_the_joints_behind_it_and_payload_is_a_point_at_the_last_links_centre(arm: ArmDynamics):
    q, dq, ddq = some_motion()
    each = arm.torques(q, dq, ddq)
    for k in range(7):
        assert not each[k][:, k + 1 :].any()
    rest = np.zeros_like(q)
    assert arm.payload(panda.LINKS[-1], q, rest, rest, 9.81) * 1.21 == pytest.approx(
        arm.torques(q, rest, rest)[-1] - 0.0, rel=0.02, abs=0.02
    )


def test_joints_that_are_no_chain_are_refused():
    with pytest.raises(AssetError, match="accepted are"):
        ArmDynamics(asset_path(panda.URDF), ("panda_joint1", "elbow"))
