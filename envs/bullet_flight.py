"""Flying bases in PyBullet: n clients with one free body each, moved by rotors."""

from __future__ import annotations

import numpy as np

from envs.bullet_loading import p
from envs.flight import RotorForces, Rotors, angles, quaternions, rotations


class BulletFlight:
    """Steps the free base `body` of each client.

    PyBullet's body is the frame and its payload in one, so its origin is their common centre of mass, and what is
    read and set is moved by `forces.offset`. The payload's products of inertia are left out.
    """

    def __init__(self, spec: Rotors, clients: list[int], body: int, substeps: int) -> None:
        self._clients, self._body, self._substeps = clients, body, substeps
        self.forces = RotorForces(spec, len(clients))
        self.loads = np.zeros((len(clients), 4))  # payload: mass kg, and its place in m from the base's centre of mass
        self._place = np.zeros((len(clients), 3))
        self._turn = np.tile([0.0, 0.0, 0.0, 1.0], (len(clients), 1))

    def load(self, rows: np.ndarray, loads: np.ndarray, mass: np.ndarray) -> None:
        """Say what payloads (k, 4) the worlds `rows` carry, as part of a whole of `mass` (k,) kg."""
        self.loads[rows] = loads
        self.forces.offset[rows] = loads[:, 1:] * (loads[:, 0] / mass)[:, None]

    def reset(self, rows: np.ndarray, position: np.ndarray, velocity: np.ndarray) -> None:
        """Put the worlds `rows` (k,) into coordinates and velocities (k, 6) of `FREE_JOINTS`."""
        turn = quaternions(position[:, 3:].astype(np.float64))
        rotation = rotations(turn)
        offset = np.einsum("nij,nj->ni", rotation, self.forces.offset[rows])
        rate = np.einsum("nij,nj->ni", rotation, velocity[:, 3:])
        place, speed = position[:, :3] + offset, velocity[:, :3] + np.cross(rate, offset)
        self._place[rows], self._turn[rows] = place, turn
        for i, x, q, v, w in zip(
            rows.tolist(), place.tolist(), turn.tolist(), speed.tolist(), rate.tolist(), strict=True
        ):
            p.resetBasePositionAndOrientation(self._body, x, q, self._clients[i])
            p.resetBaseVelocity(self._body, v, w, self._clients[i])

    def step(self, profile: np.ndarray, push: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """(n, 6) coordinates and velocities after thrusts (n, substeps, u), and forces `push` (n, 3) on the body."""
        body, frame, read = self._body, p.WORLD_FRAME, p.getBasePositionAndOrientation
        apply_force, apply_torque, advance = p.applyExternalForce, p.applyExternalTorque, p.stepSimulation
        thrust = np.maximum(profile, 0.0)
        rotation = rotations(self._turn)
        for k in range(self._substeps):
            force, torque = self.forces.wrench(thrust[:, k], self._place[:, 2], rotation)
            if push is not None:
                force += push
            now: list[tuple] = []
            for client, f, t, x in zip(
                self._clients, force.tolist(), torque.tolist(), self._place.tolist(), strict=True
            ):
                apply_force(body, -1, f, x, frame, client)
                apply_torque(body, -1, t, frame, client)
                advance(client)
                now.append(read(body, client))
            self._place, self._turn = np.array([x for x, _ in now]), np.array([q for _, q in now])
            rotation = rotations(self._turn)
        return self._measured(rotation)

    def measure(self) -> tuple[np.ndarray, np.ndarray]:
        """(n, 6) coordinates and velocities as PyBullet has them now."""
        now = [p.getBasePositionAndOrientation(self._body, client) for client in self._clients]
        self._place, self._turn = np.array([x for x, _ in now]), np.array([q for _, q in now])
        return self._measured(rotations(self._turn))

    def _measured(self, rotation: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        body = self._body
        moving = np.array([p.getBaseVelocity(body, client) for client in self._clients])  # (n, 2, 3)
        offset = np.einsum("nij,nj->ni", rotation, self.forces.offset)
        speed = moving[:, 0] - np.cross(moving[:, 1], offset)
        rate = np.einsum("nji,nj->ni", rotation, moving[:, 1])
        position = np.concatenate([self._place - offset, angles(rotation)], axis=1)
        return position, np.concatenate([speed, rate], axis=1)
