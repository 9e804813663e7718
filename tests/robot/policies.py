"""ONNX policies for tests, in the exported format, with weights written by hand."""

from __future__ import annotations

import json

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from envs.task import Task


def linear_policy(
    task: Task,
    gains: np.ndarray,
    *,
    log_std: float = -2.0,
    run: str = "run",
    version: int = 1,
    overrides=None,
) -> bytes:
    """Bytes of a policy whose mean is `gains` (policy_size, action_size) applied to the observation."""
    gains = np.asarray(gains, np.float32).reshape(task.policy_size, task.action_size)
    nodes = [
        helper.make_node("MatMul", ["policy", "gains"], ["mean"]),
        helper.make_node("Tanh", ["mean"], ["action"]),
        helper.make_node("Mul", ["mean", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "sd"], ["log_std"]),
    ]
    constants = {"gains": gains, "zero": np.zeros(1), "sd": np.full((1, task.action_size), log_std)}
    graph = helper.make_graph(
        nodes,
        "policy",
        [helper.make_tensor_value_info("policy", TensorProto.FLOAT, ["n", task.policy_size])],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", task.action_size])
            for name in ("action", "mean", "log_std")
        ],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 9
    metadata = {
        "format": 1,
        "task": task.name,
        "version": version,
        "run": run,
        "policy_size": task.policy_size,
        "action_size": task.action_size,
        "history": task.history,
        "frame_names": list(task.frame_names),
        "frame_scale": task.frame_scale.tolist(),
        "control_hz": task.control_hz,
        **(overrides or {}),
    }
    helper.set_model_props(model, {"sim2real": json.dumps(metadata)})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def balancing_gains(task: Task) -> np.ndarray:
    """State feedback on the newest frame that keeps the default twin's pole up, most of the time."""
    gains = np.zeros((task.policy_size, 1))
    newest = task.policy_size - task.frame_size
    scale = task.frame_scale
    for i, gain in enumerate((0.3, 4.0, 0.45, 0.75)):  # action per m, rad, m/s, rad/s
        gains[newest + i, 0] = gain / scale[i]
    return gains


def hovering_gains(task: Task) -> np.ndarray:
    """(policy_size, 4) a cascade on the newest frame that keeps the default hover twin in the air, near its goal."""
    up, roll, pitch, yaw = ([1, 1, 1, 1], [1, 1, -1, -1], [-1, 1, 1, -1], [1, -1, 1, -1])
    by_frame = np.zeros((task.frame_size, 4))
    for row, gain, axis in (
        *((0, -0.13, pitch), (1, 0.13, roll), (2, -1.0, up)),  # action per m from the goal
        *((3, -0.10, pitch), (4, 0.10, roll), (5, -0.5, up)),  # per m/s
        *((6, -0.25, roll), (7, -0.25, pitch), (8, -0.2, yaw)),  # per rad
        *((9, -0.06, roll), (10, -0.06, pitch), (11, -0.15, yaw)),  # per rad/s
    ):
        by_frame[row] = gain * np.array(axis)
    gains = np.zeros((task.policy_size, 4))
    gains[-task.frame_size :] = by_frame / task.frame_scale[:, None]
    return gains
