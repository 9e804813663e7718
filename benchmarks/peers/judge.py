"""The judge of the learner benchmark: flies policies on the twin, in a process of its own.

Its memory and its threads are then not the contender's, and all contenders are judged by the same code, from the same
starting states, through the whole robot side (bus, safety filter, episode store) in lockstep.
"""

from __future__ import annotations

import multiprocessing
import tempfile
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

JUDGE_SEED = 777_001


class Verdict(NamedTuple):
    """Successes among the episodes flown; fewer than asked when the target had come out of reach."""

    successes: int
    flown: int
    reached: bool

    @property
    def rate(self) -> float:
        return self.successes / max(1, self.flown)


class Judge:
    """Judges one policy at a time; use it in a `with`."""

    def __enter__(self) -> Judge:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs,), name="judge")
        self._process.start()
        theirs.close()
        self._hear()  # the twin is up
        return self

    def __exit__(self, *error: object) -> None:
        self._pipe.close()
        self._process.join(timeout=20)
        if self._process.is_alive():
            self._process.terminate()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    def fly(self, policy: bytes, episodes: int, first_world: int, target: float) -> Verdict:
        """`episodes` episodes; ends early once too many failed for a success rate of `target`."""
        self._pipe.send((policy, episodes, first_world, target))
        return self._hear()

    def _hear(self) -> Any:
        answer = self._pipe.recv()
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _serve(pipe: Connection) -> None:
    from pipeline.config import load_experiment
    from robot.open import open_session
    from robot.settings import ReducedSpeed

    experiment = load_experiment()
    settings = experiment.robot.model_copy(update={"reduced_speed": ReducedSpeed(episodes=0)})
    with tempfile.TemporaryDirectory(prefix="judge-") as folder:
        session = open_session(settings, experiment.make_task(), Path(folder))
        try:
            pipe.send("ready")
            while True:
                pipe.send(_judge(session, *pipe.recv()))
        except (EOFError, KeyboardInterrupt, BrokenPipeError):
            return
        except Exception as error:  # noqa: BLE001  the contender's process is the one to tell
            pipe.send(RuntimeError(f"the judge failed: {type(error).__name__}: {error}"))
        finally:
            session.close()


def _judge(session: Any, policy: bytes, episodes: int, first_world: int, target: float) -> Verdict:
    from robot.policy import ExportedPolicy

    exported, successes, flown = ExportedPolicy(policy), 0, 0
    while flown < episodes:
        meta = session.run_episode(
            exported, purpose="evaluation", seed=JUDGE_SEED, world=first_world + flown, round_id="judge"
        ).meta
        if session.status().state == "stopped":  # the safety filter gave up on this policy; a failure
            session.recover("benchmark")
        if meta.void:
            continue
        flown += 1
        successes += meta.success
        if successes + episodes - flown < target * episodes:
            break
    return Verdict(successes, flown, successes >= target * episodes)
