"""Soft actor-critic updates with hand-written gradients over one flat parameter vector.

The networks are small, so an automatic-differentiation engine spends more time on bookkeeping than on arithmetic.
Here the backward pass is written out, all trained parameters lie in one vector, and one fused Adam step moves them.
The mathematics is RLlib's SAC (Haarnoja et al. 2018, arXiv:1801.01290 and 1812.05905, with the Huber loss for the
critics): every gradient of an update is taken at the same parameters, before any of them moves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch.nn.functional import huber_loss, softplus

from pipeline.flat_mlp import FlatMLP, Layout
from pipeline.policy import LOG_STD_MAX, LOG_STD_MIN

ADAM_BETAS, ADAM_EPS = (0.9, 0.999), 1e-7  # RLlib's choice for SAC
CRITICS = ("qf", "qf_twin")
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
        self._critic = Layout([obs_size + action_size, *hidden, 1])
        self._policy = Layout([policy_size, *hidden, 2 * action_size])
        length, end = self._critic.length, 2 * self._critic.length + self._policy.length
        self._slices = {"qf": slice(0, length), "qf_twin": slice(length, 2 * length)}
        self._slices |= {"policy": slice(2 * length, end), "alpha": slice(end, end + 1)}
        self.parameters = torch.zeros(end + 1, dtype=dtype)
        self.gradients = torch.zeros_like(self.parameters)
        self.exp_avg = torch.zeros_like(self.parameters)
        self.exp_avg_sq = torch.zeros_like(self.parameters)
        self.step = torch.zeros((), dtype=torch.float32)
        self.targets = torch.zeros(2 * length, dtype=dtype)
        self._rows = 0

    def views(self, flat: torch.Tensor) -> dict[str, list[torch.Tensor]]:
        """The tensors of a vector laid out like `parameters`, weights and biases in turn, by network."""
        layouts = {"qf": self._critic, "qf_twin": self._critic, "policy": self._policy}
        tensors = {name: layout.tensors(flat[self._slices[name]]) for name, layout in layouts.items()}
        return {**tensors, "alpha": [flat[self._slices["alpha"]]]}

    def target_views(self) -> list[torch.Tensor]:
        """The tensors of both target critics, one after the other."""
        return [view for name in CRITICS for view in self._critic.tensors(self.targets[self._slices[name]])]

    def update(self, batch: Batch, rows: int, rates: LearningRates, generator: torch.Generator) -> dict[str, float]:
        """Take one gradient step for each `rows` rows of the batch; statistics of the last minibatch.

        The action noise comes from `generator`: for every minibatch first at the next, then at the current observations.
        """
        self._allocate(rows)
        steps = len(batch.rewards) // rows
        shape = (steps, 2, rows, self.action_size)
        noise = torch.randn(shape, generator=generator, dtype=self.parameters.dtype).flip(1).view(steps, 2 * rows, -1)
        batch = batch._replace(weights=batch.weights / rows)
        critics, trained = slice(0, len(self.targets)), self.parameters[: len(self.targets)]
        groups = self._groups(rates)
        statistics: dict[str, float] = {}
        with torch.no_grad(), _uninitialized_memory():
            for index in range(steps):
                first = index * rows
                minibatch = Batch(*[column[first : first + rows] for column in batch])
                self._take_gradients(minibatch, noise[index])
                if index == steps - 1:
                    statistics = self._statistics(minibatch)
                self._adam(groups)
                self.targets.lerp_(trained, self.tau)
        return statistics

    def _allocate(self, rows: int) -> None:
        """Networks and buffers for minibatches of this size. Current observations come above the next ones."""
        if rows == self._rows:
            return
        self._rows, new, parts = rows, self.parameters.new_empty, self._slices
        self._actor = FlatMLP(
            self._policy, 2 * rows, self.parameters[parts["policy"]], self.gradients[parts["policy"]]
        )
        self._qs = [
            FlatMLP(self._critic, 2 * rows, self.parameters[parts[name]], self.gradients[parts[name]])
            for name in CRITICS
        ]
        self._target_qs = [FlatMLP(self._critic, rows, self.targets[parts[name]]) for name in CRITICS]
        width = self.obs_size + self.action_size
        self._actor_inputs = new(2 * rows, self.policy_size)  # current and next observations
        self._inputs = new(2 * rows, width)  # with the actions taken, and with the actor's own
        self._next_inputs = new(rows, width)
        self._q, self._deltas = new(2, 2 * rows), new(2, 2 * rows)
        self._by_log_std_and_mean = new(rows, 2 * self.action_size)

    def _take_gradients(self, batch: Batch, noise: torch.Tensor) -> None:
        """Write the gradient of all losses at the present parameters to `gradients`."""
        rows, split, wide, actions = self._rows, self.policy_size, self.obs_size, self.action_size
        self._actor_inputs[:rows] = batch.obs[:, :split]
        self._actor_inputs[rows:] = batch.next_obs[:, :split]
        logits = self._actor.forward(self._actor_inputs)
        mean, raw_log_std = logits[:, :actions], logits[:, actions:]
        log_std = raw_log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        std = log_std.exp()
        raw = torch.addcmul(mean, std, noise)
        action = raw.tanh()
        self._logp = _log_density(raw, noise, log_std)
        self._alpha = math.exp(self.parameters[-1].item())

        self._next_inputs[:, :wide] = batch.next_obs
        self._next_inputs[:, wide:] = action[rows:]
        next_q = torch.minimum(*[net.forward(self._next_inputs) for net in self._target_qs]).view(-1)
        self._goal = torch.addcmul(
            batch.rewards, batch.discounts, next_q.sub_(self._logp[rows:], alpha=self._alpha)
        )

        self._inputs[:rows, :wide] = batch.obs
        self._inputs[rows:, :wide] = batch.obs
        self._inputs[:rows, wide:] = batch.actions
        self._inputs[rows:, wide:] = action[:rows]
        for net, q in zip(self._qs, self._q, strict=True):
            q.copy_(net.forward(self._inputs).view(-1))
        own_q, own_delta = self._q[:, rows:], self._deltas[:, rows:]
        torch.sub(self._q[:, :rows], self._goal, out=self._deltas[:, :rows]).clamp_(-1.0, 1.0).mul_(batch.weights)
        own_delta[0] = own_q[0] <= own_q[1]
        torch.sub(1.0, own_delta[0], out=own_delta[1])
        own_delta *= -1.0 / rows
        by_sums = [net.backward(delta.view(-1, 1), rows) for net, delta in zip(self._qs, self._deltas, strict=True)]
        by_weights = [net.layers[0].weight[:, wide:] for net in self._qs]
        by_action = torch.mm(by_sums[0][rows:], by_weights[0]).addmm_(by_sums[1][rows:], by_weights[1])
        self._actor_gradient(by_action, action[:rows], std[:rows], raw_log_std[:rows], noise[:rows])
        self.gradients[-1] = -(self._logp[:rows].mean() + self.target_entropy)

    def _actor_gradient(self, by_action, action, std, raw_log_std, noise) -> None:
        """From the gradient of -Q at the actor's own actions (n, a) to that of alpha log pi - Q at its logits."""
        rows, alpha = self._rows, self._alpha
        by_mean = by_action * (1.0 - action * action) + action * (2.0 * alpha / rows)
        by_log_std = (by_mean * std * noise).sub_(alpha / rows)
        by_log_std *= (raw_log_std >= LOG_STD_MIN) & (raw_log_std <= LOG_STD_MAX)
        self._actor.backward(torch.cat((by_mean, by_log_std), 1), rows)

    def _groups(self, rates: LearningRates) -> list[tuple[float, list[list[torch.Tensor]]]]:
        """Learning rates and what they move, as few fused Adam calls as they allow."""
        vectors = (self.parameters, self.gradients, self.exp_avg, self.exp_avg_sq)
        if rates.critic == rates.actor == rates.alpha:
            return [(rates.critic, [[vector] for vector in vectors])]
        parts = (slice(0, len(self.targets)), self._slices["policy"], self._slices["alpha"])
        return [(rate, [[vector[part]] for vector in vectors]) for rate, part in zip(rates, parts, strict=True)]

    def _adam(self, groups: list[tuple[float, list[list[torch.Tensor]]]]) -> None:
        self.step += 1
        for rate, (parameters, gradients, exp_avgs, exp_avg_sqs) in groups:
            torch._fused_adam_(
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

    def _statistics(self, batch: Batch) -> dict[str, float]:
        """Of the minibatch whose gradients were just taken, under RLlib's names."""
        rows = self._rows
        q, logp = self._q[:, :rows], float(self._logp[:rows].mean())
        goal = self._goal.expand_as(q)
        losses = (huber_loss(q, goal, reduction="none") * batch.weights).sum(1).tolist()
        own_q = float(self._q[:, rows:].amin(0).mean())
        return {
            "qf_loss": losses[0],
            "qf_twin_loss": losses[1],
            "policy_loss": self._alpha * logp - own_q,
            "alpha_loss": -self.parameters[-1].item() * (logp + self.target_entropy),
            "alpha_value": self._alpha,
            "qf_mean": own_q,
            "td_error_mean": float((q - goal).abs().mean()),
            "logps": logp,
            "entropy": -logp,
        }


@contextmanager
def _uninitialized_memory() -> Iterator[None]:
    """Torch's deterministic mode, which RLlib turns on with a seed, fills every new tensor: a quarter of the time."""
    before = torch.utils.deterministic.fill_uninitialized_memory
    torch.utils.deterministic.fill_uninitialized_memory = False
    try:
        yield
    finally:
        torch.utils.deterministic.fill_uninitialized_memory = before


def _log_density(raw: torch.Tensor, noise: torch.Tensor, log_std: torch.Tensor) -> torch.Tensor:
    """(n,) log density of tanh(raw), raw = mean + std noise: log N(raw) - log(1 - tanh(raw)^2), the latter stable."""
    log_slope = (raw + softplus(raw * -2.0)).sub_(LOG_TWO)  # -log(1 - tanh(raw)^2) / 2
    log_slope.mul_(2.0).sub_(log_std).addcmul_(noise, noise, value=-0.5)
    return log_slope.sum(1).sub_(HALF_LOG_TWO_PI * raw.shape[1])
