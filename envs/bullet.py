"""BulletWorlds: n PyBullet worlds in one process.

Every world has a client of its own, because many robots in one client slow each other down. Nothing is loaded
or saved after construction: a reset sets joint states, body poses and parameters, always from the values cached
at loading.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from envs.arm_control import ArmControl
from envs.bindings import JointCoulomb
from envs.bullet_flight import BulletFlight
from envs.bullet_forces import Push
from envs.bullet_loading import Handles, connect, load, p, park, time_step_s
from envs.bullet_parameters import BulletParameters
from envs.flight import FREE_JOINTS
from envs.scene import Effort, JointVelocity, Rotors
from envs.task import State, Task
from envs.world import WorldError

_FREE, _FIXED = (1, -1), (2, -3)  # PyBullet's own collision groups: what each is, and what it touches
STEP_TOLERANCE_S = 1e-7  # a physics step that differs by less is the same one


class BulletWorlds:
    """n worlds of a task's scene.

    A command is held over `scene.loading.engine_substeps` physics steps. It is an effort, a joint velocity, a
    velocity of the tip or a thrust, as the scene's actuation says. Default motors are off and default damping is zero;
    inertia is what the file says. A joint servo is PyBullet's velocity motor of limited effort; Coulomb
    friction is one at target zero.
    """

    def __init__(self, task: Task, n: int) -> None:
        scene = task.scene
        engine = scene.loading.engine_substeps
        ratio = scene.physics_hz / task.control_hz
        self.n = n
        self.substeps = round(ratio) // engine
        if ratio < 1 or abs(ratio - self.substeps * engine) > 1e-9:
            raise WorldError(
                f"physics_hz: {scene.physics_hz:g} does not fit task '{task.name}'; accepted is a multiple of "
                + (f"{engine} times " if engine > 1 else "")
                + f"its {task.control_hz:g} Hz control rate"
            )
        self._scene, self._space, self._engine = scene, task.parameters, engine
        self._call_s = time_step_s(engine / scene.physics_hz, engine)
        self._stretched = np.zeros(n, bool)  # whether a client's time step differs from _call_s
        self._ballasted = [False] * n  # whether a client was loaded with ballast
        self._clients: list[int] = []
        try:
            for _ in range(n):
                self._clients.append(connect())
                handles = load(self._clients[-1], scene)
            self._interpret(handles)
            self._applied = np.tile(self._space.nominal, (n, 1))
            for client in self._clients:
                self._parameters.apply(client, self._space.nominal.tolist())
        except BaseException:
            self.close()
            raise

    def reset(self, mask: np.ndarray, state: State, parameters: np.ndarray) -> None:
        """States and parameters of the worlds in `mask`; the others go on undisturbed."""
        rows = np.flatnonzero(mask)
        self._applied[rows] = parameters[rows]
        positions, velocities = state.joint_position[rows], state.joint_velocity[rows]
        poses = twists = [()] * len(rows)
        if self._scene.bodies:
            poses, twists = state.body_pose[rows].tolist(), state.body_twist[rows].tolist()
        for i, row, q, dq, pose, twist in zip(
            rows.tolist(),
            parameters[rows].tolist(),
            positions[:, :, None].tolist(),
            velocities[:, :, None].tolist(),
            poses,
            twists,
            strict=True,
        ):
            client = self._clients[i]
            self._set(i, row)
            if self._flight is None:
                p.resetJointStatesMultiDof(self._robot, self._joints, q, dq, client)
                for copy, column in self._copies:
                    p.resetJointState(self._robot, copy, q[column][0], dq[column][0], client)
            for k, column in self._choices:
                self._choose(i, k, round(row[column]))
            for body, place, motion in zip(self._bodies[i], pose, twist, strict=True):
                p.resetBasePositionAndOrientation(body, place[:3], place[3:], client)
                p.resetBaseVelocity(body, motion[:3], motion[3:], client)
            for body in self._bodies[i]:  # a new place in the broad phase: no contact is remembered
                p.setCollisionFilterGroupMask(body, -1, *_FREE, client)
            for body in self._fixtures:
                p.setCollisionFilterGroupMask(body, -1, *_FIXED, client)
        if self._flight is not None:
            self._reset_flight(self._flight, rows, state, parameters)
        elif self._scene.actuation != Effort():
            self._reset_servo(rows, positions, parameters)

    def resume(self, rows: np.ndarray, velocity: np.ndarray, held: np.ndarray) -> None:
        """After `reset`, worlds `rows` go on from mid-motion: see `CartesianServo.resume`; (k, j) each, joints' order.

        Scenes without such a servo have nothing to remember.
        """
        if self._arm is not None:
            self._arm.resume(rows, velocity[:, self._servo_columns], held[:, self._servo_columns])

    def step(
        self,
        profile: np.ndarray,
        extra_s: np.ndarray | None = None,
        forces: Mapping[str, np.ndarray] | None = None,
    ) -> State:
        """One control period under commands (n, substeps, u), and under `forces` (n, 3) N on links or bodies.

        With `extra_s` (n,) it lasts so much longer in each world; the physics steps are stretched.
        """
        if extra_s is not None or self._stretched.any():
            self._stretch(extra_s)
        if self._flight is not None:
            position, velocity = self._flight.step(profile, forces.get(self._handles.base) if forces else None)
            return State(position.astype(np.float32), velocity.astype(np.float32))
        pushes = [self._pushed(name, force.tolist()) for name, force in (forces or {}).items()]
        if self._scene.actuation == Effort():
            return self._by_efforts(profile, pushes)
        return self._by_velocities(profile, pushes, None if extra_s is None else extra_s / self.substeps)

    def branch(
        self, position: np.ndarray, velocity: np.ndarray, profile: np.ndarray, period_s: np.ndarray
    ) -> np.ndarray:
        """One control period from each of m states in the first k worlds: (k, m, 2j) positions, then velocities.

        Parameters are those of the last `set_parameters`.
        `position` and `velocity` are (k, m, j), `profile` (k, m, substeps, u) efforts, and `period_s` (m,) is how long
        the period lasts, divided evenly into the substeps. Nothing is left of a state when the next one is put.
        For scenes driven by efforts, without free bodies; raises WorldError for others.
        """
        if self._scene.actuation != Effort() or self._scene.bodies:
            raise WorldError("branch: this scene has servos or free bodies; accepted is one driven by efforts alone")
        body, joints, actuated, torque = self._robot, self._joints, self._actuated, p.TORQUE_CONTROL
        put, drive, advance = p.resetJointStatesMultiDof, p.setJointMotorControl2, p.stepSimulation
        read, engine = p.getJointStates, self._scene.loading.engine_substeps
        calls = (period_s / profile.shape[2]).tolist()
        flat: list[float] = []
        for i, client in enumerate(self._clients[: len(position)]):
            last_s = self._call_s
            states = zip(position[i, :, :, None].tolist(), velocity[i, :, :, None].tolist(), strict=True)
            for (q, dq), efforts, call_s in zip(states, profile[i].tolist(), calls, strict=True):
                if abs(call_s - last_s) > STEP_TOLERANCE_S:
                    p.setTimeStep(time_step_s(call_s, engine), client)
                    self._parameters.brake(client, self._rows[i])
                    last_s = call_s
                put(body, joints, q, dq, client)
                for effort in efforts:
                    for joint, one in zip(actuated, effort, strict=True):  # positional: half the time of the array call
                        drive(body, joint, torque, 0.0, 0.0, one, 0.0, 0.0, 0.0, client)
                    advance(client)
                for joint in read(body, joints, client):
                    flat += joint[:2]
            if last_s != self._call_s:
                p.setTimeStep(time_step_s(self._call_s, engine), client)
                self._parameters.brake(client, self._rows[i])
        both = np.array(flat).reshape(*position.shape, 2)
        return np.concatenate([both[..., 0], both[..., 1]], axis=-1)

    def set_parameters(self, parameters: np.ndarray) -> None:
        """Give the first k worlds their rows of parameters (k, d), whatever state they are in."""
        self._applied[: len(parameters)] = parameters
        self._rows = parameters.tolist()
        for i, row in enumerate(self._rows):
            self._set(i, row)

    def read_parameters(self) -> np.ndarray:
        """(n, d) parameter values as PyBullet holds them; NaN for those that are no part of the scene."""
        values = np.full((self.n, len(self._space)), np.nan)
        if self._flight is not None:
            if self._parameters.ground_column is not None:
                values[:, self._parameters.ground_column] = self._flight.forces.ground
            if self._parameters.payload is not None:
                self._parameters.payload.put(values, self._flight.loads)
        for i, client in enumerate(self._clients):
            self._parameters.read(client, values[i], self._applied[i], self._ballasted[i])
        if self._parameters.gain_column is not None and self._arm is not None:
            values[:, self._parameters.gain_column] = self._arm.gain
        if self._parameters.effort_column is not None:
            limits = np.array(self._limits) * self._scene.loading.engine_substeps
            values[:, self._parameters.effort_column] = (limits / self._max_effort).mean(axis=1)
        return values

    def read_inertia(self, link: str) -> np.ndarray:
        """(n, 3) principal moments of inertia of a link or body as PyBullet holds them, kg m^2."""
        numbers, index = self._placed(link)
        return np.array([p.getDynamicsInfo(numbers[client], index, client)[2] for client in self._clients])

    def close(self) -> None:
        """Disconnect all clients."""
        while self._clients:
            p.disconnect(self._clients.pop())

    # ---- inside

    def _set(self, i: int, row: list[float]) -> None:
        """Parameters of world i. The first that move a centre of mass ask for loading it anew, with ballast."""
        if self._parameters.ballasts:
            wanted = self._parameters.off_centre(row)
            if wanted > self._ballasted[i] or (wanted < self._ballasted[i] and self._scene.bodies):
                self._reload(i, wanted)
        self._parameters.apply(self._clients[i], row, self._ballasted[i])

    def _reload(self, i: int, ballasted: bool) -> None:
        """A world without a state. In contact, massless ballast changes a free body's last bits: it has none unused."""
        ballasts = self._parameters.ballasts if ballasted else []
        p.resetSimulation(physicsClientId=self._clients[i])
        handles = load(self._clients[i], self._scene, ballasts)
        for name, number in self._handles.links.items():
            if handles.links[name] != number:
                raise WorldError(
                    f"link: ballast would come before '{name}' in {self._scene.urdf}; accepted is moving the centre of "
                    "mass of links that no other follows"
                )
        for ballast in ballasts:
            count = range(len(ballast.points))
            free = ballast.name in handles.bodies
            ballast.numbers = list(count) if free else [handles.links[ballast.point(k)] for k in count]
        self._bodies[i] = [handles.bodies[body.name] for body in self._scene.bodies]
        self._ballasted[i], self._stretched[i] = ballasted, False

    def _interpret(self, handles: Handles) -> None:
        """Resolve the scene's names to PyBullet's numbers."""
        scene, urdf = self._scene, self._scene.urdf
        self._handles, self._robot = handles, handles.robot
        flies = isinstance(scene.actuation, Rotors)
        self._joints = [] if flies else [handles.joint(name, urdf) for name in scene.joints]
        self._copies = [(handles.joint(copy, urdf), scene.joints.index(name)) for copy, name in scene.mimics.items()]
        self._bodies = [[handles.bodies[body.name] for body in scene.bodies] for _ in self._clients]
        self._fixtures = [handles.bodies[body.name] for body in scene.fixtures]
        self._parameters = BulletParameters(self._clients[0], handles, scene, self._space)
        columns = self._parameters.variants
        self._choices = [(k, columns[body.name]) for k, body in enumerate(scene.bodies) if body.name in columns]
        self._arm: ArmControl | None = None
        self._flight: BulletFlight | None = None
        self._actuated: list[int] = []
        drive = scene.actuation
        if isinstance(drive, Rotors):
            if tuple(scene.joints) != FREE_JOINTS:
                raise WorldError(f"joints: {list(scene.joints)} of a flying base; accepted is {list(FREE_JOINTS)}")
            self._flight = BulletFlight(drive, self._clients, handles.robot, self.substeps)
            return
        if isinstance(drive, Effort):
            self._actuated = [handles.joint(name, urdf) for name in scene.actuated]
            return
        names = scene.actuated if isinstance(drive, JointVelocity) else drive.joints
        self._actuated = [handles.joint(name, urdf) for name in names]
        for binding in scene.bindings.values():
            if isinstance(binding, JointCoulomb) and handles.joints[binding.joint] in self._actuated:
                raise WorldError(
                    f"joint: '{binding.joint}' has a velocity servo and cannot have Coulomb friction as well; "
                    "accepted are joints without a servo"
                )
        self._servo_columns = [scene.joints.index(name) for name in names]
        self._targets = list(range(len(names)))  # of these, for each motor: a joint that copies another has one too
        for copy, name in scene.mimics.items():
            self._targets.append(names.index(name))
            self._actuated.append(handles.joint(copy, urdf))
        self._max_effort = np.array(drive.max_effort)[self._targets]
        self._max_velocity = np.array(drive.max_velocity)
        self._limits = [self._effort_limits(1.0)] * self.n
        self._encoders = np.zeros((self.n, len(names)))
        if not isinstance(drive, JointVelocity):
            self._arm = ArmControl(drive, self.n, 1.0 / scene.physics_hz * scene.loading.engine_substeps)

    def _effort_limits(self, scale: float) -> list[float]:
        """For one physics step: PyBullet takes a motor's impulse over a whole engine call as its limit in each."""
        return (scale * self._max_effort / self._scene.loading.engine_substeps).tolist()

    def _choose(self, i: int, k: int, variant: int) -> None:
        """Let body k of world i be this variant from now on; the others are put aside, as they fall all the time."""
        client, numbers = self._clients[i], self._handles.variants[self._scene.bodies[k].name]
        before, now = self._bodies[i][k], numbers[variant]
        if before != now:
            p.setCollisionFilterGroupMask(before, -1, 0, 0, client)
            self._bodies[i][k] = now
        for body in numbers:
            if body != now:
                park(client, body, body)

    def _placed(self, name: str) -> tuple[dict[int, int], int]:
        """In each client the number of the body that has this name or link now, and the link's."""
        for k, body in enumerate(self._scene.bodies):
            if body.name == name:
                return {client: bodies[k] for client, bodies in zip(self._clients, self._bodies, strict=True)}, -1
        number, link = self._parameters.place(name)
        return dict.fromkeys(self._clients, number), link

    def _pushed(self, name: str, forces: list[list[float]]) -> Push:
        return Push(*self._placed(name), dict(zip(self._clients, forces, strict=True)))

    def _reset_servo(self, rows: np.ndarray, positions: np.ndarray, parameters: np.ndarray) -> None:
        self._encoders[rows] = positions[:, self._servo_columns]
        if self._parameters.effort_column is not None:
            for i, scale in zip(rows.tolist(), parameters[rows, self._parameters.effort_column].tolist(), strict=True):
                self._limits[i] = self._effort_limits(scale)
        if self._arm is not None:
            if self._parameters.gain_column is not None:
                self._arm.gain[rows] = parameters[rows, self._parameters.gain_column]
            self._arm.reset(rows, self._encoders[rows])

    def _reset_flight(self, flight: BulletFlight, rows: np.ndarray, state: State, parameters: np.ndarray) -> None:
        known, values = self._parameters, parameters[rows]
        if known.ground_column is not None:
            flight.forces.ground[rows] = values[:, known.ground_column]
        if known.payload is not None:
            whole = np.array([p.getDynamicsInfo(self._robot, -1, self._clients[i])[0] for i in rows.tolist()])
            flight.load(rows, known.payload.of(values), whole)
        flight.reset(rows, state.joint_position[rows], state.joint_velocity[rows])

    def _stretch(self, extra_s: np.ndarray | None) -> None:
        calls = np.full(self.n, self._call_s) if extra_s is None else self._call_s + extra_s / self.substeps
        differs = calls != self._call_s
        chosen = np.flatnonzero(differs | self._stretched)
        for i, call_s in zip(chosen.tolist(), time_step_s(calls[chosen], self._engine).tolist(), strict=True):
            p.setTimeStep(call_s, self._clients[i])
            if self._parameters.brakes:
                self._parameters.brake(self._clients[i], self._applied[i].tolist())
        self._stretched = differs

    def _by_efforts(self, profile: np.ndarray, pushes: list[Push]) -> State:
        body, joints, actuated, torque = self._robot, self._joints, self._actuated, p.TORQUE_CONTROL
        drive, advance, read = p.setJointMotorControl2, p.stepSimulation, p.getJointStates
        flat: list[float] = []
        around: list[float] = []
        add = flat.append
        for client, bodies, efforts in zip(self._clients, self._bodies, profile.tolist(), strict=True):
            for effort in efforts:
                for joint, one in zip(actuated, effort):  # noqa: B905  positional: half the time of the array call
                    drive(body, joint, torque, 0.0, 0.0, one, 0.0, 0.0, 0.0, client)
                for push in pushes:
                    push.act(client)
                advance(client)
            for position, speed, _, _ in read(body, joints, client):
                add(position)
                add(speed)
            if bodies:
                self._read_bodies(client, bodies, around)
        return self._state(flat, around)

    def _by_velocities(self, profile: np.ndarray, pushes: list[Push], extra_s: np.ndarray | None) -> State:
        body, joints, actuated, velocity = self._robot, self._joints, self._actuated, p.VELOCITY_CONTROL
        set_motors, advance, read = p.setJointMotorControlArray, p.stepSimulation, p.getJointStates
        both = np.zeros(0)
        for k in range(self.substeps):
            targets = profile[:, k]
            if self._arm is not None:
                targets = self._arm.targets(targets, self._encoders, extra_s)
            else:
                targets = np.clip(targets, -self._max_velocity, self._max_velocity)
            if self._copies:
                targets = targets[:, self._targets]
            flat: list[float] = []
            around: list[float] = []
            add = flat.append
            for client, bodies, target, limit in zip(
                self._clients, self._bodies, targets.tolist(), self._limits, strict=True
            ):
                set_motors(body, actuated, velocity, targetVelocities=target, forces=limit, physicsClientId=client)
                for push in pushes:
                    push.act(client)
                advance(client)
                for position, speed, _, _ in read(body, joints, client):
                    add(position)
                    add(speed)
                if bodies:
                    self._read_bodies(client, bodies, around)
            both = np.array(flat).reshape(self.n, len(joints), 2)
            self._encoders = both[:, self._servo_columns, 0]
        return self._state(both, around)

    @staticmethod
    def _read_bodies(client: int, bodies: list[int], into: list[float]) -> None:
        for body in bodies:
            place, turn = p.getBasePositionAndOrientation(body, client)
            linear, angular = p.getBaseVelocity(body, client)
            into += place
            into += turn
            into += linear
            into += angular

    def _state(self, joints: list[float] | np.ndarray, bodies: list[float]) -> State:
        both = np.asarray(joints, np.float32).reshape(self.n, len(self._joints), 2)
        if not self._scene.bodies:
            return State(joint_position=both[:, :, 0], joint_velocity=both[:, :, 1])
        around = np.array(bodies, np.float32).reshape(self.n, len(self._scene.bodies), 13)
        return State(both[:, :, 0], both[:, :, 1], around[:, :, :7], around[:, :, 7:])
