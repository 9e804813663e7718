"""The twin behind rosbridge: the same reality on the same bus, and beside it a node that speaks ROS to the outside."""

from __future__ import annotations

import json
import os
import select
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from robot.interface import RobotError
from robot.twin.process import START_S, TwinProcess


class RosbridgeTwin(TwinProcess):
    """A twin whose `port` is a ws:// address on this computer, the same one after a restart."""

    def __init__(self, *arguments: Any, **keys: Any) -> None:
        super().__init__(*arguments, **keys)
        self._node: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._number = probe.getsockname()[1]

    @property
    def port(self) -> str:
        return f"ws://127.0.0.1:{self._number}"

    @property
    def bus(self) -> str:
        return str(self._directory / "bus")

    def alive(self) -> bool:
        return super().alive() and self._node is not None and self._node.poll() is None

    def start(self) -> None:
        if self.alive():
            return
        super().start()
        command = [sys.executable, "-m", "robot.twin.rosbridge_node", "--bus", self.bus, "--mode", self._mode]
        command += ["--port", str(self._number)]
        root = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self._node = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
        assert self._node.stdout is not None
        ready = select.select([self._node.stdout], [], [], START_S)[0]
        line = self._node.stdout.readline() if ready else b""
        message = json.loads(line) if line.startswith(b"{") else {}
        if "ready" not in message:
            self._reap()
            raise RobotError(message.get("error", f"the rosbridge node did not start (it said {line!r})"))

    def _reap(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            assert node.stdin is not None and node.stdout is not None
            node.stdin.close()
            try:
                node.wait(3.0)
            except subprocess.TimeoutExpired:
                node.kill()
                node.wait()
            node.stdout.close()
        super()._reap()
