"""Soft actor-critic updates with hand-written gradients over one flat parameter vector.

The networks are small, so an automatic-differentiation engine spends more time on bookkeeping than on arithmetic.
Here the backward pass is written out, all trained parameters lie in one vector, and one fused Adam step moves
them. The mathematics is RLlib's SAC (Haarnoja et al. 2018, arXiv:1801.01290 and 1812.05905, with the Huber loss for
the critics): every gradient of an update is taken at the same parameters, before any of them moves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch.nn.functional import huber_loss, softplus

from pipeline.flat_mlp import FlatMLP, Layout
from pipeline.policy import LOG_STD_MAX, LOG_STD_MIN

ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-7  # RLlib's choice for SAC
CRITICS = ("qf", "qf_twin")
_fused_adam = torch._fused_adam_  # pyright: ignore[reportPrivateImportUsage]  what Adam(fused=True) calls
LOG_TWO, HALF_LOG_TWO_PI = math.log(2.0), 0.5 * math.log(2.0 * math.pi)


class LearningRates(NamedTuple):
    """Adam step sizes of the three optimizers."""

    critic: float
    actor: float
    alpha: float


class Batch(NamedTuple):
    """The rows of one or many minibatches."""

    obs: torch.Tensor  # (n, o)
    next_obs: torch.Tensor  # (n, o)
    actions: torch.Tensor  # (n, a)
    rewards: torch.Tensor  # (n,)
    discounts: torch.Tensor  # (n,) gamma^n_step, 0 where the episode terminated
    weights: torch.Tensor  # (n,) of the rows in the critics' loss


class FlatSAC:
    """A SAC agent in flat vectors.

    `parameters` is `[qf | qf_twin | policy | alpha]`, where alpha is its logarithm; `exp_avg` and `exp_avg_sq` are
    Adam's moments in the same layout and `step` its count. `targets` is `[qf | qf_twin]`.
    """

    def __init__(
        self,
        *,
        policy_size: int,
        obs_size: int,
        action_size: int,
        hidden: Sequence[int],
        tau: float,
        target_entropy: float,
        dtype: torch.dtype = torch.float32,
    ):
        self.policy_size, self.obs_size, self.action_size = policy_size, obs_size, action_size
        self.tau, self.target_entropy = tau, target_entropy
        self.critic = Layout([obs_size + action_size, *hidden, 1])
        self.policy = Layout([policy_size, *hidden, 2 * action_size])
        length, end = self.critic.length, 2 * self.critic.length + self.policy.length
        self.slices = {"qf": slice(0, length), "qf_twin": slice(length, 2 * length)}
        self.slices |= {"policy": slice(2 * length, end), "alpha": slice(end, end + 1)}
        self.parameters = torch.zeros(end + 1, dtype=dtype)
        self.gradients = torch.zeros_like(self.parameters)
        self.exp_avg = torch.zeros_like(self.parameters)
        self.exp_avg_sq = torch.zeros_like(self.parameters)
        self.step = torch.zeros((), dtype=torch.float32)
        self.targets = torch.zeros(2 * length, dtype=dtype)
        self._work: _Workspace | None = None

    def views(self, flat: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """The tensors of a vector laid out like `parameters`, weights and biases in turn, by network."""
        layouts = {"qf": self.critic, "qf_twin": self.critic, "policy": self.policy}
        tensors = {name: layout.tensors(flat[self.slices[name]]) for name, layout in layouts.items()}
        return {**tensors, "alpha": [flat[self.slices["alpha"]]]}

    def target_views(self) -> list[torch.Tensor]:
        """The tensors of both target critics, one after the other."""
        return [view for name in CRITICS for view in self.critic.tensors(self.targets[self.slices[name]])]

    def update(self, batch: Batch, rows: int, rates: LearningRates, generator: torch.Generator) -> dict[str, float]:
        """Take one gradient step for each `rows` rows of the batch; statistics of the last minibatch.

        The action noise comes from `generator`: for every minibatch at the next, then at the current observations.
        """
        if self._work is None or self._work.rows != rows:
            self._work = _Workspace(self, rows)
        steps = len(batch.rewards) // rows
        noise = torch.randn((steps, 2, rows, self.action_size), generator=generator, dtype=self.parameters.dtype)
        noises = noise.flip(1).view(steps, 2 * rows, self.action_size).unbind()  # current observations come first
        minibatches = [Batch(*columns) for columns in zip(*(c.split(rows) for c in batch), strict=True)]
        groups, critics = self._groups(rates), self.parameters[: len(self.targets)]
        statistics: dict[str, float] = {}
        with torch.no_grad(), _uninitialized_memory():
            for minibatch, noise in zip(minibatches[:steps], noises, strict=True):
                self._work.take_gradients(minibatch, noise)
                if minibatch is minibatches[steps - 1]:
                    statistics = self._work.statistics(minibatch)
                self._adam(groups)
                self.targets.lerp_(critics, self.tau)
        return statistics

    def _groups(self, rates: LearningRates) -> list[tuple[float, list[list[torch.Tensor]]]]:
        """Learning rates and what they move, in as few fused Adam calls as they allow."""
        vectors = (self.parameters, self.gradients, self.exp_avg, self.exp_avg_sq)
        if rates.critic == rates.actor == rates.alpha:
            return [(rates.critic, [[vector] for vector in vectors])]
        parts = (slice(0, len(self.targets)), self.slices["policy"], self.slices["alpha"])
        return [(rate, [[vector[part]] for vector in vectors]) for rate, part in zip(rates, parts, strict=True)]

    def _adam(self, groups: list[tuple[float, list[list[torch.Tensor]]]]) -> None:
        self.step += 1
        for rate, (parameters, gradients, exp_avgs, exp_avg_sqs) in groups:
            _fused_adam(
                parameters,
                gradients,
                exp_avgs,
                exp_avg_sqs,
                [],
                [self.step],
                lr=rate,
                beta1=ADAM_BETAS[0],
                beta2=ADAM_BETAS[1],
                weight_decay=0.0,
                eps=ADAM_EPS,
                amsgrad=False,
                maximize=False,
            )


class _Workspace:
    """Networks and buffers for minibatches of `rows` rows.

    Actor and critics run on two batches at once, the rows that are trained on top: the actor on the current and
    the next observations, the critics on the actions taken and on the actor's own.
    """

    def __init__(self, agent: FlatSAC, rows: int):
        self.agent, self.rows = agent, rows
        new, parts, flat, gradients = agent.parameters.new_empty, agent.slices, agent.parameters, agent.gradients
        wide = agent.obs_size
        inputs = new(2 * rows, agent.policy_size)
        self._policy_obs, self._next_policy_obs = inputs[:rows], inputs[rows:]
        self._actor = FlatMLP(agent.policy, flat[parts["policy"]], inputs, gradients[parts["policy"]], rows, rows)
        self._mean, self._raw_log_std = self._actor.output.tensor_split(2, dim=1)
        self._own_raw_log_std = self._raw_log_std[:rows]
        self._by_mean, self._by_log_std = self._actor.delta.tensor_split(2, dim=1)

        inputs = new(rows, wide + agent.action_size)
        self._next_obs, self._next_actions = inputs[:, :wide], inputs[:, wide:]
        self._targets = [FlatMLP(agent.critic, agent.targets[parts[name]], inputs) for name in CRITICS]
        self._next_q = [net.output.view(-1) for net in self._targets]

        inputs = new(2 * rows, wide + agent.action_size)
        self._obs, self._taken = inputs[:rows, :wide], inputs[:rows, wide:]
        self._same_obs, self._own = inputs[rows:, :wide], inputs[rows:, wide:]
        self._critics = [
            FlatMLP(agent.critic, flat[parts[name]], inputs, gradients[parts[name]], 2 * rows, rows) for name in CRITICS
        ]
        self._q = [net.output[:rows, 0] for net in self._critics]
        self._own_q = [net.output[rows:, 0] for net in self._critics]
        self._errors = [net.delta[:rows, 0] for net in self._critics]
        self._choices = [net.delta[rows:, 0] for net in self._critics]
        self._by_sum = [net.first_delta[rows:] for net in self._critics]
        self._action_weights = [net.layers[0].weight[:, wide:] for net in self._critics]
        self._goal = self._logp = new(0)
        self._alpha = 0.0

    def take_gradients(self, batch: Batch, noise: torch.Tensor) -> None:
        """Write the gradient of all losses at the present parameters; `noise` (2 rows, a) is standard normal."""
        agent, rows, split = self.agent, self.rows, self.agent.policy_size
        self._alpha = alpha = math.exp(agent.parameters[-1].item())
        self._policy_obs.copy_(batch.obs[:, :split])
        self._next_policy_obs.copy_(batch.next_obs[:, :split])
        self._actor.forward()
        log_std = self._raw_log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        std = log_std.exp()
        raw = torch.addcmul(self._mean, std, noise)
        own, next_actions = raw.tanh().split(rows)
        self._logp, next_logp = _log_density(raw, noise, log_std).split(rows)

        self._next_obs.copy_(batch.next_obs)
        self._next_actions.copy_(next_actions)
        for net in self._targets:
            net.forward()
        value = torch.minimum(*self._next_q).sub_(next_logp, alpha=alpha)
        self._goal = torch.addcmul(batch.rewards, batch.discounts, value)

        self._obs.copy_(batch.obs)
        self._same_obs.copy_(batch.obs)
        self._taken.copy_(batch.actions)
        self._own.copy_(own)
        for net in self._critics:
            net.forward()
        scale = batch.weights / rows
        for q, error in zip(self._q, self._errors, strict=True):
            torch.sub(q, self._goal, out=error).clamp_(-1.0, 1.0).mul_(scale)
        lower = self._own_q[0] <= self._own_q[1]  # -Q of the actor's loss takes the smaller of both
        torch.mul(lower, -1.0 / rows, out=self._choices[0])
        torch.sub(-1.0 / rows, self._choices[0], out=self._choices[1])
        for net in self._critics:
            net.backward()
        by_action = torch.mm(self._by_sum[0], self._action_weights[0])
        by_action.addmm_(self._by_sum[1], self._action_weights[1])
        self._actor_gradient(by_action, own, std[:rows], noise[:rows])
        agent.gradients[-1] = -(self._logp.mean() + agent.target_entropy)

    def _actor_gradient(
        self, by_action: torch.Tensor, own: torch.Tensor, std: torch.Tensor, noise: torch.Tensor
    ) -> None:
        """From the gradient of -Q at the actor's own actions (n, a) to that of alpha log pi - Q at its parameters."""
        density = self._alpha / self.rows
        torch.addcmul(by_action, by_action * own, own, value=-1.0, out=self._by_mean)
        self._by_mean.add_(own, alpha=2.0 * density)
        torch.mul(self._by_mean, std, out=self._by_log_std).mul_(noise).sub_(density)
        raw = self._own_raw_log_std
        self._by_log_std *= (raw >= LOG_STD_MIN) & (raw <= LOG_STD_MAX)
        self._actor.backward()

    def statistics(self, batch: Batch) -> dict[str, float]:
        """Of the minibatch whose gradients were just taken, under RLlib's names."""
        losses = [float((huber_loss(q, self._goal, reduction="none") * batch.weights).mean()) for q in self._q]
        errors = [float((q - self._goal).abs().mean()) for q in self._q]
        logp, own_q = float(self._logp.mean()), float(torch.minimum(*self._own_q).mean())
        return {
            "qf_loss": losses[0],
            "qf_twin_loss": losses[1],
            "policy_loss": self._alpha * logp - own_q,
            "alpha_loss": -math.log(self._alpha) * (logp + self.agent.target_entropy),
            "alpha_value": self._alpha,
            "qf_mean": own_q,
            "td_error_mean": sum(errors) / 2.0,
            "logps": logp,
            "entropy": -logp,
        }


@contextmanager
def _uninitialized_memory() -> Iterator[None]:
    """Torch's deterministic mode, which RLlib turns on with a seed, fills every new tensor; here all are written."""
    switch: Any = torch.utils.deterministic
    before = switch.fill_uninitialized_memory
    switch.fill_uninitialized_memory = False
    try:
        yield
    finally:
        switch.fill_uninitialized_memory = before


def _log_density(raw: torch.Tensor, noise: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """(n,) log density of tanh(raw), raw = mean + std noise: log N(raw) - log(1 - tanh(raw)^2), that one stable."""
    density = (raw + softplus(raw * -2.0)).sub_(LOG_TWO)  # -log(1 - tanh(raw)^2) / 2
    density.mul_(2.0).sub_(log_std).addcmul_(noise, noise, value=-0.5)
    return density.sum(1).sub_(HALF_LOG_TWO_PI * raw.shape[1])
