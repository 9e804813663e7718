"""Dropped and slid bodies: restitution and friction are found, in both engines, and other motions are refused."""

from __future__ import annotations

import mujoco
import numpy as np
import pybullet
import pytest

from envs.registry import make_task
from pipeline import cli
from pipeline.identify import identified
from robot.body_log import BodyLog, read_body, tidy
from robot.bounce import height, restitution
from robot.interface import RobotError
from robot.slide import friction, way


def dropped(e: float, hz: float, noise_m: float, seed: int, h: float = 0.25, seconds: float = 4.0) -> BodyLog:
    """Held at `h`, let go after some 1.3 s, seen by a tracker."""
    random = np.random.default_rng(seed)
    t = np.arange(0, seconds, 1 / hz) + random.uniform(0, 0.5 / hz)
    speed, impact = np.sqrt(2 * 9.81 * h), 1.3 + random.uniform(0, 0.1)
    z = np.where(t < impact - speed / 9.81, h, height(t, impact, speed, e))
    place = np.stack([0 * t, 0 * t, z + 0.78], 1)
    return tidy(t, place + random.normal(0, noise_m, place.shape), "drop.csv")


def slid(mu: float, hz: float, noise_m: float, seed: int) -> BodyLog:
    """Pushed off three times, each another way."""
    random, t = np.random.default_rng(seed), np.arange(0, 8, 1 / hz)
    place = np.zeros((len(t), 3))
    for begin, angle in ((0.6, 0.4), (3.0, 2.6), (5.5, 5.0)):
        pushed = 0.9 * np.clip(t - begin, 0, 0.15) ** 2 / 0.3
        along = pushed + np.where(t > begin + 0.15, way(t - begin - 0.15, 0.9, mu * 9.81, 0.05), 0)
        place[:, :2] += along[:, None] * [np.cos(angle), np.sin(angle)]
    return tidy(t, place + random.normal(0, noise_m, place.shape), "slide.csv")


@pytest.mark.parametrize(("e", "hz", "noise"), [(0.05, 60, 5e-4), (0.3, 20, 5e-4), (0.3, 60, 3e-3), (0.7, 20, 3e-3)])
def test_restitution_is_found_at_any_rate(e, hz, noise):
    found = restitution(dropped(e, hz, noise, 1))[0]
    assert found.low <= e <= found.high and found.high - found.low < 0.25


@pytest.mark.parametrize(("mu", "hz", "noise"), [(0.1, 20, 3e-3), (0.3, 60, 5e-4)])
def test_friction_is_found_from_slides(mu, hz, noise):
    found = friction(slid(mu, hz, noise, 1))[0]
    assert found.low <= mu <= found.high and found.high - found.low < 0.5 * mu


def bullet_drop(up_m: float, push_m_s: float, values: dict[str, float]) -> tuple[BodyLog, np.ndarray]:
    """The puck of push over its table in PyBullet, seen every 10 ms; and its true vertical velocity each 1 ms."""
    client = pybullet.connect(pybullet.DIRECT)
    try:
        p = pybullet
        p.setGravity(0, 0, -9.81, physicsClientId=client)
        p.setTimeStep(1e-3, physicsClientId=client)
        ground = p.createMultiBody(
            0,
            p.createCollisionShape(p.GEOM_BOX, halfExtents=[2, 2, 0.05], physicsClientId=client),
            basePosition=[0, 0, -0.05],
            physicsClientId=client,
        )
        puck = p.createMultiBody(
            0.2,
            p.createCollisionShape(p.GEOM_CYLINDER, radius=0.05, height=0.06, physicsClientId=client),
            basePosition=[0, 0, 0.03 + up_m],
            physicsClientId=client,
        )
        for body in (ground, puck):
            p.changeDynamics(
                body,
                -1,
                **{k: v**0.5 for k, v in values.items()},
                linearDamping=0,
                angularDamping=0,
                physicsClientId=client,
            )
        rows, speeds = [], []
        for k in range(2600):
            if k == 600:
                p.resetBaseVelocity(puck, [push_m_s, 0, 0], physicsClientId=client)
            if k < 600:
                p.resetBasePositionAndOrientation(puck, [0, 0, 0.03 + up_m], [0, 0, 0, 1], physicsClientId=client)
            p.stepSimulation(physicsClientId=client)
            speeds.append(p.getBaseVelocity(puck, physicsClientId=client)[0][2])
            if k % 10 == 0:
                rows.append([k * 1e-3, *p.getBasePositionAndOrientation(puck, physicsClientId=client)[0]])
        table = np.array(rows)
        seen = table[:, 1:] + np.random.default_rng(3).normal(0, 5e-4, (len(table), 3))
        return tidy(table[:, 0], seen, "bullet"), np.array(speeds)
    finally:
        pybullet.disconnect(client)


