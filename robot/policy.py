"""A trained policy as it travels: one ONNX file that needs NumPy and onnxruntime, no Ray, no torch."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnxruntime

from envs.task import Task
from robot.interface import RobotError

KEY = "sim2real"  # the metadata entry that makes an ONNX file one of ours
FORMAT = 1
REQUIRED = (
    "format",
    "task",
    "version",
    "run",
    "policy_size",
    "action_size",
    "history",
    "frame_names",
    "frame_scale",
)
OUTPUTS = {"action", "mean", "log_std"}


class Policy(Protocol):
    """What an episode can be flown by."""

    version: int
    run: str  # whose it is: reduced speed is counted by it

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None, explore: float = 1.0) -> np.ndarray:
        """Actions for (N, policy_size) observations, explored with standard normals (N, action_size)."""
        ...

    def check(self, task: Task) -> None:
        """Raise RobotError unless the policy was made for `task` as it is now."""
        ...


class Scripted:
    """A policy that somebody wrote. Satisfies `Policy`; `begin` is to be called before each episode."""

    version = 0

    def __init__(self, task: Task, run: str) -> None:
        self.task, self.run = task, run

    @abstractmethod
    def begin(self, number: int) -> None:
        """Forget the episode before; `number` names the next one, and its variations follow from it."""

    @abstractmethod
    def act(self, observation: np.ndarray, noise: np.ndarray | None = None, explore: float = 1.0) -> np.ndarray:
        """Actions for (N, policy_size) observations."""

    def check(self, task: Task) -> None:
        if task.name != self.task.name:
            raise RobotError(f"policy: {self.run} was made for {self.task.name}; accepted is one made for {task.name}")


class ExportedPolicy:
    """A squashed Gaussian over actions in [-1, 1].

    Input "policy" (N, policy_size) float32: scaled frames, oldest first. Outputs "action" = tanh(mean),
    "mean", "log_std", each (N, action_size). `metadata` says for which task, how frames are made, version and
    run.
    """

    def __init__(self, source: bytes | Path | str) -> None:
        name = "the policy" if isinstance(source, bytes) else str(source)
        accepted = "accepted is an ONNX file written by `sim2real export`"
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        try:
            data = source if isinstance(source, bytes) else Path(source).read_bytes()
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise RobotError(f"policy: {name} cannot be read ({error.strerror or error}); {accepted}") from error
        except Exception as error:  # onnxruntime has no common base for what it raises
            raise RobotError(f"policy: {name} is not an ONNX model; {accepted}") from error
        try:
            metadata = json.loads(session.get_modelmeta().custom_metadata_map.get(KEY, "null"))
        except ValueError:
            metadata = None
        if not isinstance(metadata, dict) or not set(REQUIRED) <= set(metadata):
            raise RobotError(f"policy: {name} does not describe itself as a policy of this project; {accepted}")
        if metadata["format"] != FORMAT:
            raise RobotError(f"policy: {name} has format {metadata['format']!r}; accepted is format {FORMAT}")
        inputs = {entry.name: entry.shape for entry in session.get_inputs()}
        outputs = {entry.name for entry in session.get_outputs()}
        if set(inputs) != {"policy"} or not outputs >= OUTPUTS or inputs["policy"][-1] != metadata["policy_size"]:
            raise RobotError(
                f"policy: {name} has inputs {sorted(inputs)} and outputs {sorted(outputs)}; accepted is one "
                f"input 'policy' of {metadata['policy_size']} columns and {sorted(OUTPUTS)}"
            )
        self._session = session
        self.metadata: Mapping[str, Any] = metadata
        self.version = int(metadata["version"])
        self.run = str(metadata["run"])

    def act(self, observation: np.ndarray, noise: np.ndarray | None = None, explore: float = 1.0) -> np.ndarray:
        """Actions for (N, policy_size) observations, explored with standard normals (N, action_size)."""
        if noise is None or explore == 0.0:
            return np.asarray(self._session.run(["action"], {"policy": observation})[0])
        mean, log_std = map(np.asarray, self._session.run(["mean", "log_std"], {"policy": observation}))
        return np.tanh(mean + explore * np.exp(log_std) * noise.astype(np.float32))

    def check(self, task: Task) -> None:
        """Raise RobotError unless the policy was made for `task` as it is now."""
        wanted = {
            "task": task.name,
            "policy_size": task.policy_size,
            "action_size": task.action_size,
            "history": task.history,
            "frame_names": list(task.frame_names),
        }
        for key, value in wanted.items():
            if self.metadata[key] != value:
                raise RobotError(
                    f"policy: its {key} is {self.metadata[key]!r}, but {task.name} has {value!r}; accepted "
                    "is a policy exported for this task"
                )
        if not np.allclose(self.metadata["frame_scale"], task.frame_scale, rtol=1e-6):
            raise RobotError(
                f"policy: its frame_scale is {self.metadata['frame_scale']}, but task {task.name} has "
                f"{task.frame_scale.tolist()}; accepted is a policy exported for this task"
            )
        hz = self.metadata.get("control_hz", task.control_hz)
        if hz != task.control_hz:
            raise RobotError(f"policy: it was made for {hz} Hz, but task {task.name} runs at {task.control_hz} Hz")
