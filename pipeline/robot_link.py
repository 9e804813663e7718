"""RobotLink: a trial's connection to the shared robot. It never blocks the learner, and survives the robot's death."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from pipeline.rounds import Purpose, SequentialStop
from robot.excitation import Excitation
from robot.settings import Mode

RETRY_AFTER_S = 1.0
BLOCKING_POLL_S = 0.02
AWAY = ("stopped", "emergency_stop", "disconnected", "unreachable")


@dataclass(frozen=True)
class RobotRound:
    """What a trial asks of the robot: `episodes` episodes of one policy, or recordings of motions, for one purpose."""

    round_id: str
    purpose: Purpose
    episodes: int
    seed: int
    first_world: int  # episode k starts as world first_world + k does in simulation
    policy: bytes  # the exported policy, the artifact that ships
    policy_version: int
    mode: Mode = "auto"  # the least careful one allowed
    stop: SequentialStop | None = None  # ends an evaluation whose result is certain
    motions: tuple[Excitation, ...] = ()  # of each recording, for identification
    seconds: float = 0.0  # of each recording
    logs: bool = False  # report each episode as a recording too


@dataclass
class RoundReport:
    """What is new about a round since the caller last heard of it."""

    round_id: str
    episodes: list[dict[str, Any]]  # `meta` of each; `columns` of collected ones; `log` of recordings
    finished: bool
    note: str = ""  # why it ended without having flown what was asked for


class RobotLink:
    """Submits rounds and fetches their episodes, with at most one request outstanding.

    Rounds not yet finished, and how many of their episodes have been received, are the state: after a restart of
    either side they are submitted again, and the robot answers from its durable episodes first.
    """

    def __init__(self, name: str | None, namespace: str, client: str) -> None:
        self._name, self._namespace, self._client = name, namespace, client
        self._handle: Any = None
        self._request: ray.ObjectRef | None = None
        self._retry_at = 0.0
        self._open: dict[str, RobotRound] = {}
        self._received: dict[str, int] = {}
        self._announced: set[str] = set()  # submitted to the living actor
        self._away_since: float | None = None
        self.errors = 0
        self.status: dict[str, Any] = {"state": "none" if name is None else "connecting", "reason": ""}

    @property
    def exists(self) -> bool:
        return self._name is not None

    @property
    def pending(self) -> int:
        return len(self._open)

    @property
    def away_s(self) -> float:
        """For how long the robot has been stopped or out of reach; 0 while it answers and can move."""
        return 0.0 if self._away_since is None else time.monotonic() - self._away_since

    @property
    def realtime_round(self) -> bool:
        """Whether the robot moves in real time now, on this machine: then others keep their hands off the processor."""
        return self.status.get("realtime_round") == socket.gethostname() and self._away_since is None

    def submit(self, order: RobotRound) -> None:
        self._open[order.round_id] = order
        self._received[order.round_id] = 0

    def poll(self) -> list[tuple[RobotRound, RoundReport]]:
        """New episodes of open rounds; empty when there is nothing yet. Returns at once."""
        if not self.exists or time.monotonic() < self._retry_at:
            return []
        try:
            return list(self._exchange())
        except (RayError, ValueError) as error:  # ValueError: the name is not registered (yet)
            self._lost(error)
            return []

    def wait(self, patience_s: float) -> Iterator[tuple[RobotRound, RoundReport]]:
        """Poll until no round is open or the robot was away for longer than `patience_s`: the deterministic mode."""
        while self.exists and self.pending and self.away_s <= patience_s:
            yield from self.poll()
            time.sleep(BLOCKING_POLL_S)

    def _exchange(self) -> Iterator[tuple[RobotRound, RoundReport]]:
        if self._handle is None:
            assert self._name is not None  # `poll` asked
            self._handle = ray.get_actor(self._name, namespace=self._namespace)
        for round_id, order in self._open.items():
            if round_id not in self._announced:
                self._handle.submit.remote(self._client, order)
                self._announced.add(round_id)
        if self._request is not None and ray.wait([self._request], timeout=0)[0]:
            request, self._request = self._request, None
            reports, status = ray.get(request)
            self._hear(status)
            for report in reports:
                yield from self._take(report)
        if self._request is None:
            self._request = self._handle.poll.remote(self._received)

    def _take(self, report: RoundReport) -> Iterator[tuple[RobotRound, RoundReport]]:
        order = self._open.get(report.round_id)
        if order is None:
            return
        self._received[report.round_id] += len(report.episodes)
        if report.finished:
            del self._open[report.round_id], self._received[report.round_id]
            self._announced.discard(report.round_id)
        if report.episodes or report.finished:
            yield order, report

    def _lost(self, error: Exception) -> None:
        """Forget the connection and try again later; open rounds will be submitted anew."""
        self.errors += 1
        self._handle, self._request = None, None
        self._announced.clear()
        self._retry_at = time.monotonic() + RETRY_AFTER_S
        self._hear({**self.status, "state": "unreachable", "reason": str(error).splitlines()[0][:200]})

    def _hear(self, status: dict[str, Any]) -> None:
        self.status = status
        if status["state"] not in AWAY:
            self._away_since = None
        elif self._away_since is None:
            self._away_since = time.monotonic()

    def get_state(self) -> dict[str, Any]:
        return {"open": dict(self._open), "received": dict(self._received)}

    def set_state(self, state: dict[str, Any]) -> None:
        self._open, self._received = dict(state["open"]), dict(state["received"])
        self._announced.clear()
