"""Effects against analytic references, and their identity."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envs.effects.command import DeadBand, Delay, Gain, Lag, Noise
from envs.effects.sensor import Bias, Quantization, SensorNoise
from envs.task import State

PERIOD_S, SUBSTEPS = 0.02, 5
SUBSTEP_S = PERIOD_S / SUBSTEPS
COMMANDS = [Delay("p"), DeadBand("p"), Gain("p"), Lag("p"), Noise("p")]
SENSORS = [SensorNoise("p"), Bias("p", joint=1), Quantization("p", joint=1)]


def bound(effect, values, width=1):
    """The effect in len(values) worlds, reset to these values."""
    n = len(values)
    effect.bind(n, width, SUBSTEPS, PERIOD_S)
    effect.reset(np.ones(n, bool), {"p": np.asarray(values, np.float64)})
    return effect


def run(effect, commands, noise=None):
    """(steps * substeps, n, u) efforts after feeding commands (steps, n, u), each held for its period."""
    profiles = [effect.apply(np.repeat(command[:, None], SUBSTEPS, axis=1), noise) for command in commands]
    return np.concatenate([profile.transpose(1, 0, 2) for profile in profiles])


def state(n, seed=0):
    rng = np.random.default_rng(seed)
    return State(*(rng.normal(size=(n, 2)).astype(np.float32) for _ in range(2)))


def commands(steps, n, width=1, seed=0):
    return np.random.default_rng(seed).normal(scale=5, size=(steps, n, width))


@pytest.mark.parametrize("effect", COMMANDS, ids=lambda e: type(e).__name__)
def test_identity_commands_pass_bit_by_bit(effect):
    """Alone, and beside a world where the effect is at work; negative zeros included."""
    noise = np.random.default_rng(1).normal(size=(2, 1))
    sent = commands(6, 2)
    sent[2:4] = -0.0
    for other in (effect.identity[0], 0.7):
        worlds = bound(effect, [effect.identity[0], other])
        received = run(worlds, sent, noise)
        held = np.repeat(sent, SUBSTEPS, axis=0)
        assert received[:, 0].tobytes() == held[:, 0].tobytes()
        assert (received[:, 1].tobytes() == held[:, 1].tobytes()) == (other == effect.identity[0])


@pytest.mark.parametrize("effect", SENSORS, ids=lambda e: type(e).__name__)
def test_identity_measurements_pass_bit_by_bit(effect):
    effect.bind(2, 2)
    true, noise = state(2), np.random.default_rng(1).normal(size=(2, 4))
    true.joint_position[0] = -0.0
    for other in (0.0, 0.7):
        effect.reset(np.ones(2, bool), {"p": np.array([0.0, other])})
        measured = effect.apply(true, noise)
        assert measured.joint_position[0].tobytes() == true.joint_position[0].tobytes()
        assert measured.joint_velocity[0].tobytes() == true.joint_velocity[0].tobytes()
        assert measured.joint_position.dtype == measured.joint_velocity.dtype == np.float32
        assert (measured.joint_position[1] == true.joint_position[1]).all() == (other == 0.0)


@pytest.mark.parametrize("effect", COMMANDS, ids=lambda e: type(e).__name__)
def test_a_reset_forgets_the_past_of_its_world_only(effect):
    noise = np.ones((2, 1))
    sent = commands(5, 2)
    undisturbed = run(bound(effect, [0.9, 0.9]), np.concatenate([sent, sent]), noise)
    worlds = bound(effect, [0.9, 0.9])
    first = run(worlds, sent, noise)
    worlds.reset(np.array([True, False]), {"p": np.array([0.9, 0.1])})
    second = run(worlds, sent, noise)
    assert np.array_equal(second[:, 0], first[:, 0])  # begins again
    assert np.array_equal(second[:, 1], undisturbed[len(first) :, 1])  # goes on, with its old value


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 130), min_size=1, max_size=4))
def test_delay_shifts_the_impulse_exactly(delays_ms):
    """Each substep gets the mean of the command d seconds earlier: the difference of its shifted integral."""
    n, steps = len(delays_ms), 12
    sent = commands(steps, n, width=2)
    received = run(bound(Delay("p"), delays_ms, width=2), sent)
    knots = np.arange(steps + 1) * PERIOD_S
    impulse = np.concatenate([np.zeros((1, n, 2)), np.cumsum(sent * PERIOD_S, axis=0)])
    edges = np.arange(steps * SUBSTEPS + 1) * SUBSTEP_S
    for i, delay_ms in enumerate(delays_ms):
        for k in range(2):
            shifted = np.interp(edges - delay_ms * 1e-3, knots, impulse[:, i, k], left=0.0)
            assert received[:, i, k] == pytest.approx(np.diff(shifted) / SUBSTEP_S, abs=1e-9)


def test_delay_of_whole_periods_is_exact_and_may_grow_at_a_reset():
    effect = bound(Delay("p"), [40.0, 0.0])
    sent = commands(8, 2)
    received = run(effect, sent)
    assert np.allclose(received[2 * SUBSTEPS :, 0], np.repeat(sent, SUBSTEPS, axis=0)[: -2 * SUBSTEPS, 0], atol=1e-12)
    effect.reset(np.array([False, True]), {"p": np.array([0.0, 100.0])})
    more = run(effect, sent)
    assert np.allclose(more[: 2 * SUBSTEPS, 0], np.repeat(sent[-2:], SUBSTEPS, axis=0)[:, 0], atol=1e-12)
    assert (more[: 5 * SUBSTEPS, 1] == 0).all()
    assert np.allclose(more[5 * SUBSTEPS :, 1], np.repeat(sent[:3], SUBSTEPS, axis=0)[:, 1], atol=1e-12)


@pytest.mark.parametrize("tau_ms", [0.5, 10.0, 30.0, 120.0])
def test_lag_answers_a_step_like_a_first_order_motor(tau_ms):
    """f(t) = u (1 - exp(-t / tau)), averaged over each substep."""
    received = run(bound(Lag("p"), [tau_ms]), np.full((10, 1, 1), 3.0))[:, 0, 0]
    tau, edges = tau_ms * 1e-3, np.arange(10 * SUBSTEPS + 1) * SUBSTEP_S
    impulse = 3.0 * (edges + tau * np.exp(-edges / tau))
    assert received == pytest.approx(np.diff(impulse) / SUBSTEP_S, rel=1e-9)


def test_lag_is_linear_and_delivers_the_whole_impulse():
    effect = Lag("p")
    one, two = commands(8, 1, seed=1), commands(8, 1, seed=2)
    rest = np.zeros((200, 1, 1))
    together = run(bound(effect, [30.0]), np.concatenate([one + two, rest]))
    apart = [run(bound(effect, [30.0]), np.concatenate([part, rest])) for part in (one, two)]
    assert together == pytest.approx(apart[0] + apart[1], abs=1e-9)
    assert together.sum() == pytest.approx((one + two).sum() * SUBSTEPS, abs=1e-9)


def test_dead_band_swallows_small_efforts():
    received = run(bound(DeadBand("p"), [0.3]), np.array([0.2, -0.3, 0.31, -4.0]).reshape(4, 1, 1))
    assert received[::SUBSTEPS, 0, 0].tolist() == [0.0, 0.0, 0.31, -4.0]


def test_gain_multiplies():
    assert run(bound(Gain("p"), [0.5, 2.0]), np.full((1, 2, 1), 3.0))[0, :, 0].tolist() == [1.5, 6.0]


def test_effort_noise_is_one_draw_a_control_step():
    received = run(bound(Noise("p"), [2.0, 0.5]), np.full((1, 2, 1), 3.0), noise=np.array([[1.0], [-1.0]]))
    assert (received[:, 0] == 5.0).all() and (received[:, 1] == 2.5).all()


def test_sensor_noise_has_the_stated_sd_on_every_channel():
    n = 4000
    effect = SensorNoise("p")
    effect.bind(n, 2)
    effect.reset(np.ones(n, bool), {"p": np.full(n, 0.05)})
    true = State(np.zeros((n, 2), np.float32), np.zeros((n, 2), np.float32))
    measured = effect.apply(true, np.random.default_rng(0).normal(size=(n, 4)))
    channels = np.concatenate([measured.joint_position, measured.joint_velocity], axis=1)
    assert channels.std(axis=0) == pytest.approx([0.05] * 4, rel=0.05)
    assert np.abs(np.corrcoef(channels.T) - np.eye(4)).max() < 0.06


def test_bias_and_quantization_touch_their_joint_only():
    true = State(np.array([[0.11, 0.26]], np.float32), np.array([[0.3, 0.4]], np.float32))
    for effect, value, expected in (
        (Bias("p", joint=1), -0.02, 0.24),
        (Quantization("p", joint=1), 0.05, 0.25),
    ):
        effect.bind(1, 2)
        effect.reset(np.ones(1, bool), {"p": np.array([value])})
        measured = effect.apply(true, None)
        assert measured.joint_position[0] == pytest.approx([0.11, expected])
        assert np.array_equal(measured.joint_velocity, true.joint_velocity)
        assert true.joint_position[0, 1] == np.float32(0.26)  # the truth is not written to


@pytest.mark.parametrize("effect", SENSORS, ids=lambda e: type(e).__name__)
def test_measuring_some_rows_equals_measuring_all(effect):
    n, rows = 5, np.array([1, 4])
    effect.bind(n, 2)
    effect.reset(np.ones(n, bool), {"p": np.array([0.0, 0.1, 0.2, 0.3, 0.0])})
    true, noise = state(n), np.random.default_rng(2).normal(size=(n, 4))
    whole = effect.apply(true, noise)
    part = effect.apply(State(true.joint_position[rows], true.joint_velocity[rows]), noise[rows], rows)
    assert np.array_equal(part.joint_position, whole.joint_position[rows])
    assert np.array_equal(part.joint_velocity, whole.joint_velocity[rows])


def test_a_lag_of_a_whole_recording_at_once_is_that_of_its_steps():
    steps, taus = 300, [0.0, 4.0, 40.0]
    given = commands(steps, len(taus), width=2)
    expected = run(bound(Lag("p"), taus, width=2), given).transpose(1, 0, 2)
    whole = Lag("p")
    whole.bind(len(taus), 2, steps * SUBSTEPS, steps * PERIOD_S)
    whole.reset(np.ones(len(taus), bool), {"p": np.array(taus)})
    found = whole.apply(np.repeat(given.transpose(1, 0, 2), SUBSTEPS, axis=1), None)
    np.testing.assert_allclose(found, expected, atol=1e-9)
