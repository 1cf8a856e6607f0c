"""What a step costs on this machine: its time, and its memory, counted or computed."""

import copy
import time
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pggan.config.presets import with_settings
from pggan.config.schema import Config
from pggan.models.networks import fade_reals
from pggan.run.devices import pick_precision
from pggan.schedule.stages import Stage
from pggan.training.gradient_workers import GradientWorkers, ranks_for
from pggan.training.micro_batches import accumulate
from pggan.training.state import TrainState, allow_tf32, new_state
from pggan.training.step import phase_scalars, step, step_inputs, step_phases, step_scalars

SLOW_STEP = 3.0  # seconds; a slower step is not repeated, nor is a whole batch tried on a CPU


@dataclass(frozen=True)
class StepCost:
    """What training at a resolution costs. memory: peak bytes of tensors. micro_batches: parts of a batch.
    recompute: activations are not kept. estimated: from smaller resolutions, not measured."""

    images_per_s: float
    memory: float
    micro_batches: int = 1
    recompute: bool = False
    estimated: bool = False


def step_cost(config: Config, res: int, device: torch.device, workers: GradientWorkers | None = None) -> StepCost:
    """Takes a few steps at `res`, in the middle of a fade if it has one: to warm up, for memory, for time.

    workers: the other processes of the run, if it has any. The memory is that of all processes, each
    counted with the weights and moments of the first.
    On a CPU, the first has few images, and so have the others if the whole batch would take too long.
    """
    batch = int(config.training.batch.at(res))
    few = batch if device.type == "cuda" else min(batch, config.network.stddev_group or 4)
    state = trial_state(config, res, device)
    state.workers, processes = workers, workers.count if workers else 1
    kinds = step_kinds(config, res)
    most, _ = kinds[0]
    took = _timed(state, few, most)
    tried = batch if took * batch / few < SLOW_STEP else few
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        took = _mean_time(state, tried, kinds)
        peak = torch.cuda.max_memory_allocated(device)
    else:
        with MemoryWatch(lasting(state)) as watch:
            took = _timed(state, tried, most)
        if took < SLOW_STEP or len(kinds) > 1:
            took = _mean_time(state, tried, kinds)
        sharing = ranks_for(tried, config.network.stddev_group, state.stage.micro_batches, processes)
        peak = processes * watch.alive + sharing * (watch.peak - watch.alive) * batch / tried
    return StepCost(tried / took, peak, state.stage.micro_batches, state.stage.recompute)


def step_kinds(config: Config, res: int) -> list[tuple[int, int]]:
    """The kinds of steps at `res`, as [(number of such a step in its stage, how many there are in a cycle)].

    The first has all phases, and needs the most memory. Others have no penalty of their own, or are without D.
    """
    lazy, features = config.training.penalty_interval, config.network.features != "none"
    every = int(config.training.d_interval.at(res)) if features else 1
    cycle = every * lazy
    kinds = [(cycle, 1), (cycle + every, lazy - 1), (cycle + 1, cycle - lazy)]
    return [(number, count) for number, count in kinds if count]


def trial_state(config: Config, res: int, device: torch.device) -> TrainState:
    """A state to try steps with: just grown to `res`, or new if that is the first resolution."""
    first = max(config.network.ends()[0], res // 2) if res > config.network.ends()[0] else res
    precision = pick_precision(config.training.precision, device)
    allow_tf32(precision)
    state = new_state(with_settings(config, {"start_res": first, "max_res": res}), device, precision=precision)
    if state.res < res:
        state.grow(Stage(res))
    return state


def trial_step(state: TrainState, batch: int, number: int = 1) -> Tensor:
    """Makes the next step the `number`th of a new stage, with `batch` images; returns black reals for it.

    It is in a fade if the state has grown: there a step needs the most memory.
    """
    state.config = with_settings(state.config, {"batch": str(batch)})
    state.nimg = batch * number
    state.stage.plan = Stage(state.res, fade=2 * state.nimg if state.G.grown else 0)
    width, height = state.config.network.size(state.res)
    return torch.zeros(batch, 3, height, width, device=state.device)


def _mean_time(state: TrainState, batch: int, kinds: list[tuple[int, int]]) -> float:
    """Mean seconds of a step, over a cycle of these kinds."""
    return sum(count * _timed(state, batch, number) for number, count in kinds) / sum(count for _, count in kinds)


def _timed(state: TrainState, batch: int, number: int = 1) -> float:
    """Seconds of one step of `batch` images, the `number`th of its stage."""
    reals = trial_step(state, batch, number)
    _synchronize(state.device)
    start = time.perf_counter()
    step(state, reals, say=lambda _: None)
    _synchronize(state.device)
    return time.perf_counter() - start


def _synchronize(device: torch.device) -> None:
    if device.type != "cpu":
        torch.accelerator.synchronize()


class MemoryWatch(TorchDispatchMode):
    """Counts the bytes of the storages of `tensors` and of all tensors made while it is entered, until they are freed.

    alive: bytes now; peak: the most so far.
    """

    def __init__(self, tensors: list[Tensor] = ()):
        super().__init__()
        self.seen, self.alive, self.peak = set(), 0, 0
        for tensor in tensors:
            self._count(tensor.untyped_storage())

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if not function.is_view:  # a view has no memory of its own, though a fake one has its own storage object
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
    """The tensors that live on between two steps: networks, moments, gradients."""
    gradients = [weight.grad for net in state.players.values() for weight in net.parameters()]
    return state.tensors() + [gradient for gradient in gradients if gradient is not None]


def computed_peak(state: TrainState, batch: int) -> int:
    """Computes the peak bytes of a step of `batch` images, penalty included, with tensors that have no content.

    It takes seconds, even for more memory than this machine has. It equals the count of MemoryWatch but for Adam's step
    counts (experiments/memory). Neither counts the memory of libraries, or what an allocator leaves unused. Not for
    compiled steps. Removes the gradients of the state.
    """
    trial = copy.copy(state)
    trial.stage = copy.copy(state.stage)
    with FakeTensorMode(allow_non_fake_inputs=True):
        reals = trial_step(trial, batch, step_kinds(state.config, state.res)[0][0])
        weights = [weight for net in trial.players.values() for weight in net.parameters()]
        for weight in weights:
            weight.grad = torch.zeros_like(weight)
        moments = [torch.zeros_like(weight) for weight in weights for _ in range(2)] if not state.opt_D.state else []
        with MemoryWatch([*lasting(trial), *moments, reals]) as watch:
            inputs, scalars = step_inputs(trial, fade_reals(reals, trial.alpha, trial.D.arch)), step_scalars(trial)
            for phase in step_phases(trial):
                accumulate(trial, phase, inputs, phase_scalars(trial, phase, scalars), say=lambda _: None)
    for weight in weights:
        weight.grad = None
    return watch.peak
