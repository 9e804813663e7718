"""From command to response: steps through the filter, and the delay and lag that explain them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import yaml
from scipy.optimize import least_squares

from envs.task import State, Task
from robot.arm_excitation import centre_of
from robot.interface import Observation, RobotError
from robot.response import Track, block_weights, fit_response
from robot.session import RobotSession

STEP_S = 0.24  # of effort: short, so that nothing else of the robot has time to matter
FINE_S = 0.001
RESAMPLES = 60
LARGEST_DELAY_S, LARGEST_LAG_S = 0.2, 0.15
PARAMETERS = {"delay_ms": "action.delay_ms", "lag_ms": "action.lag_ms"}


HALF_S = 0.3  # of a step of velocity, each way
RESAMPLED = 400


@dataclass(frozen=True)
class Latency:
    """What one joint's response to steps says. The ranges are 5 to 95 % of a bootstrap over the steps."""

    joint: str
    delay_ms: float  # dead time from command to motor
    lag_ms: float  # first-order
    total_ms: float  # their sum, which is known better than either
    ranges_ms: dict[str, tuple[float, float]]  # delay_ms, lag_ms, total_ms
    steps: int
    residual: float  # m/s or rad/s, rms of the mean response


def measure(session: RobotSession, repeats: int, share: float) -> Latency:
    """Step the first motor both ways, `repeats` times, with `share` of its effort limit, or of its velocity limit.

    The technician, where there is one, puts the robot in place before each. Raises RobotError when the robot is
    stopped or stops on the way, or does not respond.
    """
    if session.robot.spec.takes == "velocity":
        return _measure_velocities(session, repeats, share)
    if session.robot.spec.takes != "effort":
        raise RobotError(f"latency: {session.task.name} falls where a step ends; accepted is a robot that stands")
    responses = [_step(session, k, share * (-1.0) ** k) for k in range(repeats)]
    joint = session.task.actuated[0]
    times = np.mean([times for times, _ in responses], axis=0)  # (T,) since the first command
    signed = np.array([speed for _, speed in responses])  # (n, T) along the effort
    if np.abs(signed.mean(axis=0)).max() < 3 * signed[:, 0].std() / np.sqrt(repeats) + 1e-6:
        raise RobotError(f"latency: {joint} does not respond to {share:g} of its effort limit; accepted is more effort")
    delay, lag, residual = _fit(times, signed.mean(axis=0))
    random = np.random.default_rng(0)
    drawn = np.array([_fit(times, signed[random.integers(0, repeats, repeats)].mean(axis=0)) for _ in range(RESAMPLES)])
    spread = {"delay_ms": drawn[:, 0], "lag_ms": drawn[:, 1], "total_ms": drawn[:, 0] + drawn[:, 1]}
    ranges = {name: tuple(float(v) for v in np.percentile(value * 1e3, (5, 95))) for name, value in spread.items()}
    return Latency(joint, delay * 1e3, lag * 1e3, (delay + lag) * 1e3, ranges, repeats, residual)  # type: ignore[arg-type]


def _step(session: RobotSession, number: int, share: float) -> tuple[np.ndarray, np.ndarray]:
    """One response: times since the first command and the joint's speed along the effort, at each control step."""
    robot, task, period_s = session.robot, session.task, session.task.control_period_s
    joint = task.actuated[0]
    row, half = task.joints.index(joint), round(STEP_S / period_s)
    effort = np.zeros(len(task.actuated))
    effort[0] = share * robot.spec.limits[joint].effort
    rest = np.zeros((1, len(task.joints)), np.float32)
    times, speeds = [], []

    def command(k: int, seen: Observation) -> np.ndarray:
        return effort if k < half else np.zeros_like(effort)

    def heard(k: int, at_s: float, seen: Observation, sent: np.ndarray) -> None:
        times.append(at_s)
        speeds.append(float(seen.joint_velocity[row]) * np.sign(share))

    session.excite(command, heard, half + 1, State(rest, rest), number, f"latency {number}")
    return np.array(times), np.array(speeds)


