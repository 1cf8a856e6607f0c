"""One training step: its phases, then the updates of ADA's p and of G_ema."""

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from pggan.config.augmentation import augmentation
from pggan.models.networks import fade_reals
from pggan.models.noise import latents, noise_maps
from pggan.training import ada, ema
from pggan.training.augment import augment_draws
from pggan.training.micro_batches import accumulate
from pggan.training.optimizer import clip_weights, lazy_ratio, set_lr
from pggan.training.phases import Phase, StepInputs, StepScalars, phases
from pggan.training.state import TrainState

Stats = dict[str, Tensor]


def step(state: TrainState, reals: Tensor, say: Callable[[str], None] = print) -> None:
    """Takes one step, on the images state.nimg to state.nimg + batch - 1.

    reals: [batch, 3, H, W] in [-1, 1], before the fade. say: tells the user if memory runs out.
    """
    settings, stats = state.config.training, {}
    inputs = step_inputs(state, fade_reals(reals, state.alpha, state.D.arch))
    scalars = step_scalars(state)
    set_rates(state)
    for phase in step_phases(state):
        stats |= optimize(state, phase, inputs, scalars, say)
    if settings.ada and "r_t" in stats:
        images = state.batch() * d_interval(state)  # since D acted before
        p, r_t = ada.adjust(state.augment["p"], state.augment["r_t"], stats["r_t"], images, settings)
        state.augment = {"p": p, "r_t": r_t}
    ema.update(state.G_ema, state.G, *ema_decays(state))
    state.add(stats)


def step_phases(state: TrainState) -> list[Phase]:
    """The phases of the coming step."""
    settings, plan = state.config.training, state.stage.plan
    number = (state.nimg - plan.start) // state.batch()
    interval = d_interval(state) if state.heads else 0
    return phases(settings, number, settings.penalty_weight.fading(state.res, state.alpha), interval)


def d_interval(state: TrainState) -> int:
    """D acts in every so many steps of the current stage: without heads in each."""
    return int(state.config.training.d_interval.at(state.res)) if state.heads else 1


def optimize(
    state: TrainState, phase: Phase, inputs: StepInputs, scalars: StepScalars, say: Callable[[str], None]
) -> Stats:
    """Takes the optimizer step of a phase; returns its mean stats, or {} if float16 overflowed."""
    results = accumulate(state, phase, inputs, phase_scalars(state, phase, scalars), say)
    scale = state.scaler.get_scale()
    for player in phase.players:
        state.scaler.step(state.optimizers[player])
    state.scaler.update()
    if "D" in phase.players and state.config.training.clip:
        clip_weights(state.D, state.config.training.clip)
    overflowed = state.scaler.get_scale() < scale  # the scaler lowers it, and the optimizer takes no step
    if overflowed and scale > 1:
        return {}
    factor = math.nan if overflowed else 1.0  # at a scale of 1, the losses themselves are not finite
    return {name: torch.stack([stats[name] for stats in results]).mean() * factor for name in results[0]}


def step_inputs(state: TrainState, reals: Tensor) -> StepInputs:
    """The inputs of the coming step: its (faded) reals, and random numbers drawn by position."""
    place = (state.nimg, state.batch())
    augmented = augmentation(state.config.training.augment)
    width, maps = state.config.network.latent, state.G.noise_size()
    mix = state.stream.uniform("mix", *place, 1)[:, 0].astype("float32")
    return StepInputs(
        reals,
        *(latents(state.stream, f"latents {player}", *place, width, state.device) for player in "DG"),
        *(noise_maps(state.stream, f"noise {player}", *place, maps, state.device) for player in "DG"),
        torch.from_numpy(mix).to(state.device, non_blocking=True),
        *(augment_draws(state.stream, player, *place, state.device, augmented) for player in "DG"),
    )


def step_scalars(state: TrainState) -> StepScalars:
    """alpha and p of the coming step. `phase_scalars` adds the values that depend on the phase."""
    alpha = _scalar(state, state.alpha) if state.alpha < 1 else 1.0
    settings = state.config.training
    weight = settings.features_weight.fading(state.res, state.alpha)
    weight = _scalar(state, weight) if state.heads and state.alpha < 1 else weight
    return StepScalars(alpha=alpha, p=state.augment["p"] if settings.ada else 1.0, features_weight=weight)


def phase_scalars(state: TrainState, phase: Phase, scalars: StepScalars) -> StepScalars:
    """The scalars of one phase: with the weight of its penalty, and the current loss scale."""
    weight = _scalar(state, phase.penalty_weight) if phase.penalty_weight else 0.0
    scale = state.scaler.scale(_scalar(state, 1.0)) if state.scaler.is_enabled() else 1.0
    return replace(scalars, penalty_weight=weight, scale=scale)


def _scalar(state: TrainState, value: float) -> Tensor:
    return torch.full((), value, device=state.device)  # made by a kernel: a copy would wait for the GPU


def set_rates(state: TrainState) -> None:
    """Sets the learning rates of the coming step; weights that the last growth added are warmed up."""
    settings, plan, warmth = state.config.training, state.stage.plan, 1.0
    if state.G.grown and settings.warmup_kimg:
        images = min(1000 * settings.warmup_kimg, plan.fade or math.inf)  # no longer than the fade
        warmth = min(1.0, (state.nimg - plan.start + state.batch()) / images)
    lr = settings.lr.at(state.res) * state.lr_factor
    set_lr(state.opt_D, lr * lazy_ratio(settings), warmth)
    set_lr(state.opt_G, lr, warmth)
    if state.heads:
        set_lr(state.opt_heads, settings.features_lr.at(state.res) * state.lr_factor, warmup=1.0)


def ema_decays(state: TrainState) -> list[float]:
    """The decays of G_ema in the coming step, as `ema.update` takes them."""
    settings, seen = state.config.training, state.nimg + state.batch()
    life = 1000 * settings.ema_kimg.at(state.res)
    lives = ema.half_lives(life, settings.ema_rampup, seen, seen - state.stage.plan.start)
    return [ema.decay(state.batch(), life) for life in lives]
