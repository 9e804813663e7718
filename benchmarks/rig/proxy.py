"""A pseudo-terminal between driver and twin whose bytes can be lost, doubled, changed or held back."""

from __future__ import annotations

import os
import pty
import select
import threading
import tty
from collections.abc import Callable

import numpy as np

LOOK_MS = 5
Harm = Callable[[bytes, bytes], list[bytes] | None]  # (packet, the one before) to what passes; None: nothing ever again


class Proxy:
    """Passes packets both ways; `harm` the one numbered `when` of a direction ("to" or "from" the robot), if any.

    When the driver hangs up, so does the proxy. `cut` pulls the plug.
    """

    def __init__(self, robot_port: str, direction: str = "to", when: int = -1, harm: Harm | None = None) -> None:
        self._direction, self._when, self._harm = direction, when, harm
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        self._robot = os.open(robot_port, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._robot)
        self.injected = threading.Event()
        self._closing, self._frozen = threading.Event(), False
        self._count, self._before = {"to": 0, "from": 0}, {"to": b"", "from": b""}
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        self.injected.set()
        self._closing.set()

    def close(self) -> None:
        self._closing.set()
        self._thread.join()

    def _run(self) -> None:
        poll = select.poll()
        for descriptor in (self._master, self._robot):
            poll.register(descriptor, select.POLLIN)
        heard = False
        try:
            while not self._closing.is_set():
                for descriptor, what in poll.poll(LOOK_MS):
                    if not what & select.POLLIN:
                        if descriptor == self._robot or heard:
                            return
                        continue
                    data = os.read(descriptor, 4096)
                    if descriptor == self._master and not heard:
                        heard = True
                        os.close(self._slave)  # from now on the driver's hang-up is seen
                        self._slave = -1
                    away = self._robot if descriptor == self._master else self._master
                    for part in self._pass("to" if descriptor == self._master else "from", data):
                        os.write(away, part)
        except OSError:
            return  # one side is gone
        finally:
            for descriptor in (self._master, self._robot, self._slave):
                if descriptor >= 0:
                    os.close(descriptor)

    def _pass(self, direction: str, data: bytes) -> list[bytes]:
        if self._frozen:
            return []
        number, self._count[direction] = self._count[direction], self._count[direction] + 1
        before, self._before[direction] = self._before[direction], data
        if self._harm is None or direction != self._direction or number != self._when:
            return [data]
        self.injected.set()
        parts = self._harm(data, before)
        self._frozen = parts is None
        return parts or []


def harms(random: np.random.Generator) -> dict[str, Harm]:
    """One randomized harm of each kind."""

    def corrupt(data: bytes, before: bytes) -> list[bytes]:
        changed = bytearray(data)
        for _ in range(int(random.integers(1, 4))):
            changed[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        return [bytes(changed)]

    return {
        "dropped": lambda data, before: [data[: int(random.integers(len(data)))]] if random.random() < 0.5 else [],
        "duplicated": lambda data, before: [data, data],
        "corrupted": corrupt,
        "frozen": lambda data, before: None,
        "replayed": lambda data, before: [before or data],
        "noise": lambda data, before: [random.bytes(int(random.integers(1, 60))), data],
    }
