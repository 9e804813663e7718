"""Running a twin in the foreground, until somebody ends it."""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Literal

from robot.interface import RobotError

LOOK_S = 0.2


def serve_twin(
    hidden: Path | str | None = None,
    mode: Literal["lockstep", "realtime"] = "realtime",
    directory: Path | str | None = None,
    *,
    ready: Callable[[dict[str, str]], None],
    task: str = "cartpole",
    control_hz: float | None = None,
    lifeline: int | None = None,
) -> None:
    """Serve the twin of a task until Ctrl-C, SIGTERM, or until the file descriptor `lifeline` closes.

    `ready` is called once with {port, technician, mode}, which are what a configuration puts under
    robot.port, robot.technician and robot.mode. `directory` is where both appear (default: a new one, removed
    at the end). In lockstep a command lasts 1 / `control_hz` s (None: as the task has it). Raises RobotError when no
    twin knows the task, the hidden file is refused or the directory cannot be used.
    """
    from robot.twin.hidden import load
    from robot.twin.rigs import find_rig

    rig = find_rig(task)
    model = rig.make_model(load(hidden, task))
    from robot.twin.reality import Reality
    from robot.twin.server import TwinServer

    own = directory is None
    place = Path(tempfile.mkdtemp(prefix="twin-")) if directory is None else Path(directory)
    try:
        try:
            place.mkdir(parents=True, exist_ok=True)
            server = TwinServer(Reality(rig, model, mode == "realtime", control_hz), place, lifeline)
        except OSError as error:
            raise RobotError(
                f"the twin's directory {place} cannot be used ({error.strerror or error}); accepted is a "
                "directory with a short path that can be written"
            ) from error
        if mode == "realtime":
            with contextlib.suppress(OSError):  # where the user may; the twin works without
                os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))
        with contextlib.closing(server), _until_interrupted():
            ready({"port": str(server.port), "technician": str(server.technician), "mode": mode})
            server.run()
    finally:
        with contextlib.suppress(OSError):  # not empty: then somebody else has a use for it
            if own or lifeline is not None:
                place.rmdir()


def serve_rosbridge(
    hidden: Path | str | None = None,
    mode: Literal["lockstep", "realtime"] = "realtime",
    tcp_port: int | None = None,
    *,
    ready: Callable[[dict[str, str]], None],
    task: str = "cartpole",
) -> None:
    """Serve a task's twin behind rosbridge v2 on 127.0.0.1 until Ctrl-C or SIGTERM.

    `ready` as for `serve_twin`; `tcp_port` None takes one that is free. Raises RobotError as `serve_twin` does, when
    the port is taken, and when a process of the twin ends by itself.
    """
    from robot.twin.rosbridge import RosbridgeTwin

    twin = RosbridgeTwin(hidden, mode, task=task, tcp_port=tcp_port)
    with contextlib.closing(twin), _until_interrupted():
        twin.start()
        ready({"port": twin.port, "technician": str(twin.technician), "mode": mode})
        while twin.alive():
            time.sleep(LOOK_S)
        raise RobotError("the twin ended by itself")


@contextlib.contextmanager
def _until_interrupted() -> Iterator[None]:
    """Ctrl-C and SIGTERM end what is served, in order."""
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(signum: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
