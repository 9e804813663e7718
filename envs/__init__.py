"""Simulated worlds for sim-to-real training; importing it registers each task as "sim2real/NAME-v0"."""

import gymnasium

for _id, _task in (
    ("sim2real/Cartpole-v0", "cartpole"),
    ("sim2real/Reach-v0", "reach"),
    ("sim2real/Push-v0", "push"),
):
    if _id not in gymnasium.registry:
        gymnasium.register(
            _id,
            entry_point="envs.env:TaskEnv",
            vector_entry_point="envs.env:make_vector",
            kwargs={"task": _task},
        )
