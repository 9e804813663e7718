"""The environment runner that RLlib insists on, without an environment. Tested with Ray 2.60."""

from __future__ import annotations

from typing import Any

from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.env import INPUT_ENV_SINGLE_SPACES, INPUT_ENV_SPACES
from ray.rllib.env.env_runner import EnvRunner
from ray.rllib.utils.checkpoints import Checkpointable


class SpacesOnly(EnvRunner, Checkpointable):
    """RLlib wants an environment runner to ask for spaces; this one has nothing else."""

    def __init__(self, *, config: Any, **kwargs: Any) -> None:
        EnvRunner.__init__(self, config=config, **kwargs)
        self._spaces = (config.observation_space, config.action_space)

    def make_env(self) -> None:
        """There is no environment here."""

    make_module = make_env

    def assert_healthy(self) -> None:
        """Nothing that could be ill."""

    def get_spaces(self) -> dict[str, Any]:
        return {key: self._spaces for key in (INPUT_ENV_SPACES, INPUT_ENV_SINGLE_SPACES, DEFAULT_MODULE_ID)}

    def sample(self, **kwargs: Any) -> list:
        return []

    def get_metrics(self) -> dict[str, Any]:
        return self.metrics.reduce()

    def get_state(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {}

    def set_state(self, state: dict[str, Any]) -> None:
        """No state."""

    def get_ctor_args_and_kwargs(self) -> tuple[tuple, dict[str, Any]]:
        return (), {"config": self.config}

    def get_checkpointable_components(self) -> list:
        return []

    def stop(self) -> None:
        """Nothing to stop."""
