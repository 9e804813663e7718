"""The SAC learner: RLlib's `SACTorchLearner` with its inner loop replaced by `FlatSAC`.

It is used like any RLlib learner, through `LearnerGroup.update`, and is fed ready columns. What the hand-written
gradients do not cover (gradient clipping, a GPU, several learners, another module) takes the differentiated path with
the same losses: one backward pass for all of them, and the targets moved after every gradient step.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from ray.rllib.algorithms.sac.torch.sac_torch_learner import SACTorchLearner
from ray.rllib.core import ALL_MODULES, COMPONENT_RL_MODULE, DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.learner.torch.torch_learner import TorchLearner
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import (
    NUM_ENV_STEPS_TRAINED,
    NUM_ENV_STEPS_TRAINED_LIFETIME,
    TD_ERROR_KEY,
    WEIGHTS_SEQ_NO,
)
from torch import nn

from pipeline.flat_sac import Batch, FlatSAC, LearningRates
from pipeline.module import AsymmetricSACModule

COMPONENT_SAC = "sac"  # what RLlib's own learner state lacks: log_alpha, the noise generator, the step count

logger = logging.getLogger(__name__)


class NonFiniteUpdate(ArithmeticError):
    """An update met or left a value that is NaN or infinite; its weights must not be used."""


class FlatSACLearner(SACTorchLearner):
    """SAC for `AsymmetricSACModule`, many gradient steps a call.

    Columns of a batch: `obs`, `new_obs` (n, o), `actions` (n, a) in [-1, 1], `rewards`, `terminateds` (n,), and
    optionally `n_step` and `weights` (n,). Only `terminateds` cuts the bootstrap; a time limit does not.
    The state holds everything that training depends on, so a restored run continues with the same numbers.
    """

    config: Any  # RLlib declares a base class that lacks SAC's settings
    curr_log_alpha: Any
    kernel: FlatSAC | None  # None on the differentiated path
    gradient_steps: int  # ever taken
    generator: torch.Generator  # draws the action noise

    def build(self) -> None:
        if self.config.target_network_update_freq:
            raise ValueError(
                f"target_network_update_freq is {self.config.target_network_update_freq}; this learner moves the"
                " target networks after every gradient step, so it must be 0."
            )
        if not self.config.twin_q:
            raise ValueError("twin_q is False; this learner always trains two critics, so it must be True.")
        super().build()
        self.gradient_steps = 0
        self.generator = torch.Generator(device=self._device)
        if self.config.seed is None:
            self.generator.seed()
        else:
            self.generator.manual_seed(self.config.seed)
        for module in self._modules().values():
            module.generator = self.generator
        reason = self._unsupported()
        self.kernel = None if reason else self._make_kernel()
        if reason:
            logger.warning("Hand-written SAC gradients are off because %s; using automatic differentiation.", reason)

    def update(
        self,
        batch: MultiAgentBatch | SampleBatch | None = None,
        *,
        training_data=None,
        minibatch_size: int | None = None,
        num_epochs: int = 1,
        timesteps: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Take one gradient step for each `minibatch_size` rows of the batch, in their order.

        Returns the statistics of the last minibatch, as RLlib's `metrics.reduce()` gives them.

        Raises:
            NonFiniteUpdate: if a reward, a loss or a parameter is not finite.
        """
        if training_data is not None:
            training_data.validate()
            training_data.solve_refs()
            batch = training_data.batch
        if batch is None:
            raise ValueError("This learner is updated from a `batch` of columns, and was given none.")
        if num_epochs != 1:
            raise ValueError(f"num_epochs is {num_epochs}; this learner goes over a batch once.")
        columns = batch if isinstance(batch, SampleBatch) else batch.policy_batches[DEFAULT_MODULE_ID]
        count = len(columns[Columns.REWARDS])
        rows = minibatch_size or count
        if count < rows or count % rows:
            raise ValueError(f"minibatch_size is {rows}; it must divide the {count} rows of the batch.")
        timesteps = timesteps or {}
        if self.kernel is None:
            losses = self._differentiated(columns, rows, timesteps)
        else:
            self.before_gradient_based_update(timesteps=timesteps)
            self._weights_seq_no += 1
            losses = self.kernel.update(self._tensors(columns), rows, self._rates(), self.generator)
            self._log(losses, count)
            self.after_gradient_based_update(timesteps=timesteps)
        self.gradient_steps += count // rows
        self._check_finite(columns, losses)
        return self.metrics.reduce()

    def get_state(self, components=None, *, not_components=None, **kwargs: Any) -> dict[str, Any]:
        state = super().get_state(components, not_components=not_components, **kwargs)
        if self._check_component(COMPONENT_SAC, components, not_components):
            state[COMPONENT_SAC] = {
                "log_alpha": {name: float(value.detach()) for name, value in self.curr_log_alpha.items()},
                "generator": self.generator.get_state().numpy().copy(),
                "gradient_steps": self.gradient_steps,
            }
        return state

    def set_state(self, state: dict[str, Any]) -> None:
        if COMPONENT_RL_MODULE in state and state.get(WEIGHTS_SEQ_NO):
            # RLlib ignores weights older than its own; a restore means them.
            self._weights_seq_no = min(self._weights_seq_no, state[WEIGHTS_SEQ_NO] - 1)
        super().set_state(state)
        if self.kernel is not None:
            self._share_moments(self.kernel)
        if COMPONENT_SAC in state:
            extra = state[COMPONENT_SAC]
            with torch.no_grad():
                for name, value in extra["log_alpha"].items():
                    self.curr_log_alpha[name].fill_(value)
            self.generator.set_state(torch.from_numpy(np.asarray(extra["generator"], np.uint8).copy()))
            self.gradient_steps = int(extra["gradient_steps"])

    # -- the flat parameters

    def _modules(self) -> dict[str, Any]:
        return {name: module.unwrapped() for name, module in self.module._rl_modules.items()}

    def _unsupported(self) -> str | None:
        """Why the hand-written gradients do not apply, or None if they do."""
        config, modules = self.config, self._modules()
        module = modules.get(DEFAULT_MODULE_ID)
        reasons = {
            f"grad_clip is {config.grad_clip}": config.grad_clip is not None,
            f"the device is {self._device}": torch.device(self._device).type != "cpu",
            f"num_learners is {config.num_learners}": config.num_learners > 1,
            f"the modules are {sorted(modules)}": list(modules) != [DEFAULT_MODULE_ID],
            f"the module is a {type(module).__name__}": type(module) is not AsymmetricSACModule,
            "a gradient scaler is configured": self._grad_scalers is not None,
            "a torch learning rate scheduler is configured": self._lr_scheduler_classes is not None,
        }
        return next((reason for reason, applies in reasons.items() if applies), None)

    def _make_kernel(self) -> FlatSAC:
        """Move parameters, targets and Adam's moments into flat vectors; their owners keep views of them."""
        module = self._modules()[DEFAULT_MODULE_ID]
        kernel = FlatSAC(
            policy_size=module.policy_size,
            obs_size=module.observation_space.shape[0],
            action_size=module.action_size,
            hidden=module.hidden,
            tau=float(self.config.tau),
            target_entropy=float(self.target_entropy[DEFAULT_MODULE_ID]),
        )
        owners = self._trained()
        for name, views in kernel.views(kernel.parameters).items():
            _move(owners[name], views)
        _move([*module.target_qf.parameters(), *module.target_qf_twin.parameters()], kernel.target_views())
        self._share_moments(kernel)
        return kernel

    def _trained(self) -> dict[str, list[nn.Parameter]]:
        """The parameters by RLlib's name of their optimizer."""
        module = self._modules()[DEFAULT_MODULE_ID]
        return {
            "qf": list(module.qf.parameters()),
            "qf_twin": list(module.qf_twin.parameters()),
            "policy": list(module.pi.parameters()),
            "alpha": [self.curr_log_alpha[DEFAULT_MODULE_ID]],
        }

    def _share_moments(self, kernel: FlatSAC) -> None:
        """Copy the optimizers' moments into the flat vectors and let the optimizers hold views of those."""
        first, second, step = kernel.views(kernel.exp_avg), kernel.views(kernel.exp_avg_sq), 0.0
        for name, parameters in self._trained().items():
            moments = self.get_optimizer(DEFAULT_MODULE_ID, name).state
            for parameter, exp_avg, exp_avg_sq in zip(parameters, first[name], second[name], strict=True):
                if parameter in moments:
                    step = float(moments[parameter]["step"])
                    exp_avg.copy_(moments[parameter]["exp_avg"])
                    exp_avg_sq.copy_(moments[parameter]["exp_avg_sq"])
                else:
                    exp_avg.zero_()
                    exp_avg_sq.zero_()
                moments[parameter] = {"step": kernel.step, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
        kernel.step.fill_(step)

    # -- one call

    def _tensors(self, columns: Mapping[str, Any]) -> Batch:
        """The columns as float32 tensors, not copied where they already are."""
        rewards = _float(columns[Columns.REWARDS])
        discounts = (1.0 - _float(columns[Columns.TERMINATEDS])) * self.config.gamma
        if "n_step" in columns:
            discounts *= self.config.gamma ** (_float(columns["n_step"]) - 1.0)
        return Batch(
            obs=_float(columns[Columns.OBS]),
            next_obs=_float(columns[Columns.NEXT_OBS]),
            actions=_float(columns[Columns.ACTIONS]),
            rewards=rewards,
            discounts=discounts,
            weights=_float(columns["weights"]) if "weights" in columns else torch.ones_like(rewards),
        )

    def _rates(self) -> LearningRates:
        """The optimizers' present rates; RLlib moves them along their schedules."""
        rates = [
            self._get_optimizer_lr(self.get_optimizer(DEFAULT_MODULE_ID, name)) for name in ("qf", "policy", "alpha")
        ]
        return LearningRates(*rates)

    def _log(self, losses: dict[str, float], rows: int) -> None:
        self.metrics.log_dict(losses, key=DEFAULT_MODULE_ID, window=1)
        self.metrics.log_value((DEFAULT_MODULE_ID, WEIGHTS_SEQ_NO), self._weights_seq_no, window=1)
        self.metrics.log_value((ALL_MODULES, NUM_ENV_STEPS_TRAINED), rows, reduce="sum")
        self.metrics.log_value((ALL_MODULES, NUM_ENV_STEPS_TRAINED_LIFETIME), rows, reduce="lifetime_sum")

    def _check_finite(self, columns: Mapping[str, Any], losses: Mapping[str, float]) -> None:
        """Once there, a NaN or infinity stays in the parameters, so their sum shows it."""
        with torch.no_grad():
            if self.kernel is not None:
                total = float(self.kernel.parameters.sum())
            else:
                total = float(sum(p.sum() for group in self._trained().values() for p in group))
        seen = {"rewards": float(_float(columns[Columns.REWARDS]).sum()), "parameters": total, **losses}
        if not all(math.isfinite(value) for value in seen.values()):
            values = ", ".join(f"{name} {value:g}" for name, value in seen.items())
            raise NonFiniteUpdate(
                f"The update up to gradient step {self.gradient_steps} is not finite ({values}); its weights are"
                " not usable and training stops here. Look for NaN or huge observations and rewards, or lower the"
                " learning rates."
            )

    # -- the differentiated path

    def _differentiated(self, columns: Mapping[str, Any], rows: int, timesteps: dict[str, Any]) -> dict[str, float]:
        ones = np.ones(len(columns[Columns.REWARDS]), np.float32)
        batch = MultiAgentBatch(
            {DEFAULT_MODULE_ID: SampleBatch({"n_step": ones, "weights": ones, **columns})}, env_steps=len(ones)
        )
        super().update(batch=batch, minibatch_size=rows, timesteps=timesteps, _no_metrics_reduce=True)
        for name in self._modules():
            self.metrics.delete((name, TD_ERROR_KEY), key_error=False)
        return {}

    def compute_loss_for_module(self, *, module_id, config, batch, fwd_out) -> Any:
        loss = super().compute_loss_for_module(module_id=module_id, config=config, batch=batch, fwd_out=fwd_out)
        self.metrics.log_value((module_id, "entropy"), -fwd_out["logp_resampled"].mean(), window=1)
        return loss

    def compute_gradients(self, loss_per_module: dict[str, Any], **kwargs: Any) -> dict[Any, Any]:
        """One backward pass: every parameter is moved by one of the losses only, so their sum gives its gradient."""
        self._temp_losses.clear()
        return TorchLearner.compute_gradients(self, loss_per_module, **kwargs)

    def apply_gradients(self, gradients_dict: dict[Any, Any]) -> None:
        if self._grad_scalers is not None or self._lr_scheduler_classes is not None:
            super().apply_gradients(gradients_dict)
        else:  # RLlib would turn NaN into zero; here it must reach the parameters, and so the check
            parameters: Any = self._params
            for reference, gradient in gradients_dict.items():
                parameters[reference].grad = gradient
            for optimizer in self._optimizer_parameters:
                optimizer.step()
        with torch.no_grad():
            for module in self._modules().values():
                for net, target in module.get_target_network_pairs():
                    for moved, parameter in zip(target.parameters(), net.parameters(), strict=True):
                        moved.lerp_(parameter, self.config.tau)

    def after_gradient_based_update(self, *, timesteps: dict[str, Any]) -> None:
        TorchLearner.after_gradient_based_update(self, timesteps=timesteps)  # the targets have moved already


def _float(column: Any) -> torch.Tensor:
    tensor = column if isinstance(column, torch.Tensor) else torch.from_numpy(np.asarray(column))
    return tensor.to(torch.float32)


def _move(parameters: list[nn.Parameter], views: list[torch.Tensor]) -> None:
    """Give the parameters new storage, with the same values."""
    for parameter, view in zip(parameters, views, strict=True):
        view.copy_(parameter.detach())
        parameter.data = view
