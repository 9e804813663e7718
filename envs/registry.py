"""Tasks by name."""

from __future__ import annotations

from importlib import import_module

from envs.task import Task

TASKS = {  # name in configurations -> module:Class
    "cartpole": "envs.tasks.cartpole:Cartpole",
    "pendulum": "envs.tasks.pendulum:Pendulum",
    "reach": "envs.tasks.reach:Reach",
    "push": "envs.tasks.push:Push",
    "lift": "envs.tasks.lift:Lift",
    "hover": "envs.tasks.hover:Hover",
}


class TaskError(ValueError):
    """A task that cannot be made; the message names what was given and what would be accepted."""


def make_task(name: str) -> Task:
    """A task by its name, or any importable Task by 'module:Class'; raises TaskError."""
    known = f"accepted is {', '.join(TASKS)} or 'module:Class' of your own"
    module, _, attribute = TASKS.get(name, name).partition(":")
    if not (module and attribute):
        raise TaskError(f"task: '{name}' is unknown; {known}")
    try:
        cls = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise TaskError(f"task: '{name}' cannot be imported ({error}); {known}") from error
    if not (isinstance(cls, type) and issubclass(cls, Task)):
        raise TaskError(f"task: '{name}' is not a subclass of envs.task.Task; {known}")
    return cls()
