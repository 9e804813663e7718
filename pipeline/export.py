"""The trained policy as one ONNX file: what the robot runs during training and what ships afterwards.

The graph is built directly from the weights, in less than a millisecond, without torch. It takes the `policy`
observation group, scaled and stacked as the metadata says, and gives the action in [-1, 1].
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from envs.task import Task
from pipeline.policy import LOG_STD_MAX, LOG_STD_MIN, actor_layers
from pipeline.policy import actor_weights as actor_weights  # what `export_policy` and `NumpyPolicy` take

FORMAT = 1
METADATA_KEY = "sim2real"
OPSET, IR_VERSION = 17, 8  # old enough for any onnxruntime of the last years


def export_policy(weights: Mapping[str, Any], task: Task, *, version: int, run: str) -> bytes:
    """The actor in `weights` (any state with one in it) as ONNX.

    Input `policy` (n, policy_size) float32: `history` frames, oldest first, each `frame_names` times `frame_scale`.
    Outputs, each (n, action_size): `action` = tanh(mean), and `mean` and `log_std` of the Gaussian before the tanh.
    Metadata `sim2real`: JSON of all that a robot needs to build that input and to refuse another task's policy.

    Raises:
        ValueError: if the actor does not have the task's observation and action sizes.
    """
    layers = actor_layers(weights)
    sizes = layers[0][0].shape[1], len(layers[-1][1]) // 2
    if sizes != (task.policy_size, task.action_size):
        raise ValueError(
            f"The actor takes {sizes[0]} observations to {sizes[1]} actions; task {task.name} has {task.policy_size}"
            f" and {task.action_size}."
        )
    model = helper.make_model(
        _graph(layers, task),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="sim2real",
    )
    description = {
        "format": FORMAT,
        "task": task.name,
        "version": int(version),
        "run": run,
        "policy_size": task.policy_size,
        "action_size": task.action_size,
        "history": task.history,
        "frame_names": list(task.frame_names),
        "frame_scale": np.asarray(task.frame_scale, float).tolist(),
        "control_hz": float(task.control_hz),
        "action_names": list(task.actuated),
        "joints": list(task.joints),
    }
    helper.set_model_props(model, {METADATA_KEY: json.dumps(description)})
    return model.SerializeToString()


def _graph(layers: list[tuple[np.ndarray, np.ndarray]], task: Task) -> onnx.GraphProto:
    arrays: dict[str, np.ndarray] = {}
    nodes: list[onnx.NodeProto] = []

    def linear(name: str, source: str, weight: np.ndarray, bias: np.ndarray) -> None:
        arrays[f"{name}.weight"], arrays[f"{name}.bias"] = weight, bias
        nodes.append(helper.make_node("Gemm", [source, f"{name}.weight", f"{name}.bias"], [name], transB=1))

    source = "policy"
    for index, (weight, bias) in enumerate(layers[:-1]):
        linear(f"hidden{index}.sum", source, weight, bias)
        nodes.append(helper.make_node("Relu", [f"hidden{index}.sum"], [f"hidden{index}"]))
        source = f"hidden{index}"
    (weight, bias), size = layers[-1], task.action_size
    linear("mean", source, weight[:size], bias[:size])
    linear("raw_log_std", source, weight[size:], bias[size:])
    arrays["log_std_min"], arrays["log_std_max"] = np.array(LOG_STD_MIN), np.array(LOG_STD_MAX)
    nodes.append(helper.make_node("Clip", ["raw_log_std", "log_std_min", "log_std_max"], ["log_std"]))
    nodes.append(helper.make_node("Tanh", ["mean"], ["action"]))

    def value(name: str, columns: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", columns])

    return helper.make_graph(
        nodes,
        task.name,
        [value("policy", task.policy_size)],
        [value(name, size) for name in ("action", "mean", "log_std")],
        [numpy_helper.from_array(np.asarray(array, np.float32), name) for name, array in arrays.items()],
    )
