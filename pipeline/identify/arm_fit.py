"""Finding an arm's parameters from recordings of its velocity-driven joints, with their uncertainty.

Torques give masses, motor inertias and frictions (`arm_torques`); commanded against measured velocities give delay, lag
and gain (`robot.response`). Both are resampled by the same blocks, so that the draws hold together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from envs.bindings import Gravity, JointDampingScale, LinkMassScale, LinkPayload
from envs.effects.command import Delay, Gain, Lag
from envs.effects.groups import GroupNoise
from envs.inverse_dynamics import ArmDynamics
from envs.randomization.parameters import ParameterSpace
from envs.task import Task
from pipeline.identify.arm_motion import smooth
from pipeline.identify.arm_torques import Groups, Piece, TorqueFit, fit_torques
from pipeline.identify.recording import LEAST_S, _order
from robot.interface import RobotError
from robot.logs import Log
from robot.response import Response, Track, block_weights, fit_response, number_blocks

BLOCK_S = 1.0
SHORTEST_S = 2.0  # of a piece that is used
SLOWEST_HZ = 40.0  # rows a second without which there are no accelerations

Progress = Callable[[float, str], None]


@dataclass(frozen=True)
class ArmSettings:
    fixed: Mapping[str, float] = field(default_factory=dict)  # parameters the user knows, SI
    extra: Sequence[str] = ()  # parameters without a default range that are to be fitted too
    draws: int = 1000


@dataclass(frozen=True)
class ArmFit:
    """What was found. `value` and `draws` are the task's parameters in `free`, SI and inside their bounds."""

    task: Task
    logs: tuple[Log, ...]
    free: tuple[str, ...]
    value: np.ndarray  # (F,)
    draws: np.ndarray  # (b, F)
    given: Mapping[str, float]
    torque: TorqueFit | None  # None: the robot does not tell its torques
    response: Response | None  # None: the commands were not recorded
    encoder_noise: np.ndarray  # (u,) rad
    times: tuple[np.ndarray, ...]  # (n,) s of each piece
    clipped: tuple[str, ...]  # parameters that were found outside their bounds

    @property
    def seconds(self) -> float:
        return float(sum(time_s[-1] - time_s[0] for time_s in self.times))


def as_recorded_by(task: Task, log: Log) -> Log:
    """The log with the arm's driven joints alone, in the task's order; raises RobotError if it has others."""
    motors = task.scene.motors
    if wrong := next((p for p in log.problems if p.kind in ("units", "constant")), None):
        raise RobotError(wrong.sentence)
    if not len(log.command) and (log.units.get("effort") == "action" or not log.effort.shape[1]):
        raise RobotError(
            f"{log.source}: it has neither commanded joint velocities nor torques; accepted is what 'sim2real identify "
            f"{task.name} --robot' recorded, or columns named by --map command.{motors[0]}=COLUMN, torque.{motors[0]}=…"
        )
    if 1.0 / log.period_s < SLOWEST_HZ:
        raise RobotError(
            f"{log.source}: {1 / log.period_s:.3g} rows a second; accepted are at least {SLOWEST_HZ:g}, from which "
            "accelerations can be told"
        )
    joints = _order(log, "position and velocity", log.joints, task.joints)
    rows = [joints[task.joints.index(name)] for name in motors]
    told = log.effort.shape[1] > 0
    columns = _order(log, "torque and command", log.motors, motors)
    return replace(
        log,
        position=log.position[:, rows],
        velocity=log.velocity[:, rows],
        effort=log.effort[:, columns] if told else log.effort,
        command=log.command[:, columns] if len(log.command) else log.command,
        joints=motors,
        motors=motors,
    )


