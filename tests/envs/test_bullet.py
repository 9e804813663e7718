"""BulletWorlds: what was set is what PyBullet holds, and what it does is mechanics."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from envs.bullet import BulletWorlds
from envs.randomization.parameters import Ranges
from envs.randomization.samplers import UniformSampler
from envs.scene import JointCoulomb, JointDamping, LinkMass
from envs.task import State
from envs.tasks.cartpole import Cartpole
from envs.world import WorldError

TASK = Cartpole()
SPACE = TASK.parameters
BOUND = [SPACE.index(name) for name in TASK.scene.bindings]
N = 3
ALL = np.ones(N, bool)


@pytest.fixture(scope="module")
def worlds():
    made = BulletWorlds(TASK, N)
    yield made
    made.close()


def parameters(**values):
    row = SPACE.nominal.copy()
    for name, value in values.items():
        row[SPACE.index(name.replace("__", "."))] = value
    return np.tile(row, (N, 1))


def sampled(episode):
    """Values over the whole of the hard bounds."""
    ranges = Ranges(SPACE, SPACE.bounds_low, SPACE.bounds_high)
    return UniformSampler(ranges, 1.0, seed=0).sample(np.arange(N), np.full(N, episode))


def at(x=0.0, angle=0.0, speed=0.0, rate=0.0):
    row = lambda a, b: np.tile(np.array([a, b], np.float32), (N, 1))  # noqa: E731
    return State(row(x, angle), row(speed, rate))


def push(worlds, efforts):
    """(steps, n, 4) states under efforts (steps,), the same in every world."""
    states = [worlds.step(np.full((N, worlds.substeps, 1), effort)) for effort in efforts]
    return np.stack([np.concatenate([s.joint_position, s.joint_velocity], axis=1) for s in states])


def test_every_bound_parameter_is_read_back_after_many_resets(worlds):
    """Values differ between worlds and never compound over resets."""
    for episode in range(20):
        values = sampled(episode)
        worlds.reset(ALL, at(), values)
        push(worlds, [1.0, -2.0])
    read = worlds.read_parameters()
    assert read[:, BOUND] == pytest.approx(values[:, BOUND], rel=1e-12)
    assert np.isnan(np.delete(read, BOUND, axis=1)).all()
    assert len(BOUND) == 7


def test_reading_parameters_disturbs_nothing(worlds):
    worlds.reset(ALL, at(angle=0.1), parameters(cart__coulomb_n=0.5))
    undisturbed = push(worlds, [3.0] * 10)
    worlds.reset(ALL, at(angle=0.1), parameters(cart__coulomb_n=0.5))
    first = push(worlds, [3.0] * 5)
    worlds.read_parameters()
    assert np.array_equal(np.concatenate([first, push(worlds, [3.0] * 5)]), undisturbed)


def test_inertia_follows_mass(worlds):
    worlds.reset(ALL, at(), parameters())
    nominal = {link: worlds.read_inertia(link) for link in ("cart", "pole")}
    assert nominal["pole"][0, 1] == pytest.approx(0.1 * 0.4**2 / 12)  # a thin rod
    values = sampled(episode=99)
    worlds.reset(ALL, at(), values)
    for link, inertia in nominal.items():
        column = SPACE.index(f"{link}.mass_kg")
        ratio = values[:, column] / SPACE.nominal[column]
        assert worlds.read_inertia(link) == pytest.approx(ratio[:, None] * inertia, rel=1e-12)


def test_a_reset_touches_its_worlds_only(worlds):
    worlds.reset(ALL, at(angle=0.1), parameters())
    before = push(worlds, [1.0] * 4)
    worlds.reset(np.array([True, False, False]), at(x=0.3), parameters(cart__mass_kg=3.0))
    after = push(worlds, [1.0] * 4)
    assert after[0, 0, 0] == pytest.approx(0.3, abs=1e-3)
    worlds.reset(ALL, at(angle=0.1), parameters())
    assert np.array_equal(np.concatenate([before, after])[:, 1], push(worlds, [1.0] * 8)[:, 1])
    assert not np.array_equal(after[:, 0], after[:, 1])


def test_an_episode_does_not_depend_on_what_came_before(worlds):
    worlds.reset(ALL, at(angle=0.05), sampled(1))
    first = push(worlds, [2.0] * 20)
    worlds.reset(ALL, at(angle=-2.0, rate=30.0), sampled(2))
    push(worlds, [-10.0] * 30)
    worlds.reset(ALL, at(angle=0.05), sampled(1))
    assert np.array_equal(push(worlds, [2.0] * 20), first)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"world__gravity_m_s2": 13.0, "cart__mass_kg": 1.8, "pole__mass_kg": 0.25},
        {"cart__viscous_n_s_m": 1.0, "hinge__damping_nm_s": 0.003, "cart__mass_kg": 0.7},
    ],
)
def test_moves_as_the_equations_of_motion_say(worlds, values):
    """A cart of mass M with a uniform rod of mass m and length 2 l, by Lagrange; one second from a lean."""
    p = dict(zip(SPACE.names, parameters(**values)[0], strict=True))
    big, m, g, half = p["cart.mass_kg"], p["pole.mass_kg"], p["world.gravity_m_s2"], 0.2
    efforts = 2.0 * np.sin(np.arange(50) / 5)

    def motion(t, y):
        _, angle, speed, rate = y
        force = efforts[min(int(t / 0.02), 49)] - p["cart.viscous_n_s_m"] * speed
        mass = [[big + m, m * half * np.cos(angle)], [m * half * np.cos(angle), m * (2 * half) ** 2 / 3]]
        right = [
            force + m * half * rate**2 * np.sin(angle),
            m * g * half * np.sin(angle) - p["hinge.damping_nm_s"] * rate,
        ]
        return [speed, rate, *np.linalg.solve(mass, right)]

    times = np.arange(1, 51) * 0.02
    true = solve_ivp(motion, (0, 1), [0, 0.02, 0, 0], t_eval=times, rtol=1e-8, max_step=0.01).y.T
    worlds.reset(ALL, at(angle=0.02), parameters(**values))
    assert np.abs(push(worlds, efforts)[:, 0] - true)[:, :2].max() < 0.03 * np.abs(true[:, 1]).max()


def test_a_positive_angle_leans_towards_positive_x(worlds):
    """The pole falls to its own side, and pushing the cart under it raises it."""
    worlds.reset(ALL, at(angle=0.1), parameters())
    assert push(worlds, [0.0] * 10)[-1, 0, 1] > 0.1
    worlds.reset(ALL, at(angle=0.1), parameters())
    assert push(worlds, [8.0] * 10)[-1, 0, 1] < 0.1


def test_coulomb_friction_holds_below_its_force_and_brakes_above(worlds):
    heavy = parameters(cart__coulomb_n=0.8, pole__mass_kg=0.02, cart__mass_kg=4.0, world__gravity_m_s2=5.0)
    worlds.reset(ALL, at(), heavy)
    assert np.abs(push(worlds, [0.79] * 20)[:, 0, 2]).max() < 1e-9
    worlds.reset(ALL, at(), heavy)
    speed = push(worlds, [2.0] * 10)[-1, 0, 2]
    assert speed == pytest.approx((2.0 - 0.8) / 4.0 * 0.2, rel=0.02)


def test_coulomb_friction_keeps_its_size_in_periods_of_other_lengths(worlds):
    """PyBullet keeps it as an impulse; a period half as long again must brake by as much more."""
    worlds.reset(ALL, at(speed=1.0, angle=np.pi), parameters(cart__coulomb_n=0.8, pole__mass_kg=0.02))
    nothing = np.zeros((N, worlds.substeps, 1))
    speeds = [np.ones(N)]
    for extra_s in (None, np.array([0.0, 0.01, 0.02]), None):
        speeds.append(worlds.step(nothing, extra_s).joint_velocity[:, 0])
        assert worlds.read_parameters()[:, SPACE.index("cart.coulomb_n")] == pytest.approx(0.8)
    lost = -np.diff(speeds, axis=0)
    assert lost[1] / lost[0] == pytest.approx([1.0, 1.5, 2.0], rel=0.02)
    assert lost[2] == pytest.approx(lost[0], rel=0.05)


def test_substeps_are_felt_in_order(worlds):
    """An impulse early in the period carries the cart further than a late one."""
    ways = []
    for substep in (0, worlds.substeps - 1):
        profile = np.zeros((N, worlds.substeps, 1))
        profile[:, substep] = 10.0
        worlds.reset(ALL, at(), parameters())
        ways.append(worlds.step(profile).joint_position[0, 0])
    assert ways[0] > 3 * ways[1] > 0


class Changed(Cartpole):
    """Cartpole with another scene."""

    def __init__(self, **changes):
        self._changes = changes

    @property
    def scene(self):
        return replace(super().scene, **self._changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"physics_hz": 120.0}, ["physics_hz: 120", "multiple of its 50 Hz"]),
        ({"urdf": "nowhere.urdf"}, ["nowhere.urdf", "absolute path"]),
        ({"joints": ("slider", "elbow")}, ["joint: 'elbow'", "slider, hinge"]),
        ({"bindings": {"cart.mass_kg": LinkMass("wheel")}}, ["link: 'wheel'", "cart, pole"]),
        ({"bindings": {"cart.viscous_n_s_m": JointDamping("elbow")}}, ["joint: 'elbow'"]),
        ({"bindings": {"cart.coulomb_n": JointCoulomb("elbow")}}, ["joint: 'elbow'"]),
        ({"bindings": {"wheel.mass_kg": LinkMass("cart")}}, ["unknown parameter 'wheel.mass_kg'"]),
    ],
)
def test_bad_scenes_give_a_sentence(changes, words):
    with pytest.raises((WorldError, ValueError)) as error:
        BulletWorlds(Changed(**changes), 1)
    assert all(word in str(error.value) for word in words)


def test_a_broken_asset_gives_a_sentence(tmp_path):
    (tmp_path / "broken.urdf").write_text("<robot")
    with pytest.raises(WorldError, match=r"urdf: PyBullet cannot load .*broken.urdf"):
        BulletWorlds(Changed(urdf=str(tmp_path / "broken.urdf")), 1)


def test_close_may_be_called_twice():
    worlds = BulletWorlds(TASK, 1)
    worlds.close()
    worlds.close()
