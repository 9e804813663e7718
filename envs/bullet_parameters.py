"""Applying parameter values to a PyBullet client, always from the values cached at loading, and reading them back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from envs import bindings as kinds
from envs.bullet_ballast import AXES, Ballast
from envs.bullet_loading import Handles, p
from envs.randomization.parameters import Parameter, ParameterSpace
from envs.scene import Scene
from envs.world import WorldError

_READ = {  # changeDynamics keyword -> place in getDynamicsInfo
    "lateralFriction": 1,
    "restitution": 5,
    "rollingFriction": 6,
    "spinningFriction": 7,
    "contactDamping": 8,
    "contactStiffness": 9,
}
_PROBE_M_S = 1e-3  # drag has a part that is quadratic in the speed; at this one it is 0.1 %


class Payload:
    """A point mass on a flying base, made of parameters: its mass, and its place along x, y and z (else 0)."""

    def __init__(self) -> None:
        self.columns: dict[int, int] = {}  # 0: mass, 1 to 3: place -> column

    def of(self, rows: np.ndarray) -> np.ndarray:
        """(k, 4) mass kg and place m from the base's centre of mass, out of values (k, d)."""
        loads = np.zeros((len(rows), 4))
        for i, column in self.columns.items():
            loads[:, i] = rows[:, column]
        return loads

    def put(self, rows: np.ndarray, loads: np.ndarray) -> None:
        """The reverse of `of`, in place."""
        for i, column in self.columns.items():
            rows[:, column] = loads[:, i]

    def moments(self, mass: float, row: list[float]) -> tuple[float, list[float]]:
        """Its mass, and what it adds to a base's moments of inertia, then about the common centre of mass."""
        extra, *place = (row[self.columns[i]] if i in self.columns else 0.0 for i in range(4))
        reduced, square = mass * extra / (mass + extra), sum(r * r for r in place)
        return extra, [reduced * (square - r * r) for r in place]


@dataclass
class _Part:
    """A link or body, the parameters that act on it, and its values at loading."""

    body: int
    link: int  # -1: the base
    mass_kg: float
    inertia: tuple[float, float, float]  # principal moments, kg m^2
    mass_columns: list[int] = field(default_factory=list)  # their product is its mass,
    mass_factor: float = 1.0  # in so many kg
    added_columns: list[int] = field(default_factory=list)  # kg, points at its centre of mass
    inertia_column: int | None = None
    variant: tuple[int, int] | None = None  # (column, value) at which it is there at all
    payload: Payload | None = None
    ballast: Ballast | None = None
    drag_column: int | None = None
    direct: list[tuple[str, int, float]] = field(default_factory=list)  # (keyword, column, factor)

    def there(self, row) -> bool:
        """Whether it takes part under these values (d,)."""
        return self.variant is None or row[self.variant[0]] == self.variant[1]

    def mass(self, row) -> float:
        """kg without what was added, for one world's values (d,)."""
        return (
            self.mass_factor * math.prod(row[column] for column in self.mass_columns)
            if self.mass_columns
            else self.mass_kg
        )

    def held(self, mass: float, applied: np.ndarray, into: np.ndarray) -> None:
        """Each mass parameter out of the mass that is held, kg, given the others as applied (d,)."""
        added = sum(applied[column] for column in self.added_columns)
        for column in self.mass_columns:
            into[column] = (mass - added) / (self.mass(applied) / applied[column])
        for column in self.added_columns:
            into[column] = mass - self.mass(applied) - (added - applied[column])

    def shares(self, row: list[float]) -> list[tuple[float, list[float]]]:
        """Mass and moments of each point of the ballast, whose masses are part of this one's."""
        added = sum(row[column] for column in self.added_columns)
        return [] if self.ballast is None else self.ballast.shares(row, self.mass(row), added)

    def change(self, row: list[float], elsewhere: float | None = None) -> dict:
        """The arguments of changeDynamics, all in one call; `elsewhere` are the kg that its ballast has, if any."""
        change: dict = {key: row[column] * factor for key, column, factor in self.direct}
        mass = self.mass_kg
        own = self.mass_columns or self.added_columns or self.inertia_column is not None or self.payload is not None
        if own or elsewhere is not None:
            # changeDynamics(mass) alone would reset the inertia, so both always go together.
            mass = self.mass(row)
            scale = mass / self.mass_kg * (1.0 if self.inertia_column is None else row[self.inertia_column])
            inertia = [scale * moment for moment in self.inertia]
            if self.payload is not None:
                extra, added = self.payload.moments(mass, row)
                mass, inertia = mass + extra, [own + more for own, more in zip(inertia, added, strict=True)]
            mass += sum(row[column] for column in self.added_columns)
            change["mass"], change["localInertiaDiagonal"] = mass - (elsewhere or 0.0), inertia
        if self.drag_column is not None:
            change["linearDamping"] = change["angularDamping"] = row[self.drag_column] / mass
        return change


