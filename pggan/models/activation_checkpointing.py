"""Activation checkpointing for derivatives of any order: activations are recomputed in the backward pass, not kept.

Chen et al. 2016 (arXiv 1604.06174). torch.utils.checkpoint saves almost nothing under a gradient penalty: it keeps what
the first backward pass recomputed for the second one. Here a backward pass is itself a function that keeps only its
inputs, and so is that function's backward pass. The arithmetic is the same, except for the order of rounding.
"""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.graph import get_gradient_edge

from pggan.models import conv2d_gradfix

Run = Callable[..., tuple[Tensor | None, ...]]


def recomputed(
    first: Callable[..., Tensor], again: Callable[..., Tensor], weights: list[Tensor], *inputs: Tensor | None
) -> Tensor:
    """first(*inputs), keeping only the inputs for derivatives of any order.

    again: the same function without side effects, used to recompute; weights: all other tensors that both functions
    depend on and whose gradients may be needed.
    """
    runs = (lambda *inputs, function=function: (function(*inputs),) for function in (first, again))
    (output,) = _Recomputed.apply(*runs, len(inputs), *inputs, *weights)
    return output


class _Recomputed(Function):
    @staticmethod
    def forward(ctx, first: Run, again: Run, count: int, *tensors: Tensor | None):
        inputs, ctx.weights, ctx.again = tensors[:count], tensors[count:], again
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        return first(*inputs)

    @staticmethod
    def backward(ctx, *grads):
        inputs, skip_weights = ctx.saved_tensors, conv2d_gradfix.weight_gradients_disabled
        needed = [need and (i < len(inputs) or not skip_weights) for i, need in enumerate(ctx.needs_input_grad[3:])]
        known = [i for i, grad in enumerate(grads) if grad is not None]
        backward = _Backward(ctx.again, known, needed, ctx.weights, skip_weights)
        tensors = [*(grads[i] for i in known), *inputs]
        found = iter(_Recomputed.apply(backward, backward, len(tensors), *tensors, *ctx.weights))
        return None, None, None, *(next(found) if need else None for need in needed)


@dataclass
class _Backward:
    """Maps (gradients at the `known` outputs of `run`, its inputs) to the `needed` gradients of inputs and weights."""

    run: Run
    known: list[int]
    needed: list[bool]
    weights: tuple[Tensor, ...]
    skip_weights: bool  # see conv2d_gradfix.no_weight_gradients

    def __call__(self, *tensors: Tensor | None) -> tuple[Tensor | None, ...]:
        twice = torch.is_grad_enabled()  # whether the result is differentiated again
        grads, inputs = tensors[: len(self.known)], tensors[len(self.known) :]
        with torch.enable_grad(), conv2d_gradfix.no_weight_gradients() if self.skip_weights else nullcontext():
            inputs = [_leaf(x, need, twice) for x, need in zip(inputs, self.needed[: len(inputs)], strict=True)]
            sources = [x for x, need in zip([*inputs, *self.weights], self.needed, strict=True) if need]
            outputs = self.run(*inputs)
            pairs = [(outputs[i], grad) for i, grad in zip(self.known, grads, strict=True)]
            pairs = [(get_gradient_edge(y), grad) for y, grad in pairs if y is not None and y.requires_grad]
            del outputs, inputs  # the graph keeps what it needs
            if not pairs or not sources:
                return (None,) * len(sources)
            edges, grads = zip(*pairs, strict=True)
            return torch.autograd.grad(edges, sources, grads, create_graph=twice, allow_unused=True)


def _leaf(x: Tensor | None, need: bool, twice: bool) -> Tensor | None:
    """`x` detached, as a leaf of a new graph; unchanged if the caller differentiates through it."""
    if x is None or (twice and x.requires_grad):
        return x
    return x.detach().requires_grad_(need)
