"""The phases of a step: which network (the player) is optimized, by which loss.

The loss of a phase is a pure function of networks, inputs and scalars that returns (loss, stats). It draws no random
numbers, keeps no state and reads no value back from the device. So each phase can be compiled into one graph
(compile.py), with its gradients. The step, the memory count and the compiler use only the list that `phases` returns.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

from pggan.config.augmentation import augmentation
from pggan.config.schema import TrainingConfig
from pggan.training.augment import augment
from pggan.training.losses import LOSSES, Critic, Result, discriminator_loss, generator_loss, penalty_loss

Network = Callable[..., Tensor]


@dataclass
class StepInputs:
    """The tensors that a step is computed from, one row per image. `_d`: for the phases of D. `_g`: for those of G.

    reals: [N, 3, H, W], after `fade_reals`. latents: [N, Z]. noise: [N, noise_size()], None if G takes no noise. mix:
    [N] in [0, 1), see `gradient_penalty`. augment: see `augment_draws`, None if nothing is augmented.
    """

    reals: Tensor
    latents_d: Tensor
    latents_g: Tensor
    noise_d: Tensor | None
    noise_g: Tensor | None
    mix: Tensor
    augment_d: Tensor | None = None
    augment_g: Tensor | None = None

    def micro_batches(self, count: int, group: int) -> list["StepInputs"]:
        """Splits into equal parts whose mean gradient is the gradient of the whole.

        Each part has whole groups of minibatch stddev: images i, i + N/group, i + 2N/group ... are a group. count must
        divide N / group.
        """
        if count == 1:
            return [self]
        group = min(group, len(self.mix)) or 1
        values = [getattr(self, field.name) for field in fields(self)]
        split = [[None] * count if value is None else _whole_groups(value, count, group) for value in values]
        return [StepInputs(*part) for part in zip(*split, strict=True)]


def _whole_groups(rows: Tensor, count: int, group: int) -> list[Tensor]:
    groups = rows.unflatten(0, (group, -1))  # [G, N/G, ...]: column m is a group
    return [part.flatten(0, 1) for part in groups.chunk(count, dim=1)]


@dataclass
class StepScalars:
    """Numbers that change from step to step. A 0-d tensor is an input of a compiled graph; a float is built into it.

    alpha: 1.0 without a fade. penalty_weight: 0.0 for no penalty. scale: the loss scale, against underflow in float16.
    p: multiplies the probability of each augmentation.
    """

    alpha: float | Tensor = 1.0
    penalty_weight: float | Tensor = 0.0
    scale: float | Tensor = 1.0
    p: float | Tensor = 1.0


PhaseLoss = Callable[[TrainingConfig, Network, Critic, StepInputs, StepScalars], Result]


@dataclass(frozen=True)
class Phase:
    """One optimizer step of one player. penalty_weight: of the gradient penalty in it, 0 for none."""

    name: str
    player: Literal["D", "G"]
    loss: PhaseLoss
    penalty_weight: float = 0.0


def phases(settings: TrainingConfig, number: int, penalty_weight: float) -> list[Phase]:
    """Returns the phases of a step, in their order.

    number: of the step, counted from the start of its stage. penalty_weight: as for a penalty in every step.
    With `--penalty-interval` k, D has a phase for its penalty every k steps, k times as heavy (lazy regularization,
    Karras et al. 2020, section 3.1).
    """
    interval = settings.penalty_interval
    lazy = interval > 1
    has_penalty = lazy and penalty_weight and number % interval == 0
    listed = [
        (True, Phase("D", "D", discriminator, 0.0 if lazy else penalty_weight)),
        (has_penalty, Phase("D penalty", "D", penalty, interval * penalty_weight)),
        (True, Phase("G", "G", generator)),
    ]
    return [phase for due, phase in listed if due]


def discriminator(settings: TrainingConfig, G: Network, D: Critic, inputs: StepInputs, scalars: StepScalars) -> Result:
    """The loss of D, with the gradient penalty if its weight is not 0."""
    critic, loss = _critic(settings, D, inputs.augment_d, scalars), LOSSES[settings.loss]
    fakes, weight = _fakes(G, inputs, scalars), scalars.penalty_weight
    return discriminator_loss(loss, critic, inputs.reals, fakes, inputs.mix, weight, settings.drift, scalars.scale)


def penalty(settings: TrainingConfig, G: Network, D: Critic, inputs: StepInputs, scalars: StepScalars) -> Result:
    """The gradient penalty of D alone."""
    critic, loss = _critic(settings, D, inputs.augment_d, scalars), LOSSES[settings.loss]
    fakes = _fakes(G, inputs, scalars)
    return penalty_loss(loss, critic, inputs.reals, fakes, inputs.mix, scalars.penalty_weight, scalars.scale)


def generator(settings: TrainingConfig, G: Network, D: Critic, inputs: StepInputs, scalars: StepScalars) -> Result:
    """The loss of G."""
    critic, loss = _critic(settings, D, inputs.augment_g, scalars), LOSSES[settings.loss]
    return generator_loss(loss, critic, G(inputs.latents_g, scalars.alpha, inputs.noise_g), inputs.reals)


@torch.no_grad()
def _fakes(G: Network, inputs: StepInputs, scalars: StepScalars) -> Tensor:
    return G(inputs.latents_d, scalars.alpha, inputs.noise_d)


def _critic(settings: TrainingConfig, D: Critic, draws: Tensor | None, scalars: StepScalars) -> Critic:
    """D as a function of images before augmentation, with the same draws for reals and fakes.

    The gradient penalty is therefore taken with respect to the images before augmentation.
    """
    augmented = augmentation(settings.augment)
    if not augmented:
        return lambda images: D(images, scalars.alpha)
    return lambda images: D(augment(images, draws, scalars.p, augmented), scalars.alpha)