class BulletParameters:
    """What a scene's bindings mean in PyBullet; the same for every client."""

    def __init__(self, client: int, handles: Handles, scene: Scene, space: ParameterSpace) -> None:
        self._handles, self._scene = handles, scene
        self._parts: dict[tuple[int, int], _Part] = {}
        self._gravity: int | None = None
        self._coulomb: list[tuple[int, int]] = []  # (joint, column)
        self._heights: list[tuple[int, int, tuple[float, float, float], float]] = []
        self.gain_column: int | None = None
        self.effort_column: int | None = None
        self.ground_column: int | None = None
        self.payload: Payload | None = None
        self.variants: dict[str, int] = {}  # of bodies that have them -> column that says which
        for name, binding in scene.bindings.items():
            if isinstance(binding, kinds.BodyVariant):
                self.variants[self._free(binding.body)] = space.index(name)
                self._check_variants(binding.body, space[space.index(name)])
        for name, binding in scene.bindings.items():
            self._bind(client, binding, space.index(name))
        if self.payload is not None:
            self._part(client, handles.robot, -1).payload = self.payload
        for ballast in self.ballasts:
            farthest = max(abs(bound) for column in ballast.columns for bound in space[column].bounds)
            ballast.reach_m = (1 + len(ballast.axes)) * farthest  # so that what stays in the link is positive

    def _bind(self, client: int, binding: kinds.Binding, column: int) -> None:
        handles, urdf = self._handles, self._scene.urdf
        match binding:
            case kinds.Gravity():
                self._gravity = column
            case kinds.LinkMass(link):
                self._part(client, handles.robot, handles.link(link, urdf)).mass_columns = [column]
            case kinds.LinkMassScale(links):
                for link in links:
                    part = self._part(client, handles.robot, handles.link(link, urdf))
                    part.mass_columns.append(column)
                    part.mass_factor = part.mass_kg
            case kinds.LinkPayload(link):
                self._part(client, handles.robot, handles.link(link, urdf)).added_columns.append(column)
            case kinds.LinkPayloadOffset(link, axis):
                self._ballast(client, link).carried[AXES.index(axis)] = column
            case kinds.CentreOfMass(body, axis):
                self._ballast(client, body).moved[AXES.index(axis)] = column
            case kinds.LinkInertiaScale(link):
                self._part(client, handles.robot, handles.link(link, urdf)).inertia_column = column
            case kinds.PayloadMass():
                self._load().columns[0] = column
            case kinds.PayloadOffset(axis):
                self._load().columns[1 + "xyz".index(axis)] = column
            case kinds.GroundEffect():
                self.ground_column = column
            case kinds.JointDamping(joint):
                part = self._part(client, handles.robot, handles.joint(joint, urdf))
                part.direct.append(("jointDamping", column, 1.0))
            case kinds.JointDampingScale(joints, nominal):
                for joint, damping in zip(joints, nominal, strict=True):
                    part = self._part(client, handles.robot, handles.joint(joint, urdf))
                    part.direct.append(("jointDamping", column, damping))
            case kinds.JointCoulomb(joint):
                self._coulomb.append((handles.joint(joint, urdf), column))
            case kinds.ServoGain():
                self.gain_column = column
            case kinds.ServoEffort():
                self.effort_column = column
            case kinds.BodyMass(body):
                for part in self._each(client, body):
                    part.mass_columns = [column]
            case kinds.BodyContact(body, quantity):
                for part in self._each(client, body):
                    part.direct.append((quantity, column, 1.0))
            case kinds.BodyDamping(body):
                for part in self._each(client, body):
                    part.drag_column = column
            case kinds.BodyHeight(body):
                fixture = next((f for f in self._scene.fixtures if f.name == body), None)
                if fixture is None:
                    known = ", ".join(f.name for f in self._scene.fixtures) or "none"
                    raise WorldError(f"fixture: '{body}' is not in this scene; accepted is one of {known}")
                self._heights.append((handles.bodies[body], column, fixture.position, fixture.height_m / 2))

    @property
    def ballasts(self) -> list[Ballast]:
        return [part.ballast for part in self._parts.values() if part.ballast is not None]

    def off_centre(self, row: list[float]) -> bool:
        """Whether these values (d,) need ballast."""
        return any(row[column] != 0.0 for ballast in self.ballasts for column in ballast.columns)

    def apply(self, client: int, row: list[float], ballasted: bool = False) -> None:
        """Set one world's parameter values (d,); `ballasted` is whether it was loaded with ballast."""
        if self._gravity is not None:
            p.setGravity(0.0, 0.0, -row[self._gravity], client)
        for part in self._parts.values():
            if not part.there(row):
                continue
            shares = part.shares(row) if ballasted else []
            change = part.change(row, sum(weight for weight, _ in shares) if shares else None)
            if change:
                p.changeDynamics(part.body, part.link, physicsClientId=client, **change)
            if shares and part.ballast is not None:
                for number, (weight, moments) in zip(part.ballast.numbers, shares, strict=True):
                    p.changeDynamics(
                        part.body, number, mass=weight, localInertiaDiagonal=moments, physicsClientId=client
                    )
        for body, column, (x, y, _), half in self._heights:
            p.resetBasePositionAndOrientation(body, (x, y, row[column] - half), (0.0, 0.0, 0.0, 1.0), client)
        self.brake(client, row)

    @property
    def brakes(self) -> bool:
        """Whether any joint has Coulomb friction."""
        return bool(self._coulomb)

    def brake(self, client: int, row: list[float]) -> None:
        """Set Coulomb friction alone: PyBullet keeps it as an impulse, for the time step that there is now."""
        for joint, column in self._coulomb:
            p.setJointMotorControl2(
                self._handles.robot,
                joint,
                p.VELOCITY_CONTROL,
                targetVelocity=0.0,
                force=row[column] / self._scene.loading.engine_substeps,
                physicsClientId=client,
            )

    def read(self, client: int, row: np.ndarray, applied: np.ndarray, ballasted: bool = False) -> None:
        """Fill `row` (d,) with the values that PyBullet holds, after `applied` (d,) was set.

        Where several parameters make one quantity, each is what the others leave of it.
        Coulomb friction and drag have no getter, so they are seen at work on what moves; states are put back.
        """
        robot = self._handles.robot
        p.syncBodyInfo(physicsClientId=client)  # getJointInfo answers from a cache
        if self._gravity is not None:
            row[self._gravity] = -p.getPhysicsEngineParameters(client)["gravityAccelerationZ"]
        parts = [part for part in self._parts.values() if part.there(applied)]
        for part in parts:
            info = p.getDynamicsInfo(part.body, part.link, client)
            mass, inertia = info[0], info[2]
            if part.ballast is not None:
                mass += self._read_ballast(client, part, part.ballast, row, applied, ballasted)
            if part.payload is not None:  # which PyBullet holds as part of the base
                mass -= part.payload.of(row[None])[0, 0]
                added = part.payload.moments(mass, row.tolist())[1]
                inertia = [whole - more for whole, more in zip(inertia, added, strict=True)]
            part.held(mass, applied, row)
            if part.inertia_column is not None:
                row[part.inertia_column] = max(inertia) / max(part.inertia) * part.mass_kg / mass
            for key, column, factor in part.direct:
                held = p.getJointInfo(robot, part.link, client)[6] if key == "jointDamping" else info[_READ[key]]
                row[column] = held / factor
        for body, column, _, half in self._heights:
            row[column] = p.getBasePositionAndOrientation(body, client)[0][2] + half
        for joint, column in self._coulomb:
            row[column] = self._measure_coulomb(client, joint)
        for body, column in self.variants.items():
            heights = [p.getBasePositionAndOrientation(one, client)[0][2] for one in self._handles.variants[body]]
            row[column] = int(np.argmax(heights))  # the others are parked deep below
        for part in parts:
            if part.drag_column is not None:
                row[part.drag_column] = self._measure_drag(client, part)

    def place(self, name: str) -> tuple[int, int]:
        """Body and link of what is named; raises WorldError."""
        handles = self._handles
        if name in handles.bodies:
            return handles.bodies[name], -1
        if name in handles.links:
            return handles.robot, handles.links[name]
        known = ", ".join([*handles.bodies, *handles.links])
        raise WorldError(f"body: '{name}' is not in this scene; accepted is one of {known}")

    def _free(self, name: str) -> str:
        if name not in self._handles.variants:
            known = ", ".join(self._handles.variants) or "none"
            raise WorldError(f"body: '{name}' is no free body of this scene; accepted is one of {known}")
        return name

    def _check_variants(self, body: str, parameter: Parameter) -> None:
        last = len(self._handles.variants[body]) - 1
        if parameter.scale != "integer" or parameter.bounds[0] < 0 or parameter.bounds[1] > last:
            raise WorldError(
                f"{parameter.name}: scale {parameter.scale} with bounds {list(parameter.bounds)} does not choose among "
                f"the variants of '{body}'; accepted are whole numbers inside [0, {last}]"
            )

    def _each(self, client: int, name: str) -> list[_Part]:
        """What is named, in all its variants."""
        if name not in self.variants:
            return [self._part(client, *self.place(name))]
        parts = []
        for value, body in enumerate(self._handles.variants[name]):
            parts.append(self._part(client, body, -1))
            parts[-1].variant = self.variants[name], value
        return parts

    def _load(self) -> Payload:
        self.payload = self.payload or Payload()
        return self.payload

    def _part(self, client: int, body: int, link: int) -> _Part:
        if (body, link) not in self._parts:
            info = p.getDynamicsInfo(body, link, client)
            self._parts[body, link] = _Part(body, link, info[0], info[2])
        return self._parts[body, link]

    def _measure_coulomb(self, client: int, joint: int) -> float:
        """The effort by which the friction motor brakes a joint too fast to be stopped in one step."""
        body, joints = self._handles.robot, range(p.getNumJoints(self._handles.robot, client))
        before = p.getJointStates(body, joints, client)
        p.resetJointState(body, joint, before[joint][0], 100.0, physicsClientId=client)
        p.stepSimulation(client)
        effort = abs(p.getJointState(body, joint, client)[3])
        for index, (q, dq, *_) in enumerate(before):
            p.resetJointState(body, index, q, dq, physicsClientId=client)
        return effort

    def _measure_drag(self, client: int, part: _Part) -> float:
        """Drag in N s/m from the speed that is left of a small one after one step, high above everything."""
        saved = p.saveState(client)
        p.resetBasePositionAndOrientation(part.body, (0.0, 0.0, 100.0), (0.0, 0.0, 0.0, 1.0), client)
        p.resetBaseVelocity(part.body, (_PROBE_M_S, 0.0, 0.0), (0.0, 0.0, 0.0), physicsClientId=client)
        held = p.getPhysicsEngineParameters(client)
        gravity = [held[f"gravityAcceleration{axis}"] for axis in "XYZ"]
        p.setGravity(0.0, 0.0, 0.0, client)
        p.stepSimulation(client)
        left = p.getBaseVelocity(part.body, client)[0][0] / _PROBE_M_S
        p.setGravity(*gravity, client)
        p.restoreState(saved, physicsClientId=client)
        p.removeState(saved, client)
        substeps = self._scene.loading.engine_substeps
        rate = (1.0 - left ** (1.0 / substeps)) * self._scene.physics_hz
        links = range(-1, p.getNumJoints(part.body, client))
        return rate * sum(p.getDynamicsInfo(part.body, link, client)[0] for link in links)

    def _read_ballast(
        self, client: int, part: _Part, ballast: Ballast, row: np.ndarray, applied: np.ndarray, loaded: bool
    ) -> float:
        """Fill in where the centre is, and return the kg that are in the points."""
        if not loaded:
            row[ballast.columns] = 0.0
            return 0.0
        weights = [p.getDynamicsInfo(part.body, number, client)[0] for number in ballast.numbers]
        payload = sum(applied[column] for column in part.added_columns)
        ballast.held(weights, applied, part.mass(applied), payload, row)
        return sum(weights)

    def _ballast(self, client: int, name: str) -> Ballast:
        body, link = self.place(name)
        if link < 0 and name not in self._handles.bodies:
            raise WorldError(
                f"body: '{name}' is the base of {self._scene.urdf}; accepted is another link or a free body"
            )
        if name in self.variants:
            raise WorldError(
                f"body: '{name}' comes in variants; accepted is moving the centre of mass of one that does not"
            )
        part = self._part(client, body, link)
        if part.ballast is None:
            centre = p.getDynamicsInfo(body, link, client)[3] if link >= 0 else (0.0, 0.0, 0.0)
            part.ballast = Ballast(name, centre)
        return part.ballast
