"""What the data do not tell, in sentences: which combination they do tell, and what to record instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from envs import bindings
from envs.effects import command
from envs.effects.disturbance import Wind
from envs.effects.groups import GroupBias, GroupDelay
from envs.effects.sensor import Bias
from envs.task import Task
from pipeline.identify.unknowns import Unknowns

TOLD = 0.5  # of the prior's sd: a direction with a wider posterior was not told by the data
TAKES_PART = 0.2  # of the largest entry of a direction
ALIKE = 0.3  # relative changes that differ by less than this share belong to one common factor
TOGETHER = 0.9  # correlation beyond which two parameters are known only together

_ADVICE: tuple[tuple[type, str], ...] = (
    (bindings.JointDamping, "motion at slow and fast speeds, each steady for a while, both ways"),
    (bindings.JointCoulomb, "many slow reversals of the driven joint beside fast motion"),
    (bindings.LinkMass, "harder accelerations of what it is part of"),
    (bindings.Gravity, "wide swings of a joint that gravity acts on"),
    (command.Delay, "sudden steps of effort, repeated"),
    (command.Lag, "sudden steps of effort, repeated"),
    (command.DeadBand, "efforts that rise slowly from zero, both ways"),
    (command.Gain, "the mass of a driven part on a scale, and --fix it: a motion shows only their ratio"),
    (command.Offset, "the robot at rest, and slow motion both ways"),
    (Bias, "swings about a place whose angle is known"),
    (GroupBias, "the robot level and at rest, and turned to other headings"),
    (GroupDelay, "quick reversals"),
    (bindings.LinkInertiaScale, "quick turns about every axis"),
    (bindings.PayloadMass, "the payload on a scale, and --fix it"),
    (bindings.PayloadOffset, "hover in calm air, and quick turns"),
    (bindings.GroundEffect, "flight close to the ground"),
    (Wind, "fast flight in calm air"),
    (bindings.LinkMassScale, "motors' torques, which tell it: velocities hardly do"),
    (bindings.JointDampingScale, "motors' torques, which tell it: velocities hardly do"),
    (bindings.ServoGain, "loads on the arm that change while it moves"),
    (bindings.BodyMass, "the body on a scale, and --fix it: a push shows it little"),
    (bindings.BodyContact, "quick pushes that let the body slide on by itself"),
    (bindings.BodyDamping, "slides at different speeds"),
)


class Found(Protocol):
    """What the sentences need of a fit."""

    @property
    def task(self) -> Task: ...
    @property
    def unknowns(self) -> Unknowns: ...
    @property
    def draws(self) -> np.ndarray: ...
    @property
    def information(self) -> np.ndarray: ...
    @property
    def values(self) -> np.ndarray: ...


def told(fit: Found) -> np.ndarray:
    """(F,) bool: whether the data, rather than the prior, say where each parameter is."""
    size, direction = np.linalg.eigh(fit.information)
    open_ones = np.abs(direction[:, 1 / np.sqrt(size + 1) > TOLD])
    return ~(open_ones > TAKES_PART * open_ones.max(0, initial=0.0)).any(1)


def degeneracies(fit: Found) -> list[str]:
    """Sentences on the directions and pairs of parameters that the data leave open."""
    sentences = []
    size, direction = np.linalg.eigh(fit.information)
    for strength, v in zip(size, direction.T, strict=True):
        if 1 / np.sqrt(strength + 1) > TOLD:
            sentences.append(_open(fit, v / v[np.argmax(np.abs(v))]))
    return [*sentences, *_pairs(fit)]


def advice(task: Task, names: Sequence[str]) -> str:
    """What to record for these parameters."""
    acts = dict(task.scene.bindings)
    effects = (*task.command_effects, *task.sensor_effects, *task.disturbances)
    acts |= {name: effect for effect in effects for name in effect.parameters}
    found = [words for kind, words in _ADVICE if any(isinstance(acts.get(name), kind) for name in names)]
    return "; ".join(dict.fromkeys(found)) or "a wider and faster motion"


def _open(fit: Found, v: np.ndarray) -> str:
    """About a direction that changes nothing that was measured."""
    free, own = fit.unknowns.free, v * fit.unknowns.sd
    members = [i for i in np.argsort(-np.abs(v)) if abs(v[i]) > TAKES_PART]
    names = [free[i] for i in members]
    if len(members) == 1:
        spread = float(fit.draws[:, members[0]].std() * fit.unknowns.sd[members[0]])
        return (
            f"{names[0]}: not told by these data; ± {spread:.2g} is what was assumed. "
            f"Record {advice(fit.task, names)}, or give it with --fix {names[0]}=VALUE"
        )
    values = fit.values[fit.unknowns.columns]
    is_log = fit.unknowns.space.is_log[fit.unknowns.columns]
    relative = np.where(is_log, own, own / np.where(values != 0, values, np.inf))
    # A parameter that may as well be zero cannot say whether it takes part in a common scale.
    sure = [i for i in members if abs(values[i]) > 2 * _drawn(fit, i).std() or i in members[:2]]
    factor = float(np.median(relative[sure]))
    if len(sure) > 1 and np.all(np.abs(relative[sure] - factor) < ALIKE * abs(factor)):
        base = _base(fit, sure)
        along = [i for i in range(len(free)) if i != base and abs(relative[i] - factor) < ALIKE * abs(factor)]
        ratios = [_ratio(fit, i, base) for i in along]
        return (
            f"{', '.join(free[i] for i in [base, *along])} scale together: any common factor gives the same motion, so "
            f"known are only {', '.join(ratios)}. Give one of them with --fix"
        )
    parts = [f"{free[i]} by {_signed(float(own[i]), bool(is_log[i]))}" for i in members]
    return (
        f"{', '.join(names)} trade off: changing {', '.join(parts)} at once changes little that was measured. "
        f"Record {advice(fit.task, names)}, or give one with --fix"
    )


def _pairs(fit: Found) -> list[str]:
    sentences, free = [], fit.unknowns.free
    clear = told(fit)
    for a in range(len(free)):
        for b in range(a + 1, len(free)):
            first, second = _drawn(fit, a), _drawn(fit, b)
            if first.std() * second.std() == 0 or not (clear[a] and clear[b]):
                continue
            tie = float(np.corrcoef(first, second)[0, 1])
            if abs(tie) < TOGETHER:
                continue
            factor = -np.sign(tie) * first.std() / second.std()
            known = first + factor * second
            unit = fit.unknowns.space[fit.unknowns.space.index(free[a])].unit
            sentences.append(
                f"{free[a]} and {free[b]} trade off (correlation {tie:.2f}); best known is "
                f"{free[a]} {'+' if factor > 0 else '-'} {abs(factor):.3g} {free[b]} = "
                f"{known.mean():.4g} ± {known.std():.2g} {unit}"
            )
    return sentences


def _base(fit: Found, members: list[int]) -> int:
    """The member that the others are best divided by: a gain if there is one, else the first."""
    gains = {name for e in fit.task.command_effects if isinstance(e, command.Gain) for name in e.parameters}
    return next((i for i in members if fit.unknowns.free[i] in gains), members[0])


def _ratio(fit: Found, i: int, base: int) -> str:
    free, columns = fit.unknowns.free, fit.unknowns.columns
    ratio = _drawn(fit, i) / _drawn(fit, base)
    return f"{free[i]} / {free[base]} = {fit.values[columns[i]] / fit.values[columns[base]]:.4g} ± {ratio.std():.2g}"


def _drawn(fit: Found, i: int) -> np.ndarray:
    """(b,) SI values of one parameter in the bootstrap."""
    return fit.unknowns.values(fit.draws)[:, fit.unknowns.columns[i]]


def _signed(change: float, is_log: bool) -> str:
    return f"a factor {np.exp(change):.3g}" if is_log else f"{change:+.3g}"
