"""Simulated worlds for sim-to-real training; importing it registers "sim2real/Cartpole-v0" with Gymnasium."""

import gymnasium

_ID = "sim2real/Cartpole-v0"

if _ID not in gymnasium.registry:
    gymnasium.register(
        _ID,
        entry_point="envs.env:TaskEnv",
        vector_entry_point="envs.env:make_vector",
        kwargs={"task": "cartpole"},
    )
