"""Convolution and leaky ReLU whose second derivatives are cheap, for gradient penalties.

A gradient penalty differentiates the gradient of D at its input, so it passes through every layer's backward pass.
There torch's convolution computes the weight's share with a kernel as large as a feature map, and its leaky ReLU adds
maps of zeros. Here the gradient at the input is the transposed convolution, which is differentiated like any other, and
zero terms are skipped (as in Karras et al. 2020b). The results are those of autograd, checked in float64.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

weight_gradients_disabled = False  # not thread-local: on a GPU, the backward pass runs in a thread of its own


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, stride: int = 1, padding: int = 0, transposed: bool = False
) -> Tensor:
    """F.conv2d, or F.conv_transpose2d if `transposed`; in the dtype of autocast if it is on, otherwise in that of x.

    x: [N, C, H, W]; weight: [C', C, h, w], transposed [C, C', h, w]; bias: [C'] -> [N, C', H', W'].
    Raises ValueError if the stride skips pixels at the border: the transposed convolution cannot know how many.
    """
    sizes = () if transposed else zip(x.shape[2:], weight.shape[2:], strict=True)
    if any((size + 2 * padding - kernel) % stride for size, kernel in sizes):
        raise ValueError(f"a stride of {stride} does not divide {tuple(x.shape[2:])} with {tuple(weight.shape[2:])}")
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    bias = bias if bias is None else bias.to(dtype)
    return _Convolution.apply(x.to(dtype), weight.to(dtype), bias, stride, padding, transposed)


def leaky_relu(x: Tensor, slope: float) -> Tensor:
    """F.leaky_relu for a slope above 0. Only the output is kept for the backward pass."""
    return _LeakyReLU.apply(x, slope)


def input_gradient(outputs: Tensor, inputs: Tensor) -> Tensor:
    """The gradient of outputs.sum() at `inputs`, differentiable. Gradients of the weights are not computed."""
    with no_weight_gradients():
        (gradient,) = torch.autograd.grad(outputs.sum(), inputs, create_graph=True)
    return gradient


@contextmanager
def no_weight_gradients() -> Iterator[None]:
    """Skips the gradients of weights: a Function cannot see which ones autograd.grad asks for, and computes all."""
    global weight_gradients_disabled
    before, weight_gradients_disabled = weight_gradients_disabled, True
    try:
        yield
    finally:
        weight_gradients_disabled = before


class _Convolution(Function):
    """Linear in x and in the weight; its backward at x is the transposed convolution with the same weight."""

    @staticmethod
    def forward(ctx, x, weight, bias, stride, padding, transposed):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(x, weight)
        ctx.geometry = stride, padding, transposed
        function = F.conv_transpose2d if transposed else F.conv2d
        return function(x, weight, bias, stride, padding)

    @staticmethod
    def backward(ctx, dy):
        if dy is None:
            return (None,) * 6
        (x, weight), (stride, padding, transposed) = ctx.saved_tensors, ctx.geometry
        need_x, need_weight, need_bias, *_ = ctx.needs_input_grad
        dx = _Convolution.apply(dy, weight, None, stride, padding, not transposed) if need_x else None
        dw = _weight_gradient(dy, x, weight, *ctx.geometry) if need_weight and not weight_gradients_disabled else None
        db = dy.sum(dim=(0, 2, 3)) if need_bias and not weight_gradients_disabled else None
        return dx, dw, db, None, None, None


def _weight_gradient(dy: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, transposed: bool) -> Tensor:
    """torch's own function, which can be differentiated, too, at torch's cost."""
    geometry = [stride, stride], [padding, padding], [1, 1], transposed, [0, 0], 1
    return torch.ops.aten.convolution_backward(dy, x, weight, None, *geometry, [False, True, False])[1]


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
    """dy where y is above zero, otherwise slope * dy: linear in dy, constant in y almost everywhere."""

    @staticmethod
    def forward(ctx, dy, y, slope):
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(y)
        ctx.slope = slope
        return torch.ops.aten.leaky_relu_backward(dy, y, slope, True)

    @staticmethod
    def backward(ctx, ddy):
        return None if ddy is None else _LeakyReLUGradient.apply(ddy, *ctx.saved_tensors, ctx.slope), None, None
