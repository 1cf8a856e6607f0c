"""Augmentation of the images that D sees, both real and fake. Pure functions; random numbers are passed in.

Translation, cutout and color are those of DiffAugment (Zhao et al. 2020); flips and quarter turns those of ADA (Karras
et al. 2020b, section 2.2 and appendix B). If too many images are augmented, G learns to draw augmented images: the
augmentation leaks. So an image gets each one with probability p * strength only, and a flip or a turn may leave the
image as it is. D can recognize a translation or a cutout by its zeros (mid-gray). Flips and turns leave no trace, so
they leak first.

All are twice differentiable in the images. No value is read back, so nothing waits for a GPU. Torchvision's transforms
are not used: they take one number per batch, not one per image. Scaling and rotation by any angle are left out: they
would need filters that cost more than all of these.

An augmentation is a function and a row of AUGMENTATIONS here, and a field in config/augmentation.py.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pggan.config.augmentation import Augmentation
from pggan.randomness import Stream

SHIFT = 0.125  # translation: at most this share of each side
CUT = 0.5  # cutout: this share of each side


# ---- images [N, 3, H, W], `on` (bool) and uniform draws in [0, 1), each [N, 1, 1, 1] -> [N, 3, H, W]


def color(images: Tensor, on: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """Adds a brightness of -0.5 .. 0.5; scales saturation by 0 .. 2, then contrast by 0.5 .. 1.5.

    Saturation is relative to each pixel's gray, contrast to the image's mean. All three are one elementwise affine map,
    because a matrix product may be rounded to TF32.
    """
    brightness = torch.where(on, brightness - 0.5, 0.0).to(images.dtype)
    saturation = torch.where(on, 2 * saturation, 1.0).to(images.dtype)
    contrast = torch.where(on, 0.5 + contrast, 1.0).to(images.dtype)
    gray = images.mean(dim=1, keepdim=True)  # (N, 1, H, W)
    mean = gray.mean(dim=(2, 3), keepdim=True)  # (N, 1, 1, 1)
    offset = brightness + (1 - contrast) * mean
    return contrast * saturation * images + (contrast * (1 - saturation) * gray + offset)


def flip(images: Tensor, on: Tensor, draw: Tensor, axis: int) -> Tensor:
    """Mirrors half of the images along `axis`."""
    return torch.where(on & (draw >= 0.5), images.flip(axis), images)


def turns(images: Tensor, on: Tensor, quarters: Tensor) -> Tensor:
    """Rotates by 0 to 3 quarter turns. Raises ValueError if the images are not square."""
    height, width = images.shape[2:]
    if height != width:
        raise ValueError(f"images of {width}x{height} cannot be turned by a quarter")
    quarters, turned = torch.where(on, (4 * quarters).long(), 0), images
    for k in (1, 2, 3):
        turned = torch.where(quarters == k, images.rot90(k, (2, 3)), turned)
    return turned


def translation(images: Tensor, on: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Shifts by whole pixels, at most SHIFT of each side; uncovered pixels are 0."""
    for axis, draw, position in zip((2, 3), (down, right), _positions(images), strict=True):
        side = images.shape[axis]
        most = int(SHIFT * side + 0.5)
        shift = torch.where(on, (draw * (2 * most + 1)).long() - most, 0)
        source = position - shift  # (N, 1, H, 1) or (N, 1, 1, W)
        rolled = images.gather(axis, (source % side).expand_as(images))  # each index once: no sums in the gradient
        images = torch.where((source >= 0) & (source < side), rolled, 0.0)
    return images


def cutout(images: Tensor, on: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Sets a rectangle with CUT of each side to 0. Its center is any pixel, so part of it may lie outside."""
    for draw, position in zip((down, right), _positions(images), strict=True):
        cut = int(CUT * position.numel() + 0.5)
        first = (draw * (position.numel() + 1 - cut % 2)).long() - cut // 2
        on = on & (position >= first) & (position < first + cut)
    return torch.where(on, 0.0, images)


def _positions(images: Tensor) -> tuple[Tensor, Tensor]:
    """Row numbers [H, 1] and column numbers [W]."""
    height, width = images.shape[2:]
    return torch.arange(height, device=images.device)[:, None], torch.arange(width, device=images.device)


class Row(NamedTuple):
    """change: (images, on, *draws) -> images; draws: how many uniform numbers it takes per image."""

    change: Callable[..., Tensor]
    draws: int


AUGMENTATIONS = {
    "color": Row(color, 3),
    "flip": Row(partial(flip, axis=3), 1),
    "vflip": Row(partial(flip, axis=2), 1),
    "turns": Row(turns, 1),
    "translation": Row(translation, 2),
    "cutout": Row(cutout, 2),
}


def augment_draws(
    stream: Stream, player: str, index: int, count: int, device: torch.device, augmentation: Augmentation
) -> Tensor | None:
    """float32 [count, K], uniform in [0, 1), for the images index .. index + count - 1; None if nothing is augmented.

    player: "D" or "G", whose phase the numbers are for. Columns, for each augmentation that is on: one number that
    decides whether it is applied, then its own draws.
    """
    if not augmentation:
        return None
    words = [
        stream.words(f"augment {name} {player}", index, count, 1 + AUGMENTATIONS[name].draws)
        for name in augmentation.strengths()
    ]
    uniform = (np.concatenate(words, axis=1) >> np.uint64(40)).astype(np.float32) * np.float32(2.0**-24)  # 24 bits < 1
    return torch.from_numpy(uniform).to(device, non_blocking=True)


def augment(images: Tensor, draws: Tensor | None, p: float | Tensor, augmentation: Augmentation) -> Tensor:
    """The images, each changed by its own row of draws, in the order of AUGMENTATIONS; same shape and dtype.

    images: [N, 3, H, W], nominally in [-1, 1]; the results may leave this range. draws: see augment_draws. p: in
    [0, 1], a number or a 0-d tensor. Raises ValueError for `turns` of images that are not square.
    """
    if not augmentation:
        return images
    strengths = augmentation.strengths()
    p = p if isinstance(p, Tensor) else draws.new_full((), p)  # so that p * strength is rounded the same way
    columns = draws[..., None, None, None].split([1 + AUGMENTATIONS[name].draws for name in strengths], dim=1)
    for (name, strength), own in zip(strengths.items(), columns, strict=True):
        coin, *uniform = own.unbind(1)  # (N, 1, 1, 1) each
        images = AUGMENTATIONS[name].change(images, coin < p * strength, *uniform)
    return images
