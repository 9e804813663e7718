"""TaskVectorEnv: identity, keyed reproducibility, and Gymnasium's same-step semantics."""

import numpy as np
import pytest

from envs.randomization.keyed import KeyedRandom
from envs.randomization.parameters import RangeError, Ranges
from envs.randomization.samplers import UniformSampler
from envs.task import State
from envs.tasks.cartpole import Cartpole
from envs.vector_env import TaskVectorEnv
from envs.world import WorldError

TASK = Cartpole()
SPACE = TASK.parameters
DEFAULT = Ranges.default(SPACE)
BOTH = ("policy", "privileged")
WIDE = Ranges.from_dict(  # every effect at work
    SPACE,
    {"action.dead_band_n": [0.0, 1.0], "sensor.bias_rad": [-0.05, 0.05], "sensor.quantum_rad": [0.0, 0.01]},
)


class ShortCartpole(Cartpole):
    max_steps = 12


@pytest.fixture
def make():
    """Builds environments that are closed afterwards."""
    made: list[TaskVectorEnv] = []

    def build(n, task=TASK, **kwargs):
        made.append(TaskVectorEnv(task, n, **kwargs))
        return made[-1]

    yield build
    for env in made:
        env.close()


def actions_of(env, t):
    """An action for each world that depends on its global number, episode and step only."""
    worlds = env.first_world + np.arange(env.num_envs)
    draw = KeyedRandom(77).uniform("actions", worlds, env.episodes, 1, env.steps)
    return (2 * draw - 1).astype(np.float32)


def rollout(env, steps, start=None):
    """Everything `steps` vector steps return, as arrays with time first."""
    obs = env.reset()[0] if start is None else start
    columns: dict[str, list] = {key: [] for key in ("obs", "reward", "terminated", "truncated", "final_obs", "return")}
    columns["obs"].append(obs)
    for t in range(steps):
        obs, reward, terminated, truncated, info = env.step(actions_of(env, t))
        final = np.zeros_like(obs)
        returns = np.zeros(env.num_envs)
        if info:
            ended = terminated | truncated
            final[ended], returns[ended] = info["final_obs"][ended], info["episode_return"][ended]
        for key, value in zip(columns, (obs, reward, terminated, truncated, final, returns), strict=True):
            columns[key].append(value)
    return {key: np.stack(value) for key, value in columns.items()}


def equal(a, b, worlds=slice(None)):
    return all(a[key][:, worlds].tobytes() == b[key].tobytes() for key in b)


def test_identity_randomization_is_bit_equal_to_none(make):
    """Zero-width ranges, and any range at no strength, with all effects in place."""
    none = rollout(make(4), 120)
    assert none["terminated"].any()
    for ranges, strength in ((Ranges.nominal(SPACE), 1.0), (Ranges.nominal(SPACE), 0.3), (WIDE, 0.0)):
        assert equal(none, rollout(make(4, ranges=ranges, dr_strength=strength), 120))


def test_a_nominal_world_is_bit_equal_to_none_beside_randomized_ones(make):
    """Effects that are at work in one world leave another that is at their identity alone."""

    class HalfNominal:
        def sample(self, world, episode):
            values = UniformSampler(WIDE, 1.0, seed=0).sample(world, episode)
            values[world % 2 == 0] = SPACE.nominal
            return values

    mixed, none = rollout(make(4, sampler=HalfNominal()), 120), rollout(make(4), 120)
    for key in none:
        assert mixed[key][:, ::2].tobytes() == none[key][:, ::2].tobytes()
        assert mixed["obs"][:, 1].tobytes() != none["obs"][:, 1].tobytes()


def test_worlds_are_equal_in_one_group_and_in_four(make):
    """First with worlds ending at their own times, so that the order of resets differs too."""
    whole = rollout(make(8, seed=3, ranges=WIDE, groups=BOTH), 150)
    assert whole["terminated"].sum() > 8
    for first in (0, 2, 4, 6):
        part = rollout(make(2, seed=3, ranges=WIDE, groups=BOTH, first_world=first), 150)
        assert equal(whole, part, slice(first, first + 2))


def test_seed_and_episodes_are_the_whole_random_state(make):
    env = make(3, seed=5, ranges=WIDE)
    rollout(env, 90)
    episodes = env.episodes + 1
    expected = rollout(env, 90)  # reset() goes on to the next episodes
    other = make(3, seed=5, ranges=WIDE)
    other.episodes = episodes
    assert np.array_equal(other.episodes, episodes)
    assert equal(expected, rollout(other, 90))


def test_a_seed_determines_everything(make):
    env = make(3, seed=0, ranges=WIDE)
    by_constructor = rollout(env, 60)
    env.reset(seed=9)
    by_reset = rollout(env, 60, start=env.reset(seed=9)[0])
    again = rollout(env, 60, start=env.reset(seed=9)[0])
    assert equal(by_reset, again)
    assert equal(by_reset, rollout(make(3, seed=9, ranges=WIDE), 60))
    assert not equal(by_reset, by_constructor)


