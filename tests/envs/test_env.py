"""The single environment, and Gymnasium's ways of making both."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

import envs  # noqa: F401 (registers)
from envs.env import TaskEnv
from envs.randomization.parameters import RangeError
from envs.registry import TaskError
from envs.vector_env import TaskVectorEnv
from envs.world import WorldError


@pytest.fixture
def make():
    made: list[gymnasium.Env] = []

    def build(**kwargs):
        made.append(gymnasium.make("sim2real/Cartpole-v0", **kwargs))
        return made[-1]

    yield build
    for env in made:
        env.close()


@pytest.mark.filterwarnings("ignore:.*infinity:UserWarning", "ignore:.*Not able to test alternative render")
def test_gymnasium_finds_nothing_to_complain_about(make):
    check_env(make(ranges={}, groups=("policy", "privileged")).unwrapped)


def test_equals_its_vector_environment(make):
    """Through several episodes, which have the same numbers in both."""
    single = make(ranges={}, seed=3)
    vector = gymnasium.make_vec("sim2real/Cartpole-v0", num_envs=1, ranges={}, seed=3)
    assert isinstance(vector.unwrapped, TaskVectorEnv)
    obs, expected = single.reset()[0], vector.reset()[0]
    ends = 0
    for t in range(150):
        assert np.array_equal(obs, expected[0])
        action = np.array([np.sin(t / 3)], np.float32)
        obs, reward, terminated, truncated, info = single.step(action)
        expected, rewards, terminations, truncations, infos = vector.step(action[None])
        assert (reward, terminated, truncated) == (rewards[0], terminations[0], truncations[0])
        if terminated or truncated:
            ends += 1
            assert np.array_equal(obs, infos["final_obs"][0])
            assert info["episode_return"] == infos["episode_return"][0]
            with pytest.raises(WorldError, match=r"call reset\(\) first"):
                single.unwrapped.step(action)
            obs = single.reset()[0]
    assert ends > 1
    vector.close()


def test_environments_without_a_seed_differ_and_with_one_agree(make):
    free = [make().reset()[0] for _ in range(2)]
    assert not np.array_equal(*free)
    seeded = [make().reset(seed=5)[0], make(seed=5).reset()[0]]
    assert np.array_equal(*seeded)


def test_works_in_gymnasiums_own_vector_environment():
    vector = gymnasium.make_vec("sim2real/Cartpole-v0", num_envs=2, vectorization_mode="sync", ranges={})
    obs, _ = vector.reset(seed=1)
    assert obs.shape == (2, 25) and not np.array_equal(obs[0], obs[1])
    vector.step(vector.action_space.sample())
    vector.close()


def test_bad_arguments_give_a_sentence():
    with pytest.raises(TaskError, match="'cartpol' is unknown"):
        TaskEnv("cartpol")
    with pytest.raises(RangeError, match="unknown parameter 'wheel.mass_kg'"):
        TaskEnv(ranges={"wheel.mass_kg": [0, 1]})
