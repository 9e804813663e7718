"""Running episodes on a robot: driver, safety filter, clock, latch and recorder in one place."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from envs.randomization.keyed import KeyedRandom
from envs.task import State, Task
from robot import durable
from robot.clock import Clock, urgent
from robot.confirm import Confirmer
from robot.episodes import EpisodeMeta, EpisodeStore, RobotEpisode
from robot.interface import Held, Robot, RobotError, RobotFault, Status
from robot.latch import Latch
from robot.ledger import Ledger, Stopwatch
from robot.motion import Moved
from robot.moves import Moves
from robot.operator import handlers
from robot.policy import Policy
from robot.request import Desk
from robot.rollout import Recording, rollout, succeeded
from robot.safety import SafetyFilter, Workspace
from robot.settings import Mode, RobotSettings
from robot.speed import SpeedBook
from robot.technician import Technician
from robot.thrust_filter import ThrustFilter
from robot.twin.process import TwinProcess
from robot.velocity_filter import VelocityFilter
from robot.watchdog import Watchdog

BOOK_EVERY_S = 60.0  # how much idle time the death of the program may leave unbooked
TIMING_FILE = "timing.jsonl"  # in real time, the clock of each episode

Purpose = Literal["collection", "evaluation", "identification"]


class RobotSession(Moves):
    """One robot, one owner. Nothing reaches the motors but episodes, `home` and `jog`, and all through the filter.

    A stop (unsafe state, broken link, watchdog, `hold`) truncates the episode, keeps what was recorded, and
    stays latched across restarts until `recover`. `hold` and `status` may be called from another thread at any
    time; so may the rest, which waits its turn. Other programs ask through the robot's folder (robot.request).
    """

    def __init__(
        self,
        robot: Robot,
        task: Task,
        settings: RobotSettings,
        store: EpisodeStore,
        technician: Technician | None,
        ledger: Ledger,
        state_dir: Path | str,
        twin: TwinProcess | None = None,  # the process behind `robot`, if this session is to look after it
    ) -> None:
        self.robot, self.task, self.settings = robot, task, settings
        self.store, self.ledger, self.technician = store, ledger, technician
        self._twin = twin
        self.state_dir = Path(state_dir)
        self._latch = Latch(self.state_dir)
        spec = robot.spec
        max_age_s = spec.max_age_s if spec.realtime else math.inf  # a world that waits for us does not age
        kind: Callable[..., SafetyFilter] = SafetyFilter
        if spec.takes == "velocity":
            kind = partial(VelocityFilter, apart=task.scene.fingers)
        elif spec.takes == "thrust":
            kind = partial(ThrustFilter, rotors=settings.rotors)
        self._safety = kind(
            spec.limits,
            task.joints,
            spec.actuated,
            task.control_period_s,
            max_age_s=max_age_s,
            workspace=Workspace(settings.workspace, task.workspace_points),
        )
        self._speed = SpeedBook(self.state_dir / "reduced_speed.json", settings.reduced_speed)
        self._watch = Stopwatch(ledger, spec.realtime)
        self._clock = Clock(task.control_period_s, robot.spec.realtime)
        self._watchdog: Watchdog | None = None
        self._confirmer = Confirmer(self.state_dir, settings.confirmation_timeout_s)
        self._desk: Desk | None = None
        self._turn = threading.RLock()  # whoever moves the robot, or brings it back after a stop
        self.timing: dict[str, Any] = {}  # of the last episode
        self.last: RobotEpisode | None = None
        self._connected = self._opened = False
        self._interrupted = ""  # why another thread took the motors away
        self._late = False  # that was the watchdog

    def connect(self) -> None:
        """Open the link; moves nothing. After a session that was not closed, the robot comes up stopped."""
        if self._twin:
            self._twin.start()
        fresh = not self._opened
        if fresh:
            self._latch.open(self.settings.name)
            self._opened = True
        try:
            self.robot.connect()
        except RobotError:
            if fresh:  # a robot that was never reached has not been left in the middle of anything
                self._latch.close()
                self._opened = False
            raise
        self._connected = True
        if self.robot.spec.realtime and self._watchdog is None:
            self._watchdog = Watchdog(self.settings.watchdog_ms / 1e3, self._expired)
        self._watch.mark(self._resting())
        if self._desk is None:
            self._desk = Desk(self.state_dir, handlers(self))

    def close(self) -> None:
        """Leave the robot safe and the session in order; never raises. A stop stays latched."""
        if self._desk:
            self._desk.close()
            self._desk = None
        if self._watchdog:
            self._watchdog.close()
            self._watchdog = None
        self.robot.disconnect()
        self._connected = False
        if self.technician:
            self.technician.close()
        if self._twin:
            self._twin.close()
        with suppress(RobotError):  # there is nobody left to tell
            self._watch.mark("")
            self.ledger.flush()
        if self._opened:
            self._latch.close()
            self._opened = False

    def tick(self, at_least_s: float = BOOK_EVERY_S) -> None:
        """To be called now and then while nothing else is: books idle and stopped time before it gets long."""
        if self._turn.acquire(blocking=False):
            try:
                with suppress(RobotError):  # it is kept, and written with the next episode
                    self._watch.mark(self._resting(), at_least_s)
            finally:
                self._turn.release()

    def status(self) -> Status:
        """Cheap: the latch first, then what the driver knows."""
        inner = self.robot.status()
        if self._latch.reason:
            return Status("stopped", self._latch.reason, inner.link_errors)
        return inner

    @property
    def interrupted(self) -> str:
        """Why another thread took the motors away; empty until then, and again after `recover`."""
        return self._interrupted

    @property
    def twin_pid(self) -> int | None:
        """Process id of the twin this session started, if it did."""
        return self._twin.pid if self._twin else None

    def hold(self, reason: str) -> Held:
        """Stop now and stay stopped; returns what was seen of the motors. Latched even if the link fails."""
        self._interrupted = self._interrupted or reason
        try:
            return self.robot.hold()
        finally:
            self._latch.stop(reason)
            self.tick()

    def recover(self, operator: str) -> None:
        """The only way out of a stop: a person looked, and says who. Raises RobotError if the cause stays."""
        if not operator.strip():
            raise RobotError("recover: no operator given; accepted is the name of the person who looked at the robot")
        with self._turn:
            self._recover(operator)

    def _recover(self, operator: str) -> None:
        if not self._connected or self.robot.status().state == "disconnected":
            self.robot.disconnect()
            self.connect()
        try:
            self.robot.recover(operator)
        except RobotFault as fault:
            if not fault.link:
                raise
            self.robot.disconnect()  # a line that broke stays broken until it is opened anew
            self.connect()
            self.robot.recover(operator)
        self._latch.recover(operator)
        self._interrupted, self._late = "", False
        self.tick()

    def revive_twin(self) -> bool:
        """Start the twin anew and recover as "twin-supervisor", where the settings allow it; True if done.

        Only undoes a stop that says nothing about safety: a link that broke, or a session that ended
        unclosed.
        """
        allowed = self._twin is not None and self.settings.twin is not None and self.settings.twin.restart
        with self._turn:
            if not allowed or self._twin is None or self._latch.kind not in ("link", "unclosed"):
                return False
            self.robot.disconnect()
            if self.technician:
                self.technician.close()
            self._twin.restart()
            self.connect()
            self.recover("twin-supervisor")
            return True

    def run_episode(
        self,
        policy: Policy,
        *,
        purpose: Purpose,
        seed: int,
        world: int,
        episode: int = 0,
        round_id: str = "",
        policy_version: int | None = None,
        mode: Mode = "auto",
    ) -> RobotEpisode:
        """One episode from the task's starting state (seed, world, episode); durable in the store on return.

        `mode` may ask for more care than the settings, never for less. In shadow mode nothing is sent, nobody is
        asked to prepare the robot, and the episode is void. Raises RobotError while the robot is stopped or not
        connected, when the policy does not fit the task, or when a person says no, and BudgetSpent where the ledger
        does not allow for the longest it may take. A fault on the way is not raised: it ends the episode with
        `meta.stop`. An episode that ends before its first step has no rows and is not stored.
        """
        with self._turn:
            self._check(policy)
            self.ledger.afford(self.longest_s(purpose))
            mode = self.mode(mode)
            what = f"{purpose} episode {len(self.store)} with policy version {policy.version}"
            if mode == "confirm_episode":
                self._latch.note("agreed", what=what, operator=self._confirmer.ask(what, lambda: self.interrupted))
            random = KeyedRandom(seed)
            noise = self._noise(random, world, episode) if purpose == "collection" else None
            self._clock.start()
            try:
                try:
                    recording = self._fly(policy, noise, random, world, episode, mode)
                    robot_s = self._clock.elapsed_s
                finally:
                    held = self._release() if mode != "shadow" else ""
            except BaseException:  # Ctrl-C among them
                self._watch.book(purpose, self._clock.elapsed_s, "an episode that was not kept", self._resting())
                raise
            stop, link = self._judge(recording, held)
            if stop and (mode != "shadow" or self._interrupted):
                self._latch.stop(stop, "link" if link else "unsafe")
            columns = recording.columns(self.task)
            late = self.robot.spec.realtime and self._clock.p99_ms > self.settings.max_lateness_ms
            meta = EpisodeMeta(
                episode_id=self.store.next_id(self.settings.name),
                robot=self.settings.name,
                purpose=purpose,
                success=not stop and mode != "shadow" and succeeded(self.task, columns),
                episode_return=float(columns["reward"].sum()),
                steps=len(recording),
                robot_s=robot_s,
                stop=stop,
                void=link or late or mode == "shadow",
                seed=seed,
                world=world,
                episode=episode,
                round_id=round_id,
                policy_version=policy.version if policy_version is None else policy_version,
                policy_run=policy.run,
                lateness_p99_ms=self._clock.p99_ms,
                overruns=self._clock.overruns,
            )
            return self._keep(RobotEpisode(meta, columns), counts=mode != "shadow")

    def _noise(self, random: KeyedRandom, world: int, episode: int) -> np.ndarray:
        steps = np.arange(self.task.max_steps)
        return random.normal("explore", np.full_like(steps, world), episode, self.task.action_size, steps)

    def mode(self, asked: Mode = "auto") -> Mode:
        """The more careful of what is asked and what the settings say."""
        return self._careful(asked)

    def _check(self, policy: Policy | None = None) -> None:
        """Raise RobotError unless the robot may move now, and this policy may move it."""
        name = self.settings.name
        if self._latch.reason:
            raise RobotError(f"the robot {name} is stopped: {self._latch.reason}; recover it first")
        if not self._connected:
            raise RobotError(f"the robot {name} is not connected")
        if policy is not None:
            policy.check(self.task)

    def _fly(
        self,
        policy: Policy,
        noise: np.ndarray | None,
        random: KeyedRandom,
        world: int,
        episode: int,
        mode: Mode,
    ) -> Recording:
        """From the starting state to whatever ends the episode; the motors are left as they are."""
        shadow = mode == "shadow"
        if self.settings.home is not None and not shadow:
            moved = self._move(self._plan(lambda at: self._home()), "home")
            if moved.stop:
                return Recording(stop=moved.stop, link=moved.link)
        self._watch.mark("reset")
        self._safety.reset(self._speed.scale(policy.run))
        start = self.task.initial(random.uniform("initial", world, episode, self.task.initial_size))
        try:
            if not shadow:
                self._prepare(start, random, world, episode)
        except RobotFault as fault:
            return Recording(stop=str(fault), link=fault.link)
        with urgent(self.robot.spec.realtime):
            return rollout(
                self.robot,
                self.task,
                policy,
                self._safety,
                self._clock,
                self._watchdog,
                noise,
                self.settings.explore,
                goal=start.goal[0] if self.task.goal_size else None,
                interrupted=lambda: self.interrupted,
                approve=self._approve if mode == "confirm_each" else None,
                shadow=shadow,
            )

    def _approve(self, command: np.ndarray) -> None:
        """Ask a person about one command; raises RobotError for a no."""
        spec = self.robot.spec
        values = ", ".join(f"{name} {value:+.3f}" for name, value in zip(spec.actuated, command, strict=True))
        unit = "m/s or rad/s" if spec.takes == "velocity" else "N or N m"
        self._confirmer.ask(f"send {values} ({unit}) for one period", lambda: self.interrupted)

    def _keep(self, episode: RobotEpisode, counts: bool) -> RobotEpisode:
        """Durable first, then the books. Without a single step there is nothing to keep."""
        meta = episode.meta
        if meta.steps:
            try:
                self.store.append(episode)
            finally:  # the time was spent, whatever became of the file
                self._watch.book(meta.purpose, meta.robot_s, meta.episode_id, self._resting())
            if counts:
                self._speed.count(meta.policy_run)
        else:
            self._watch.mark(self._resting())
        self.last, self.timing = episode, {"episode": meta.episode_id, "void": meta.void, **self._clock.summary()}
        if self.robot.spec.realtime and meta.steps:
            durable.append_line(self.state_dir / TIMING_FILE, self.timing)
        return episode

    def _prepare(self, start: State, random: KeyedRandom, world: int, episode: int) -> None:
        """Into the starting state, motors on."""
        if self.technician:
            noise_seed = int(random.uniform("reality", world, episode, 1)[0, 0] * 2**53)
            self.technician.reset(start, noise_seed)
        self.robot.arm()

    def _judge(self, recording: Recording | Moved, held: str) -> tuple[str, bool]:
        """Why the robot must stay stopped now (empty: it need not), and whether the link is to blame."""
        if self._interrupted:
            return self._interrupted, self._late
        if recording.stop:
            return recording.stop, recording.link
        return held, bool(held)

    def _expired(self) -> None:
        """The watchdog's thread: motors off first, reasons later."""
        with suppress(Exception):
            self.robot.hold()
        self._late = not self._interrupted
        limit = f"{self.settings.watchdog_ms:g} ms"
        self._interrupted = self._interrupted or f"the watchdog stopped the robot: no fresh command within {limit}"
