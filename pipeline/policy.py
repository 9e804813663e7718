"""The actor in NumPy, for processes that only act: no torch, no Ray.

Runner processes step many worlds with one batched forward pass; at these sizes NumPy is as fast as torch and its
import costs a tenth of the memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0  # where RLlib's squashed Gaussian clamps the log standard deviation
ACTOR = "pi."


def actor_weights(state: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The actor's arrays out of the state of a module, a multi-module, a learner or a learner group.

    Keys are `pi.<layer>.weight` (out, in) and `pi.<layer>.bias` (out,), copied as float32, in layer order.

    Raises:
        ValueError: if there is no actor in `state`.
    """
    found = _find(state)
    if not found:
        raise ValueError(f"There is no actor in this state; it has the keys {sorted(map(str, state))}.")
    order = sorted(found, key=lambda name: (int(name.split(".")[1]), name.endswith("bias")))
    return {name: np.array(found[name], np.float32) for name in order}


def actor_layers(weights: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Pairs of weight (out, in) and bias (out,) from input to output."""
    arrays = list(actor_weights(weights).values())
    return list(zip(arrays[::2], arrays[1::2], strict=True))


class NumpyPolicy:
    """A tanh-squashed Gaussian policy, the distribution that training uses.

    `weights` is any state that `actor_weights` accepts.
    """

    def __init__(self, weights: Mapping[str, Any]):
        self._rows = 0
        self.set_weights(weights)

    def set_weights(self, weights: Mapping[str, Any]) -> None:
        """Use these weights from now on; the layer widths may change."""
        self._layers = [(np.ascontiguousarray(weight.T), bias) for weight, bias in actor_layers(weights)]
        self.policy_size = len(self._layers[0][0])
        self.action_size = len(self._layers[-1][1]) // 2
        self._rows = 0

    def act(self, obs: np.ndarray, noise: np.ndarray | None = None) -> np.ndarray:
        """(n, a) actions in [-1, 1] for observations (n, policy_size or more; further columns are not looked at).

        Without `noise` the mode, tanh(mean); with standard normal `noise` (n, a) a sample.
        """
        mean, log_std = self.distribution(obs)
        if noise is not None:
            mean += np.exp(log_std) * noise.astype(np.float32, copy=False)
        return np.tanh(mean)

    def distribution(self, obs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and log standard deviation (n, a) of the Gaussian before the tanh."""
        if len(obs) != self._rows:
            self._rows = len(obs)
            self._buffers = [np.empty((self._rows, len(bias)), np.float32) for _, bias in self._layers]
        values = np.asarray(obs, np.float32)[:, : self.policy_size]
        for (weight, bias), buffer in zip(self._layers, self._buffers, strict=True):
            np.matmul(values, weight, out=buffer)
            buffer += bias
            if buffer is not self._buffers[-1]:
                np.maximum(buffer, 0.0, out=buffer)
            values = buffer
        mean = values[:, : self.action_size].copy()
        return mean, np.minimum(np.maximum(values[:, self.action_size :], LOG_STD_MIN), LOG_STD_MAX)


def _find(state: Mapping[str, Any]) -> dict[str, Any]:
    own = {name: value for name, value in state.items() if isinstance(name, str) and name.startswith(ACTOR)}
    if own:
        return own
    for value in state.values():
        if isinstance(value, Mapping):
            inner = _find(value)
            if inner:
                return inner
    return {}
