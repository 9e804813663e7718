"""The operator's desk in a terminal: state, confirm, hold, recover, home and jog of a live robot."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import Any

from rich.console import Console as Terminal
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from robot import confirm, request
from robot.console_keys import Keys, closing_the_terminal_is_ctrl_c
from robot.interface import RobotError

LOOK_S = 0.2
HELP = "y/n answer   h hold   r recover   o home   [ ] jog   tab next joint   q quit"
COLOURS = {"ok": "green", "degraded": "yellow", "stopped": "red", "emergency_stop": "red"}


class Console:
    """Keys become requests to the session that owns the robot of `directory`; nothing here touches the robot itself.

    Ctrl-C and a closed terminal hold the robot; `q` leaves it as it is. `jog` is m or rad for one press.
    """

    def __init__(self, directory: Path | str, operator: str, jog: float = 0.02) -> None:
        if not operator.strip():
            raise RobotError("console: no operator given; accepted is the name of who sits here")
        self._directory, self._operator, self._jog = Path(directory), operator, jog
        self._joint = 0
        self._said: deque[str] = deque(maxlen=6)
        self.status: dict[str, Any] = {}

    def run(self, terminal: Terminal | None = None) -> None:
        """Until `q` or the end of the input; KeyboardInterrupt is raised again once the robot is held."""
        closing_the_terminal_is_ctrl_c()
        try:
            with Keys() as keys, Live(self.look(), console=terminal, auto_refresh=False, transient=True) as live:
                while True:
                    key = keys.read(LOOK_S)
                    if key == "q":
                        return
                    if key:
                        self.press(key)
                    live.update(self.look(), refresh=True)
        except (KeyboardInterrupt, OSError, EOFError):  # OSError, EOFError: the terminal is gone
            request.hold(self._directory, f"{self._operator}'s console (interrupted or closed)")
            raise KeyboardInterrupt from None

    def press(self, key: str) -> None:
        """Do what a key stands for; what came of it is in the view."""
        try:
            self._said.append(self._do(key))
        except RobotError as error:
            self._said.append(str(error))

    def look(self) -> Group:
        """Ask for the state and draw it."""
        self.status = request.status(self._directory)
        return self._view()

    def _do(self, key: str) -> str:
        directory, who = self._directory, self._operator
        if key in "yn":
            asked = self.status.get("waiting") or {}
            confirm.answer(directory, key == "y", who, asked.get("number"))  # what was on the screen, nothing newer
            return f"{asked.get('question', 'answered')}: {'yes' if key == 'y' else 'no'}"
        if key == "h":
            return request.hold(directory, who)
        if key == "r":
            return f"recovered; it was stopped because {request.ask(directory, 'recover', 60.0, operator=who)['was']}"
        if key == "o":
            return self._told("home", request.ask(directory, "home", 60.0, operator=who))
        joints = self.status.get("actuated") or [""]
        self._joint %= len(joints)
        if key == "\t":
            self._joint = (self._joint + 1) % len(joints)
            return f"jogging {joints[self._joint]}"
        if key in "[]":
            by = self._jog if key == "]" else -self._jog
            moved = request.ask(directory, "jog", 60.0, joint=joints[self._joint], by=by, operator=who)
            return self._told(f"{joints[self._joint]} {by:+g}", moved)
        return f"{key!r} means nothing here: {HELP}"

    @staticmethod
    def _told(what: str, moved: dict[str, Any]) -> str:
        return (
            f"{what}: {moved['stop'] or 'done'} {json.dumps(moved['interventions']) if moved['interventions'] else ''}"
        )

    def _view(self) -> Group:
        status, table = self.status, Table.grid(padding=(0, 2))
        state = str(status["state"])
        table.add_row("robot", f"{status.get('robot', self._directory)}   mode {status.get('mode', '–')}")
        table.add_row("state", Text(state, style=COLOURS.get(state, "white")) + Text(f"  {status.get('reason', '')}"))
        if "episodes" in status:
            seconds = ", ".join(f"{name} {value:.0f} s" for name, value in status["seconds"].items())
            table.add_row("episodes", f"{status['episodes']}   {seconds}   link errors {status['link_errors']}")
        late = (status.get("timing") or {}).get("lateness", {})
        if late.get("n"):
            table.add_row("lateness", f"p50 {late['p50_ms']} ms, p99 {late['p99_ms']} ms, max {late['max_ms']} ms")
        if asked := status.get("waiting"):
            words = f"{asked['question']}?  y or n, no in {asked['left_s']:.0f} s"
            table.add_row(Text("question", style="bold yellow"), Text(words, style="bold yellow"))
        return Group(table, Text("\n".join(self._said), style="dim"), Text(HELP, style="dim"))
