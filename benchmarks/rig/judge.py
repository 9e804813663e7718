"""Whether a fault did harm, judged from the twin's recorder, the latch and the store, never by the session's word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from robot.episodes import EpisodeStore
from robot.interface import RobotError
from robot.settings import JointLimits

ROUNDING = 1e-9
MEASURED_SLACK = 0.12  # m and m/s: six standard deviations of the twin's sensor noise
OVERSPEED = 1.5  # times the velocity limit, which nothing may ever reach


@dataclass
class Verdict:
    injected: int = 0
    stopped: int = 0
    limits_exceeded: int = 0
    stops_not_latched: int = 0
    episodes_lost: int = 0


def exceeded(events: Sequence[dict], limit: JointLimits, period_s: float) -> list[str]:
    """What the motor was told, or did, beyond the limits; empty for none. `events` begin with the motor off."""
    found, last, on = [], 0.0, False
    for event in events:
        if event["event"] == "motor on":
            last, on = 0.0, True
        elif event["event"] in ("motor off", "reset", "start"):
            on = False
        elif event["event"] == "goal":
            force, x, speed = event["efforts"][0], event["position"][0], event["velocity"][0]
            more = abs(force) - (abs(last) if force * last >= 0 else 0.0)
            if not on:
                found.append(f"goal {force:.2f} N with the motor off")
            if abs(force) > limit.effort + ROUNDING:
                found.append(f"effort {force:.2f} N")
            assert limit.effort_rate is not None
            if more > 0 and abs(force - last) > limit.effort_rate * period_s + 1e-6:
                found.append(f"effort from {last:.2f} to {force:.2f} N in one period")
            outward = (force > 0 and x > limit.position[1]) or (force < 0 and x < limit.position[0])
            beyond = max(x - limit.position[1], limit.position[0] - x)
            if outward and beyond > MEASURED_SLACK:
                found.append(f"{force:.2f} N outwards at {x:.2f} m")
            if force * speed > 0 and abs(speed) > limit.velocity + MEASURED_SLACK:
                found.append(f"{force:.2f} N faster at {speed:.2f} m/s")
            if abs(speed) > OVERSPEED * limit.velocity:
                found.append(f"speed {speed:.2f} m/s")
            last = force
    return found


def motor_is_off(events: Sequence[dict]) -> bool:
    """As the power stage was last seen."""
    powers = [event["event"] for event in events if event["event"] in ("motor on", "motor off", "start")]
    return not powers or powers[-1] != "motor on"


def lost(directory: Path, committed: set[str]) -> set[str]:
    """Which of the episodes that were announced as durable are not whole on disk."""
    store = EpisodeStore(directory)
    steps = {meta.episode_id: meta.steps for meta in store.list()}
    missing = committed - set(steps)
    for name in committed & set(steps):
        try:
            if len(store.read(name).columns["reward"]) != steps[name]:
                missing.add(name)
        except RobotError:
            missing.add(name)
    return missing | {name for name in store.verify() if not name.endswith(".tmp")}
