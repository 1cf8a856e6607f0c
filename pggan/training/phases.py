"""The phases of a step: which networks (the players) are optimized, by which loss.

The loss of a phase is a pure function of networks, inputs and scalars that returns (loss, stats). It draws no random
numbers, keeps no state and reads no value back from the device. So each phase can be compiled into one graph
(compile.py), with its gradients. The step, the memory count and the compiler use only the list that `phases` returns.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from pggan.config.augmentation import augmentation
from pggan.config.schema import TrainingConfig
from pggan.training.augment import augment
from pggan.training.losses import (
    LOSSES,
    Result,
    discriminator_loss,
    generator_loss,
    heads_generator_loss,
    heads_loss,
    penalty_loss,
)

Player = Literal["G", "D", "heads"]
Networks = Mapping[Player, Callable[..., Any]]  # "heads" only with --features


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
    p: multiplies the probability of each augmentation. features_weight: of the heads in the loss of G.
    """

    alpha: float | Tensor = 1.0
    penalty_weight: float | Tensor = 0.0
    scale: float | Tensor = 1.0
    p: float | Tensor = 1.0
    features_weight: float | Tensor = 1.0


PhaseLoss = Callable[[TrainingConfig, Networks, StepInputs, StepScalars], Result]


@dataclass(frozen=True)
class Phase:
    """One optimizer step of its players. penalty_weight: of the gradient penalty in it, 0 for none."""

    name: str
    players: tuple[Player, ...]
    loss: PhaseLoss
    penalty_weight: float = 0.0


def phases(settings: TrainingConfig, number: int, penalty_weight: float, d_interval: int = 0) -> list[Phase]:
    """Returns the phases of a step, in their order.

    number: of the step, counted from the start of its stage. penalty_weight: as for a penalty in every step.
    d_interval: with heads on features, D acts only in every so many steps, the heads in all of them; 0: no heads.
    With `--penalty-interval` k, D has a phase for its penalty in every k-th step in which it acts, k times as heavy
    (lazy regularization, Karras et al. 2020, section 3.1).
    """
    acting, left_out = divmod(number, d_interval or 1)
    critics = (() if left_out else ("D",)) + (("heads",) if d_interval else ())
    interval = settings.penalty_interval
    lazy = interval > 1
    has_penalty = lazy and penalty_weight and not left_out and acting % interval == 0
    weight = 0.0 if lazy or left_out else penalty_weight
    listed = [
        (True, Phase("heads" if left_out else "D", critics, partial(discriminator, critics), weight)),
        (has_penalty, Phase("D penalty", ("D",), penalty, interval * penalty_weight)),
        (True, Phase("G by heads" if left_out else "G", ("G",), partial(generator, critics))),
    ]
    return [phase for due, phase in listed if due]


def discriminator(
    critics: Sequence[Player], settings: TrainingConfig, networks: Networks, inputs: StepInputs, scalars: StepScalars
) -> Result:
    """The losses of the critics, D with its gradient penalty if the weight is not 0, for the same fakes."""
    fakes, results = _fakes(networks, inputs, scalars), []
    if "D" in critics:
        critic, loss = _critic(settings, networks["D"], inputs.augment_d, scalars), LOSSES[settings.loss]
        more = inputs.mix, scalars.penalty_weight, settings.drift, scalars.scale
        results.append(discriminator_loss(loss, critic, inputs.reals, fakes, *more))
    if "heads" in critics:
        critic = _critic(settings, networks["heads"], inputs.augment_d, scalars)
        results.append(heads_loss(critic, inputs.reals, fakes))
    return _sum(results)


def penalty(settings: TrainingConfig, networks: Networks, inputs: StepInputs, scalars: StepScalars) -> Result:
    """The gradient penalty of D alone."""
    critic, loss = _critic(settings, networks["D"], inputs.augment_d, scalars), LOSSES[settings.loss]
    fakes = _fakes(networks, inputs, scalars)
    return penalty_loss(loss, critic, inputs.reals, fakes, inputs.mix, scalars.penalty_weight, scalars.scale)


def generator(
    critics: Sequence[Player], settings: TrainingConfig, networks: Networks, inputs: StepInputs, scalars: StepScalars
) -> Result:
    """The loss of G, judged by the critics."""
    fakes, results = networks["G"](inputs.latents_g, scalars.alpha, inputs.noise_g), []
    if "D" in critics:
        critic, loss = _critic(settings, networks["D"], inputs.augment_g, scalars), LOSSES[settings.loss]
        results.append(generator_loss(loss, critic, fakes, inputs.reals))
    if "heads" in critics:
        critic = _critic(settings, networks["heads"], inputs.augment_g, scalars)
        results.append(heads_generator_loss(critic, fakes, scalars.features_weight))
    return _sum(results)


def _sum(results: list[Result]) -> Result:
    losses = [loss for loss, _ in results]
    return sum(losses[1:], losses[0]), {name: value for _, stats in results for name, value in stats.items()}


@torch.no_grad()
def _fakes(networks: Networks, inputs: StepInputs, scalars: StepScalars) -> Tensor:
    return networks["G"](inputs.latents_d, scalars.alpha, inputs.noise_d)


def _critic(
    settings: TrainingConfig, network: Callable[..., Any], draws: Tensor | None, scalars: StepScalars
) -> Callable[[Tensor], Any]:
    """D, or the heads, as a function of images before augmentation, with the same draws for reals and fakes.

    The gradient penalty is therefore taken with respect to the images before augmentation. The heads may get `kinds`,
    too: see FeatureHeads.
    """
    augmented = augmentation(settings.augment)

    def critic(images: Tensor, **more: int) -> Any:
        if augmented:
            own = draws.repeat_interleave(len(images) // len(draws), dim=0)
            images = augment(images, own, scalars.p, augmented)
        return network(images, scalars.alpha, **more)

    return critic
