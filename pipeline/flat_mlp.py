"""ReLU multilayer perceptrons inside flat vectors, with forward and backward passes written out.

Matrix products go to torch's BLAS, or to oneDNN where the layer is wide enough for it to win. On an AMD Zen 5 core
MKL stays near 110 GFLOP/s at any size; oneDNN reaches 160 for 128 x 128 layers and 240 for 256 x 256, but costs some
10 us a call. On Intel's own processors MKL is held back by nothing, and oneDNN made whole updates of 128 x 128 networks
a quarter slower and those of 256 x 256 no faster (Xeon, 2 GHz). The choice follows the processor and not a timing, so
that a run which goes on elsewhere on the same kind of machine computes the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

ALIGNMENT = 16  # floats: every tensor in a flat vector begins on a cache line


def _is_intel() -> bool:
    """Whether the processor is Intel's; False where the system does not tell."""
    try:
        return "GenuineIntel" in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False


WIDE = 1 << (62 if _is_intel() else 22)  # multiply-adds in one product from which oneDNN is used


class Layer(NamedTuple):
    """One linear layer inside a flat vector, shaped as in `nn.Linear`."""

    weight: torch.Tensor  # (out, in)
    bias: torch.Tensor  # (out,)


class Layout:
    """Where the layers of an MLP with `sizes` units, from input to output, lie in a flat vector."""

    def __init__(self, sizes: Sequence[int]):
        self.sizes = tuple(sizes)
        self.length = sum(_aligned(i * o) + _aligned(o) for i, o in self._pairs())

    def layers(self, flat: torch.Tensor) -> list[Layer]:
        """Views of `flat`, of `length` elements.

        The first weight lies transposed, because the product that gives its gradient is faster that way when the
        number of inputs is not a multiple of the vector width.
        """
        views, start = [], 0
        for inputs, outputs in self._pairs():
            weight = flat[start : start + inputs * outputs]
            weight = weight.view(outputs, inputs) if views else weight.view(inputs, outputs).t()
            start += _aligned(inputs * outputs)
            views.append(Layer(weight, flat[start : start + outputs]))
            start += _aligned(outputs)
        return views

    def tensors(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Weight and bias of each layer in turn, the order of `nn.Sequential.parameters()`."""
        return [tensor for layer in self.layers(flat) for tensor in layer]

    def _pairs(self) -> list[tuple[int, int]]:
        return list(zip(self.sizes[:-1], self.sizes[1:], strict=True))


class FlatMLP:
    """One MLP over its slice of a flat parameter vector, between fixed buffers.

    The caller fills `inputs` (rows, in), calls `forward` and reads `output` (rows, out). To go back it fills `delta`
    (back_rows, out) with the loss gradient at the first rows of the output and calls `backward`; this writes the
    parameter gradients, from the first `trained_rows` alone, and `first_delta` (back_rows, width), the loss gradient
    at the first layer's sum.
    """

    def __init__(
        self,
        layout: Layout,
        parameters: torch.Tensor,
        inputs: torch.Tensor,
        gradients: torch.Tensor | None = None,
        back_rows: int = 0,
        trained_rows: int = 0,
    ):
        self.layers = layout.layers(parameters)
        self.inputs = inputs
        self._ups: list[_Up] = []
        self._downs: list[_Down] = []
        for index, layer in enumerate(self.layers):
            self._ups.append(_Up(layer, inputs, last=index == len(self.layers) - 1))
            inputs = self._ups[-1].output
        self.output = inputs
        if gradients is None:
            return
        self.delta = delta = parameters.new_empty(back_rows, layout.sizes[-1])
        for index, gradient in reversed(list(enumerate(layout.layers(gradients)))):
            step = _Down(self._ups[index], gradient, delta, trained_rows, first=index == 0)
            self._downs.append(step)
            delta = step.passed
        self.first_delta = delta

    def forward(self) -> None:
        for step in self._ups:
            step.run()

    def backward(self) -> None:
        for step in self._downs:
            step.run()


class _Up:
    """output = inputs @ weight.T + bias, through a ReLU unless it is the last layer."""

    def __init__(self, layer: Layer, inputs: torch.Tensor, last: bool):
        self.layer, self.inputs, self._last = layer, inputs, last
        self._transposed = layer.weight.t()
        self.output = inputs.new_empty(len(inputs), len(layer.bias))
        self._wide = _prefers_onednn(inputs, len(layer.bias)) and not last

    def run(self) -> None:
        if self._wide:
            self.output.copy_(_linear(self.inputs, self.layer.weight, self.layer.bias, "relu", [], ""))
            return
        torch.addmm(self.layer.bias, self.inputs, self._transposed, out=self.output)
        if not self._last:
            self.output.relu_()


class _Down:
    """Parameter gradients of one layer, and the gradient `passed` to the layer below."""

    def __init__(self, up: _Up, gradient: Layer, delta: torch.Tensor, trained_rows: int, first: bool):
        trained, inputs = delta[:trained_rows], up.inputs[:trained_rows]
        self._trained, self._bias = trained, gradient.bias
        if first:  # its weight lies transposed
            self._left, self._right, self._weight_gradient = inputs.t(), trained, gradient.weight.t()
        else:
            self._left, self._right, self._weight_gradient = trained.t(), inputs, gradient.weight
        self._wide = _prefers_onednn(self._left, self._right.shape[1])
        self._first, self._delta, self._weight = first, delta, up.layer.weight
        self._below = up.inputs[: len(delta)]
        self._wide_passed = _prefers_onednn(delta, self._weight.shape[1])
        self.passed = delta if first else delta.new_empty(len(delta), self._weight.shape[1])

    def run(self) -> None:
        _multiply(self._left, self._right, self._weight_gradient, self._wide)
        torch.sum(self._trained, 0, out=self._bias)
        if not self._first:
            _multiply(self._delta, self._weight, self.passed, self._wide_passed)
            _relu_gradient(self.passed, self._below, 0.0, grad_input=self.passed)


# (inputs, weight, bias, activation, [], "") of oneDNN, which only torch's compiler calls otherwise
_linear: Any = torch.ops.mkldnn._linear_pointwise.default if torch.backends.mkldnn.is_available() else None
_relu_gradient = torch.ops.aten.threshold_backward.grad_input


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _prefers_onednn(left: torch.Tensor, columns: int) -> bool:
    return _linear is not None and left.dtype is torch.float32 and left.numel() * columns >= WIDE


def _multiply(left: torch.Tensor, right: torch.Tensor, out: torch.Tensor, wide: bool) -> None:
    """out = left @ right."""
    if wide:
        out.copy_(_linear(left, right.t(), None, "none", [], ""))
    else:
        torch.mm(left, right, out=out)