def test_initial_states_come_from_the_documented_stream(make):
    """World k, episode 0, stream "initial": what robot evaluations use as well."""
    env = make(4, seed=21, first_world=30)
    start = TASK.initial(KeyedRandom(21).uniform("initial", np.arange(30, 34), 0, TASK.initial_size))
    frame = TASK.frame(start, np.zeros((4, 1), np.float32))
    assert np.array_equal(env.reset()[0], np.tile(frame, TASK.history))


def test_first_world_can_move_between_resets(make):
    env = make(2, seed=1, ranges=WIDE)
    env.reset()
    env.first_world = 40
    env.episodes = np.zeros(2)
    with pytest.raises(WorldError, match=r"call reset\(\) first"):
        env.step(np.zeros((2, 1)))
    assert equal(rollout(env, 40), rollout(make(2, seed=1, ranges=WIDE, first_world=40), 40))


def test_time_limit_truncates_and_does_not_terminate(make):
    env = make(2, task=ShortCartpole())
    env.reset()
    for _ in range(12):
        _, _, terminated, truncated, info = env.step(np.zeros((2, 1)))
    assert truncated.all() and not terminated.any()
    assert info["success"].all() and (info["episode_steps"] == 12).all()


def test_failure_terminates_and_does_not_truncate(make):
    env = make(1)
    env.reset()
    ends = [(te, tr, info) for _, _, te, tr, info in (env.step(np.ones((1, 1))) for _ in range(40)) if info]
    terminated, truncated, info = ends[0]
    assert terminated.all() and not truncated.any() and not info["success"].any()
    assert (np.abs(info["final_obs"][0, -4]) > 4.0 * 0.35) or (np.abs(info["final_obs"][0, -5]) > 1.5 * 0.6)


def test_ended_worlds_restart_in_the_same_step(make):
    """final_obs continues the episode that ended; obs is the first of the next; the others go on."""
    env = make(4, seed=2, ranges=WIDE, groups=BOTH)
    obs, _ = env.reset()
    size, frame = TASK.policy_size, TASK.frame_size
    returns, steps, seen = np.zeros(4), np.zeros(4, int), 0
    for t in range(120):
        before, episodes, ran_with = obs, env.episodes, env.parameters
        obs, reward, terminated, truncated, info = env.step(actions_of(env, t))
        ended = terminated | truncated
        returns, steps = returns + reward, steps + 1
        assert bool(info) == ended.any()
        last = info["final_obs"] if info else obs
        assert np.array_equal(last[:, : size - frame], before[:, frame:size])
        assert np.array_equal(env.episodes, episodes + ended)
        if info:
            seen += ended.sum()
            assert np.array_equal(info["_final_obs"], ended) and np.array_equal(info["_success"], ended)
            assert info["episode_return"][ended] == pytest.approx(returns[ended], rel=1e-5)
            assert np.array_equal(info["episode_steps"][ended], steps[ended])
            assert np.array_equal(info["parameters"], ran_with)
            first = obs[ended, :size].reshape(-1, TASK.history, frame)
            assert (first == first[:, :1]).all() and (first[:, :, -1] == 0).all()
            assert np.array_equal(obs[~ended], info["final_obs"][~ended])
            returns[ended], steps[ended] = 0, 0
        assert np.array_equal(env.steps, steps)
    assert seen > 4


def test_privileged_group_holds_the_true_parameters_and_state(make):
    env = make(3, seed=4, ranges=WIDE, groups=("privileged", "policy"))
    obs, info = env.reset()
    privileged = obs[:, env.group_slices["privileged"]]
    assert privileged.shape == (3, TASK.privileged_size)
    assert (privileged[:, 0] == 1).all()
    assert np.array_equal(privileged[:, 1 : 1 + len(SPACE)], SPACE.scaled(info["parameters"]))
    start = TASK.initial(KeyedRandom(4).uniform("initial", np.arange(3), 0, 4))
    true = np.concatenate([start.joint_position, start.joint_velocity], axis=1) * TASK.true_state_scale()
    assert privileged[:, 1 + len(SPACE) :] == pytest.approx(true)
    measured = obs[:, env.group_slices["policy"]][:, -5:-1]
    assert not np.allclose(measured, true, atol=1e-6)  # the policy sees noise


class PlaybackWorld:
    """A world of one that plays back true states."""

    n, substeps = 1, 1

    def __init__(self, angles):
        self._angles = iter(angles)
        self.closed = False

    def reset(self, mask, state, parameters): ...

    def step(self, profile, extra_s=None, forces=None):
        return State(np.array([[0.0, next(self._angles)]], np.float32), np.zeros((1, 2), np.float32))

    def close(self):
        self.closed = True


