"""Tasks by name, and what importing the package costs."""

import subprocess
import sys

import pytest

from envs.registry import TASKS, TaskError, make_task
from envs.task import Task


@pytest.mark.parametrize("name", TASKS)
def test_every_task_is_consistent(name):
    task = make_task(name)
    assert isinstance(task, Task) and task.name == name
    assert len(task.frame_scale) == task.frame_size
    assert len(task.true_state_scale()) == task.state_size
    assert set(task.scene.bindings) <= set(task.parameters.names)
    assert task.scene.joints == task.joints and task.scene.actuated == task.actuated
    effects = (*task.command_effects, *task.sensor_effects, *task.disturbances)
    by_effects = {name for effect in effects for name in effect.parameters}
    by_effects |= {task.period_jitter} - {None}
    acting = by_effects | set(task.scene.bindings) | set(task.of_the_start)
    assert acting == set(task.parameters.names)  # every parameter acts somewhere
    assert not by_effects & set(task.scene.bindings)
    low, high = task.adr_thresholds
    assert low < high


def test_a_class_of_ones_own_by_name():
    assert make_task("envs.tasks.cartpole:Cartpole").name == "cartpole"


@pytest.mark.parametrize("name", ["cartpol", "", ":Cartpole", "envs.tasks.nowhere:Task", "envs.tasks.cartpole:Nothing"])
def test_unknown_tasks_give_a_sentence(name):
    with pytest.raises(TaskError) as error:
        make_task(name)
    assert f"'{name}'" in str(error.value) and f"accepted is {', '.join(TASKS)} or 'module:Class'" in str(error.value)


def test_what_is_no_task_gives_a_sentence():
    with pytest.raises(TaskError, match="'envs.task:State' is not a subclass of envs.task.Task"):
        make_task("envs.task:State")


def test_importing_the_package_is_light():
    code = (
        "import sys, envs, envs.vector_env, envs.registry; envs.registry.make_task('cartpole');"
        "print([m for m in ('pybullet', 'mujoco', 'ray', 'torch', 'robot', 'pipeline') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
