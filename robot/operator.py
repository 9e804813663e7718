"""What a session lets other programs ask of it: state, hold, recover, home and jog."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from robot import confirm
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
        "question": confirm.pending(session.state_dir),
        "episodes": len(session.store),
        "seconds": session.ledger.totals(),
        "actuated": list(session.robot.spec.actuated),
        "timing": session.timing,
    }


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
