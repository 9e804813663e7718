"""What runs elsewhere is what was trained: the NumPy actor, the ONNX file and the torch module agree."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import onnx
import pytest
import torch
from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian
from ray.rllib.utils.numpy import MAX_LOG_NN_OUTPUT, MIN_LOG_NN_OUTPUT

from envs.tasks.cartpole import Cartpole
from pipeline.export import export_policy
from pipeline.policy import LOG_STD_MAX, LOG_STD_MIN, NumpyPolicy, actor_weights
from robot.interface import RobotError
from robot.policy import ExportedPolicy
from tests.pipeline.learners import ACTIONS, OBS, POLICY, learner_group, learner_of, module_of, transitions, update

TASK = Cartpole()


@pytest.fixture(autouse=True)
def _torch_defaults():
    yield
    torch.use_deterministic_algorithms(False)


def random_weights(sizes=(TASK.policy_size, 48, 32, 2 * TASK.action_size), scale: float = 0.3):
    random = np.random.default_rng(0)
    weights = {}
    for i, (inputs, outputs) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
        weights[f"pi.{2 * i}.weight"] = random.normal(0, scale, (outputs, inputs)).astype(np.float32)
        weights[f"pi.{2 * i}.bias"] = random.normal(0, scale, outputs).astype(np.float32)
    return weights


@pytest.mark.parametrize("hidden", [(24,), (32, 16), (16, 24, 16)])
def test_numpy_policy_has_the_distribution_of_training(hidden):
    """The trained module's own, through RLlib's squashed Gaussian, also where it clamps the deviation."""
    group = learner_group(hidden=hidden, actor_lr=1e-2)
    update(group, transitions(20 * 64))
    module = module_of(group)
    with torch.no_grad():
        module.pi[-1].bias[ACTIONS:] = torch.tensor([LOG_STD_MIN, LOG_STD_MAX])
    policy = NumpyPolicy(group.get_weights())
    obs = 10 * transitions(300, seed=5)["obs"]
    noise = np.random.default_rng(1).normal(size=(300, ACTIONS))
    with torch.no_grad():
        logits = module.forward_inference({"obs": torch.from_numpy(obs)})["action_dist_inputs"]
    trained = TorchSquashedGaussian.from_logits(logits)._dist
    raw_log_std = logits[:, ACTIONS:]
    assert (raw_log_std < LOG_STD_MIN).any() and (raw_log_std > LOG_STD_MAX).any()
    assert ((raw_log_std > LOG_STD_MIN) & (raw_log_std < LOG_STD_MAX)).any()
    mean, log_std = policy.distribution(obs)
    assert np.abs(mean - trained.loc.numpy()).max() < 1e-5
    assert np.abs(np.exp(log_std) - trained.scale.numpy()).max() < 1e-5
    assert np.abs(policy.act(obs) - torch.tanh(trained.loc).numpy()).max() < 1e-5
    sample = torch.tanh(trained.loc + trained.scale * torch.from_numpy(noise).float())
    assert np.abs(policy.act(obs, noise) - sample.numpy()).max() < 1e-5


def test_clamp_is_that_of_rllib():
    assert (LOG_STD_MIN, LOG_STD_MAX) == (MIN_LOG_NN_OUTPUT, MAX_LOG_NN_OUTPUT)


def test_rows_do_not_depend_on_the_batch_nor_on_privileged_columns():
    policy = NumpyPolicy(random_weights((POLICY, 32, 2 * ACTIONS)))
    obs = transitions(50)["obs"]
    together = policy.act(obs)
    assert together.dtype == np.float32
    assert np.abs(together - np.concatenate([policy.act(row[None, :POLICY]) for row in obs])).max() < 1e-6
    assert (policy.act(obs) == together).all()


def test_results_are_the_callers_own():
    policy = NumpyPolicy(random_weights((POLICY, 32, 2 * ACTIONS)))
    first = policy.distribution(np.zeros((4, POLICY)))
    kept = [part.copy() for part in first]
    policy.distribution(np.ones((4, POLICY)))
    assert all((a == b).all() for a, b in zip(first, kept, strict=True))


@pytest.mark.parametrize("rows", [1, 7])
def test_exported_policy_equals_the_numpy_actor(rows):
    weights = random_weights()
    exported, policy = ExportedPolicy(export_policy(weights, TASK, version=7, run="a")), NumpyPolicy(weights)
    random = np.random.default_rng(rows)
    obs = random.normal(size=(rows, TASK.policy_size)).astype(np.float32)
    noise = random.normal(size=(rows, TASK.action_size))
    assert np.abs(exported.act(obs) - policy.act(obs)).max() < 1e-5
    assert np.abs(exported.act(obs, noise) - policy.act(obs, noise)).max() < 1e-5


def test_exported_deviation_is_clamped():
    weights = random_weights()
    for bias, bound in ((-30.0, LOG_STD_MIN), (30.0, LOG_STD_MAX)):
        weights["pi.4.bias"][TASK.action_size :] = bias
        session = ExportedPolicy(export_policy(weights, TASK, version=0, run="a"))._session
        observation = {"policy": np.zeros((2, TASK.policy_size), np.float32)}
        log_std = np.asarray(session.run(["log_std"], observation)[0])
        assert (log_std == bound).all()


def test_exported_policy_describes_itself():
    data = export_policy(random_weights(), TASK, version=12, run="cartpole-1")
    onnx.checker.check_model(onnx.load_from_string(data), full_check=True)
    exported = ExportedPolicy(data)
    exported.check(TASK)
    assert (exported.version, exported.run) == (12, "cartpole-1")
    assert exported.metadata["control_hz"] == TASK.control_hz
    assert exported.metadata["action_names"] == list(TASK.actuated)
    assert np.float32(exported.metadata["frame_scale"]).tolist() == TASK.frame_scale.tolist()


def test_another_task_refuses_the_policy():
    class Other(Cartpole):
        frame_names = ("x_m", "tilt_rad", "x_m_s", "angle_rad_s", "last_action")

    with pytest.raises(RobotError, match="frame_names"):
        ExportedPolicy(export_policy(random_weights(), TASK, version=0, run="a")).check(Other())


def test_actor_of_the_wrong_size_is_refused():
    with pytest.raises(ValueError, match=r"takes 7 observations to 2 actions; task cartpole has 25 and 1"):
        export_policy(random_weights((7, 16, 4)), TASK, version=0, run="a")


def test_actor_is_found_in_every_state():
    group = learner_group()
    states = [
        module_of(group).get_state(),
        group.get_weights(),
        learner_of(group).get_state(),
        group.get_state(),
    ]
    expected = NumpyPolicy(states[0]).act(transitions(5)["obs"])
    for state in states:
        assert (NumpyPolicy(state).act(transitions(5)["obs"]) == expected).all()
    with pytest.raises(ValueError, match="no actor"):
        actor_weights({"qf.0.weight": np.zeros((2, 2))})


def test_actor_weights_are_copies():
    group = learner_group()
    weights = actor_weights({name: value.numpy() for name, value in module_of(group).state_dict().items()})
    before = {name: value.copy() for name, value in weights.items()}
    update(group, transitions(64))
    assert all((weights[name] == before[name]).all() for name in weights)
    assert len(weights) == 6 and weights["pi.0.weight"].shape == (32, POLICY) and OBS > POLICY


def test_acting_needs_neither_torch_nor_ray():
    code = "import pipeline.policy, sys; print(sorted({'torch', 'ray', 'onnx', 'envs'} & set(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert output.strip() == "[]"