def _measure_velocities(session: RobotSession, repeats: int, share: float) -> Latency:
    """Steps of velocity, there and back, all in one motion; the same model as identification fits."""
    robot, task, period_s = session.robot, session.task, session.task.control_period_s
    joint = robot.spec.actuated[0]
    row, half = task.joints.index(joint), max(2, round(HALF_S / period_s))
    speed = share * session.settings.reduced_speed.scale * robot.spec.limits[joint].velocity
    rows: list[tuple[float, np.ndarray, float]] = []
    efforts: list[float] = []

    def command(k: int, seen: Observation) -> np.ndarray:
        asked = np.zeros(len(robot.spec.actuated))
        asked[0] = speed * (1.0, 0.0, -1.0, 0.0)[k // half % 4]
        return asked

    def heard(k: int, at_s: float, seen: Observation, sent: np.ndarray) -> None:
        rows.append((at_s, sent.copy(), float(seen.joint_velocity[row])))
        if len(seen.joint_effort):
            efforts.append(float(seen.joint_effort[row]))

    session.excite(command, heard, repeats * 2 * half, centre_of(task), 0, "latency")
    time_s, sent, seen = np.array([r[0] for r in rows]), np.array([r[1][0] for r in rows]), [r[2] for r in rows]
    told = np.array(efforts)[:-1, None] if len(efforts) == len(rows) else None
    track = Track(time_s[:-1], sent[1:, None], np.array(seen)[:-1, None], told)
    cycle_s = 4 * half * period_s
    random = np.random.default_rng(0)
    blocks = int(np.floor((track.time_s[-1] - track.time_s[0]) / cycle_s + 1e-6)) + 1
    found = fit_response([track], block_weights(blocks, RESAMPLED, random), random, cycle_s)
    spread = {"delay_ms": found.draws[:, 0], "lag_ms": found.draws[:, 1], "total_ms": found.draws[:, :2].sum(1)}
    ranges = {name: tuple(float(v) for v in np.percentile(value * 1e3, (5, 95))) for name, value in spread.items()}
    delay_ms, lag_ms = found.delay_s * 1e3, found.lag_s * 1e3
    return Latency(joint, delay_ms, lag_ms, delay_ms + lag_ms, ranges, repeats, float(found.residual[0]))  # type: ignore[arg-type]


def _fit(times: np.ndarray, speed: np.ndarray) -> tuple[float, float, float]:
    """Delay s, lag s and rms residual of v' = b f(t - delay) - c v - d sign(v), f through a lag of first order."""

    def residual(x: np.ndarray) -> np.ndarray:
        return np.interp(times, *_model(x, times[-1])) - speed

    top = max(float(np.abs(speed).max()), 1e-3)
    best = None
    for delay in (0.01, 0.04, 0.08):  # the cost has a flat valley along delay + lag = constant
        start = [delay, 0.03, top / STEP_S, 0.3, 0.1]
        bounds = ([0, 0.001, 0, 0, 0], [LARGEST_DELAY_S, LARGEST_LAG_S, 100 * top / STEP_S, 20, 20])
        found = least_squares(residual, start, bounds=bounds, max_nfev=40, x_scale=[0.01, 0.01, top, 1, 0.1])
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    return float(best.x[0]), float(best.x[1]), float(np.sqrt(2 * best.cost / len(times)))


def _model(x: np.ndarray, until_s: float) -> tuple[np.ndarray, np.ndarray]:
    delay, lag, gain, viscous, coulomb = x
    grid = np.arange(0.0, until_s + 2 * FINE_S, FINE_S)
    rise = lambda t: np.where(t > 0, 1 - np.exp(-np.maximum(t, 0) / lag), 0.0)  # noqa: E731
    force = gain * (rise(grid - delay) - rise(grid - delay - STEP_S))
    speed, v = np.empty_like(grid), 0.0
    for i, f in enumerate(force.tolist()):
        speed[i] = v
        if v <= 0 and f <= coulomb:
            v = 0.0
        else:
            v += FINE_S * (f - viscous * v - coulomb)
    return grid, speed


def describe(found: Latency) -> str:
    """A few lines for the terminal."""
    lines = [f"{found.joint}: {found.steps} steps, residual {found.residual:.4f} SI units"]
    for name in ("delay_ms", "lag_ms", "total_ms"):
        low, high = found.ranges_ms[name]
        lines.append(
            f"  {name.removesuffix('_ms'):<6}{getattr(found, name):6.1f} ms   90 %: {low:.1f} to {high:.1f} ms"
        )
    return "\n".join([*lines, "  delay and lag trade off against each other; their sum is known best"])


def to_yaml(found: Latency, task: Task) -> str:
    """`randomization.ranges` for the parameters of `task` that these are; clipped to their hard bounds."""
    known = {parameter.name: parameter for parameter in task.parameters}
    ranges = {}
    for name, key in PARAMETERS.items():
        if key in known:
            low, high = known[key].bounds
            ranges[key] = [round(float(np.clip(value, low, high)), 2) for value in found.ranges_ms[name]]
    return "# Measured by `sim2real robot latency`: 90 % of a bootstrap.\n" + yaml.safe_dump(
        {"randomization": {"ranges": ranges}}
    )
