"""Simulated worlds for sim-to-real training; importing it registers "sim2real/Cartpole-v0" and so on with Gymnasium."""

import gymnasium

from envs.registry import TASKS


def _register(task: str) -> None:
    """Make a shipped task known to Gymnasium as sim2real/Task-v0."""
    name = f"sim2real/{task.capitalize()}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(
            name,
            entry_point="envs.env:TaskEnv",
            vector_entry_point="envs.env:make_vector",
            kwargs={"task": task},
        )


for _task in TASKS:
    _register(_task)
