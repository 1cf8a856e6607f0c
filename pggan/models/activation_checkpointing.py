"""Activations that are computed again where the backward pass needs them, in place of being kept: time for memory.

Chen et al. 2016 (arXiv 1604.06174). Under a gradient penalty torch's own checkpointing saves next to nothing: what the
first backward pass computed again is kept for the second one. Here a backward pass is itself a function of which only
the inputs are kept, and so is the backward pass of that. The arithmetic is unchanged, but for the order of rounding.
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
    first: Callable[..., Tensor], later: Callable[..., Tensor], weights: list[Tensor], *inputs: Tensor | None
) -> Tensor:
    """first(*inputs), of which only the inputs are kept for derivatives of any order.

    later: the same function without side effects, for all but the first time; weights: all else that the two depend on
    and that may be asked for its gradient.
    """
    (output,) = _Recomputed.apply(_alone(first), _alone(later), len(inputs), *inputs, *weights)
    return output


def _alone(function: Callable[..., Tensor]) -> Run:
    return lambda *inputs: (function(*inputs),)


class _Recomputed(Function):
    @staticmethod
    def forward(ctx, first: Run, later: Run, count: int, *tensors: Tensor | None):
        inputs, ctx.weights, ctx.later = tensors[:count], tensors[count:], later
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs)
        return first(*inputs)

    @staticmethod
    def backward(ctx, *grads):
        inputs, needed = ctx.saved_tensors, ctx.needs_input_grad[3:]
        alone = not conv2d_gradfix.weights_wanted()
        wanted = [need and (place < len(inputs) or not alone) for place, need in enumerate(needed)]
        known = [place for place, grad in enumerate(grads) if grad is not None]
        back = _Backward(ctx.later, known, wanted, ctx.weights, alone)
        given = [*(grads[place] for place in known), *inputs]
        found = iter(_Recomputed.apply(back, back, len(given), *given, *ctx.weights))
        return None, None, None, *(next(found) if want else None for want in wanted)


@dataclass
class _Backward:
    """The gradients of `run` at its inputs and the weights, where wanted, from those at its outputs, where known."""

    run: Run
    known: list[int]
    wanted: list[bool]
    weights: tuple[Tensor, ...]
    alone: bool  # no weight is wanted, see functions.input_gradient

    def __call__(self, *given: Tensor | None) -> tuple[Tensor | None, ...]:
        twice = torch.is_grad_enabled()  # whether what is found here is to be differentiated in its turn
        grads, inputs = given[: len(self.known)], given[len(self.known) :]
        with torch.enable_grad(), conv2d_gradfix.inputs_alone() if self.alone else nullcontext():
            inputs = [_leaf(x, want, twice) for x, want in zip(inputs, self.wanted[: len(inputs)], strict=True)]
            sources = [x for x, want in zip([*inputs, *self.weights], self.wanted, strict=True) if want]
            outputs = self.run(*inputs)
            pairs = [(outputs[place], grad) for place, grad in zip(self.known, grads, strict=True)]
            pairs = [(get_gradient_edge(y), grad) for y, grad in pairs if y is not None and y.requires_grad]
            del outputs, inputs  # the graph knows what it needs of them
            if not pairs or not sources:
                return (None,) * len(sources)
            edges, grads = zip(*pairs, strict=True)
            return torch.autograd.grad(edges, sources, grads, create_graph=twice, allow_unused=True)


def _leaf(x: Tensor | None, wanted: bool, twice: bool) -> Tensor | None:
    """`x` as the beginning of a graph of its own, but where somebody outside is to differentiate through it."""
    if x is None or (twice and x.requires_grad):
        return x
    return x.detach().requires_grad_(wanted)
