"""One step: D, its penalty where that has a turn of its own, G, the moving average. And what to do without memory."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pggan.config.augmentation import augmentation
from pggan.errors import out_of_memory
from pggan.models.networks import Growing, fade_reals
from pggan.models.noise import latents, noise_maps
from pggan.schedule.stages import Stage
from pggan.training import ada, compile, ema, phases
from pggan.training.augment import augment_draws
from pggan.training.optimizer import clip_weights, lazy_ratio, set_lr
from pggan.training.phases import Inputs, Numbers, Turn
from pggan.training.state import TrainState

Say = Callable[[str], None]


def step(state: TrainState, stage: Stage, reals: Tensor, say: Say = print) -> None:
    """One step on the images state.nimg .. state.nimg + batch - 1. reals: [batch, 3, H, W], as they are on the disk."""
    settings, alpha = state.config.training, stage.alpha(state.nimg)
    given = inputs(state, fade_reals(reals, alpha, state.D.arch))
    now, lazy = numbers(state, stage)
    set_rates(state, stage)

    stats = take_turn(state, phases.discriminator, given, now, say)
    if lazy:
        stats |= take_turn(state, phases.penalty, given, lazy, say)
    if settings.clip:
        clip_weights(state.D, settings.clip)
    if settings.ada and "r_t" in stats:
        p, r_t = state.augment["p"], state.augment["r_t"]
        p, r_t = ada.adjust(p, r_t, stats["r_t"], state.batch(), settings)
        state.augment = {"p": p, "r_t": r_t}
    stats |= take_turn(state, phases.generator, given, now, say)

    seen = state.nimg + state.batch()
    lives = ema.half_lives(1000 * settings.ema_kimg.at(state.res), settings.ema_rampup, seen, seen - stage.start)
    ema.update(state.G_ema, state.G, *(ema.decay(state.batch(), life) for life in lives))
    state.add(stats)


def take_turn(state: TrainState, turn: Turn, given: Inputs, now: Numbers, say: Say) -> dict[str, Tensor]:
    """One step of one player, on all of `given` at once or, where memory is short, on parts in turn; mean stats."""
    network, optimizer = (state.G, state.opt_G) if turn is phases.generator else (state.D, state.opt_D)
    other = state.D if network is state.G else state.G
    other.requires_grad_(False)
    now = replace(now, scale=_loss_scale(state))  # the turn before may have changed it
    try:
        results = gradients(state, turn, network, given, now, say)
    finally:
        other.requires_grad_(True)
    scale = state.scaler.get_scale()
    state.scaler.step(optimizer)
    state.scaler.update()
    return _means(state, results, scale)


def gradients(
    state: TrainState, turn: Turn, network: Growing, given: Inputs, now: Numbers, say: Say
) -> list[dict[str, Tensor]]:
    """The gradients of a turn, in the network's parameters, and the stats of its parts.

    No weight is changed here, so that what ran out of memory can be tried again: in more parts, then with less kept.
    """
    measured = [(buffer, buffer.clone()) for part in (state.G, state.D) for buffer in part.buffers()]
    while True:
        try:
            network.zero_grad()
            parts = given.parts(state.micro_batches, state.config.network.stddev_group)
            return [_backward(state, turn, network, part, now, len(parts)) for part in parts]
        except (RuntimeError, MemoryError) as error:
            resort = next_resort(state) if out_of_memory(error) else None
            if resort is None:
                raise
        for buffer, before in measured:  # what batch norm has seen
            buffer.copy_(before)
        _make_room(state, network, *resort, say)


def _backward(
    state: TrainState, turn: Turn, network: Growing, part: Inputs, now: Numbers, parts: int
) -> dict[str, Tensor]:
    """Adds a part's share to the gradients; its stats."""
    state.G.recompute = state.D.recompute = state.recompute
    # a compiler would find the second computation to be the first one, and keep that
    find = compile.gradients if state.recompute else state.graphs.gradients
    found, stats = find(turn, state.config.training, state.G, state.D, part, now)
    for parameter, gradient in zip(network.parameters(), found, strict=True):
        if gradient is None:  # of a layer that is not used now
            continue
        share = _laid_out(gradient / parts if parts > 1 else gradient, parameter)
        parameter.grad = share if parameter.grad is None else parameter.grad + share
    return stats


def _laid_out(gradient: Tensor, parameter: Tensor) -> Tensor:
    """In the parameter's memory format: fused Adam goes through the memory of both, side by side."""
    if gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter, requires_grad=False).copy_(gradient)


