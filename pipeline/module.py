"""Asymmetric soft actor-critic networks as an RLlib module: plain ReLU MLPs over one flat observation.

The observation is `[policy | privileged]`. The actor sees the first `policy_size` columns, which is all a robot
has; the twin critics see everything (Pinto et al. 2017, "Asymmetric Actor Critic for Image-Based Robot Learning").
"""

from __future__ import annotations

import math
from typing import Any

import torch
from ray.rllib.algorithms.sac.sac_learner import QF_PREDS, QF_TWIN_PREDS
from ray.rllib.core.columns import Columns
from ray.rllib.core.distribution.torch.torch_distribution import TorchSquashedGaussian
from ray.rllib.core.learner.utils import make_target_network
from ray.rllib.core.rl_module.apis import InferenceOnlyAPI, QNetAPI, TargetNetworkAPI
from ray.rllib.core.rl_module.torch.torch_rl_module import TorchRLModule
from torch import nn
from torch.nn.functional import softplus

from pipeline.policy import LOG_STD_MAX, LOG_STD_MIN


def mlp(inputs: int, hidden: list[int], outputs: int) -> nn.Sequential:
    """Linear and ReLU layers in turn; the last layer is linear."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class AsymmetricSACModule(TorchRLModule, InferenceOnlyAPI, TargetNetworkAPI, QNetAPI):
    """Actor, twin critics and their targets, for RLlib's `SACTorchLearner` and for `FlatSACLearner`.

    `model_config`: `policy_size` is how many leading observation columns the actor sees (default: all), `hidden`
    the widths of the hidden layers, one or more, the same for actor and critics (default `[64, 64]`).
    """

    generator: torch.Generator | None = None  # draws the action noise in training; None = torch's global one

    def setup(self) -> None:
        observation_size = self.observation_space.shape[0]
        self.action_size = self.action_space.shape[0]
        self.policy_size = int(self.model_config.get("policy_size", observation_size))
        self.hidden = [int(width) for width in self.model_config.get("hidden", [64, 64])]
        if not 0 < self.policy_size <= observation_size:
            raise ValueError(
                f"model_config.policy_size is {self.policy_size}; it must be between 1 and the observation's"
                f" {observation_size} columns."
            )
        if not self.hidden or min(self.hidden) < 1:
            raise ValueError(f"model_config.hidden is {self.hidden}; it must list one or more positive widths.")
        self.twin_q = True
        self.pi_encoder = nn.Identity()  # RLlib's SAC learner asks every network for an encoder
        self.pi = mlp(self.policy_size, self.hidden, 2 * self.action_size)
        if not self.inference_only:
            self.qf_encoder, self.qf_twin_encoder = nn.Identity(), nn.Identity()
            self.qf = mlp(observation_size + self.action_size, self.hidden, 1)
            self.qf_twin = mlp(observation_size + self.action_size, self.hidden, 1)

    def get_inference_action_dist_cls(self) -> type[TorchSquashedGaussian]:
        return TorchSquashedGaussian

    def get_non_inference_attributes(self) -> list[str]:
        return ["qf_encoder", "qf", "qf_twin_encoder", "qf_twin", "target_qf", "target_qf_twin"]

    def make_target_networks(self) -> None:
        self.target_qf = make_target_network(self.qf)
        self.target_qf_twin = make_target_network(self.qf_twin)

    def get_target_network_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        return [(self.qf, self.target_qf), (self.qf_twin, self.target_qf_twin)]

    def compute_q_values(self, batch: dict[str, Any]) -> torch.Tensor:
        """(n,) the smaller of the two critics' values."""
        return torch.minimum(_value(self.qf, batch), _value(self.qf_twin, batch))

    def forward_target(self, batch: dict[str, Any]) -> torch.Tensor:
        """(n,) the smaller of the two target critics' values."""
        return torch.minimum(_value(self.target_qf, batch), _value(self.target_qf_twin, batch))

    def logits(self, obs: torch.Tensor) -> torch.Tensor:
        """(n, 2 action_size): the mean and the log standard deviation (not yet clamped) before the tanh."""
        return self.pi(obs[..., : self.policy_size])

    def _forward(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        return {Columns.ACTION_DIST_INPUTS: self.logits(batch[Columns.OBS])}

    def _forward_train(self, batch: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        obs, next_obs = batch[Columns.OBS], batch[Columns.NEXT_OBS]
        out = {QF_PREDS: _value(self.qf, batch), QF_TWIN_PREDS: _value(self.qf_twin, batch)}
        with torch.no_grad():
            next_actions, out["logp_next_resampled"] = self._sample(self.logits(next_obs))
            out["q_target_next"] = self.forward_target({Columns.OBS: next_obs, Columns.ACTIONS: next_actions})
        logits = self.logits(obs)
        actions, out["logp_resampled"] = self._sample(logits)
        out[Columns.ACTION_DIST_INPUTS] = logits
        critics = [*self.qf.parameters(), *self.qf_twin.parameters()]
        for parameter in critics:  # the actor's loss must not move the critics
            parameter.requires_grad_(False)
        out["q_curr"] = self.compute_q_values({Columns.OBS: obs, Columns.ACTIONS: actions})
        for parameter in critics:
            parameter.requires_grad_(True)
        return out

    def _sample(self, logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Actions (n, a) in (-1, 1) and their log density (n,), differentiable (Haarnoja et al. 2018, eq. 21)."""
        mean, log_std = logits.chunk(2, dim=-1)
        log_std = log_std.clamp(LOG_STD_MIN, LOG_STD_MAX)
        noise = torch.randn(mean.shape, generator=self.generator, dtype=mean.dtype, device=mean.device)
        raw = mean + log_std.exp() * noise
        density = -0.5 * noise.square() - log_std - 0.5 * math.log(2.0 * math.pi)
        log_slope = 2.0 * (math.log(2.0) - raw - softplus(-2.0 * raw))  # log(1 - tanh(raw)^2)
        return torch.tanh(raw), (density - log_slope).sum(-1)


def _value(net: nn.Module, batch: dict[str, Any]) -> torch.Tensor:
    return net(torch.cat([batch[Columns.OBS], batch[Columns.ACTIONS]], -1)).squeeze(-1)
