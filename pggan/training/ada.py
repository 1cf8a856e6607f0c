"""Adaptive discriminator augmentation (ADA): controls p by how far D overfits (Karras et al. 2020b, section 3).

Pure functions of 0-d tensors on the device of the logits; no value is read back, so nothing waits for a GPU. p
multiplies the probabilities of all augmentations. The state is p and the moving average of r_t (losses.r_t); growth
keeps both.
"""

import torch
from torch import Tensor

from pggan.config.schema import TrainingConfig
from pggan.training.losses import LOSSES

TARGET = 0.6  # of r_t, as published: 80 % of the reals have logits above 0
TARGET_OF_PAIRS = 0.77  # the same D, measured by pairs of logits: if they are normal, equally spread, symmetric about 0
HALF_LIFE = 500.0  # of the average of r_t, in images; the published code moves p every 4 batches of 64


def begin(training: TrainingConfig, device: torch.device) -> tuple[Tensor, Tensor]:
    """(p, average of r_t) before the first step: (0, target) with --ada; (1, 0) without --ada, and p stays 1."""
    start = (0.0, target(training)) if training.ada else (1.0, 0.0)
    return tuple(torch.tensor(value, device=device) for value in start)


def adjust(p: Tensor, average: Tensor, r_t: Tensor, images: int, training: TrainingConfig) -> tuple[Tensor, Tensor]:
    """(p, average of r_t) after a step on `images` images.

    p moves by images / (1000 * --ada-kimg): up if the average is above the target, down if it is below, within
    [0, --ada-max].
    """
    average = torch.lerp(average, r_t, 1 - 0.5 ** (images / HALF_LIFE))
    moved = p + torch.sign(average - target(training)) * (images / (1000 * training.ada_kimg))
    return moved.clamp(0.0, training.ada_max), average


def target(training: TrainingConfig) -> float:
    """--ada-target, or the default for the loss."""
    default = TARGET if LOSSES[training.loss].zero_threshold else TARGET_OF_PAIRS
    return default if training.ada_target is None else training.ada_target
