"""One twin, one fault after another: inject, watch, judge, and bring the robot back as an operator would."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np

from benchmarks.rig.judge import Verdict, exceeded, lost, motor_is_off
from benchmarks.rig.pilot import Pilot, ShortCartpole
from robot.drivers import dynamixel
from robot.episodes import EpisodeStore
from robot.interface import RobotError, RobotFault
from robot.open import open_session
from robot.session import RobotSession
from robot.settings import RobotSettings
from robot.technician import SocketTechnician
from robot.twin.process import TwinProcess

LIMITS = {"slider": {"position": (-0.4, 0.4), "velocity": 1.5, "effort": 8.0, "effort_rate": 300.0}}
PATIENCE_S = 0.15  # in lockstep, for an answer that a fault swallowed; drivers wait far longer by default
FAULTS_A_FOLDER = 25
SETTLE_S = 5.0


class Bench:
    """A twin in `mode`, and a folder of episodes that is renewed now and then."""

    def __init__(self, mode: Literal["lockstep", "realtime"], random: np.random.Generator) -> None:
        self.mode, self.random, self.task = mode, random, ShortCartpole()
        self.twin = TwinProcess(mode=mode)
        self.twin.start()
        self.technician = SocketTechnician(self.twin.technician)
        self.settings = RobotSettings.model_validate({"limits": LIMITS, "mode": mode, "twin": None, "port": "none"})
        self._place = Path(tempfile.mkdtemp(prefix="faults-"))
        self._count = 0
        self.committed: set[str] = set()
        self.trouble: list[str] = []
        self._patience, dynamixel.LOCKSTEP_PATIENCE_S = dynamixel.LOCKSTEP_PATIENCE_S, PATIENCE_S

    def close(self) -> None:
        dynamixel.LOCKSTEP_PATIENCE_S = self._patience
        self.technician.close()
        self.twin.close()
        shutil.rmtree(self._place, ignore_errors=True)

    @property
    def folder(self) -> Path:
        return self._place / f"{self._count // FAULTS_A_FOLDER:04d}"

    def open(self, port: str | None = None, **changes: Any) -> RobotSession:
        """A session on the twin, or through `port`; without changes it is as it should be."""
        keys = {"port": port or self.twin.port, "technician": self.twin.technician, "state_dir": self.folder, **changes}
        return open_session(self.settings.model_copy(update=keys), self.task, self.folder)

    def fly(self, session: RobotSession, pilot: Pilot) -> str:
        """One episode; what stopped it. What is durable when this returns must stay."""
        world = int(self.random.integers(1 << 30))
        episode = session.run_episode(pilot, purpose="collection", seed=1, world=world)  # type: ignore[arg-type]
        if episode.meta.steps:
            self.committed.add(episode.meta.episode_id)
        return episode.meta.stop

    @contextmanager
    def fault(self, kind: str, verdict: Verdict, must_stop: bool) -> Iterator[Callable[[bool, str], None]]:
        """Around one fault. Call what this gives with (was it injected, what stopped the robot)."""
        if self._count % FAULTS_A_FOLDER == 0:
            self.committed = set()
        since_s, told = time.monotonic(), []
        yield lambda injected, stop: told.append((injected, stop))
        injected, stop = told[-1]
        verdict.injected += injected
        verdict.stopped += bool(stop)
        if not self.twin.alive():
            self.technician.close()
            self.twin.restart()
        events = self._settled(since_s)
        period_s = self.task.control_period_s
        if why := exceeded(events, self.settings.limits["slider"], period_s):
            verdict.limits_exceeded += 1
            self._tell(kind, why[0])
        if (stop or (must_stop and injected)) and not self._latched(events, since_s):
            verdict.stops_not_latched += 1
            self._tell(kind, f"not latched: {stop or 'no stop at all'}")
        if gone := lost(self.folder / "episodes", self.committed):
            verdict.episodes_lost += len(gone)
            self._tell(kind, f"lost {sorted(gone)}")
        self._count += 1

    def _settled(self, since_s: float) -> list[dict]:
        """The twin's record, once it has noticed that nobody is there."""
        end = time.monotonic() + SETTLE_S
        while True:
            try:
                events = self.technician.record(since_s)["events"]
            except RobotFault:  # it was killed a moment ago
                self.twin.restart()
                continue
            if motor_is_off(events) or time.monotonic() > end:
                return events
            time.sleep(0.005)

    def _latched(self, events: list[dict], since_s: float) -> bool:
        """Motor off, a new session comes up stopped and refuses to fly, and only a named person ends that."""
        session = self.open()
        try:
            refused = False
            try:
                self.fly(session, Pilot(self.task))
            except RobotError:
                refused = True
            with suppress(RobotError):
                session.recover(" ")
                refused = False
            still = session.status().state == "stopped" and motor_is_off(events)
            started = any(event["event"] == "motor on" for event in self.technician.record(time.monotonic())["events"])
            session.recover("the bench")
            return refused and still and not started and session.status().state != "stopped"
        finally:
            session.close()

    def _tell(self, kind: str, what: str) -> None:
        self.trouble.append(f"{kind}: {what}")
        print(self.trouble[-1], file=sys.stderr, flush=True)

    def in_child(self, after_s: float) -> tuple[float, bool]:
        """Fly in a forked control process and kill it; the moment, and whether it was flying by then."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                signal.signal(signal.SIGINT, signal.SIG_DFL)
                session = self.open()
                while True:
                    stop = self.fly(session, Pilot(self.task))
                    os.write(writer, b"x")
                    if stop:
                        session.recover("the bench")
            finally:
                os._exit(1)
        os.close(writer)
        first = os.read(reader, 1) == b"x"
        time.sleep(after_s)
        os.kill(child, signal.SIGKILL)
        killed_s = time.monotonic()
        os.waitpid(child, 0)
        os.close(reader)
        self.committed |= (
            {meta.episode_id for meta in EpisodeStore(self.folder / "episodes").list()} if first else set()
        )
        return killed_s, first


def later(seconds: float, what: Callable[..., Any], *arguments: Any) -> threading.Timer:
    """Call `what` in a thread after so many seconds; faults of the robot while it does are part of the plan."""

    def call() -> None:
        with suppress(RobotFault):
            what(*arguments)

    timer = threading.Timer(seconds, call)
    timer.start()
    return timer
