"""The hand-written SAC learner: equal to RLlib's and to plain differentiation, complete in its state, loud on NaN."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.utils.metrics.metrics_logger import MetricsLogger
from torch.distributions import TanhTransform
from torch.nn.functional import huber_loss, linear

from pipeline import flat_mlp
from pipeline.flat_sac import Batch, FlatSAC, LearningRates
from pipeline.learner import NonFiniteUpdate
from tests.pipeline.learners import (
    ACTIONS,
    OBS,
    POLICY,
    ROWS,
    largest_difference,
    learner_group,
    learner_of,
    module_of,
    trained_state,
    transitions,
    update,
)

RATES = LearningRates(3e-4, 3e-4, 3e-4)


@pytest.fixture(autouse=True)
def _torch_defaults():
    """RLlib switches torch to deterministic algorithms with a seed; other tests should not inherit that."""
    torch.set_num_threads(1)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("hidden", [(64, 64), (32, 48, 40)])
@pytest.mark.parametrize("actor_lr", [3e-4, 3e-5, [[0, 3e-4], [15, 1e-6]]], ids=["equal", "different", "schedule"])
def test_equals_rllib_after_twenty_updates(hidden, actor_lr):
    stock = learner_group(SACTorchLearner, hidden, actor_lr=actor_lr)
    ours = learner_group(hidden=hidden, actor_lr=actor_lr)
    assert learner_of(ours).kernel is not None
    module_of(stock).generator = torch.Generator()
    module_of(stock).generator.manual_seed(0)  # as ours is by the seed of the configuration
    ones = np.ones(ROWS, np.float32)
    for step in range(1, 21):
        columns = transitions(ROWS, seed=step)
        statistics = update(stock, {**columns, "n_step": ones, "weights": ones}, timestep=step)
        mine = update(ours, columns, timestep=step)
        for name in (
            "qf_loss",
            "qf_twin_loss",
            "policy_loss",
            "alpha_loss",
            "alpha_value",
            "qf_mean",
            "logps",
        ):
            assert mine[name] == pytest.approx(statistics[name], abs=2e-6), name
    theirs, own = trained_state(stock), trained_state(ours)
    assert largest_difference(theirs, own) <= 1e-6
    assert float(own["log_alpha"]) != 0.0
    assert not torch.equal(own["qf.0.weight"], own["target_qf.0.weight"])


def test_gradients_equal_automatic_differentiation():
    """In double precision, three hidden layers, with terminations, weights, discounts and clamped deviations."""
    kernel = FlatSAC(
        policy_size=POLICY, obs_size=OBS, action_size=ACTIONS, hidden=[24, 16, 20], tau=0.01, target_entropy=-2.0,
        dtype=torch.float64,
    )  # fmt: skip
    random = torch.Generator().manual_seed(1)
    kernel.parameters.normal_(0.0, 0.3, generator=random)
    kernel.targets.normal_(0.0, 0.3, generator=random)
    kernel.views(kernel.parameters)["policy"][-1][ACTIONS:] = torch.tensor([-5.0, 2.0])  # on both sides of the clamp
    new = lambda *shape: torch.randn(shape, generator=random, dtype=torch.float64)  # noqa: E731
    batch = Batch(
        obs=new(ROWS, OBS),
        next_obs=new(ROWS, OBS),
        actions=new(ROWS, ACTIONS).tanh(),
        rewards=new(ROWS),
        discounts=torch.where(new(ROWS) > 1.0, 0.0, 0.97),
        weights=new(ROWS).abs(),
    )
    flat = kernel.parameters.clone().requires_grad_()
    noise = torch.randn(2, ROWS, ACTIONS, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    loss = _loss(kernel, flat, batch, next_noise=noise[0], noise=noise[1])
    loss.backward()
    assert flat.grad is not None
    kernel.update(batch, ROWS, RATES, torch.Generator().manual_seed(5))
    assert float((flat.grad - kernel.gradients).abs().max()) < 1e-10
    assert float(kernel.gradients.abs().max()) > 1e-2


def _loss(kernel: FlatSAC, flat: torch.Tensor, batch: Batch, next_noise: torch.Tensor, noise: torch.Tensor):
    """Haarnoja et al. 2018, with the Huber loss, as one sum whose parts move disjoint parameters."""
    nets = kernel.views(flat)
    frozen = kernel.views(flat.detach())
    targets = kernel.target_views()
    half = len(targets) // 2

    def value(tensors, obs, actions):
        x = torch.cat((obs, actions), 1)
        for weight, bias in zip(tensors[:-2:2], tensors[1:-2:2], strict=True):
            x = linear(x, weight, bias).relu()
        return linear(x, tensors[-2], tensors[-1]).squeeze(1)

    def sample(tensors, obs, noise):
        x = obs[:, :POLICY]
        for weight, bias in zip(tensors[:-2:2], tensors[1:-2:2], strict=True):
            x = linear(x, weight, bias).relu()
        mean, log_std = linear(x, tensors[-2], tensors[-1]).chunk(2, 1)
        log_std = log_std.clamp(-5.0, 2.0)
        raw = mean + log_std.exp() * noise
        density = torch.distributions.Normal(mean, log_std.exp()).log_prob(raw)
        density = density - TanhTransform().log_abs_det_jacobian(raw, raw.tanh())
        return raw.tanh(), density.sum(1)

    alpha = flat[-1].detach().exp()
    with torch.no_grad():
        next_actions, next_density = sample(nets["policy"], batch.next_obs, next_noise)
        next_values = torch.minimum(
            value(targets[:half], batch.next_obs, next_actions),
            value(targets[half:], batch.next_obs, next_actions),
        )
        goal = batch.rewards + batch.discounts * (next_values - alpha * next_density)
    critics = [value(nets[name], batch.obs, batch.actions) for name in ("qf", "qf_twin")]
    critic_loss = sum((batch.weights * huber_loss(q, goal, reduction="none")).mean() for q in critics)
    actions, density = sample(nets["policy"], batch.obs, noise)
    own = torch.minimum(value(frozen["qf"], batch.obs, actions), value(frozen["qf_twin"], batch.obs, actions))
    alpha_loss = -(flat[-1] * (density.detach() - 2.0)).mean()
    return critic_loss + (alpha * density - own).mean() + alpha_loss


def test_wide_layers_take_another_library_to_the_same_result(monkeypatch):
    calls, gradients = [], []
    linear = flat_mlp._linear
    monkeypatch.setattr(flat_mlp, "_linear", lambda *arguments: calls.append(1) or linear(*arguments))
    columns = transitions(64)
    batch = [torch.from_numpy(columns[name]) for name in ("obs", "new_obs", "actions", "rewards")]
    batch = Batch(*batch, discounts=torch.full((64,), 0.99), weights=torch.ones(64))
    for threshold in (1 << 16, 1 << 60):
        monkeypatch.setattr(flat_mlp, "WIDE", threshold)
        kernel = FlatSAC(
            policy_size=POLICY,
            obs_size=OBS,
            action_size=ACTIONS,
            hidden=[48, 48],
            tau=0.01,
            target_entropy=-2.0,
        )
        kernel.parameters.normal_(0.0, 0.2, generator=torch.Generator().manual_seed(1))
        kernel.update(batch, 64, RATES, torch.Generator().manual_seed(5))
        gradients.append(kernel.gradients)
    assert len(calls) == 13  # hidden layers up: 3 first, 5 second; down: 3 weight products, 2 + 1 passed on
    assert float((gradients[0] - gradients[1]).norm() / gradients[1].norm()) < 1e-5


@pytest.mark.parametrize("options", [{"grad_clip": 1e9}, {"grad_clip": 1e9, "actor_lr": 1e-4}])
def test_differentiated_path_equals_the_hand_written_one(options, caplog):
    with caplog.at_level(logging.WARNING, logger="pipeline.learner"):
        other = learner_group(**options)
    assert [record.message for record in caplog.records if record.name == "pipeline.learner"] == [
        "Hand-written SAC gradients are off because grad_clip is 1000000000.0; using automatic differentiation."
    ]
    assert learner_of(other).kernel is None
    ours = learner_group(**{**options, "grad_clip": None})
    columns = transitions(4 * ROWS)
    theirs, mine = update(other, columns), update(ours, columns)
    for name in ("qf_loss", "policy_loss", "alpha_value", "entropy"):
        assert mine[name] == pytest.approx(theirs[name], abs=1e-5)
    assert largest_difference(trained_state(other), trained_state(ours)) < 1e-6
    assert learner_of(other).gradient_steps == learner_of(ours).gradient_steps == 4


def test_clipping_takes_effect():
    free, clipped = learner_group(), learner_group(grad_clip=1e-9)
    columns = transitions(ROWS)
    update(free, columns)
    update(clipped, columns)
    moment = "default_policy_qf.0.exp_avg"
    assert float(trained_state(clipped)[moment].norm()) < 1e-9 < float(trained_state(free)[moment].norm())


def test_minibatches_are_taken_in_order():
    together, apart = learner_group(), learner_group()
    columns = transitions(5 * ROWS)
    update(together, columns)
    for i in range(5):
        update(apart, {name: column[i * ROWS : (i + 1) * ROWS] for name, column in columns.items()})
    assert largest_difference(trained_state(together), trained_state(apart)) == 0.0


@pytest.mark.parametrize("options", [{}, {"grad_clip": 10.0}], ids=["hand-written", "differentiated"])
def test_restored_learner_continues_bit_equal(tmp_path: Path, options):
    group = learner_group(**options)
    update(group, transitions(3 * ROWS, seed=1))
    learner_of(group).save_to_path(tmp_path)
    update(group, transitions(3 * ROWS, seed=2))
    restored = learner_group(seed=7, **options)  # another initialization and another noise stream
    learner_of(restored).restore_from_path(tmp_path)
    assert learner_of(restored).gradient_steps == 3
    update(restored, transitions(3 * ROWS, seed=2))
    assert largest_difference(trained_state(group), trained_state(restored)) == 0.0
    assert torch.equal(learner_of(group).generator.get_state(), learner_of(restored).generator.get_state())


def test_live_learner_goes_back_to_an_older_state():
    group = learner_group()
    update(group, transitions(ROWS, seed=1))
    saved = group.get_state()
    update(group, transitions(3 * ROWS, seed=2))
    expected = trained_state(group)
    group.set_state(saved)
    assert largest_difference(trained_state(group), expected) > 0.0
    update(group, transitions(3 * ROWS, seed=2))
    assert largest_difference(trained_state(group), expected) == 0.0


def test_state_survives_a_change_of_path(tmp_path: Path):
    """A run may be resumed with gradient clipping switched on or off."""
    first, second = learner_group(), learner_group(grad_clip=1e9, seed=7)
    update(first, transitions(3 * ROWS, seed=1))
    learner_of(first).save_to_path(tmp_path)
    learner_of(second).restore_from_path(tmp_path)
    update(first, transitions(ROWS, seed=2))
    update(second, transitions(ROWS, seed=2))
    assert largest_difference(trained_state(first), trained_state(second)) < 1e-6


def test_module_and_optimizers_stay_views_of_the_flat_vectors(tmp_path: Path):
    group = learner_group()
    learner, kernel = learner_of(group), learner_of(group).kernel
    group.set_weights(group.get_weights())
    group.set_state(group.get_state())
    learner.save_to_path(tmp_path)
    learner.restore_from_path(tmp_path)
    module = module_of(group)
    trained = [*module.qf.parameters(), *module.qf_twin.parameters(), *module.pi.parameters()]
    for vector, tensors in (
        (kernel.parameters, [*trained, learner.curr_log_alpha[DEFAULT_MODULE_ID]]),
        (kernel.targets, [*module.target_qf.parameters(), *module.target_qf_twin.parameters()]),
        (kernel.exp_avg, [s["exp_avg"] for o in learner._optimizer_parameters for s in o.state.values()]),
    ):
        vector.fill_(0.5)
        assert all(bool((tensor == 0.5).all()) for tensor in tensors)


def test_weights_given_out_do_not_change_with_training():
    group = learner_group()
    weights = group.get_weights()[DEFAULT_MODULE_ID]
    before = {name: value.copy() for name, value in weights.items()}
    update(group, transitions(ROWS))
    assert all(np.array_equal(before[name], weights[name]) for name in before)
    assert not np.array_equal(before["pi.0.weight"], group.get_weights()[DEFAULT_MODULE_ID]["pi.0.weight"])


def test_noise_depends_on_the_seed_alone():
    groups = [learner_group(seed=0), learner_group(seed=0), learner_group(seed=1)]
    states = [learner_of(group).generator.get_state() for group in groups]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    torch.manual_seed(3)
    update(groups[0], transitions(ROWS))
    torch.manual_seed(4)
    update(groups[1], transitions(ROWS))
    assert largest_difference(trained_state(groups[0]), trained_state(groups[1])) == 0.0


def test_only_termination_cuts_the_bootstrap():
    columns = transitions(ROWS)
    changed = {**columns, "new_obs": columns["new_obs"] + 1.0}
    for terminated in (True, False):
        pair = [learner_group(), learner_group()]
        for group, one in zip(pair, (columns, changed), strict=True):
            update(group, {**one, "terminateds": np.full(ROWS, terminated)})
        assert (largest_difference(trained_state(pair[0]), trained_state(pair[1])) == 0.0) is terminated


def test_steps_of_the_return_discount_the_bootstrap():
    columns = transitions(ROWS)
    a, b = learner_group(gamma=0.9), learner_group(gamma=0.9**3)
    update(a, {**columns, "n_step": np.full(ROWS, 3.0, np.float32)})
    update(b, columns)
    assert largest_difference(trained_state(a), trained_state(b)) < 1e-7


@pytest.mark.parametrize("options", [{}, {"grad_clip": 10.0}], ids=["hand-written", "differentiated"])
@pytest.mark.parametrize(
    "column, value", [("rewards", np.nan), ("rewards", np.inf), ("obs", np.nan), ("new_obs", np.nan)]
)
def test_values_that_are_not_finite_stop_training(options, column, value):
    group = learner_group(**options)
    columns = transitions(2 * ROWS)
    columns[column][3] = value
    with pytest.raises(NonFiniteUpdate, match="not finite"):
        update(group, columns)


def test_batch_must_hold_whole_minibatches():
    with pytest.raises(ValueError, match="minibatch_size is 64; it must divide the 100 rows"):
        update(learner_group(), transitions(100))


@pytest.mark.parametrize("setting, told", [("target_network_update_freq", 5), ("twin_q", False)])
def test_settings_that_do_not_apply_are_refused(setting, told):
    with pytest.raises(ValueError, match=f"{setting} is {told}"):
        learner_group(**{setting: told})


def test_set_weights_leaves_the_sequence_number():
    group = learner_group()
    update(group, transitions(ROWS))
    group.set_weights(group.get_weights())
    update(group, transitions(ROWS))
    assert learner_of(group)._weights_seq_no == 2


@pytest.mark.parametrize("model_config", [{"policy_size": 12, "hidden": [8]}, {"policy_size": 3, "hidden": []}])
def test_impossible_module_is_refused(model_config):
    from pipeline.module import AsymmetricSACModule

    spaces = module_of(learner_group())
    with pytest.raises(ValueError, match="model_config"):
        AsymmetricSACModule(
            observation_space=spaces.observation_space,
            action_space=spaces.action_space,
            model_config=model_config,
        )


def test_results_aggregate_as_rllib_does():
    group, metrics = learner_group(), MetricsLogger(root=True)
    from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch

    batch = MultiAgentBatch({DEFAULT_MODULE_ID: SampleBatch(transitions(2 * ROWS))}, env_steps=2 * ROWS)
    for _ in range(2):
        metrics.aggregate(group.update(batch=batch, minibatch_size=ROWS), key="learners")
    result = metrics.peek("learners")
    assert result["__all_modules__"]["num_env_steps_trained_lifetime"] == 4 * ROWS
    assert np.isfinite(result[DEFAULT_MODULE_ID]["qf_loss"])


def test_learns_the_best_action():
    """One-step episodes with reward -(action - target)^2, the target a function of the observation."""
    group = learner_group(actor_lr=3e-3, critic_lr=3e-3, alpha_lr=3e-3)
    random = np.random.default_rng(0)
    for _ in range(20):
        columns = transitions(40 * ROWS, seed=int(random.integers(1 << 30)))
        target = 0.5 * np.tanh(columns["obs"][:, :ACTIONS])
        columns["rewards"] = -np.square(columns["actions"] - target).sum(1)
        columns["terminateds"][:] = True
        update(group, columns)
    obs = torch.from_numpy(transitions(500, seed=99)["obs"])
    with torch.no_grad():
        action = module_of(group).logits(obs)[:, :ACTIONS].tanh()
    assert float((action - 0.5 * obs[:, :ACTIONS].tanh()).abs().mean()) < 0.1
