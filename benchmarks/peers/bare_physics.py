"""The least a script must do to step the same worlds: PyBullet calls in a loop, with actions known beforehand.

A run of the pipeline is recorded (what each engine call was told) and played again in the same clients, so both
make the very same motions and contacts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from envs.bullet import BulletWorlds
from envs.bullet_loading import p, time_step_s
from envs.task import State


@dataclass
class Recording:
    """What a BulletWorlds was told, in order; `attach` listens to one."""

    events: list[tuple[str, Any]] = field(default_factory=list)
    last: State | None = None

    def attach(self, worlds: BulletWorlds) -> None:
        reset, step, arm = worlds.reset, worlds.step, worlds._arm
        stretch = worlds._stretch
        targets = arm.targets if arm is not None else None
        flight: Any = worlds._flight
        flown, wrench = (flight.step, flight.forces.wrench) if flight is not None else (None, None)

        def recorded_reset(mask, state, parameters):
            self.events.append(("reset", (mask.copy(), state, parameters.copy())))
            reset(mask, state, parameters)

        def recorded_stretch(extra_s):
            substeps, engine = worlds.substeps, worlds._scene.loading.engine_substeps
            extra = np.zeros(worlds.n) if extra_s is None else extra_s
            calls = [time_step_s(float(worlds._call_s + e / substeps), engine) for e in extra]
            self.events.append(("stretch", calls))
            stretch(extra_s)

        def recorded_step(profile, extra_s=None, forces=None):
            if arm is None and flight is None:
                self.events.append(("efforts", profile.tolist()))
            self.last = step(profile, extra_s, forces)
            return self.last

        worlds.reset, worlds.step, worlds._stretch = recorded_reset, recorded_step, recorded_stretch
        if flight is not None and flown is not None and wrench is not None:
            pushed = [None]

            def recorded_flight(profile, push):
                pushed[0] = push
                return flown(profile, push)

            def recorded_wrench(*told):
                force, torque = wrench(*told)
                whole = force if pushed[0] is None else force + pushed[0]
                self.events.append(("wrench", list(zip(whole.tolist(), torque.tolist(), strict=True))))
                return force, torque

            flight.step, flight.forces.wrench = recorded_flight, recorded_wrench
        if arm is not None and targets is not None:

            def recorded_targets(command, q, extra_s):
                found = targets(command, q, extra_s)
                self.events.append(("velocities", found[:, worlds._targets].tolist()))
                return found

            arm.targets = recorded_targets
        self._undo = (worlds, reset, step, stretch, arm, targets, flight, flown, wrench)

    def detach(self) -> None:
        worlds, reset, step, stretch, arm, targets, flight, flown, wrench = self._undo
        if flight is not None:
            flight.step, flight.forces.wrench = flown, wrench
        worlds.reset, worlds.step, worlds._stretch = reset, step, stretch
        if arm is not None and targets is not None:
            arm.targets = targets


def play(worlds: BulletWorlds, events: list[tuple[str, Any]]) -> list[list[float]]:
    """Do what was recorded with as little Python as can be; returns the joints of each world in the end."""
    body, joints, actuated, bodies = worlds._robot, worlds._joints, worlds._actuated, worlds._bodies
    velocity, torque = p.VELOCITY_CONTROL, p.TORQUE_CONTROL
    clients = worlds._clients
    drive = p.setJointMotorControl2
    set_motors, advance, read = p.setJointMotorControlArray, p.stepSimulation, p.getJointStates
    place, motion = p.getBasePositionAndOrientation, p.getBaseVelocity
    limits = getattr(worlds, "_limits", None)
    out: list[list[float]] = []
    for kind, told in events:
        if kind == "velocities":
            out = []
            for client, near, target, limit in zip(clients, bodies, told, limits or (), strict=True):
                set_motors(body, actuated, velocity, targetVelocities=target, forces=limit, physicsClientId=client)
                advance(client)
                out.append([q for q, _, _, _ in read(body, joints, client)])
                for other in near:
                    place(other, client)
                    motion(other, client)
        elif kind == "efforts":
            out = []
            for client, efforts in zip(clients, told, strict=True):
                for effort in efforts:
                    for joint, one in zip(actuated, effort):  # noqa: B905  positional: half the time of the array call
                        drive(body, joint, torque, 0.0, 0.0, one, 0.0, 0.0, 0.0, client)
                    advance(client)
                out.append([q for q, _, _, _ in read(body, joints, client)])
        elif kind == "wrench":
            for client, (force, moment) in zip(clients, told, strict=True):
                p.applyExternalForce(body, -1, force, place(body, client)[0], p.WORLD_FRAME, client)
                p.applyExternalTorque(body, -1, moment, p.WORLD_FRAME, client)
                advance(client)
        elif kind == "stretch":
            for client, seconds in zip(clients, told, strict=True):
                p.setTimeStep(seconds, client)
        else:
            worlds.reset(*told)
    return out if worlds._flight is None else worlds._flight.measure()[0].tolist()
