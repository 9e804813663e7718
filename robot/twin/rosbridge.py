"""The twin behind rosbridge: the same reality on the same bus, and beside it a node that speaks ROS to the outside."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Literal

from robot.twin.child import Child
from robot.twin.process import TwinProcess


class RosbridgeTwin(TwinProcess):
    """A twin whose `port` is a ws:// address on this computer, the same one after a restart."""

    def __init__(
        self,
        hidden: Path | str | None = None,
        mode: Literal["lockstep", "realtime"] = "lockstep",
        directory: Path | str | None = None,
        task: str = "cartpole",
        control_hz: float | None = None,
        tcp_port: int | None = None,  # of 127.0.0.1; None: one that is free now
    ) -> None:
        super().__init__(hidden, mode, directory, task, control_hz)
        self._node: Child | None = None
        self._tcp_port = tcp_port or _free_port()

    @property
    def port(self) -> str:
        return f"ws://127.0.0.1:{self._tcp_port}"

    def alive(self) -> bool:
        return super().alive() and self._node is not None and self._node.alive()

    def start(self) -> None:
        if self.alive():
            return
        super().start()
        where = ("--bus", self.bus, "--mode", self._mode, "--task", self._task, "--port", str(self._tcp_port))
        try:
            self._node = Child("robot.twin.rosbridge_node", *where)
        except BaseException:
            self._reap()
            raise

    def _reap(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            node.end()
        super()._reap()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
