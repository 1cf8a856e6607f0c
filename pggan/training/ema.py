"""G_ema, the exponential moving average of the weights of G. Its half-life is in images, whatever the batch size.

The published decay of 0.999 per step is a half-life of 88.7 kimg at batch 128 but of 2.8 kimg at batch 4.
"""

import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from pggan.models.networks import Growing


def decay(batch: int, half_life: float) -> float:
    """The decay per step of `batch` images that equals 1/2 per `half_life` images. half_life 0: 0, no average."""
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


def half_lives(half_life: float, rampup: float, nimg: int, since_growth: int) -> tuple[float, float]:
    """Half-lives in images: (of the older weights, of the weights that the last growth added).

    rampup: limits a half-life to this share of the images that a weight has seen (`nimg`, or `since_growth`); 0: no
    limit. Without it, G_ema would still have mostly the random initial weights of a new block at the end of a fade.
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
    """Grows the average after the model has grown: old weights stay averaged, new ones are copied from the model."""
    average.grow(rng)
    average.requires_grad_(False)
    mine, theirs = tensors(average), tensors(model)
    for name in model.newest():
        mine[name].copy_(theirs[name])


def tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """{name: tensor} of all parameters and buffers."""
    return dict([*model.named_parameters(), *model.named_buffers()])
