"""What replaying can tell: parameters of a task that act on its worlds, commands or readings without chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from envs.effects.disturbance import Wind
from envs.effects.groups import GroupBias, GroupDelay
from envs.effects.sensor import Bias
from envs.task import Task
from pipeline.identify.unknowns import Unknowns
from robot.interface import RobotError

SEEN = (Bias, GroupBias, GroupDelay)  # sensor effects whose parameters a motion shows


def replayed(task: Task) -> list[str]:
    """Parameters that change a replayed motion in a repeatable way, in the task's order."""
    found = set(task.scene.bindings)
    found |= {name for effect in task.command_effects if not effect.noisy for name in effect.parameters}
    found |= {name for effect in task.sensor_effects if isinstance(effect, SEEN) for name in effect.parameters}
    found |= {effect.parameters[0] for effect in task.disturbances if isinstance(effect, Wind)}  # the drag
    return [name for name in task.parameters.names if name in found]


def unknowns(task: Task, fixed: Mapping[str, float], extra: Sequence[str]) -> Unknowns:
    """What is fitted: what the task randomizes and a replay shows, with `extra`, without `fixed`.

    Raises RobotError for a name that cannot be, or a value outside its bounds.
    """
    space, can = task.parameters, replayed(task)
    for what, names in (("fix", fixed), ("extra", extra)):
        if wrong := sorted(set(names) - set(can)):
            raise RobotError(
                f"{what}: {wrong[0]!r} cannot be told from a motion of {task.name}; accepted are {', '.join(can)}"
            )
    for name, value in fixed.items():
        parameter = space[space.index(name)]
        low, high = parameter.bounds
        if not low <= value <= high:
            raise RobotError(f"fix: {name} is {value:g}; accepted is {low:g} to {high:g} {parameter.unit}")
    wide = [p.name for p in space if p.default[1] > p.default[0]]
    free = [name for name in can if (name in wide or name in extra) and name not in fixed]
    if not free:
        raise RobotError("fix: every parameter is given; accepted is to leave at least one to be fitted")
    return Unknowns(space, tuple(free), dict(fixed))
