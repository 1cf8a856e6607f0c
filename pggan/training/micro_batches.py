"""The gradients of a phase, in as many micro-batches as memory asks for."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pggan.errors import out_of_memory
from pggan.training import compile
from pggan.training.phases import Phase, StepInputs, StepScalars
from pggan.training.state import TrainState


def accumulate(
    state: TrainState, phase: Phase, inputs: StepInputs, scalars: StepScalars, say: Callable[[str], None]
) -> list[dict[str, Tensor]]:
    """Puts the gradients of a phase into its players' parameters; returns the stats of each micro-batch.

    If memory runs out, it tries again with more micro-batches, then without keeping activations. Weights do not change
    here, so a failed try changes nothing. Raises the error of the last try.
    """
    gradients = state.workers.gradients if state.workers else _all_gradients
    buffers = [(buffer, buffer.clone()) for network in state.players.values() for buffer in _changing(network)]
    with training_only(state, phase):
        while True:
            try:
                return gradients(state, phase, inputs, scalars)
            except (RuntimeError, MemoryError) as error:
                fallback = next_fallback(state) if out_of_memory(error) else None
                if fallback is None:
                    raise
            for buffer, before in buffers:
                buffer.copy_(before)
            _zero_grad(state, phase)
            _fall_back(state, *fallback, say)


@contextmanager
def training_only(state: TrainState, phase: Phase) -> Iterator[None]:
    """Meanwhile, only the weights of the phase's players require gradients."""
    others = [network for name, network in state.players.items() if name not in phase.players]
    for network in others:
        network.requires_grad_(False)
    try:
        yield
    finally:
        for network in others:
            network.requires_grad_(True)


def _all_gradients(
    state: TrainState, phase: Phase, inputs: StepInputs, scalars: StepScalars
) -> list[dict[str, Tensor]]:
    return part_gradients(state, phase, inputs, scalars, state.stage.micro_batches)


def part_gradients(
    state: TrainState,
    phase: Phase,
    inputs: StepInputs,
    scalars: StepScalars,
    count: int,
    parts: slice = slice(None),
) -> list[dict[str, Tensor]]:
    """Puts the sum over some of `count` micro-batches into the gradients; all of them make up the mean gradient.

    parts: which of them. Returns the stats of each.
    """
    _zero_grad(state, phase)
    split = inputs.micro_batches(count, state.config.network.stddev_group)
    return [_backward(state, phase, part, scalars, count) for part in split[parts]]


def _changing(network: nn.Module) -> list[Tensor]:
    """The buffers that training changes: the statistics of batch norm, the vectors of spectral norm."""
    saved = network.state_dict()
    return [buffer for name, buffer in network.named_buffers() if name in saved]


def _zero_grad(state: TrainState, phase: Phase) -> None:
    for player in phase.players:
        state.players[player].zero_grad()


def _backward(
    state: TrainState, phase: Phase, inputs: StepInputs, scalars: StepScalars, parts: int
) -> dict[str, Tensor]:
    """Adds the share of one of `parts` micro-batches to the gradients; returns its stats."""
    state.G.recompute = state.D.recompute = state.stage.recompute
    # A compiler would see that both computations of an activation are the same, and keep the first.
    find = compile.gradients if state.stage.recompute else state.graphs.gradients
    found, stats = find(phase, state.config.training, state.players, inputs, scalars)
    parameters = [parameter for player in phase.players for parameter in state.players[player].parameters()]
    for parameter, gradient in zip(parameters, found, strict=True):
        if gradient is None:  # of a layer that is not used now
            continue
        share = gradient / parts if parts > 1 else gradient
        if share.stride() != parameter.stride():  # fused Adam reads both in the order of their memory
            share = torch.empty_like(parameter, requires_grad=False).copy_(share)
        parameter.grad = share if parameter.grad is None else parameter.grad + share
    return stats


def next_fallback(state: TrainState) -> tuple[int, bool] | None:
    """(micro-batches, recompute) for the next try; None when nothing is left to try.

    More micro-batches come first, since they cost little time: at least twice as many as before.
    """
    batch, group, stage = state.batch(), state.config.network.stddev_group, state.stage
    groups = batch // (min(group, batch) or 1)
    more = next((n for n in range(2 * stage.micro_batches, groups + 1) if groups % n == 0), None)
    if more:
        return more, stage.recompute
    return None if stage.recompute else (stage.micro_batches, True)


def _fall_back(state: TrainState, micro_batches: int, recompute: bool, say: Callable[[str], None]) -> None:
    """Frees memory, and sets the stage to the next try."""
    # On a CPU, the queue of a backward pass that failed keeps its tensors until the next pass begins.
    scrap = torch.zeros((), requires_grad=True)
    torch.autograd.grad(scrap * 1, scrap)
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    size = state.batch() // micro_batches
    how = f"a batch of {state.batch()} is trained as {micro_batches} micro-batches of {size}, their gradients added up"
    if recompute > state.stage.recompute:
        how = "activations are not kept but computed again for the gradients, which takes about half as long again"
    state.stage.micro_batches, state.stage.recompute = micro_batches, recompute
    say(f"out of memory at {state.res} px: from here on {how}")
