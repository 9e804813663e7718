"""ReLU multilayer perceptrons inside flat vectors, with forward and backward passes written out.

Matrix products go to torch's BLAS, or to oneDNN from the size on where it wins: on the CPUs measured (AMD Zen 5) MKL
stays near 110 GFLOP/s a core at any size, while oneDNN reaches 240 for 256 x 256 layers but costs 10 us a call.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

ALIGNMENT = 16  # floats; every tensor in a flat vector begins on a cache line
FEW, MANY = 1 << 22, 1 << 22  # multiply-adds from which oneDNN wins: with fused bias and ReLU, and with a copy after it


class Layer(NamedTuple):
    """One linear layer inside a flat vector, shaped as in `nn.Linear`."""

    weight: torch.Tensor  # (out, in)
    bias: torch.Tensor  # (out,)


class Layout:
    """Where the layers of an MLP with `sizes` units, from input to output, lie in a flat vector."""

    def __init__(self, sizes: Sequence[int]):
        self.sizes = tuple(sizes)
        self.length = sum(
            _aligned(inputs * outputs) + _aligned(outputs)
            for inputs, outputs in zip(self.sizes[:-1], self.sizes[1:], strict=True)
        )

    def layers(self, flat: torch.Tensor) -> list[Layer]:
        """Views of `flat`, of `length` elements. The first weight lies transposed: its gradient is faster that way."""
        views, start = [], 0
        for index, (inputs, outputs) in enumerate(zip(self.sizes[:-1], self.sizes[1:], strict=True)):
            weight = flat[start : start + inputs * outputs]
            start += _aligned(inputs * outputs)
            bias = flat[start : start + outputs]
            start += _aligned(outputs)
            views.append(Layer(weight.view(outputs, inputs) if index else weight.view(inputs, outputs).t(), bias))
        return views

    def tensors(self, flat: torch.Tensor) -> list[torch.Tensor]:
        """Weight and bias of each layer in turn, the order of `nn.Sequential.parameters()`."""
        return [tensor for layer in self.layers(flat) for tensor in layer]


class FlatMLP:
    """One MLP over its slice of a flat parameter vector, for batches of `rows` rows.

    `gradients` is the slice of the gradient vector, or None for a network that is not trained.
    """

    def __init__(self, layout: Layout, rows: int, parameters: torch.Tensor, gradients: torch.Tensor | None = None):
        self.layers = layout.layers(parameters)
        self._gradients = [] if gradients is None else layout.layers(gradients)
        self._buffers = [parameters.new_empty(rows, width) for width in layout.sizes[1:]]
        self._deltas = [] if gradients is None else [parameters.new_empty(rows, width) for width in layout.sizes[1:-1]]
        self._activations: list[torch.Tensor] = []

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(rows, in) to (rows, out). Inputs and activations are kept for `backward`."""
        self._activations = [inputs]
        last = len(self.layers) - 1
        for index, layer in enumerate(self.layers):
            inputs = _linear(inputs, layer, index < last, self._buffers[index])
            self._activations.append(inputs)
        return inputs

    def backward(self, delta: torch.Tensor, trained: int) -> torch.Tensor:
        """Carry the loss gradient at the output of the first rows, `delta` (k, out), back to the first layer.

        Parameter gradients are written for the first `trained` rows of these. Returns the gradient (k, width) at the
        first layer's sum.
        """
        rows = len(delta)
        for index in range(len(self.layers) - 1, -1, -1):
            below = self._activations[index]
            own = delta[:trained]
            weight, bias = self._gradients[index]
            if index:
                _multiply(own.t(), below[:trained], weight)
            else:
                _multiply(below[:trained].t(), own, weight.t())
            torch.sum(own, 0, out=bias)
            if index:
                below = below[:rows]
                delta = _product(delta, self.layers[index].weight, self._deltas[index - 1][:rows])
                _relu_gradient(delta, below, 0.0, grad_input=delta)
        return delta


_onednn_linear = torch.ops.mkldnn._linear_pointwise.default if torch.backends.mkldnn.is_available() else None
_relu_gradient = torch.ops.aten.threshold_backward.grad_input


def _aligned(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


def _prefers_onednn(a: torch.Tensor, columns: int, threshold: int) -> bool:
    return a.numel() * columns >= threshold and _onednn_linear is not None and a.dtype is torch.float32


def _linear(inputs: torch.Tensor, layer: Layer, relu: bool, out: torch.Tensor) -> torch.Tensor:
    """inputs @ weight.T + bias and perhaps ReLU, in `out` or in a new tensor."""
    if _prefers_onednn(inputs, len(layer.bias), FEW):
        return _onednn_linear(inputs, layer.weight, layer.bias, "relu" if relu else "none", [], "")
    torch.addmm(layer.bias, inputs, layer.weight.t(), out=out)
    return out.relu_() if relu else out


def _product(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """a @ b, in `out` or in a new tensor."""
    if _prefers_onednn(a, b.shape[1], FEW):
        return _onednn_linear(a, b.t(), None, "none", [], "")
    return torch.mm(a, b, out=out)


def _multiply(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> None:
    """out = a @ b."""
    if _prefers_onednn(a, b.shape[1], MANY):
        out.copy_(_onednn_linear(a, b.t(), None, "none", [], ""))
    else:
        torch.mm(a, b, out=out)
