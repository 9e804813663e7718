"""A recording answers the policy that made it, and nobody else."""

from __future__ import annotations

import numpy as np
import pytest

from robot.drivers import make_robot
from robot.episodes import EpisodeStore
from robot.interface import RobotError, RobotFault
from robot.open import open_session
from robot.policy import ExportedPolicy
from tests.robot.policies import balancing_gains, linear_policy


def test_the_same_policy_gets_the_same_episode(recorded, tmp_path, task, make_settings, balancer):
    then = EpisodeStore(recorded).read(EpisodeStore(recorded).list()[0].episode_id)
    session = open_session(make_settings(driver="replay", driver_options={"store": str(recorded)}), task, tmp_path)
    now = session.run_episode(balancer, purpose="evaluation", seed=0, world=0)
    assert now.meta.stop == "" and now.meta.steps == then.meta.steps
    for name in ("observation", "sent", "joint_position", "reward", "terminated"):
        np.testing.assert_allclose(now.columns[name], then.columns[name], atol=2e-4, err_msg=name)
    session.close()


def test_another_policy_is_refused_with_the_step(recorded, tmp_path, task, make_settings):
    other = ExportedPolicy(linear_policy(task, -balancing_gains(task)))
    session = open_session(make_settings(driver="replay", driver_options={"store": str(recorded)}), task, tmp_path)
    result = session.run_episode(other, purpose="evaluation", seed=0, world=0)
    assert "step 0" in result.meta.stop and "does not follow" in result.meta.stop and len(session.store) == 0
    session.close()


def test_without_a_tolerance_each_difference_is_told(recorded, task, make_settings):
    options = {"store": str(recorded), "tolerance": None}
    robot = make_robot(make_settings(driver="replay", driver_options=options), task)
    robot.connect()
    robot.arm()
    assert robot.command(np.array([9.9])).reasons == ("replay_diverged",)
    assert robot.status().state == "degraded" and "1 commands differed" in robot.status().reason
    steps = EpisodeStore(recorded).list()[0].steps
    for _ in range(steps - 1):
        robot.command(np.array([0.0]))
    with pytest.raises(RobotFault, match=f"ends after {steps} steps"):
        robot.command(np.array([0.0]))


def test_what_is_no_recording_is_named(tmp_path, recorded, task, make_settings):
    def connect(**keys):
        make_robot(make_settings(driver="replay", driver_options=keys), task).connect()

    with pytest.raises(RobotError, match="store: .*none is no folder"):
        connect(store=str(tmp_path / "none"))
    with pytest.raises(RobotError, match="holds no episodes"):
        connect(store=str(tmp_path))
    with pytest.raises(RobotError, match="episode nobody is not in"):
        connect(store=str(recorded), episode_id="nobody")
    with pytest.raises(RobotError, match="robot.driver_options.store: none given"):
        connect()
