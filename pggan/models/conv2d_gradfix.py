"""Convolution and leaky ReLU, as torch has them, but with gradients that are cheap to differentiate once more.

A gradient penalty is a function of the gradient of D at its input, so its own gradient goes through every layer's
backward pass. torch's convolution then finds the share of the weights as a convolution whose kernel is a whole feature
map, and its leaky ReLU, whose second derivative is zero, fills and adds maps of zeros. Here the gradient at the input
is a convolution like any other (the transposed one), and what is zero is left out. Karras et al. 2020b did the same to
train on a GPU; the arithmetic is unchanged, so autograd in float64 agrees (tests/test_functions.py).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

_weights_wanted = True  # of the backward pass under way; not thread-local: a GPU's backward has a thread of its own


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, transposed: bool = False
) -> Tensor:
    """F.conv2d, or F.conv_transpose2d if `transposed`, in autocast's precision where that is on, else that of x.

    x: [N, C, H, W]; weight: [C', C, h, w], transposed [C, C', h, w]; bias: [C'] -> [N, C', H', W'].
    Raises ValueError where the stride leaves over pixels: the transposed convolution could not tell how many.
    """
    sizes = () if transposed else zip(x.shape[2:], weight.shape[2:], strict=True)
    if any((size + 2 * padding - kernel) % stride for size, kernel in sizes):
        raise ValueError(f"a stride of {stride} does not divide {tuple(x.shape[2:])} with {tuple(weight.shape[2:])}")
    kind = x.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
    bias = bias if bias is None else bias.to(dtype)
    return _Convolution.apply(x.to(dtype), weight.to(dtype), bias, stride, padding, transposed)


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """F.leaky_relu for a slope above 0; remembers its output only, so that the input can be forgotten."""
    return _LeakyReLU.apply(x, slope)


def input_gradient(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The gradient of the sum of `outputs` at `inputs`, differentiable, and at no weight: nobody asks for that here."""
    with inputs_alone():
        (gradient,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    return gradient


@contextmanager
def inputs_alone() -> Iterator[None]:
    """A Function cannot know which gradients autograd.grad was asked for, and would work out all of them."""
    global _weights_wanted
    before, _weights_wanted = _weights_wanted, False
    try:
        yield
    finally:
        _weights_wanted = before


def weights_wanted() -> bool:
    """Whether the backward pass under way is for more than the inputs of a network."""
    return _weights_wanted


class _Convolution(Function):
    """Linear in x and in the weight; each backward at x is the transposed convolution with the same weight."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, transposed):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, transposed
        function = F.conv_transpose2d if transposed else F.conv2d
        return function(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx, dy):
        if dy is None:  # no maps of zeros
            return (None,) * 6
        (x, weight), (stride, padding, transposed) = ctx.saved_tensors, ctx.geometry
        of_x, of_weight, of_bias, *_ = ctx.needs_input_grad
        dx = _Convolution.apply(dy, weight, None, stride, padding, not transposed) if of_x else None
        dw = _weight_gradient(dy, x, weight, ctx.geometry) if of_weight and _weights_wanted else None
        db = dy.sum(dim=(0, 2, 3)) if of_bias and _weights_wanted else None
        return dx, dw, db, None, None, None


def _weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, geometry: tuple[int, int, bool]) -> Tensor:
    """By torch's own function, so that it, too, can be differentiated, at torch's price."""
    stride, padding, transposed = geometry
    mask = [False, True, False]
    both = [stride, stride], [padding, padding], [1, 1], transposed, [0, 0], 1
    return torch.ops.aten.convolution_backward(dy, x, weight, None, *both, mask)[1]


class _LeakyReLU(Function):
    @staticmethod
    def forward(ctx, x, slope):
        y = F.leaky_relu(x, slope)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return y

    @staticmethod
    def backward(ctx, dy):
        return None if dy is None else _LeakyReLUGradient.apply(dy, *ctx.saved_tensors, ctx.slope), None


class _LeakyReLUGradient(Function):
    """dy where y is above zero, slope * dy elsewhere: linear in dy, and constant in y almost everywhere."""

    @staticmethod
    def forward(ctx, dy, y, slope):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return torch.ops.aten.leaky_relu_backward(dy, y, slope, True)

    @staticmethod
    def backward(ctx, ddy):
        return None if ddy is None else _LeakyReLUGradient.apply(ddy, *ctx.saved_tensors, ctx.slope), None, None
