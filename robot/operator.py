"""What a session lets other programs ask of it: state, hold, recover, home and jog."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from robot import confirm
from robot.episodes import RobotEpisode
from robot.interface import RobotFault
from robot.motion import Moved
from robot.request import Handler, number

if TYPE_CHECKING:
    from robot.session import RobotSession


def handlers(session: RobotSession) -> dict[str, Handler]:
    """For the desk of `session`, each called in a thread of its own."""
    return {
        "status": lambda request: _describe(session),
        "hold": lambda request: _hold(session, str(request.get("reason") or "held by request")),
        "recover": lambda request: _recover(session, str(request.get("operator", ""))),
        "home": lambda request: _moved(session.home(str(request.get("operator", "")))),
        "jog": lambda request: _jog(session, request),
    }


def _describe(session: RobotSession) -> dict[str, Any]:
    """The state as the console shows it: cheap, never touches the bus."""
    status = session.status()
    return {
        "robot": session.settings.name,
        "state": status.state,
        "reason": status.reason,
        "link_errors": status.link_errors,
        "mode": session.mode(),
        "waiting": asdict(asked) if (asked := confirm.waiting(session.state_dir)) else None,
        "episodes": len(session.store),
        "seconds": session.ledger.totals(),
        "ledger": session.ledger.metrics(),
        "last": _outcome(session.last),
        "actuated": list(session.robot.spec.actuated),
        "timing": session.timing,
    }


def _outcome(episode: RobotEpisode | None) -> dict[str, Any]:
    """How the last episode ended, and how often the filter changed a command, and why."""
    if episode is None:
        return {}
    reasons = Counter(name for text in episode.columns["intervention"] for name in text.split("+") if name)
    meta = {key: getattr(episode.meta, key) for key in ("episode_id", "purpose", "success", "steps", "stop", "void")}
    return {**meta, "interventions": dict(reasons)}


def _hold(session: RobotSession, reason: str) -> dict[str, Any]:
    try:
        held = session.hold(reason)
    except RobotFault as fault:
        return {"evidence": f"latched, but the link failed: {fault}"}
    return {"evidence": "the motors are off" if held.motors_off else "the motors did NOT go off"}


def _recover(session: RobotSession, operator: str) -> dict[str, Any]:
    reason = session.status().reason
    session.recover(operator)
    return {"was": reason}


def _jog(session: RobotSession, request: Mapping[str, Any]) -> dict[str, Any]:
    by = number(request.get("by"), "jog")
    return _moved(session.jog(str(request.get("joint")), by, str(request.get("operator", ""))))


def _moved(moved: Moved) -> dict[str, Any]:
    return {"steps": moved.steps, "stop": moved.stop, "interventions": dict(moved.interventions)}
