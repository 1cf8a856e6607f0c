"""The moving average of G. Its half-life is told in images, so that it smooths alike at every batch size.

A decay of 0.999 a step, as published, means 88.7 kimg at batch 128 but 2.8 kimg at batch 4: it shrinks exactly where
smoothing matters most.
"""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


def decay(batch: int, half_life: float) -> float:
    """The factor a step of `batch` images that halves a weight's share in `half_life` images; 0 for no averaging."""
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, factor: float) -> None:
    """average <- factor * average + (1 - factor) * model, in place. Both have the same parameters."""
    get_ema_multi_avg_fn(factor)(list(average.parameters()), list(model.parameters()), None)


@torch.no_grad()
def grow(average: nn.Module, model: nn.Module, rng: torch.Generator | None = None) -> None:
    """Grows the average beside the grown model: what was averaged stays, the new weights start as the model's."""
    average.grow(rng)
    average.requires_grad_(False)
    mine, theirs = dict(average.named_parameters()), dict(model.named_parameters())
    for name in model.newest():
        mine[name].copy_(theirs[name])