def fit_arm(
    task: Task,
    logs: Sequence[Log],
    settings: ArmSettings | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> ArmFit:
    """The parameters of an arm's task from recordings; raises RobotError where nothing can be told."""
    settings, tell = settings or ArmSettings(), progress or (lambda share, words: None)
    if not logs:
        raise RobotError("log: none given; accepted is at least one recording")
    logs = tuple(as_recorded_by(task, log) for log in logs)
    parts = [(log, rows) for log in logs for rows in log.pieces()]
    parts = [(log, rows) for log, rows in parts if log.time_s[rows.stop - 1] - log.time_s[rows.start] >= SHORTEST_S]
    times = tuple(log.time_s[rows] - log.time_s[rows.start] for log, rows in parts)
    if (seconds := float(sum(t[-1] for t in times))) < LEAST_S:
        raise RobotError(
            f"{', '.join(log.source for log in logs)}: {seconds:.2g} s in pieces of {SHORTEST_S:g} s or more are left, "
            f"and at least {LEAST_S:g} s are needed: record a longer stretch without interruptions"
        )
    tell(0.05, "smoothing")
    motions = [smooth(t, log.position[rows], log.velocity[rows]) for t, (log, rows) in zip(times, parts, strict=True)]
    blocks = number_blocks(times, BLOCK_S)
    random = np.random.default_rng(seed)
    weights = block_weights(int(blocks.max()) + 1, settings.draws, random)
    known = _Known(task, settings)
    gravity = known.gravity_m_s2
    torque, response, pull = None, None, [None] * len(parts)
    if all(log.effort.shape[1] for log in logs):
        tell(0.15, "torques")
        pieces = [Piece(t, m, log.effort[rows]) for t, m, (log, rows) in zip(times, motions, parts, strict=True)]
        dynamics = ArmDynamics.from_scene(task.scene)
        torque = fit_torques(dynamics, known.groups(dynamics), pieces, blocks, weights, gravity)
        scale = known.mass_scale(torque)
        still = [np.zeros_like(m.position) for m in motions]
        pull = [
            scale * dynamics.torques(m.position, rest, rest, gravity).sum(0)
            for m, rest in zip(motions, still, strict=True)
        ]
    if all(len(log.command) for log in logs):
        tell(0.3, "velocities")
        tracks = [
            Track(t, log.command[rows], log.velocity[rows], log.effort[rows] if torque else None, g)
            for t, (log, rows), g in zip(times, parts, pull, strict=True)
        ]
        response = fit_response(tracks, weights, random, BLOCK_S)
    found = {**known.from_torques(torque, random), **known.from_response(response)}
    if not found:
        raise RobotError(
            "fix: every parameter that these recordings tell is given; accepted is to leave one to be found"
        )
    tell(1.0, "done")
    space = task.parameters
    free = tuple(name for name in space.names if name in found)
    value, draws, clipped = _inside(space, free, found)
    return ArmFit(
        task=task,
        logs=logs,
        free=free,
        value=value,
        draws=draws,
        given=dict(settings.fixed),
        torque=torque,
        response=response,
        encoder_noise=np.sqrt(np.mean([np.square(m.position_noise) for m in motions], 0)),
        times=times,
        clipped=clipped,
    )


class _Known:
    """Which of a task's parameters torques and velocities tell, which are given, and how they map."""

    def __init__(self, task: Task, settings: ArmSettings) -> None:
        self._task, self._fixed = task, dict(settings.fixed)
        space, bindings = task.parameters, task.scene.bindings
        wide = [p.name for p in space if p.default[1] > p.default[0]]
        scales = {name: b.links for name, b in bindings.items() if isinstance(b, LinkMassScale)}
        self._all = next((name for name, links in scales.items() if len(links) > 1), None)
        self._single = {name: links[0] for name, links in scales.items() if len(links) == 1}
        self._payload = {name: b.link for name, b in bindings.items() if isinstance(b, LinkPayload)}
        self._damping = {name: b for name, b in bindings.items() if isinstance(b, JointDampingScale)}
        self._gravity = next((name for name, b in bindings.items() if isinstance(b, Gravity)), None)
        kinds = {Delay: "delay_s", Lag: "lag_s", Gain: "gain"}
        self._late = {
            effect.parameters[0]: kinds[type(effect)] for effect in task.command_effects if type(effect) in kinds
        }
        told = [self._all or "", *self._single, *self._payload, *self._damping, *self._late]
        accepted = [name for name in space.names if name in told or name == self._gravity]
        for what, names in (("fix", settings.fixed), ("extra", settings.extra)):
            if wrong := sorted(set(names) - set(accepted)):
                raise RobotError(
                    f"{what}: {wrong[0]!r} cannot be told from torques and velocities of {task.name}; accepted are "
                    f"{', '.join(accepted)}"
                )
        for name, given in settings.fixed.items():
            low, high = space[space.index(name)].bounds
            if not low <= given <= high:
                raise RobotError(f"fix: {name} is {given:g}; accepted is {low:g} to {high:g}")
        self._sought = [n for n in told if (n in wide or n in settings.extra) and n not in settings.fixed]
        self.gravity_m_s2 = self._value(self._gravity) if self._gravity else 9.81

    def groups(self, dynamics: ArmDynamics) -> Groups:
        """The masses as columns: a scale of all links, single links that are looked for apart, a payload."""
        every = self._task.scene.bindings.get(self._all or "")
        scaled = every.links if isinstance(every, LinkMassScale) else ()
        alone = {link: name for name, link in self._single.items() if name in self._sought}
        factor = {link: self._value(name) for name, link in self._single.items() if name not in self._sought}
        common = tuple((link, factor.get(link, 1.0)) for link in dynamics.links if link in scaled and link not in alone)
        known = [(link, factor.get(link, 1.0)) for link in dynamics.links if link not in scaled and link not in alone]
        names, links = [], []
        if self._all in self._sought:
            names.append(self._all)
            links.append(common)
        else:
            times = self._value(self._all) if self._all else 1.0
            known += [(link, times * own) for link, own in common]
        for link, name in alone.items():
            names.append(name)
            links.append(((link, 1.0),))
        name, link = next(iter(self._payload.items()), ("", ""))
        if name in self._sought:
            names.append(name)
            links.append(())
        carried = self._value(name) if name and name not in self._sought else 0.0
        return Groups(tuple(n for n in names if n), tuple(links), tuple(known), link, carried)

    def mass_scale(self, torque: TorqueFit) -> float:
        if self._all in self._sought:
            return float(torque.coefficients[0])
        return self._value(self._all) if self._all else 1.0

    def from_torques(self, torque: TorqueFit | None, random: np.random.Generator) -> dict[str, np.ndarray]:
        """{parameter: (1 + b,) the value, then its draws}."""
        if torque is None:
            return {}
        both = np.concatenate([torque.coefficients[None], torque.draws])
        names = [n for n in (self._all, *self._single, *self._payload) if n in self._sought]
        shared = len(torque.coefficients) - 4 * len(torque.noise_nm)
        assert len(names) == shared
        found = {name: both[:, k] for k, name in enumerate(names) if name}
        common = found.get(self._all or "", self._value(self._all) if self._all else 1.0)
        found |= {name: found[name] / common for name in names if name in self._single}
        for name, binding in self._damping.items():
            if name in self._sought:
                found[name] = self._scale_of(binding, torque, both, random)
        return found

    def from_response(self, response: Response | None) -> dict[str, np.ndarray]:
        if response is None:
            return {}
        which = {"delay_s": (0, 1e3), "lag_s": (1, 1e3), "gain": (2, 1.0)}
        own = np.array([response.delay_s, response.lag_s, response.gain])
        both = np.concatenate([own[None], response.draws])
        return {n: both[:, which[k][0]] * which[k][1] for n, k in self._late.items() if n in self._sought}

    def _scale_of(
        self, binding: JointDampingScale, torque: TorqueFit, both: np.ndarray, random: np.random.Generator
    ) -> np.ndarray:
        """One number for joints that may differ: what they differ by is part of what is not known."""
        motors = self._task.scene.motors
        rows = [(motors.index(joint), n) for joint, n in zip(binding.joints, binding.nominal, strict=True)]
        each = np.stack([both[:, torque.own(j, "viscous_nm_s")] / nominal for j, nominal in rows], 1)
        variance = each[1:].var(0) + 1e-12
        share = 1 / (variance + max(each[0].var() - variance.mean(), 0.0))
        mean = each @ share / share.sum()
        differ = np.sqrt(max(float(each[0].var()) - float(variance.mean()), 0.0))
        mean[1:] += random.normal(0.0, 1.0, len(mean) - 1) * differ
        return mean

    def _value(self, name: str) -> float:
        if name in self._fixed:
            return self._fixed[name]
        return float(self._task.parameters.nominal[self._task.parameters.index(name)])


def encoder_parameter(task: Task) -> str | None:
    """The parameter that is the noise of the joint encoders, if the task has it."""
    noises = (e for e in task.sensor_effects if isinstance(e, GroupNoise) and "joint" in e.parameters[0])
    return next((e.parameters[0] for e in noises), None)


def _inside(
    space: ParameterSpace, free: tuple[str, ...], found: Mapping[str, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    columns = [space.index(name) for name in free]
    raw = np.stack([found[name] for name in free], 1)
    low, high = space.bounds_low[columns], space.bounds_high[columns]
    inside = np.clip(raw, low, high)
    clipped = tuple(name for k, name in enumerate(free) if inside[0, k] != raw[0, k])
    return inside[0], inside[1:], clipped
