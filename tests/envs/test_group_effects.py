"""Effects on groups of sensors, and the command effects of arms, against what they are said to do."""

import numpy as np
import pytest

from envs.effects.command import Backlash, Dropped
from envs.effects.groups import (
    Drift,
    DroppedSamples,
    FrozenSamples,
    GroupBias,
    GroupDelay,
    GroupNoise,
    GroupQuantization,
)
from envs.task import State

PERIOD_S = 0.05


def sensor(effect, values):
    n = len(values)
    effect.bind(n, 2, 1, PERIOD_S)
    effect.reset(np.ones(n, bool), {"p": np.asarray(values, float)})
    return effect


def at(x, n):
    pose = np.zeros((n, 1, 7), np.float32)
    pose[:, 0, 0] = x
    return State(np.full((n, 2), x, np.float32), np.zeros((n, 2), np.float32), pose, np.zeros((n, 1, 6), np.float32))


def measure(effect, positions, n, seed=0):
    """(steps, n) measured x of a body that is truly at `positions`."""
    random = np.random.default_rng(seed)
    seen = [effect.apply(at(x, n), random.normal(size=(n, effect.noise_columns))) for x in positions]
    return np.stack([state.body_pose[:, 0, 0] for state in seen])


def test_delay_is_exact_on_a_ramp():
    effect = sensor(GroupDelay("p", "body_position"), [0.0, 50.0, 125.0])
    ramp = np.arange(20) * PERIOD_S
    seen = measure(effect, ramp, 3)
    assert np.array_equal(seen[:, 0], ramp.astype(np.float32))
    assert seen[5:, 1] == pytest.approx(ramp[5:] - 0.05, abs=1e-6)
    assert seen[5:, 2] == pytest.approx(ramp[5:] - 0.125, abs=1e-6)


def test_noise_stays_in_its_group():
    effect = sensor(GroupNoise("p", "joint_position"), [0.1] * 500)
    true = at(1.0, 500)
    seen = effect.apply(true, np.random.default_rng(0).normal(size=(500, 2)))
    assert seen.joint_position.std() == pytest.approx(0.1, rel=0.1)
    assert seen.body_pose is true.body_pose and seen.joint_velocity is true.joint_velocity


def test_drift_grows_with_the_square_root_of_time_and_starts_at_zero():
    effect = sensor(Drift("p", "body_position"), [0.02] * 2000)
    seen = measure(effect, [0.0] * 81, 2000)
    assert (seen[0] == 0).all()
    assert seen[20].std() == pytest.approx(0.02, rel=0.1) and seen[80].std() == pytest.approx(0.04, rel=0.1)


def test_dropped_samples_repeat_the_one_before():
    effect = sensor(DroppedSamples("p", "body_position"), [0.3] * 1000)
    seen = measure(effect, range(20), 1000)
    assert (seen[0] == 0).all()
    assert (np.diff(seen, axis=0) == 0).mean() == pytest.approx(0.3, abs=0.02)


def test_frozen_samples_last_as_long_as_said():
    effect = sensor(FrozenSamples("p", "body_position", hold_s=0.25), [2.0] * 500)
    seen = measure(effect, range(200), 500)
    still = np.diff(seen, axis=0) == 0
    runs = np.diff(np.flatnonzero(np.diff(np.pad(still[:, 0].astype(int), 1))))[::2]
    assert len(runs) and all(run % 5 == 0 or i == len(runs) - 1 for i, run in enumerate(runs))
    assert 0.2 < still.mean() < 0.5


def test_identity_passes_bit_by_bit_beside_another_world():
    for kind in (GroupDelay, GroupNoise, Drift, DroppedSamples):
        seen = measure(sensor(kind("p", "body_position"), [0.0, 0.4]), np.linspace(0, 1, 9), 2)
        assert seen[:, 0].tobytes() == np.linspace(0, 1, 9).astype(np.float32).tobytes()


def command(effect, values, speeds):
    n = len(values)
    effect.bind(n, 1, 5, PERIOD_S)
    effect.reset(np.ones(n, bool), {"p": np.asarray(values, float)})
    random = np.random.default_rng(0)
    return np.stack([effect.apply(np.full((n, 5, 1), v), random.normal(size=(n, 1))) for v in speeds])


def test_backlash_takes_its_width_at_each_reversal():
    speeds = np.array([0.2] * 20 + [-0.2] * 20)
    moved = command(Backlash("p"), [0.0, 0.01], speeds).mean(axis=2)[..., 0].cumsum(axis=0) * PERIOD_S
    assert moved[19] == pytest.approx([0.2, 0.195]) and moved[-1] == pytest.approx([0.0, 0.005])


def test_a_dropped_command_lets_the_one_before_go_on():
    sent = np.arange(1.0, 21.0)
    got = command(Dropped("p"), [0.25] * 800, sent)[:, :, 0, 0]
    lost = got != sent[:, None]
    assert lost.mean() == pytest.approx(0.25, abs=0.03)
    before = np.vstack([np.zeros((1, 800)), got[:-1]])
    assert np.array_equal(got[lost], before[lost])


def test_each_column_has_its_own_bias_and_the_others_pass():
    effect = GroupBias(("a", "b"), "joint_velocity", slice(1, 3))
    effect.bind(2, 4, 0, PERIOD_S)
    effect.reset(np.ones(2, bool), {"a": np.array([0.5, 0.0]), "b": np.array([-1.0, 0.0])})
    true = State(np.ones((2, 4), np.float32), np.full((2, 4), 3.0, np.float32))
    seen = effect.apply(true, None)
    assert seen.joint_velocity.tolist() == [[3.0, 3.5, 2.0, 3.0], [3.0, 3.0, 3.0, 3.0]]
    assert np.array_equal(seen.joint_position, true.joint_position)


def test_quantized_values_are_the_nearest_multiples():
    seen = measure(sensor(GroupQuantization("p", "body_position"), [0.0, 0.1]), [0.234, 0.26], 2)
    assert seen[:, 0] == pytest.approx([0.234, 0.26]) and seen[:, 1] == pytest.approx([0.2, 0.3])
