"""How often augmentation is applied: the controller of Karras et al. 2020b (ADA), section 3. Pure.

All of it is 0-d tensors on the device of the logits, and no value is looked at: nothing waits for a GPU. p is the same
for all pieces; r, how sure D is of its training pictures, is losses.r_t. What is kept from step to step is p and
the moving average of r, whatever the resolution.
"""

import torch
from torch import Tensor

from pggan.config.schema import TrainingConfig
from pggan.training.losses import LOSSES

TARGET = 0.6  # of r, as published: 80 % of the reals above 0
TARGET_OF_PAIRS = 0.77  # what the pairs give there, if logits are normal, as widely spread, and 0 lies half-way
AVERAGED = 500.0  # half-life of the average of r, in images; the original moves p every 4 batches of 64


def begin(training: TrainingConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """(p, average of r) before the first step: always 1 and 0 if p is fixed; 0 and the target if it is controlled."""
    start = (0.0, target(training)) if training.ada else (1.0, 0.0)
    return tuple(torch.tensor(value, device=device) for value in start)


def adjust(p: Tensor, average: Tensor, r: Tensor, images: int, training: TrainingConfig) -> tuple[Tensor, Tensor]:
    """(p, average of r) after a step on so many images: p goes up or down by images / (1000 * --ada-kimg).

    Up while the average of r is above the target, never beyond --ada-max; down below the target, to 0.
    """
    average = torch.lerp(average, r, 1 - 0.5 ** (images / AVERAGED))
    moved = p + torch.sign(average - target(training)) * (images / (1000 * training.ada_kimg))
    return moved.clamp(0.0, training.ada_max), average


def target(training: TrainingConfig) -> float:
    """--ada-target, or what is usual for the loss."""
    usual = TARGET if LOSSES[training.loss].zero_threshold else TARGET_OF_PAIRS
    return usual if training.ada_target is None else training.ada_target
