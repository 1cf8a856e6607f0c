"""How much memory a step takes: counted as it is taken, or computed with tensors that have shapes and no content."""

import copy
import weakref
from dataclasses import replace

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pggan.models.networks import fade_reals
from pggan.schedule.stages import Stage
from pggan.training import ema, phases
from pggan.training.state import TrainState
from pggan.training.step import gradients, inputs, numbers


class MemoryWatch(TorchDispatchMode):
    """The most bytes of tensors that are alive at a time: of those given, and of those made within it, by storages."""

    def __init__(self, tensors: list[Tensor] = ()):
        super().__init__()
        self.seen, self.alive, self.peak = set(), 0, 0
        for tensor in tensors:
            self._count(tensor.untyped_storage())

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return made

    def _count(self, storage: torch.UntypedStorage) -> None:
        place, size = storage._cdata, storage.nbytes()
        if place in self.seen:
            return
        self.seen.add(place)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._forget, place, size)

    def _forget(self, place: int, size: int) -> None:
        self.seen.discard(place)
        self.alive -= size


def lasting(state: TrainState) -> list[Tensor]:
    """The tensors of a state that is between two steps: networks, gradients, moments."""
    tensors = [tensor for net in (state.G, state.D, state.G_ema) for tensor in ema.tensors(net).values()]
    tensors += [weight.grad for net in (state.G, state.D) for weight in net.parameters() if weight.grad is not None]
    for optimizer in (state.opt_G, state.opt_D):
        tensors += [moment for moments in optimizer.state.values() for moment in moments.values()]
    return tensors


def step_of(state: TrainState, batch: int, number: int = 1) -> tuple[Stage, Tensor]:
    """Sets the state before the `number`th step of a stage of its own, of `batch` pictures; (the stage, black reals).

    In the fade at this resolution, if there is one, it needs the most memory.
    """
    state.config = replace(state.config, training=replace(state.config.training, batch=str(batch)))
    state.nimg = batch * number
    stage = Stage(state.res, 0, fade=2 * state.nimg if state.G.grown else 0, stable=10**9)
    width, height = state.config.network.size(state.res)
    return stage, torch.zeros(batch, 3, height, width, device=state.device)


def computed_peak(state: TrainState, batch: int) -> int:
    """The most bytes in a step of `batch` pictures, its penalty among them, as `MemoryWatch` would count them, but
    in seconds, and for more memory than there is; uncompiled. The state's gradients are lost.

    It is the count itself, but for Adam's step counts (experiments/memory). What libraries take for themselves is in
    neither, nor what an allocator leaves over.
    """
    trial = copy.copy(state)
    with FakeTensorMode(allow_non_fake_inputs=True):
        stage, reals = step_of(trial, batch, state.config.training.penalty_interval)
        weights = [weight for net in (trial.G, trial.D) for weight in net.parameters()]
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        moments = [torch.zeros_like(weight) for weight in weights for _ in range(2)] if not state.opt_D.state else []
        with MemoryWatch([*lasting(trial), *moments, reals]) as watch:
            given = inputs(trial, fade_reals(reals, stage.alpha(trial.nimg), trial.D.arch))
            now, lazy = numbers(trial, stage)
            for turn, which in ((phases.discriminator, now), (phases.penalty, lazy), (phases.generator, now)):
                if which:
                    _turn(trial, turn, given, which)
    for weight in weights:
        weight.grad = None
    return watch.peak


def _turn(state: TrainState, turn: phases.Turn, given: phases.Inputs, now: phases.Numbers) -> None:
    network, other = (state.G, state.D) if turn is phases.generator else (state.D, state.G)
    other.requires_grad_(False)
    try:
        gradients(state, turn, network, given, now, say=lambda text: None)
    finally:
        other.requires_grad_(True)
