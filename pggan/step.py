"""One step: D, its penalty where that has a turn of its own, G, the moving average. And what to do without memory."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial

import torch
from torch import Tensor

from pggan import ema
from pggan.config import at, faded
from pggan.errors import out_of_memory
from pggan.losses import LOSSES, Result, discriminator_loss, generator_loss, penalty_loss
from pggan.networks import fade_reals
from pggan.noise import latents, noise_maps
from pggan.optimizer import clip_weights, lazy_ratio, set_lr
from pggan.schedule import Stage
from pggan.state import TrainState

Say = Callable[[str], None]


@dataclass
class Inputs:
    """What a step is made from, a row a picture: reals [N, 3, H, W], latents [N, Z] and noise [N, P] (None where the
    networks take none) of D's turn and of G's, mix [N] in [0, 1)."""

    reals: Tensor
    latents_d: Tensor
    latents_g: Tensor
    noise_d: Tensor | None
    noise_g: Tensor | None
    mix: Tensor

    def parts(self, pieces: int, group: int) -> list["Inputs"]:
        """Equal parts, each of whole minibatch-stddev groups (strided: picture i with i + N/group ...).

        Their mean gradient is that of the whole. pieces must divide N / group.
        """
        if pieces == 1:
            return [self]
        group = min(group, len(self.mix)) or 1
        values = [getattr(self, field.name) for field in fields(self)]
        split = [[None] * pieces if value is None else _whole_groups(value, pieces, group) for value in values]
        return [Inputs(*part) for part in zip(*split, strict=True)]


def _whole_groups(rows: Tensor, pieces: int, group: int) -> list[Tensor]:
    groups = rows.unflatten(0, (group, -1))  # [G, N/G, ...]: column m is a group
    return [part.flatten(0, 1) for part in groups.chunk(pieces, dim=1)]


def step(state: TrainState, stage: Stage, reals: Tensor, say: Say = print) -> None:
    """One step on the images state.nimg .. state.nimg + batch - 1. reals: [batch, 3, H, W], as they are on the disk."""
    G, D, settings, alpha = state.G, state.D, state.config.training, stage.alpha(state.nimg)
    loss, critic, scale = LOSSES[settings.loss], partial(D, alpha=alpha), state.scaler.get_scale()
    given = inputs(state, fade_reals(reals, alpha, D.arch))
    weight, lazy_weight = penalty_weights(state, stage)
    set_rates(state, stage)

    def discriminator(part: Inputs) -> Result:
        return discriminator_loss(loss, critic, part.reals, fakes(part), part.mix, weight, settings.drift, scale)

    def penalty(part: Inputs) -> Result:
        return penalty_loss(loss, critic, part.reals, fakes(part), part.mix, lazy_weight, scale)

    def generator(part: Inputs) -> Result:
        return generator_loss(loss, critic, G(part.latents_g, alpha, part.noise_g), part.reals)

    @torch.no_grad()
    def fakes(part: Inputs) -> Tensor:
        return G(part.latents_d, alpha, part.noise_d)

    stats = take_turn(state, state.adam_d, discriminator, given, say)
    if lazy_weight:
        stats |= take_turn(state, state.adam_d, penalty, given, say)
    if settings.clip:
        clip_weights(D, settings.clip)

    D.requires_grad_(False)
    stats |= take_turn(state, state.adam_g, generator, given, say)
    D.requires_grad_(True)

    seen = state.nimg + state.batch()
    lives = ema.half_lives(1000 * at(settings.ema_kimg, state.res), settings.ema_ramp, seen, seen - stage.start)
    ema.update(state.average, G, *(ema.decay(state.batch(), life) for life in lives))
    state.add(stats)


def take_turn(
    state: TrainState, optimizer: torch.optim.Optimizer, loss_of: Callable[[Inputs], Result], given: Inputs, say: Say
) -> dict[str, Tensor]:
    """One step of one player, on all of `given` at once or, where memory is short, on parts in turn; mean stats."""
    results = gradients(state, optimizer, loss_of, given, say)
    scale = state.scaler.get_scale()
    state.scaler.step(optimizer)
    state.scaler.update()
    return _means(state, results, scale)


def gradients(
    state: TrainState, optimizer: torch.optim.Optimizer, loss_of: Callable[[Inputs], Result], given: Inputs, say: Say
) -> list[dict[str, Tensor]]:
    """The gradients of a turn, in its parameters, and the stats of its parts.

    No weight is changed here, so that what ran out of memory can be tried again, in more parts.
    """
    measured = [(buffer, buffer.clone()) for network in (state.G, state.D) for buffer in network.buffers()]
    while True:
        try:
            optimizer.zero_grad()
            parts = given.parts(state.pieces, state.config.network.stddev_group)
            return [_backward(state, loss_of(part), len(parts)) for part in parts]
        except (RuntimeError, MemoryError) as error:
            more = more_pieces(state) if out_of_memory(error) else None
            if more is None:
                raise
        for buffer, before in measured:  # what batch norm has seen
            buffer.copy_(before)
        _make_room(state, optimizer, more, say)


def _backward(state: TrainState, result: Result, parts: int) -> dict[str, Tensor]:
    loss, stats = result
    state.scaler.scale(loss / parts).backward()
    return stats


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
    return next((n for n in range(2 * state.pieces, groups + 1) if groups % n == 0), None)


def _make_room(state: TrainState, optimizer: torch.optim.Optimizer, pieces: int, say: Say) -> None:
    optimizer.zero_grad()
    if state.device.type == "cuda":
        torch.cuda.empty_cache()
    state.pieces = pieces
    say(
        f"out of memory at {state.res} px: from here on a batch of {state.batch()} is trained as {pieces} parts of "
        f"{state.batch() // pieces}, their gradients added up"
    )


def inputs(state: TrainState, reals: Tensor) -> Inputs:
    """The random numbers of this step, beside its (faded) reals."""
    place = (state.nimg, state.batch())
    width, maps = state.config.network.latent, state.G.noise_size()
    mix = state.stream.uniform("mix", *place, 1)[:, 0].astype("float32")
    return Inputs(
        reals,
        *(latents(state.stream, f"latents {player}", *place, width, state.device) for player in "DG"),
        *(noise_maps(state.stream, f"noise {player}", *place, maps, state.device) for player in "DG"),
        torch.from_numpy(mix).to(state.device),
    )


def penalty_weights(state: TrainState, stage: Stage) -> tuple[float, float]:
    """(weight of the penalty in D's own turn, weight in a turn of its own after it), one of them 0.

    With `--penalty-every` k it has a turn every k steps of the stage, k times as heavy (Karras et al. 2020, 3.1).
    """
    settings, alpha = state.config.training, stage.alpha(state.nimg)
    weight, every = faded(settings.penalty, state.res, alpha), settings.penalty_every
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
    lr = at(settings.lr, state.res) * state.lr_factor
    set_lr(state.adam_d, lr * lazy_ratio(settings), warmth)
    set_lr(state.adam_g, lr, warmth)
