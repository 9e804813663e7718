"""The Panda arm's reality at a table with a free body on it, such as a puck, and the camera above it."""

# The engine makes its names at run time.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from abc import abstractmethod
from collections import deque

import mujoco
import numpy as np

from envs.tasks.push import PUCK_HEIGHT_M, PUCK_RADIUS_M
from robot.twin.hidden import CameraHidden, PandaHidden, PushHidden
from robot.twin.panda import PandaModel
from robot.twin.rigs import Rig, find_rig

HAND = ("panda_hand", "panda_leftfinger", "panda_rightfinger")
ROLLING = (0.005, 0.0001)  # torsional and rolling friction, m


class Camera:
    """Sees poses at a fixed rate, and hands each picture on after a latency. Some pictures show nothing."""

    def __init__(self, hidden: CameraHidden, offsets: tuple[float, ...] = (1.0, -1.0)) -> None:
        """It errs along as many axes as there are `offsets`, constantly by so many times the hidden offset."""
        self._hidden, self._offsets = hidden, np.array(offsets)

    def reset(self, noise_seed: int, poses: np.ndarray) -> None:
        """Poses (b, 7) that are at rest, and were seen there before."""
        self._random = np.random.default_rng(np.random.SeedSequence(noise_seed).spawn(4)[3])
        self._due_s = 0.0
        self._pictures: deque[tuple[float, np.ndarray]] = deque()  # (exposed at, poses), the oldest is the newest here
        self._expose(0.0, poses, always=True)
        self._pictures[0] = (-self._hidden.camera_latency_ms / 1e3, self._pictures[0][1])

    def watch(self, time_s: float, poses: np.ndarray) -> None:
        if time_s >= self._due_s:
            self._due_s += 1.0 / self._hidden.camera_hz
            self._expose(time_s, poses)

    def look(self, time_s: float) -> tuple[np.ndarray, float]:
        """Poses (b, 7) of the newest picture that has arrived, and its age in s."""
        here_s = time_s - self._hidden.camera_latency_ms / 1e3
        while len(self._pictures) > 1 and self._pictures[1][0] <= here_s:
            self._pictures.popleft()
        exposed_s, poses = self._pictures[0]
        return poses, time_s - exposed_s

    def _expose(self, time_s: float, poses: np.ndarray, always: bool = False) -> None:
        hidden = self._hidden
        axes = len(self._offsets)
        noise, lost = self._random.standard_normal((len(poses), axes)), self._random.random() < hidden.camera_drop_rate
        if lost and not always:
            return
        seen = poses.copy()
        seen[:, :axes] += noise * hidden.camera_noise_m + self._offsets * hidden.camera_offset_m
        self._pictures.append((time_s, seen))


class TableModel(PandaModel):
    """The arm, a table at a height of its own, and a free body that only the fingers and the table touch."""

    body: str

    def __init__(self, hidden: PandaHidden, rig: Rig, camera: Camera, table_height_m: float) -> None:
        self._camera, self._top_m = camera, table_height_m
        super().__init__(hidden, rig)

    @abstractmethod
    def _height_m(self) -> float:
        """Of the body."""

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        super().reset(position, velocity, noise_seed)
        self._free = int(self._model.joint(self.body).qposadr[0])
        self._seed = noise_seed
        self.place([self.truth[0].tolist()])

    def place(self, poses: list[list[float]]) -> None:
        """The body goes on the table, however high that is."""
        pose = np.array(poses[0])
        at = self._data.qpos[self._free : self._free + 7]
        at[:2], at[2] = pose[:2], self._top_m + self._height_m() / 2
        at[3:] = pose[[6, 3, 4, 5]]  # the engine has w first
        mujoco.mj_forward(self._model, self._data)
        self._camera.reset(self._seed, self.truth)

    def look(self) -> tuple[list[list[float]], float]:
        poses, age_s = self._camera.look(self.time_s)
        return poses.tolist(), age_s

    @property
    def truth(self) -> np.ndarray:
        """(1, 7) where the body really is, m, xyzw: for the technician, never for the tracker."""
        pose = self._data.qpos[self._free : self._free + 7]
        return pose[[0, 1, 2, 4, 5, 6, 3]][None]

    def _stepped(self) -> None:
        self._camera.watch(self.time_s, self.truth)


class PushModel(TableModel):
    """The free body is a puck."""

    body = "puck"

    def __init__(self, hidden: PushHidden) -> None:
        self._table = hidden
        super().__init__(hidden, find_rig("push"), Camera(hidden), hidden.table_height_m)

    def _furnish(self, spec: mujoco.MjSpec) -> None:
        super()._furnish(spec)
        hidden = self._table
        spec.worldbody.add_geom(
            name="table",
            type=mujoco.mjtGeom.mjGEOM_PLANE,
            size=[1.0, 1.0, 0.1],
            pos=[0.0, 0.0, hidden.table_height_m],
            contype=0,
            conaffinity=0,
        )
        puck = spec.worldbody.add_body(name="puck", pos=[0.5, 0.0, hidden.table_height_m + PUCK_HEIGHT_M / 2])
        puck.add_freejoint(name="puck")
        puck.add_geom(
            name="puck",
            type=mujoco.mjtGeom.mjGEOM_CYLINDER,
            size=[PUCK_RADIUS_M, PUCK_HEIGHT_M / 2, 0.0],
            mass=hidden.puck_mass_kg,
            contype=0,
            conaffinity=0,
        )
        hand = [geom for link in HAND for geom in spec.body(link).geoms]
        for i, geom in enumerate(hand):
            geom.name = f"hand{i}"
            touch(spec, geom.name, "puck", hidden.puck_finger_friction)
            touch(spec, geom.name, "table", hidden.puck_finger_friction)
        touch(spec, "puck", "table", hidden.puck_friction)

    def _height_m(self) -> float:
        return PUCK_HEIGHT_M

    def reset(self, position: list[float], velocity: list[float], noise_seed: int) -> None:
        super().reset(position, velocity, noise_seed)
        first = self._model.joint(self.body).dofadr[0]
        drag = self._model.dof_damping[first : first + 6]
        drag[:3], drag[3:] = self._table.puck_damping_n_s_m, 0.0


def touch(spec: mujoco.MjSpec, one: str, other: str, friction: float) -> None:
    """The two geoms collide, with so much Coulomb friction."""
    spec.add_pair(geomname1=one, geomname2=other, condim=4, friction=[friction, friction, *ROLLING, ROLLING[1]])
