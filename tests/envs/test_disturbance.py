"""Pushes and wind: their statistics, and that a force on a body does what mechanics says in every kind of world."""

import numpy as np
import pytest

from envs.bullet import BulletWorlds
from envs.effects.disturbance import Pushes, Wind
from envs.registry import make_task
from envs.task import State

PERIOD_S = 0.02


def run(effect, values, steps, state=None, seed=0):
    """(steps, n, 3) forces under parameter values (n, d)."""
    values = np.asarray(values, float)
    n = len(values)
    effect.bind(n, PERIOD_S)
    effect.reset(np.ones(n, bool), {name: values[:, k] for k, name in enumerate(effect.parameters)})
    state = state or State(np.zeros((n, 6), np.float32), np.zeros((n, 6), np.float32))
    noise = np.random.default_rng(seed).normal(size=(steps, n, effect.noise_columns))
    return np.stack([effect.force(state, one) for one in noise])


def test_a_push_has_its_size_its_length_and_its_rate():
    forces = run(Pushes("p", "body", "xy", rate_s=0.5, lasts_s=0.2), [[3.0]] * 20 + [[0.0]], 20_000)
    assert not forces[:, :, 2].any() and not forces[:, 20].any()
    size = np.linalg.norm(forces[:, :20], axis=2)
    assert set(np.round(np.unique(size), 9)) == {0.0, 3.0}
    begins = (size[1:] > 0) & (size[:-1] == 0)
    ends = (size[1:] == 0) & (size[:-1] > 0)
    assert begins.sum() / (20 * 20_000 * PERIOD_S) == pytest.approx(1 / (2.0 + 0.2), rel=0.05)
    first = np.flatnonzero(begins[:, 0])[:20]
    last = np.array([np.flatnonzero(ends[k:, 0])[0] + k for k in first])
    assert ((last - first) % 10 == 0).all()  # a knock may follow another at once
    directions = forces[1:, :20][begins] / 3.0
    assert np.abs(directions.mean(axis=0)).max() < 0.05
    assert np.array_equal(forces[first[0] + 1, 0], forces[first[0] + 10, 0])


WIND = ("c", "speed", "direction", "sd", "correlation")


def test_turbulence_is_an_ornstein_uhlenbeck_process():
    wind = Wind(WIND, "body", lambda state: state.joint_velocity[:, :3])
    forces = run(wind, [[2.0, 1.5, 0.5, 0.6, 0.4]] * 400, 400)
    air = forces / 2.0
    mean = [1.5 * np.cos(0.5), 1.5 * np.sin(0.5), 0.0]
    assert air.mean(axis=(0, 1)) == pytest.approx(np.array(mean), abs=0.02)
    apart = air - mean
    for k in (0, 20, 399):  # stationary from the start
        assert apart[k].std(axis=0) == pytest.approx(np.full(3, 0.6), rel=0.1)
    lags = np.array([5, 20, 60])
    kept = np.array([(apart[lag:] * apart[:-lag]).mean() / 0.36 for lag in lags])
    assert kept == pytest.approx(np.exp(-lags * PERIOD_S / 0.4), abs=0.03)


def test_drag_slows_what_moves_through_still_air():
    wind = Wind(WIND, "body", lambda state: state.joint_velocity[:, :3])
    moving = State(np.zeros((2, 6), np.float32), np.tile(np.array([1, 2, 3, 9, 9, 9], np.float32), (2, 1)))
    forces = run(wind, [[0.3, 0, 0, 0, 1.0], [0, 5, 0, 1, 1.0]], 3, moving)
    assert forces[:, 0] == pytest.approx(np.tile(np.array([-0.3, -0.6, -0.9]), (3, 1)))
    assert not forces[:, 1].any()


def test_a_force_on_the_cart_is_an_effort_on_its_slider():
    task = make_task("cartpole")
    worlds = BulletWorlds(task, 2)
    start = task.initial(np.full((2, 4), 0.6))
    worlds.reset(np.ones(2, bool), start, np.tile(task.parameters.nominal, (2, 1)))
    effort = np.zeros((2, worlds.substeps, 1))
    effort[1] = 2.0
    for _ in range(20):
        state = worlds.step(effort, forces={"cart": np.array([[2.0, 0, 0], [0, 0, 0]])})
    assert state.joint_position[0] == pytest.approx(state.joint_position[1], abs=1e-6)
    assert abs(state.joint_position[0, 0]) > 0.1
    worlds.close()


def test_a_force_acts_through_all_substeps_of_an_engine_call():
    """On a free body that falls: as much momentum as force times time."""
    task = make_task("push")
    worlds = BulletWorlds(task, 1)
    start = task.initial(np.full((1, 5), 0.5))
    start.body_pose[:, 0, 2] += 1.0
    values = task.parameters.nominal.copy()
    values[task.parameters.index("puck.damping_n_s_m")] = 0.001
    worlds.reset(np.ones(1, bool), start, values[None])
    force = np.array([[0.4, -0.2, 0.0]])
    for _ in range(2):
        state = worlds.step(np.zeros((1, worlds.substeps, 2)), forces={"puck": force})
    assert state.body_twist[0, 0, :2] == pytest.approx(force[0, :2] / 0.2 * 2 * 0.05, rel=0.01)
    worlds.close()
