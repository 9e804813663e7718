"""RobotActor: the one process that drives a robot, shared by every trial through a name and a fair queue.

It imports neither torch nor RLlib, runs exported policies only, and executes rounds in a thread of its own so that
requests are answered while the robot moves. A round is known by its id: submitting it again, after a restart of
either side, continues from the episodes that are already durable instead of spending robot time twice.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np

from envs.registry import make_task
from pipeline.actors.recordings import Recorded, Recordings
from pipeline.robot_link import RobotRound, RoundReport
from pipeline.rounds import Purpose
from robot.episodes import EpisodeMeta
from robot.interface import RobotError
from robot.ledger import BudgetSpent
from robot.logs import from_episode
from robot.open import open_session
from robot.policy import ExportedPolicy
from robot.session import RobotSession
from robot.settings import RobotSettings

log = logging.getLogger(__name__)

PURPOSES: tuple[Purpose, ...] = get_args(Purpose)
FLOWN = PURPOSES[:2]  # those that are episodes
RECORDINGS_DIR = "recordings"
IDLE_POLL_S = 0.2
MAX_VOIDS_IN_A_ROW = 5  # then something is wrong with the link or the machine, and a person should look
LOCKSTEP_EPISODE_S = 5.0  # more than any episode takes in lockstep


@dataclass
class _Progress:
    round: RobotRound
    client: str = ""
    episodes: list[EpisodeMeta | Recorded] = field(default_factory=list)  # flown and durable
    note: str = ""  # why no more will be flown, other than that enough were
    shadowed: int = 0  # episodes in which the robot only watched: none of them counts, and as many are enough

    @property
    def finished(self) -> bool:
        flown = len(self.episodes)
        if self.note or self.shadowed >= self.round.episodes:
            return True
        if flown >= self.round.episodes or self.round.stop is None:
            return flown >= self.round.episodes
        successes = sum(e.success for e in self.episodes if isinstance(e, EpisodeMeta))
        return self.round.stop.settled(successes, flown) is not None


class FairQueue:
    """First in, first out for each client; clients take turns, so one trial cannot keep the robot to itself.

    Urgent items overtake the others of their client: collected data is of use now, a measurement can wait.
    """

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, tuple[deque[str], deque[str]]] = OrderedDict()

    def put(self, client: str, item: str, urgent: bool = False) -> None:
        calm, hurried = self._waiting.setdefault(client, (deque(), deque()))
        (hurried if urgent else calm).append(item)

    def get(self) -> str | None:
        for client in list(self._waiting):
            self._waiting.move_to_end(client)
            for items in reversed(self._waiting[client]):
                if items:
                    return items.popleft()
        return None


class RobotActor:
    """Owns the session of one robot. Every method returns at once; the robot moves in `_run`.

    A robot that cannot be reached when the actor starts is tried again; `opened` tells why it failed.
    """

    def __init__(self, settings: dict[str, Any], task: str, state_dir: str) -> None:
        self._settings = RobotSettings.model_validate(settings)
        self._task, self._state_dir = make_task(task), Path(state_dir)
        self._recordings = Recordings(self._state_dir / RECORDINGS_DIR, self._task)
        self._session: RobotSession | None = None
        self._error = ""
        self._open()
        self._lock = threading.Lock()
        self._queue = FairQueue()
        self._rounds: dict[str, _Progress] = {}
        self._closing = threading.Event()
        self._wake = threading.Event()
        self._busy = self._in_round = False
        self._thread = threading.Thread(target=self._run, name="robot-rounds", daemon=True)
        self._thread.start()

    def opened(self) -> str:
        """Empty once the robot is connected, otherwise a sentence that says why it is not."""
        return "" if self._session is not None else self._error

    def submit(self, client: str, order: RobotRound) -> None:
        """Queue a round; a round already known is left as it is."""
        with self._lock:
            if order.round_id not in self._rounds:
                self._rounds[order.round_id] = _Progress(order, client)
                self._queue.put(client, order.round_id, urgent=order.purpose != "evaluation")
        self._wake.set()

    def poll(self, received: dict[str, int]) -> tuple[list[RoundReport], dict[str, Any]]:
        """For each round id, the episodes beyond the count already received; and the robot's status."""
        with self._lock:
            known = [(self._rounds[r], count) for r, count in received.items() if r in self._rounds]
            news = [(p.round, p.episodes[count:], p.finished, p.note) for p, count in known]
            status = self._status()
        reports = [
            RoundReport(order.round_id, [self._digest(e, order) for e in episodes], done, note)
            for order, episodes, done, note in news
        ]
        return reports, status

    def status(self) -> dict[str, Any]:
        with self._lock:
            return self._status()

    def hold(self, reason: str) -> None:
        """Stop the robot and latch."""
        if self._session is not None:
            self._session.hold(reason)

    def recover(self, operator: str) -> None:
        """Release a latched stop, in an operator's name."""
        if self._session is not None:
            self._session.recover(operator)
        self._wake.set()

    def close(self) -> None:
        """Finish the control thread and leave the robot safe. A world that does not wait is stopped at once."""
        self._closing.set()
        self._wake.set()
        if self._settings.mode == "lockstep":
            self._thread.join(timeout=LOCKSTEP_EPISODE_S)
        if self._session is not None and self._thread.is_alive() and self._busy:
            self._session.hold("the run was ended in mid-episode")
        self._thread.join(timeout=LOCKSTEP_EPISODE_S)
        if self._session is not None:
            self._session.close()

    def pids(self) -> dict[str, int | None]:
        """This process and the twin's, for fault tests."""
        return {"robot_actor": os.getpid(), "twin": self._session.twin_pid if self._session else None}

    # -- the control thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                if not self._ready():
                    self._wait()
                    continue
                with self._lock:
                    round_id = self._queue.get()
                if round_id is None:
                    self._wait()
                else:
                    self._run_and_keep(round_id)
            except Exception as error:  # noqa: BLE001  the thread must outlive any fault, with the robot stopped
                log.exception("a robot round failed")
                self._error = str(error)
                if self._session is not None:
                    self._session.hold(f"{type(error).__name__}: {error}")

    def _run_and_keep(self, round_id: str) -> None:
        """A round that a fault or a person's no ended goes on once the robot is recovered."""
        progress = self._rounds[round_id]
        self._in_round = True
        try:
            if progress.round.purpose == "identification":
                self._record_round(progress)
            else:
                self._run_round(progress)
        except Exception:
            with self._lock:
                self._queue.put(progress.client, round_id, urgent=True)
            raise
        finally:
            self._in_round = False

    def _open(self) -> None:
        try:
            self._session = open_session(self._settings, self._task, self._state_dir)
            self._error = ""
        except RobotError as error:
            self._error = str(error)

    def _ready(self) -> bool:
        """Connected and not stopped. A twin that died is revived if its settings allow; a robot never is."""
        if self._session is None:
            self._open()
        if self._session is None:
            return False
        return self._session.status().state != "stopped" or self._session.revive_twin()

    def _wait(self) -> None:
        if self._session is not None:
            self._session.tick()
        self._wake.wait(IDLE_POLL_S)
        self._wake.clear()

    def _run_round(self, progress: _Progress) -> None:
        order, policy, session = progress.round, ExportedPolicy(progress.round.policy), self._session
        assert session is not None and order.purpose != "identification"
        with self._lock:  # what an earlier life of this actor has flown already
            progress.episodes = [m for m in session.store.list() if m.round_id == order.round_id and not m.void]
        voids = 0
        while not progress.finished and not self._closing.is_set():
            if not self._ready():
                self._wait()
                continue
            self._busy = True
            try:
                episode = session.run_episode(
                    policy,
                    purpose=order.purpose,
                    seed=order.seed,
                    world=order.first_world + len(progress.episodes),
                    round_id=order.round_id,
                    policy_version=order.policy_version,
                    mode=order.mode,
                )
            except BudgetSpent as spent:
                with self._lock:
                    progress.note = str(spent)
                break
            finally:
                self._busy = False
            if session.mode(order.mode) == "shadow":
                progress.shadowed += 1
                if progress.shadowed >= order.episodes:
                    progress.note = "the robot was in shadow mode"
                continue
            if episode.meta.void or not episode.meta.steps:  # kept and marked, but no measure of the policy
                voids += 1
                if voids >= MAX_VOIDS_IN_A_ROW:
                    why = episode.meta.stop or f"the clock was {episode.meta.lateness_p99_ms:.0f} ms late"
                    session.hold(f"{voids} episodes in a row were void; the last because {why}")
                continue
            voids = 0
            with self._lock:
                progress.episodes.append(episode.meta)
        with self._lock:
            progress.round = replace(order, policy=b"")

    def _record_round(self, progress: _Progress) -> None:
        order, session = progress.round, self._session
        assert session is not None
        with self._lock:
            progress.episodes = [*self._recordings.of(order)]
        while not progress.finished and not self._closing.is_set():
            if not self._ready():
                self._wait()
                continue
            note, done = session.no_motion(order.mode), None
            self._busy = True
            try:
                done = None if note else self._recordings.make(session, order, len(progress.episodes))
            except BudgetSpent as spent:
                note = str(spent)
            except RobotError:
                if session.status().state != "stopped":  # a person said no
                    raise
                continue  # once more when it is recovered: half a motion was not what was asked for
            finally:
                self._busy = False
            with self._lock:
                progress.note = note
                progress.episodes += [done] if done else []

    def _status(self) -> dict[str, Any]:
        if self._session is None:
            return {"state": "disconnected", "reason": self._error, "realtime_round": ""}
        session, ledger = self._session, self._session.ledger
        status = session.status()
        busy = self._in_round and self._settings.mode == "realtime"
        return {
            "state": status.state,
            "reason": status.reason or self._error,
            "ledger": ledger.metrics(),
            "left_s": {name: ledger.left_s(name) for name in PURPOSES},
            "refused": {name: why for name in FLOWN if (why := ledger.refusal(session.longest_s(name)))},
            "realtime_round": socket.gethostname() if busy else "",
        }

    def _digest(self, meta: EpisodeMeta | Recorded, order: RobotRound) -> dict[str, Any]:
        """What the learner needs of an episode: the outcome always, columns when it was flown to collect data."""
        if isinstance(meta, Recorded):
            return meta.digest()
        digest: dict[str, Any] = {"meta": asdict(meta)}
        if self._session is None or not (order.logs or meta.purpose == "collection"):
            return digest
        episode = self._session.store.read(meta.episode_id)
        if order.logs:
            with suppress(RobotError):  # too short to say anything
                digest["log"] = from_episode(episode, self._task, self._session.robot.spec.realtime)
        if meta.purpose == "collection":
            c = episode.columns
            if meta.stop:  # what was measured last may be the absurd reading that stopped it: no outcome to learn
                c = {name: column[:-1] for name, column in c.items()}
            digest["columns"] = {
                "obs": np.asarray(c["observation"], np.float32),
                "new_obs": np.asarray(c["next_observation"], np.float32),
                "actions": np.asarray(c["sent"], np.float32),
                "rewards": np.asarray(c["reward"], np.float32),
                "terminateds": np.asarray(c["terminated"], bool),
            }
        return digest