def _means(state: TrainState, results: list[dict[str, Tensor]], scale: float) -> dict[str, Tensor]:
    """Mean stats of a turn's parts. scale: of the losses; where it has been lowered since, float16 overflowed, the step
    was left out, and there is nothing to tell. At a scale of 1 that is no overflow any more: the stats are no numbers.
    """
    overflowed = state.scaler.get_scale() < scale
    if overflowed and scale > 1:
        return {}
    factor = math.nan if overflowed else 1.0
    return {name: torch.stack([stats[name] for stats in results]).mean() * factor for name in results[0]}


def more_pieces(state: TrainState) -> int | None:
    """The next number of parts, at least twice as many, that a batch can be trained in; None when there is none."""
    batch, group = state.batch(), state.config.network.stddev_group
    groups = batch // (min(group, batch) or 1)
    return next((n for n in range(2 * state.micro_batches, groups + 1) if groups % n == 0), None)


def next_resort(state: TrainState) -> tuple[int, bool] | None:
    """(parts, whether activations are computed again) with which to try once more; None when nothing is left to try.

    Parts come first: they cost little time. Activations are computed again where the smallest part does not fit.
    """
    pieces = more_pieces(state)
    if pieces:
        return pieces, state.recompute
    return None if state.recompute else (state.micro_batches, True)


def _make_room(state: TrainState, network: Growing, pieces: int, recompute: bool, say: Say) -> None:
    network.zero_grad()
    # On a CPU, what waited for its turn in a backward pass that failed stays in torch's queue until the next pass.
    scrap = torch.zeros((), requires_grad=True)
    torch.autograd.grad(scrap * 1, scrap)
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    size = state.batch() // pieces
    how = f"a batch of {state.batch()} is trained as {pieces} parts of {size}, their gradients added up"
    if recompute > state.recompute:
        how = "activations are not kept but computed again for the gradients, which takes about half as long again"
    state.micro_batches, state.recompute = pieces, recompute
    say(f"out of memory at {state.res} px: from here on {how}")


def inputs(state: TrainState, reals: Tensor) -> Inputs:
    """The random numbers of this step, beside its (faded) reals."""
    place = (state.nimg, state.batch())
    augmented = augmentation(state.config.training.augment)
    width, maps = state.config.network.latent, state.G.noise_size()
    mix = state.stream.uniform("mix", *place, 1)[:, 0].astype("float32")
    return Inputs(
        reals,
        *(latents(state.stream, f"latents {player}", *place, width, state.device) for player in "DG"),
        *(noise_maps(state.stream, f"noise {player}", *place, maps, state.device) for player in "DG"),
        torch.from_numpy(mix).to(state.device, non_blocking=True),
        *(augment_draws(state.stream, player, *place, state.device, augmented) for player in "DG"),
    )


def numbers(state: TrainState, stage: Stage) -> tuple[Numbers, Numbers | None]:
    """(of D's and G's turns, of a turn for D's penalty alone if it has one now)."""
    alpha = stage.alpha(state.nimg)
    weight, lazy_weight = penalty_weights(state, stage)
    now = Numbers(
        alpha=_on(state.device, alpha) if alpha < 1 else 1.0,
        weight=_on(state.device, weight) if weight else 0.0,
        scale=_loss_scale(state),
        p=state.augment["p"] if state.config.training.ada else 1.0,
    )
    return now, replace(now, weight=_on(state.device, lazy_weight)) if lazy_weight else None


def _loss_scale(state: TrainState) -> float | Tensor:
    return state.scaler.scale(_on(state.device, 1.0)) if state.scaler.is_enabled() else 1.0


def _on(device: torch.device, value: float) -> Tensor:
    return torch.full((), value, device=device)  # by a kernel: a copy would wait for the GPU


def penalty_weights(state: TrainState, stage: Stage) -> tuple[float, float]:
    """(weight of the penalty in D's own turn, weight in a turn of its own after it), one of them 0.

    With `--penalty-interval` k it has a turn every k steps of the stage, k times as heavy (Karras et al. 2020, 3.1).
    """
    settings, alpha = state.config.training, stage.alpha(state.nimg)
    weight, every = settings.penalty_weight.fading(state.res, alpha), settings.penalty_interval
    if every == 1:
        return weight, 0.0
    number = (state.nimg - stage.start) // state.batch()
    return 0.0, weight * every if number % every == 0 else 0.0


def set_rates(state: TrainState, stage: Stage) -> None:
    """The learning rates of this step; weights that are new since the last growth are warmed up."""
    settings, warmth = state.config.training, 1.0
    if state.G.grown and settings.warmup_kimg:
        images = min(1000 * settings.warmup_kimg, stage.fade or float("inf"))  # no longer than the fade
        warmth = min(1.0, (state.nimg - stage.start + state.batch()) / images)
    lr = settings.lr.at(state.res) * state.lr_factor
    set_lr(state.opt_D, lr * lazy_ratio(settings), warmth)
    set_lr(state.opt_G, lr, warmth)
