"""The reality's physics against a plain restatement of its definition, one millisecond at a time."""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import math

import mujoco
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from robot.twin.hidden import Hidden
from robot.twin.model import CartpoleModel

PLAIN = """
<mujoco><option timestep="0.001" gravity="0 0 -{g}" integrator="implicitfast"/><worldbody>
<body><joint name="slider" type="slide" axis="1 0 0" frictionloss="{coulomb}" damping="{viscous}"/>
<inertial pos="0 0 0" mass="{cart}" diaginertia=".02 .02 .02"/>
<body><joint type="hinge" axis="0 1 0" frictionloss="{hinge}"/>
<inertial pos="0 0 .2" mass="{pole}" diaginertia="{i} {i} 1e-4"/></body></body></worldbody>
<actuator><motor joint="slider"/></actuator></mujoco>
"""


def plain(hidden: Hidden, start, commands, seed) -> tuple[np.ndarray, np.ndarray]:
    """States and measurements after each control period, with the lag, latency and noise written out."""
    model = mujoco.MjModel.from_xml_string(
        PLAIN.format(
            g=hidden.gravity_m_s2,
            coulomb=hidden.cart_coulomb_n,
            viscous=hidden.cart_viscous_n_s_m,
            cart=hidden.cart_mass_kg,
            hinge=hidden.hinge_coulomb_nm,
            pole=hidden.pole_mass_kg,
            i=hidden.pole_mass_kg * 0.16 / 12,
        )  # fmt: skip
    )
    data = mujoco.MjData(model)
    data.qpos[:], data.qvel[:] = start[:2], start[2:]
    bus, disturbance, sensor = (np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(3))
    pending, held, force, states, measured = [], 0.0, 0.0, [], []
    sensor.standard_normal(4)  # the reading before the first command
    for k, command in enumerate(commands):
        latency = (hidden.latency_ms + abs(bus.standard_normal()) * hidden.latency_jitter_ms) / 1e3
        pending.append((k * 0.02 + latency, command))
        noise = disturbance.standard_normal() * hidden.force_noise_n
        for i in range(20):
            while pending and pending[0][0] <= (k * 20 + i) * 0.001 + 1e-9:
                held = pending.pop(0)[1]
            target = held if abs(held) > hidden.dead_band_n else 0.0
            force += (target * hidden.gain - force) * (1 - math.exp(-0.001 / (hidden.lag_ms / 1e3)))
            data.ctrl[0] = force + noise
            mujoco.mj_step(model, data)
        states.append([*data.qpos, *data.qvel])
        z = np.array([data.qpos[0], data.qvel[0], data.qpos[1], data.qvel[1]])
        z += sensor.standard_normal(4) * hidden.sensor_noise_sd
        z[2] = np.round(z[2] / hidden.angle_quantum_rad) * hidden.angle_quantum_rad
        measured.append(z)
    return np.array(states), np.array(measured)


def drive(hidden: Hidden, start, commands, seed) -> tuple[np.ndarray, np.ndarray]:
    model = CartpoleModel(hidden)
    model.reset(list(start[:2]), list(start[2:]), seed)
    model.measure()
    states, measured = [], []
    for command in commands:
        model.push(command)
        model.advance(20)
        position, velocity = model.state
        states.append(position + velocity)
        measured.append(model.measure())
    return np.array(states), np.array(measured)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**53),
    start=st.tuples(*[st.floats(-0.1, 0.1)] * 4),
    commands=st.lists(st.floats(-10, 10), min_size=1, max_size=40),
    scale=st.lists(st.floats(0.8, 1.2), min_size=14, max_size=14),
)
def test_equals_the_definition_written_out(seed, start, commands, scale):
    values = {name: value * k for (name, value), k in zip(Hidden().model_dump().items(), scale, strict=True)}
    hidden = Hidden(**values)
    states, measured = drive(hidden, start, commands, seed)
    expected_states, expected_measured = plain(hidden, start, commands, seed)
    np.testing.assert_allclose(states, expected_states, atol=1e-7)
    quantum = hidden.angle_quantum_rad
    np.testing.assert_allclose(measured[:, [0, 1, 3]], expected_measured[:, [0, 1, 3]], atol=1e-7)
    assert np.max(np.abs(measured[:, 2] - expected_measured[:, 2])) < quantum * 1.01  # a tie may round either way


def test_same_seed_same_world_whatever_came_before():
    model = CartpoleModel(Hidden())
    runs = []
    for before in (0, 7):
        for _ in range(before):
            model.push(9.0)
            model.advance(13)
            model.measure()
        model.reset([0.0, 0.1], [0.0, 0.0], 5)
        trace = []
        for k in range(30):
            model.push(math.sin(k))
            model.advance(20)
            trace.append(model.measure())
        runs.append(trace)
    assert runs[0] == runs[1]


def test_motor_never_gives_more_than_its_physical_maximum():
    quiet = {"force_noise_n": 0.0, "latency_jitter_ms": 0.0}
    asked, limit = CartpoleModel(Hidden(**quiet)), CartpoleModel(Hidden(**quiet))
    for model, force in ((asked, 1e6), (limit, 10.0)):
        model.reset([0.0, 0.0], [0.0, 0.0], 1)
        model.push(force)
        model.advance(200)
    assert asked.state == limit.state


def test_a_command_does_nothing_before_its_latency_and_a_cut_command_never_arrives():
    hidden = Hidden(force_noise_n=0.0, latency_jitter_ms=0.0, latency_ms=35.0)
    model = CartpoleModel(hidden)
    model.reset([0.0, 0.0], [0.0, 0.0], 1)
    model.push(10.0)
    model.advance(35)
    assert model.state[0][0] == 0.0
    model.advance(20)
    assert model.state[0][0] > 1e-4
    model.reset([0.0, 0.0], [0.0, 0.0], 1)
    model.push(10.0)
    model.cut()
    model.advance(100)
    assert model.state[0][0] == 0.0


def test_buffers_end_the_rail():
    model = CartpoleModel(Hidden(force_noise_n=0.0))
    model.reset([0.7, 0.0], [3.0, 0.0], 1)
    reached = []
    for _ in range(100):
        model.advance(10)
        reached.append(model.state[0][0])
    assert 0.8 < max(reached) < 0.85
