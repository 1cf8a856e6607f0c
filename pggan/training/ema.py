"""G_ema, the exponential moving average of G. Its half-life is in images, so it smooths alike at every batch size.

The published decay of 0.999 per step is a half-life of 88.7 kimg at batch 128 but of 2.8 kimg at batch 4.
"""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pggan.models.networks import Growing


def decay(batch: int, half_life: float) -> float:
    """The decay per step of `batch` images with which a weight's share halves in `half_life` images; 0: no average."""
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


def half_lives(half_life: float, rampup: float, nimg: int, since_growth: int) -> tuple[float, float]:
    """(half-life of the older weights, of those that the last growth added), in images.

    rampup: a half-life is at most this times the images that a weight has seen (`nimg`, or `since_growth`); 0: off.
    Without it, the average of a new block is still mostly its random initial value when the fade is over.
    """
    if not rampup:
        return half_life, half_life
    return min(half_life, rampup * nimg), min(half_life, rampup * since_growth)


@torch.no_grad()
def update(average: nn.Module, model: nn.Module, factor: float, newest_factor: float | None = None) -> None:
    """average <- factor * average + (1 - factor) * model, in place, for parameters and floating-point buffers.

    newest_factor: for the tensors that the model's last growth added; None: `factor`. Integer buffers are copied.
    """
    newest = set() if newest_factor is None else model.newest()
    mine, theirs = tensors(average), tensors(model)
    for name in [name for name, tensor in theirs.items() if not tensor.is_floating_point()]:
        mine.pop(name).copy_(theirs.pop(name))
    older, newest = ([name for name in theirs if (name in newest) == new] for new in (False, True))
    for names, weight in ((older, factor), (newest, newest_factor)):
        if names:
            get_ema_multi_avg_fn(weight)([mine[name] for name in names], [theirs[name] for name in names], None)


@torch.no_grad()
def grow(average: Growing, model: Growing, rng: torch.Generator | None = None) -> None:
    """Grows the average after the model has grown: kept weights stay averaged, new ones start as the model's."""
    average.grow(rng)
    average.requires_grad_(False)
    mine, theirs = tensors(average), tensors(model)
    for name in model.newest():
        mine[name].copy_(theirs[name])


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """{name: tensor} of all parameters and buffers."""
    return dict([*model.named_parameters(), *model.named_buffers()])
