"""What a session does by itself, outside episodes: homing, jogging and excitation, on the same path to the motors."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from envs.task import State, Task
from robot.clock import Clock, urgent
from robot.confirm import Confirmer
from robot.interface import Observation, Robot, RobotError, RobotFault
from robot.latch import Latch
from robot.ledger import Ledger, Stopwatch
from robot.motion import Moved, Plan, excite, move
from robot.rollout import Recording
from robot.safety import SafetyFilter
from robot.settings import MODES, Mode, RobotSettings
from robot.technician import Technician
from robot.watchdog import Watchdog

Common = tuple[Robot, SafetyFilter, Clock, Watchdog | None]
Motion = Callable[[Common, Callable[[], str]], Moved]


class Moves(ABC):
    """The part of a RobotSession that moves the robot without a policy."""

    robot: Robot
    task: Task
    settings: RobotSettings
    ledger: Ledger
    _watch: Stopwatch
    technician: Technician | None
    _latch: Latch
    _confirmer: Confirmer
    _safety: SafetyFilter
    _clock: Clock
    _watchdog: Watchdog | None
    _turn: threading.RLock

    @property
    @abstractmethod
    def interrupted(self) -> str:
        """Why another thread took the motors away; empty until then, and again after `recover`."""

    @abstractmethod
    def _check(self) -> None:
        """Raise RobotError unless the robot may move now."""

    @abstractmethod
    def _judge(self, recording: Recording | Moved, held: str) -> tuple[str, bool]:
        """Why the robot must stay stopped now (empty: it need not), and whether the link is to blame."""

    def home(self, operator: str = "") -> Moved:
        """Drive the actuated joints to `settings.home` (default: the middle of their range); motors off afterwards.

        A jerk-limited plan at reduced speed, through the filter. Raises RobotError while the robot is stopped, in
        shadow mode, or without budget; a fault on the way is a stop, in the result and latched.
        """
        return self._drive("home", self._plan(lambda at: self._home()), operator)

    def jog(self, joint: str, by: float, operator: str) -> Moved:
        """Move one actuated joint by so many m or rad, as `home` does."""
        actuated = self.robot.spec.actuated
        if joint not in actuated:
            raise RobotError(f"jog: {joint!r} given; accepted is one of {', '.join(actuated)}")
        if not operator.strip():
            raise RobotError("jog: no operator given; accepted is the name of who moves the robot")
        change = np.array([by if name == joint else 0.0 for name in actuated])
        return self._drive(f"jog {joint} by {by:g}", self._plan(lambda at: at + change), operator)

    def excite(
        self,
        command: Callable[[int, Observation], np.ndarray],
        heard: Callable[[int, float, Observation, np.ndarray], None],
        steps: int,
        start: State | None = None,
        noise_seed: int = 0,
        what: str = "excitation",
        purpose: str = "identification",
        mode: Mode | None = None,
    ) -> Moved:
        """Send `command(k, seen)` for `steps` periods as `robot.motion.excite` does, at reduced speed, and log it.

        Its time is booked under `purpose`. Where there is a technician, `start` is set first. With a `mode` nobody is
        standing by who asked for this, and where it or the settings say so a person is asked first. Raises RobotError
        as `home` does, for a no, and when it ended early.
        """
        self._check_stands()
        self.ledger.afford({purpose: steps * self.task.control_period_s})
        if mode is not None:
            self._agree(what, mode)
        if self.technician and start is not None:
            self.technician.reset(start, noise_seed)
        motion: Motion = lambda common, stop: excite(*common, command, heard, steps, stop)  # noqa: E731
        moved = self._drive(what, motion, "", purpose)
        if moved.stop:
            raise RobotError(f"{what}: stopped: {moved.stop}")
        return moved

    def no_motion(self, mode: Mode) -> str:
        """Why a motion as a whole cannot be made in this mode or that of the settings; empty: it can."""
        if self.robot.spec.takes == "thrust":
            return self._falls()
        careful = self._careful(mode)
        if careful in ("auto", "confirm_episode"):
            return ""
        return f"the mode is {careful}, and a motion is sent as a whole; accepted is confirm_episode or auto"

    def _careful(self, mode: Mode) -> Mode:
        return MODES[min(MODES.index(mode), MODES.index(self.settings.confirmation))]

    def _agree(self, what: str, mode: Mode) -> None:
        """Have a person agree to a motion, where the mode or the settings ask for it."""
        self._check()
        if why := self.no_motion(mode):
            raise RobotError(f"{what}: {why}")
        if self._careful(mode) == "confirm_episode":
            self._latch.note("agreed", what=what, operator=self._confirmer.ask(what, lambda: self.interrupted))

    def _check_stands(self) -> None:
        """Raise RobotError where only a policy keeps the robot from falling."""
        if self.robot.spec.takes == "thrust":
            raise RobotError(self._falls())

    def _falls(self) -> str:
        return f"{self.task.name} flies, and makes no moves of its own; accepted is an episode"

    def _plan(self, target: Callable[[np.ndarray], np.ndarray]) -> Motion:
        self._check_stands()
        return lambda common, stop: move(*common, target, self.settings.motion, stop)

    def longest_s(self, purpose: str) -> dict[str, float]:
        """Robot seconds that one episode may take, by what they would be booked under."""
        flight = {purpose: self.task.max_steps * self.task.control_period_s}
        return flight if self.settings.home is None else {**flight, "reset": self._longest_move_s()}

    def _longest_move_s(self) -> float:
        """From one end of the limits to the other, and until it has arrived."""
        spec, motion = self.robot.spec, self.settings.motion
        low, high = np.array([spec.limits[name].position for name in spec.actuated]).T
        return Plan(low, high, spec.actuated, spec.limits, motion).duration_s + motion.patience_s

    def _drive(self, what: str, motion: Motion, operator: str, purpose: str = "reset") -> Moved:
        """A planned move on its own: checked, booked and logged."""
        if not self._turn.acquire(blocking=False):
            raise RobotError(f"{what}: an episode is under way; hold the robot or wait for its end")
        try:
            self._check()
            if self.settings.confirmation == "shadow":
                raise RobotError(f"{what}: the robot is in shadow mode, and nothing is sent; accepted is another mode")
            if purpose == "reset":
                self.ledger.afford({purpose: self._longest_move_s()})
            moved = self._move(motion, what, operator, purpose)
            if moved.stop:
                self._latch.stop(moved.stop, "link" if moved.link else "unsafe")
            return moved
        finally:
            self._turn.release()

    def _move(self, motion: Motion, what: str, operator: str = "", purpose: str = "reset") -> Moved:
        """Motors on, a motion at reduced speed, motors off; what went wrong is in the result."""
        self._safety.reset(self.settings.reduced_speed.scale)
        self._clock.start()
        moved = Moved()
        try:
            self.robot.arm()
            with urgent(self.robot.spec.realtime):
                common = self.robot, self._safety, self._clock, self._watchdog
                moved = motion(common, lambda: self.interrupted)
        except RobotFault as fault:
            moved.stop, moved.link = str(fault), fault.link
        finally:  # also where a person pressed Ctrl-C: the robot is held, and its time was spent
            seconds = self._clock.elapsed_s
            held = self._release()
            self._watch.book(purpose, seconds, what, self._resting())
        moved.stop, moved.link = self._judge(moved, held)
        details = {"steps": moved.steps, "interventions": dict(moved.interventions), "stop": moved.stop}
        self._latch.note("move", what=what, operator=operator, **details)
        return moved

    def _release(self) -> str:
        """Hold the robot after an episode, however it ended; returns what went wrong with that."""
        try:
            held = self.robot.hold()
        except RobotFault as fault:
            return str(fault)
        except Exception as error:  # a driver's own mistake must not keep the stop from being latched
            return f"the motors could not be switched off: {type(error).__name__}: {error}"
        if held.motors_off or (held.still and self.robot.spec.stop != "torque_off"):
            return ""
        return "the motors did not go off at the end of the episode"

    def _resting(self) -> str:
        """What time is spent on while nothing moves."""
        return "stopped" if self._latch.reason else "idle"

    def _home(self) -> np.ndarray:
        """(u,) where home is, m or rad."""
        home = self.settings.home or {}
        spec = self.robot.spec
        return np.array([home.get(name, sum(spec.limits[name].position) / 2) for name in spec.actuated])