def test_reward_and_failure_come_from_the_measured_state():
    ranges = Ranges.from_dict(SPACE, {name: [v, v] for name, v in zip(SPACE.names, SPACE.nominal, strict=True)})
    biased = Ranges.from_dict(SPACE, ranges.to_dict() | {"sensor.bias_rad": [0.1, 0.1]})
    world = PlaybackWorld([0.2, 0.3])
    env = TaskVectorEnv(TASK, 1, ranges=biased, world=world)
    env.reset()
    _, reward, terminated, _, _ = env.step(np.zeros((1, 1)))
    assert reward[0] == pytest.approx(1 - 0.3**2) and not terminated[0]
    assert env.step(np.zeros((1, 1)))[2][0]  # 0.3 true is 0.4 measured
    env.close()
    assert world.closed


def test_a_simulation_that_leaves_finite_numbers_is_an_error():
    env = TaskVectorEnv(TASK, 1, first_world=7, world=PlaybackWorld([np.nan]))
    env.reset()
    with pytest.raises(WorldError, match="world 7 gave nan .*'cart.mass_kg': 1.0.*accepted are parameter ranges"):
        env.step(np.zeros((1, 1)))


def test_new_randomization_takes_effect_at_each_worlds_next_reset(make):
    env = make(4, seed=6, groups=BOTH)
    env.reset()
    nominal = env.parameters
    env.set_randomization(DEFAULT, 1.0)
    was_reset = np.zeros(4, bool)
    for t in range(60):
        _, _, terminated, truncated, _ = env.step(actions_of(env, t))
        was_reset |= terminated | truncated
        assert np.array_equal((env.parameters != nominal).any(axis=1), was_reset)
    assert was_reset.any()
    expected = UniformSampler(DEFAULT, 1.0, seed=6).sample(np.arange(4), env.episodes)
    assert np.array_equal(env.parameters[was_reset], expected[was_reset])
    env.set_sampler(UniformSampler(Ranges.nominal(SPACE), 1.0, seed=0))
    env.reset()
    assert np.array_equal(env.parameters, nominal)


def test_parameters_reach_the_physics_and_do_not_compound(make):
    env = make(4, seed=6, ranges=DEFAULT)
    env.reset()
    for t in range(200):
        env.step(actions_of(env, t))
    assert env.episodes.min() > 1
    bound = [SPACE.index(name) for name in TASK.scene.bindings]
    assert env.world.read_parameters()[:, bound] == pytest.approx(env.parameters[:, bound], rel=1e-12)


def test_what_the_caller_does_to_observations_stays_with_the_caller(make):
    env, clean = make(2, ranges=WIDE), make(2, ranges=WIDE)
    for t in range(60):
        obs, expected = (e.step(actions_of(e, t))[0] if t else e.reset()[0] for e in (env, clean))
        assert np.array_equal(obs, expected)
        obs[:] = np.nan


def test_spaces_fit_what_comes_out(make):
    env = make(3, ranges=WIDE, groups=BOTH)
    obs, _ = env.reset()
    assert env.observation_space.contains(obs)
    obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
    assert env.observation_space.contains(obs)
    assert reward.shape == terminated.shape == truncated.shape == (3,)
    assert terminated.dtype == truncated.dtype == bool


def test_actions_are_clipped(make):
    inside, outside = make(2), make(2)
    inside.reset()
    outside.reset()
    assert np.array_equal(inside.step(np.ones((2, 1)))[0], outside.step(np.full((2, 1), 7.0))[0])


def test_bad_use_gives_a_sentence(make):
    env = make(2)
    with pytest.raises(WorldError, match=r"call reset\(\) first"):
        env.step(np.zeros((2, 1)))
    env.reset()
    with pytest.raises(ValueError, match=r"shape \(3, 1\) does not fit; accepted is \(2, 1\)"):
        env.step(np.zeros((3, 1)))
    with pytest.raises(ValueError, match="not finite"):
        env.step(np.array([[0.0], [np.nan]]))
    with pytest.raises(ValueError, match=r"groups: \['policy', 'camera'\] cannot be had; accepted is one or more"):
        make(2, groups=("policy", "camera"))
    with pytest.raises(ValueError, match="n: 0 is not a number of worlds"):
        make(0)
    with pytest.raises(WorldError, match="it has 1 worlds; accepted is a world of n = 2"):
        make(2, world=PlaybackWorld([]))
    with pytest.raises(RangeError, match="dr_strength: 2"):
        make(2, ranges=DEFAULT, dr_strength=2.0)


def test_streams_of_the_caller_are_keyed_like_everything_else(make):
    """Whatever else is drawn beside them, and at each step by each world's own episode and step."""
    stream, worlds, ended = ("mine", 2), 5 + np.arange(3), 0
    for ranges in (None, WIDE):
        env = make(3, seed=4, first_world=5, ranges=ranges, streams=(stream,))
        env.reset()
        for t in range(100):
            expected = KeyedRandom(4).normal("mine", worlds, env.episodes, 2, env.steps)
            assert np.array_equal(env.normals(stream), expected)
            ended += bool(env.step(actions_of(env, t))[4])
    assert ended > 6
