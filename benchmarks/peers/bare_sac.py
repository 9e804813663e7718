"""Soft actor-critic in plain PyTorch: what a careful person writes without any framework.

It is the peer that our learner is measured against, so it has every cheap advantage of eager PyTorch: fused Adam, one
backward pass for both critics, critics frozen while the actor learns, the target update in one call, and nothing
logged. Same networks, sizes and data as our learner; losses of Haarnoja et al. 2018 (arXiv:1812.05905).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
_lerp: Any = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]


def mlp(inputs: int, hidden: Sequence[int], outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class BareSAC:
    """An agent whose actor sees the first `policy_size` columns of an observation and whose critics see all."""

    def __init__(
        self,
        *,
        policy_size: int,
        obs_size: int,
        action_size: int,
        hidden: Sequence[int],
        learning_rate: float = 3e-4,
        gamma: float = 0.99,
        tau: float = 0.005,
    ):
        self.policy_size, self.action_size, self.gamma, self.tau = policy_size, action_size, gamma, tau
        self.actor = mlp(policy_size, hidden, 2 * action_size)
        self.critics = nn.ModuleList([mlp(obs_size + action_size, hidden, 1) for _ in range(2)])
        self.targets = nn.ModuleList([mlp(obs_size + action_size, hidden, 1) for _ in range(2)])
        self.targets.load_state_dict(self.critics.state_dict())
        self.targets.requires_grad_(False)
        self.log_alpha = torch.zeros(1, requires_grad=True)
        self.actor_optimizer = torch.optim.Adam(self.actor.parameters(), learning_rate, fused=True)
        self.critic_optimizer = torch.optim.Adam(self.critics.parameters(), learning_rate, fused=True)
        self.alpha_optimizer = torch.optim.Adam([self.log_alpha], learning_rate, fused=True)
        self._critic_parameters = list(self.critics.parameters())
        self._target_parameters = list(self.targets.parameters())

    def sample(self, obs: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions (n, a) and their log densities (n, 1)."""
        mean, log_std = self.actor(obs[:, : self.policy_size]).chunk(2, -1)
        log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        noise = torch.randn_like(mean)
        raw = mean + log_std.exp() * noise
        log_density = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_density = log_density - 2 * (math.log(2) - raw - F.softplus(-2 * raw))
        return torch.tanh(raw), log_density.sum(-1, keepdim=True)

    def update(
        self,
        obs: torch.Tensor,
        next_obs: torch.Tensor,
        actions: torch.Tensor,
        rewards: torch.Tensor,
        terminated: torch.Tensor,
    ) -> None:
        """One gradient step on a minibatch: observations (n, o), actions (n, a), rewards and terminated (n, 1)."""
        alpha = self.log_alpha.detach().exp()
        with torch.no_grad():
            next_actions, next_log_density = self.sample(next_obs)
            next_inputs = torch.cat((next_obs, next_actions), -1)
            next_values = torch.minimum(*(target(next_inputs) for target in self.targets))
            goal = rewards + self.gamma * (1 - terminated) * (next_values - alpha * next_log_density)
        inputs = torch.cat((obs, actions), -1)
        critic_loss = torch.stack([F.huber_loss(critic(inputs), goal) for critic in self.critics]).sum()
        self.critic_optimizer.zero_grad(set_to_none=True)
        critic_loss.backward()
        self.critic_optimizer.step()

        for parameter in self._critic_parameters:
            parameter.requires_grad_(False)
        own_actions, log_density = self.sample(obs)
        own_inputs = torch.cat((obs, own_actions), -1)
        values = torch.minimum(*(critic(own_inputs) for critic in self.critics))
        self.actor_optimizer.zero_grad(set_to_none=True)
        (alpha * log_density - values).mean().backward()
        self.actor_optimizer.step()
        for parameter in self._critic_parameters:
            parameter.requires_grad_(True)

        alpha_loss = -(self.log_alpha * (log_density.detach() - self.action_size)).mean()
        self.alpha_optimizer.zero_grad(set_to_none=True)
        alpha_loss.backward()
        self.alpha_optimizer.step()
        with torch.no_grad():
            _lerp(self._target_parameters, self._critic_parameters, self.tau)
