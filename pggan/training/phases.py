"""The turns of a step, pure: networks, inputs and numbers in, (loss, stats) out. Nothing is drawn, kept or waited for.

So each can be one graph (compiling.py), gradients included.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from pggan.config.augmentation import augmentation
from pggan.config.schema import TrainingConfig
from pggan.training.augment import augment
from pggan.training.losses import LOSSES, Critic, Result, discriminator_loss, generator_loss, penalty_loss


@dataclass
class Inputs:
    """What a step is made from, a row a picture: reals [N, 3, H, W], latents [N, Z] and noise [N, P] (None where the
    networks take none) of D's turn and of G's, mix [N] in [0, 1), and the draws of augmentation (None without)."""

    reals: Tensor
    latents_d: Tensor
    latents_g: Tensor
    noise_d: Tensor | None
    noise_g: Tensor | None
    mix: Tensor
    augment_d: Tensor | None = None
    augment_g: Tensor | None = None

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


@dataclass
class Numbers:
    """What changes from step to step. A 0-d tensor is an input of a turn's graph; a plain number is part of it.

    alpha: 1.0 where there is no fade; weight: of the penalty, 0.0 for none; scale: of the losses on their way through
    float16; p: of augmentation.
    """

    alpha: float | Tensor = 1.0
    weight: float | Tensor = 0.0
    scale: float | Tensor = 1.0
    p: float | Tensor = 1.0


Turn = Callable[[TrainingConfig, Callable[..., Tensor], Critic, Inputs, Numbers], Result]


def discriminator(settings: TrainingConfig, G: Callable[..., Tensor], D: Critic, given: Inputs, now: Numbers) -> Result:
    """D's turn, with its penalty where that has a weight."""
    critic, loss = _critic(settings, D, given.augment_d, now), LOSSES[settings.loss]
    fakes = _fakes(G, given, now)
    return discriminator_loss(loss, critic, given.reals, fakes, given.mix, now.weight, settings.drift, now.scale)


def penalty(settings: TrainingConfig, G: Callable[..., Tensor], D: Critic, given: Inputs, now: Numbers) -> Result:
    """A turn of D for its penalty alone."""
    critic, loss = _critic(settings, D, given.augment_d, now), LOSSES[settings.loss]
    return penalty_loss(loss, critic, given.reals, _fakes(G, given, now), given.mix, now.weight, now.scale)


def generator(settings: TrainingConfig, G: Callable[..., Tensor], D: Critic, given: Inputs, now: Numbers) -> Result:
    """G's turn."""
    critic, loss = _critic(settings, D, given.augment_g, now), LOSSES[settings.loss]
    return generator_loss(loss, critic, G(given.latents_g, now.alpha, given.noise_g), given.reals)


@torch.no_grad()
def _fakes(G: Callable[..., Tensor], given: Inputs, now: Numbers) -> Tensor:
    return G(given.latents_d, now.alpha, given.noise_d)


def _critic(settings: TrainingConfig, D: Critic, draws: Tensor | None, now: Numbers) -> Critic:
    """D as a function of pictures before augmentation, by the same draws for reals and fakes: a penalty is on these."""
    pieces = augmentation(settings.augment)

    def critic(images: Tensor) -> Tensor:
        return D(augment(images, draws, now.p, pieces) if pieces else images, now.alpha)

    return critic
