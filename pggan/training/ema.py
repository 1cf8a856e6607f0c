"""The moving average of G. Its half-life is told in images, so that it smooths alike at every batch size.

A decay of 0.999 a step, as published, means 88.7 kimg at batch 128 but 2.8 kimg at batch 4: it shrinks exactly where
smoothing matters most.
"""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pggan.models.networks import Growing


def decay(batch: int, half_life: float) -> float:
    """The factor a step of `batch` images that halves a weight's share in `half_life` images; 0 for no averaging."""
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


def half_lives(half_life: float, ramp: float, nimg: int, since_growth: int) -> tuple[float, float]:
    """(of all weights, of those that the last growth added), in images.

    A half-life is at most `ramp` (0: off) times the images that a weight has seen: `nimg`, or `since_growth` for the
    newest. Without it the average of a new block is still its random beginning when the fade is over.
    """
    if not ramp:
        return half_life, half_life
    return min(half_life, ramp * nimg), min(half_life, ramp * since_growth)


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, factor: float, newest_factor: float | None = None) -> None:
    """average <- factor * average + (1 - factor) * model, in place. Both have the same parameters and buffers.

    newest_factor: for those that the model's last growth added, if it is to be another. What batch norm has measured
    is averaged alike, and what is no floating-point number is copied.
    """
    newest = set() if newest_factor is None else model.newest()
    mine, theirs = tensors(average), tensors(model)
    for name in [name for name, tensor in theirs.items() if not tensor.is_floating_point()]:
        mine.pop(name).copy_(theirs.pop(name))
    newest = {name for name in newest if name in theirs}
    for names, weight in (([name for name in theirs if name not in newest], factor), (sorted(newest), newest_factor)):
        if names:
            get_ema_multi_avg_fn(weight)([mine[name] for name in names], [theirs[name] for name in names], None)


@torch.no_grad()
def grow(average: Growing, model: Growing, rng: torch.Generator | None = None) -> None:
    """Grows the average beside the grown model: what was averaged stays, the new weights start as the model's."""
    average.grow(rng)
    average.requires_grad_(False)
    mine, theirs = tensors(average), tensors(model)
    for name in model.newest():
        mine[name].copy_(theirs[name])


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Parameters and buffers by name."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}
