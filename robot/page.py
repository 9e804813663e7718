"""The operator's desk as a page in a browser on this computer: state, confirm, refuse, hold and recover.

It does what the terminal's console does, by the same files. Other pages in the same browser must not be able to: the
address holds a random token, and every request is checked for the Host it names, every action for its Origin too
(OWASP, Cross-Site Request Forgery Prevention; DNS rebinding is answered by the Host check).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
import secrets
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from robot import confirm, durable, request
from robot.interface import RobotError

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 4096  # of an action
SILENT_S = 10.0  # a connection that says nothing for so long is closed
LAST_LINES = 8  # of the safety log
RECOVER_S = 60.0


class OperatorPage:
    """Serves the page for the robot of `directory` on 127.0.0.1, in the name of `operator`; raises RobotError if not.

    `url` is the only address that answers; who knows it can move the robot.
    """

    def __init__(self, directory: Path | str, operator: str, port: int = 0) -> None:
        if not operator.strip():
            raise RobotError("console: no operator given; accepted is the name of who sits here")
        self._directory, self.operator = Path(directory), operator
        self._token = secrets.token_urlsafe(32)
        self._html = PAGE.read_bytes()
        self.policy = _policy(self._html.decode())
        try:
            self._server = _Server(("127.0.0.1", port), self)
        except OSError as error:
            raise RobotError(
                f"console: port {port} of 127.0.0.1 cannot be used ({error.strerror or error}); accepted is one that "
                "is free, or 0 for any"
            ) from error
        self.hosts = tuple(f"{name}:{self._server.server_port}" for name in ("127.0.0.1", "localhost"))
        self.url = f"http://{self.hosts[0]}/{self._token}/"

    def serve(self) -> None:
        """Until KeyboardInterrupt, which is raised again once the robot is held, or `close` from another thread."""
        try:
            self._server.serve_forever(poll_interval=0.1)
        except KeyboardInterrupt:
            request.hold(self._directory, f"{self.operator}'s page (interrupted or closed)")
            raise

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def inside(self, path: str) -> str | None:
        """What of the page is meant by a path; None for one without the token."""
        _, given, rest = (path.split("/", 2) + ["", ""])[:3]
        return rest if hmac.compare_digest(given.encode(), self._token.encode()) else None

    def show(self, what: str) -> tuple[str, bytes] | None:
        """(content type, content) of the page's parts."""
        if what == "":
            return "text/html; charset=utf-8", self._html
        if what == "state":
            return "application/json", json.dumps(self.state()).encode()
        return None

    def state(self) -> dict[str, Any]:
        """What the session says, the question that waits, and the end of the safety log."""
        asked = confirm.waiting(self._directory)
        log = durable.read_lines(self._directory / "safety.jsonl")[-LAST_LINES:]
        return {
            **request.status(self._directory),
            "waiting": vars(asked) | {"number": str(asked.number)} if asked else None,  # too long for a browser
            "operator": self.operator,
            "log": log,
        }

    def act(self, action: dict[str, Any]) -> str:
        """Do what a button stands for; returns a sentence, raises RobotError with another."""
        do, directory = action.get("do"), self._directory
        if do in ("confirm", "refuse"):
            confirm.answer(directory, do == "confirm", self.operator, int(str(action.get("number", "")) or 0))
            return "yes" if do == "confirm" else "no"
        if do == "hold":
            return request.hold(directory, self.operator)
        if do == "recover":
            was = request.ask(directory, "recover", RECOVER_S, operator=str(action.get("operator", "")))["was"]
            return f"recovered; it was stopped because {was or 'of nothing'}"
        raise RobotError(f"{do!r} asked; accepted are confirm, refuse, hold and recover")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], page: OperatorPage) -> None:
        self.page = page
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    timeout = SILENT_S
    server_version, sys_version = "operator", ""

    def do_GET(self) -> None:  # noqa: N802 (the library's name)
        shown = self._page.show(what) if (what := self._allowed()) is not None else None
        if shown is None:
            self._answer(404, "text/plain", b"")
        else:
            self._answer(200, *shown)

    def do_POST(self) -> None:  # noqa: N802
        page, origins = self._page, [f"http://{host}" for host in self._page.hosts]
        if self._allowed() != "do" or self.headers.get("Origin") not in origins:
            return self._answer(404, "text/plain", b"")
        try:
            size = int(self.headers.get("Content-Length", ""))
            if self.headers.get_content_type() != "application/json" or not 0 <= size <= MOST_BYTES:
                raise ValueError(f"accepted is JSON of at most {MOST_BYTES} bytes")
            action = json.loads(self.rfile.read(size))
            if not isinstance(action, dict):
                raise ValueError("accepted is an object")
            said, code = page.act(action), 200
        except (RobotError, ValueError) as error:
            said, code = str(error), 400
        self._answer(code, "application/json", json.dumps({"said": said}).encode())

    @property
    def _page(self) -> OperatorPage:
        assert isinstance(self.server, _Server)
        return self.server.page

    def _allowed(self) -> str | None:
        """What is asked for, if the token and the Host are right."""
        return self._page.inside(self.path) if self.headers.get("Host") in self._page.hosts else None

    def _answer(self, code: int, kind: str, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Security-Policy", self._page.policy)
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")  # the address is the secret
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("Cross-Origin-Resource-Policy", "same-origin")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """The log would hold the token."""


def _policy(html: str) -> str:
    """Only the page's own script and style run, it talks to nobody but us, and nobody frames it."""

    def own(tag: str) -> str:
        (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    return (
        f"default-src 'none'; script-src {own('script')}; style-src {own('style')}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
