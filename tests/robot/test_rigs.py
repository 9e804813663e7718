"""Every rig stands for a shipped task, and a twin's numbers do not change unnoticed."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

import numpy as np
import pytest

from envs.registry import make_task
from envs.scene import CartesianVelocity, JointVelocity
from pipeline.config import load_experiment
from robot.interface import RobotError
from robot.twin import protocol
from robot.twin.hidden import load
from robot.twin.reality import Reality
from robot.twin.rigs import RIGS, find_rig

RECORDED = Path(__file__).parent / "cartpole_twin.json"


def instruction(servo: int, code: int, data: bytes) -> bytes:
    packet = protocol.HEADER + bytes((servo,)) + struct.pack("<H", len(data) + 3) + bytes((code,)) + data
    return packet + struct.pack("<H", protocol.crc16(packet))


def test_the_cartpole_twin_answers_what_it_always_answered():
    """Encoder ticks after each command, recorded before the twin stood in for more than a cartpole."""
    rig = find_rig("cartpole")
    reality = Reality(rig, rig.make_model(load(None)), realtime=False)
    reality.reset([0.0, 0.03], [0.0, -0.05], 1000)
    reality.handle(instruction(1, protocol.WRITE, struct.pack("<H", 11) + b"\x00"))
    reality.handle(instruction(1, protocol.WRITE, struct.pack("<H", 64) + b"\x01"))
    seen = []
    for k in range(60):
        goal = int(1500 * np.sin(0.3 * k))
        reality.handle(instruction(254, protocol.SYNC_WRITE, struct.pack("<HHBh", 102, 2, 1, goal)))
        answer = reality.handle(instruction(254, protocol.SYNC_READ, struct.pack("<HH", 128, 8) + b"\x01\x02"))
        motor, encoder = answer[9:17], answer[28:36]
        seen.append([x for part in (motor, encoder) for x in reversed(struct.unpack("<ii", part))])
    assert seen == json.loads(RECORDED.read_text())[:60]


@pytest.mark.parametrize("name", RIGS)
def test_a_rig_fits_its_task_and_its_configuration(name):
    rig, task, settings = RIGS[name], make_task(name), load_experiment(name).robot
    period_ms = rig.control_steps
    assert period_ms == pytest.approx(1e3 / task.control_hz)
    rotors = task.scene.motors if rig.rotors else ()
    for joint, axis in zip((*task.joints, *rotors), (*rig.axes, *rig.rotors), strict=True):
        servo = settings.servos[joint]
        assert (servo.id, servo.scale, servo.zero_ticks) == (axis.servo, axis.scale, axis.zero)
        assert (servo.effort_per_unit or 0.0) == axis.unit and (axis.unit > 0) == (joint in task.scene.motors)
        assert (axis.fastest > 0) == (task.scene.motors_take == "velocity")
    motors = [axis for axis in (*rig.axes, *rig.rotors) if axis.unit]
    actuation = task.scene.actuation
    if not isinstance(actuation, JointVelocity | CartesianVelocity):
        full = task.command(np.ones((1, task.action_size)))[0]
        assert full.tolist() == pytest.approx([axis.most for axis in motors])
    else:
        assert [axis.most for axis in motors] == list(actuation.max_effort)
        assert [axis.fastest for axis in motors] == list(actuation.max_velocity)
    assert rig.bodies == task.bodies


@pytest.mark.parametrize("name", RIGS)
def test_the_shipped_file_is_the_default_reality(name):
    assert load(None, name) == RIGS[name].hidden_class()()


@pytest.mark.parametrize("name", RIGS)
def test_same_seed_same_world_and_reads_see_one_instant(name):
    rig = RIGS[name]
    model = rig.make_model(load(None, name))
    joints, motors = len(rig.axes), sum(axis.unit > 0 for axis in (*rig.axes, *rig.rotors))
    runs = []
    for before in (0, 3):
        for _ in range(before):
            model.push(*[0.5] * motors)
            model.advance(13)
        model.reset([0.1] * joints, [0.0] * joints, 7)
        trace = []
        for k in range(20):
            model.push(*[math.sin(k)] * motors)
            model.advance(rig.control_steps)
            trace.append(tuple(model.measure()))
            assert tuple(model.measure()) == trace[-1] and len(trace[-1]) == 2 * joints
        runs.append(trace)
    assert runs[0] == runs[1]


def test_an_unknown_task_has_no_twin():
    with pytest.raises(RobotError, match="no twin knows the task juggle; accepted is cartpole, pendulum"):
        find_rig("juggle")
