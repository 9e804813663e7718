"""Exported policies: what they do, and which files are refused."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from robot.interface import RobotError
from robot.policy import ExportedPolicy
from tests.robot.policies import linear_policy


def test_it_acts_with_and_without_noise(task, tmp_path):
    gains = np.linspace(-1, 1, task.policy_size)
    data = linear_policy(task, gains, log_std=-1.0, run="abc", version=7)
    (tmp_path / "policy.onnx").write_bytes(data)
    policy = ExportedPolicy(tmp_path / "policy.onnx")
    assert (policy.run, policy.version) == ("abc", 7)
    policy.check(task)
    x = np.random.default_rng(0).normal(size=(6, task.policy_size)).astype(np.float32)
    noise = np.random.default_rng(1).normal(size=(6, 1))
    mean = x @ gains[:, None]
    np.testing.assert_allclose(policy.act(x), np.tanh(mean), atol=1e-5)
    np.testing.assert_allclose(policy.act(x, noise, 0.5), np.tanh(mean + 0.5 * np.exp(-1) * noise), atol=1e-5)
    np.testing.assert_array_equal(policy.act(x, noise, 0.0), policy.act(x))


def test_files_that_are_not_ours_are_refused(task, tmp_path):
    with pytest.raises(RobotError, match="cannot be read"):
        ExportedPolicy(tmp_path / "none.onnx")
    with pytest.raises(RobotError, match="not an ONNX model"):
        ExportedPolicy(b"hello")
    model = onnx.load_from_string(linear_policy(task, np.zeros(task.policy_size)))
    del model.metadata_props[:]
    with pytest.raises(RobotError, match="does not describe itself"):
        ExportedPolicy(model.SerializeToString())
    with pytest.raises(RobotError, match="format 2"):
        ExportedPolicy(linear_policy(task, np.zeros(task.policy_size), overrides={"format": 2}))
    with pytest.raises(RobotError, match="columns"):
        ExportedPolicy(linear_policy(task, np.zeros(task.policy_size), overrides={"policy_size": 3}))


@pytest.mark.parametrize(
    "other",
    [
        {"task": "reach"},
        {"history": 4},
        {"frame_names": ["a"]},
        {"frame_scale": [1, 1, 1, 1, 1]},
        {"control_hz": 20.0},
    ],
)
def test_a_policy_for_something_else_does_not_fit(task, other):
    policy = ExportedPolicy(linear_policy(task, np.zeros(task.policy_size), overrides=other))
    with pytest.raises(RobotError, match=next(iter(other)) if "control_hz" not in other else "Hz"):
        policy.check(task)