def test_a_drop_and_a_slide_in_pybullet():
    log, speeds = bullet_drop(0.2, 0.0, {"restitution": 0.6, "lateralFriction": 0.3})
    impact = int(np.argmin(speeds))
    effective = speeds[impact : impact + 60].max() / -speeds[impact]
    found = restitution(log)[0]
    assert abs(found.value - effective) < 0.04 and found.low - 0.02 <= effective <= found.high + 0.02
    log, _ = bullet_drop(0.0, 1.0, {"restitution": 0.0, "lateralFriction": 0.3})
    found = friction(log)[0]
    assert abs(found.value - 0.3) < 0.02


def test_a_drop_and_a_slide_in_mujoco():
    def run(up: float, push: float, solref: str) -> tuple[BodyLog, np.ndarray]:
        model = mujoco.MjModel.from_xml_string(
            f'<mujoco><option timestep="0.0005" cone="elliptic"/><worldbody><geom type="plane" size="2 2 1" '
            f'friction="0.3 0.005 0.0001" solref="{solref}"/><body pos="0 0 {0.03 + up}"><freejoint/><geom type="box" '
            f'size="0.05 0.05 0.03" mass="0.2" friction="0.3 0.005 0.0001" solref="{solref}"/></body></worldbody>'
            "</mujoco>"
        )
        data = mujoco.MjData(model)
        data.qvel[0] = push
        rows, speeds = [], []
        for k in range(4000):
            mujoco.mj_step(model, data)
            speeds.append(data.qvel[2])
            if k % 20 == 0:
                rows.append([data.time, *data.qpos[:3]])
        table = np.array(rows)
        seen = table[:, 1:] + np.random.default_rng(4).normal(0, 5e-4, (len(table), 3))
        return tidy(table[:, 0], seen, "mujoco"), np.array(speeds)

    log, speeds = run(0.2, 0.0, "-160000 -126")
    impact = int(np.argmin(speeds))
    effective = speeds[impact : impact + 120].max() / -speeds[impact]
    found = restitution(log)[0]
    assert 0.3 < effective < 0.95 and abs(found.value - effective) < 0.05
    assert abs(friction(run(0.0, 1.0, "0.004 1")[0])[0].value - 0.3) < 0.02


def test_motions_that_tell_nothing_are_refused():
    t = np.arange(0, 4, 0.02)
    random = np.random.default_rng(5)
    still = tidy(t, random.normal(0, 1e-3, (len(t), 3)), "still.csv")
    for routine, words in ((restitution, "nothing falls by 3 cm"), (friction, "nothing slides 4 cm")):
        with pytest.raises(RobotError, match=words):
            routine(still)
    lowered = np.stack([0 * t, 0 * t, np.clip(0.3 - 0.2 * t, 0, 0.3)], 1) + random.normal(0, 1e-3, (len(t), 3))
    with pytest.raises(RobotError, match="nothing falls|off from a fall"):
        restitution(tidy(t, lowered, "lowered.csv"))
    log = dropped(0.5, 60, 5e-4, 1)
    with pytest.raises(RobotError, match="time in s"):
        restitution(BodyLog(log.time_s * 3, log.position_m, "slow.csv"))


def test_rows_that_cannot_be_used_are_left_out_and_told():
    t = np.arange(0, 4, 0.02)
    place = np.stack([np.sin(t), t, t], 1)
    place[5, 1], t[10] = np.nan, t[9]
    t[150:] += 3.0
    log = tidy(t, place, "a.csv")
    assert len(log) == 148 and len(log.problems) == 3 and "(line 5) are not finite" in log.problems[0]
    read_twice = tidy(np.arange(0, 2, 0.01), np.repeat(place[:100], 2, axis=0), "fast.csv")
    assert len(read_twice) == 99


def test_the_command_writes_what_training_starts_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    log = slid(0.3, 60, 5e-4, 6)
    rows = np.column_stack([log.time_s * 1e3, log.position_m * 1e3])
    np.savetxt("slide.csv", rows, delimiter=",", header="stamp,px,py,pz", comments="")
    maps = [f"--map={name}" for name in ("time=stamp:ms", "x=px:mm", "y=py:mm", "z=pz:mm")]
    assert cli.main(["identify", "push", "--routine", "drop", "--log", "slide.csv", *maps]) == 0
    told = capsys.readouterr().out
    assert "friction" in told and "not told: restitution: slide.csv: nothing falls" in told
    known = identified.load(tmp_path / "identified.yaml", make_task("push"))
    low, high = known.intervals["puck.friction"]
    assert low <= 0.3 / 0.2 <= high
    for arguments, words in (
        (["push", "--routine", "drop", "--log", "slide.csv"], "no column time, x, y, z"),
        (["cartpole", "--routine", "drop", "--log", "slide.csv"], "no body of its own"),
        (["push", "--routine", "drop", "--log", "none.csv"], "cannot be read"),
        (["push", "--routine", "drop", "--log", "slide.csv", "--map", "q=px"], "not understood"),
    ):
        assert cli.main(["identify", *arguments]) == cli.EXIT_USER
        assert words in capsys.readouterr().err
    with pytest.raises(RobotError, match="0 rows can be used"):
        (tmp_path / "empty.csv").write_text("time,x,y,z\n")
        read_body(tmp_path / "empty.csv")
