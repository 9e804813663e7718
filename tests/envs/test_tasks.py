"""What every registered task owes: Gymnasium's checker, determinism, identity, read-back, and finite numbers."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401 (registers)
from envs.randomization.parameters import RangeError, Ranges
from envs.randomization.samplers import UniformSampler
from envs.registry import TASKS, make_task
from envs.vector_env import TaskVectorEnv

N = 4


@pytest.fixture(params=TASKS)
def task(request):
    return make_task(request.param)


@pytest.fixture
def make(task):
    made: list[TaskVectorEnv] = []

    def build(n=N, **kwargs):
        made.append(TaskVectorEnv(task, n, **{"groups": ("policy", "privileged"), **kwargs}))
        return made[-1]

    yield build
    for env in made:
        env.close()


def extreme(task):
    """The whole of the hard bounds."""
    return Ranges(task.parameters, task.parameters.bounds_low, task.parameters.bounds_high)


def everything(env, steps, seed=0):
    """Observations, rewards and ends of `steps` random steps from a reset."""
    random = np.random.default_rng(seed)
    out = [env.reset(seed=1)[0]]
    for _ in range(steps):
        obs, reward, terminated, truncated, _ = env.step(random.uniform(-1, 1, env.action_space.shape))
        out.append(np.column_stack([obs, reward, terminated, truncated]))
    return np.concatenate([x.ravel() for x in out])


@pytest.mark.filterwarnings("ignore:.*infinity:UserWarning", "ignore:.*Not able to test alternative render")
def test_gymnasium_finds_nothing_to_complain_about(task):
    env = gymnasium.make(f"sim2real/{task.name.capitalize()}-v0", ranges={})
    check_env(env.unwrapped)
    env.close()


def test_a_seed_determines_everything_whatever_came_before(make, task):
    """Contacts included: nothing of an earlier episode is left in the engine."""
    env = make(ranges=Ranges.default(task.parameters))
    first = everything(env, 60)
    everything(env, 30, seed=5)
    assert np.array_equal(first, everything(env, 60))
    assert np.array_equal(first, everything(make(ranges=Ranges.default(task.parameters)), 60))


def test_worlds_do_not_depend_on_how_many_there_are(make, task):
    whole, part = make(4, ranges=extreme(task)), make(2, ranges=extreme(task), first_world=2)
    assert np.allclose(whole.reset(seed=3)[0][2:], part.reset(seed=3)[0], rtol=0, atol=1e-6)
    action = np.random.default_rng(0).uniform(-1, 1, whole.action_space.shape)
    for _ in range(10):
        assert np.allclose(whole.step(action)[0][2:], part.step(action[2:])[0], rtol=0, atol=1e-4)


def test_identity_randomization_is_bit_equal_to_none(make, task):
    none = everything(make(), 40)
    assert np.array_equal(none, everything(make(ranges=Ranges.nominal(task.parameters)), 40))
    assert np.array_equal(none, everything(make(ranges=Ranges.default(task.parameters), dr_strength=0.0), 40))


def test_every_bound_parameter_is_read_back(make, task):
    env = make(sampler=UniformSampler(extreme(task), 1.0, seed=0))
    for _ in range(3):
        env.reset()
    bound = [task.parameters.index(name) for name in task.scene.bindings]
    read, held = env.world.read_parameters()[:, bound], env.parameters[:, bound]
    drag = np.array([name.endswith("damping_n_s_m") for name in task.scene.bindings])
    assert read[:, ~drag] == pytest.approx(held[:, ~drag], rel=1e-9)
    assert read[:, drag] == pytest.approx(held[:, drag], rel=0.01)


def test_observations_stay_finite_at_the_hard_bounds_whatever_the_actions(make, task):
    """10,000 world steps, restarts included: random, always extreme, at a sign flip each step, and bang-bang."""
    env = make(8, ranges=extreme(task))
    env.reset(seed=2)
    random = np.random.default_rng(0)
    corner = np.sign(random.uniform(-1, 1, env.action_space.shape))
    bang = corner[:2]
    for t in range(1250):
        bang = np.where(random.uniform(size=bang.shape) < 0.1, -bang, bang)
        action = np.concatenate([random.uniform(-1, 1, bang.shape), corner[2:4], corner[4:6] * (-1) ** t, bang])
        obs, reward, *_ = env.step(action)
        assert np.isfinite(obs).all() and np.isfinite(reward).all()
        assert np.abs(obs[:, : task.policy_size]).max() < 1e3


def test_bad_ranges_are_refused_with_the_interval_that_is_accepted(task):
    """Of every parameter: reversed, below and above its hard bounds, a mass of zero, and one that there is not."""
    space = task.parameters
    for name in space.names:
        low, high = space[space.index(name)].bounds
        wrong = [[high, low], [low - 1.0, high], [low, high + 1.0]]
        wrong += [[0.0, high]] if name.endswith("mass_kg") and "payload" not in name else []
        for interval in wrong:
            with pytest.raises(RangeError) as error:
                Ranges.from_dict(space, {name: interval})
            assert name in str(error.value) and f"inside [{low}, {high}]" in str(error.value)
    with pytest.raises(RangeError, match="'moon.mass_kg'; this task has .*" + space.names[0]):
        Ranges.from_dict(space, {"moon.mass_kg": [0.0, 1.0]})


def test_commands_and_actions_are_each_others_inverse(task):
    action = np.random.default_rng(0).uniform(-1, 1, (5, task.action_size))
    assert task.action(task.command(action)) == pytest.approx(action)


def test_features_and_reward_do_not_depend_on_true_velocities(task):
    """What a robot measures is positions; a tracker gives no twist."""
    if not task.bodies:
        pytest.skip("no tracked bodies")
    start = task.initial(np.random.default_rng(0).uniform(size=(3, task.initial_size)))
    moving = replace(start, body_twist=start.body_twist + 1.0)
    action = np.zeros((3, task.action_size))
    assert np.array_equal(task.features(start, action), task.features(moving, action))
    assert np.array_equal(task.reward(start, action), task.reward(moving, action))


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_stable_baselines3_trains_unchanged(task):
    stable_baselines3 = pytest.importorskip("stable_baselines3")
    env = gymnasium.make(f"sim2real/{task.name.capitalize()}-v0", ranges={}, seed=0)
    model = stable_baselines3.PPO("MlpPolicy", env, n_steps=250, batch_size=250, n_epochs=1, seed=0, device="cpu")
    assert model.learn(1000).num_timesteps == 1000
    env.close()
