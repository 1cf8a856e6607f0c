"""Two spaces in which pictures that look alike lie near each other, made without any download.

`form` is written down: directions of edges, texture, palette and the layout of colors. It was measured against random
convolutions, wavelets and k-means filters on pictures whose classes are known: it tells most of them apart, at a tenth
of the cost. `learned` is what the inner layers of the classifier of the built-in kinds see; it adds what a form cannot
say (kinds of texture), and misses some of what the form sees (plain shapes), so figures are taken in both.

Both look at pictures of 64x64 at most 32 pixels finely, so that a blur or a little noise, which are a matter of
quality, change little. Shapes here: N pictures; images are float32 [N, 3, 64, 64] in [-1, 1].
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pggan.metrics.kinds import WEIGHTS_SHA256, at_reading_size, classifier

VERSION = f"1 {WEIGHTS_SHA256[:12]}"  # raise the number when any feature changes: it is part of every cache's key
SIDE = 64  # pixels at which pictures are read
SOFT_SIDE = 16  # pixels that are left by `softened`
BATCH = 128
DIRECTIONS = 8  # of edges, over half a turn
SCALES = (1, 2, 4)  # pixels of 32 that gradients are taken over
HUES, SHADES, SATURATIONS = 12, 8, 6
WEIGHTS = {"edges": 1.0, "texture": 0.3, "layout": 0.1, "palette": 0.5}  # chosen on the built-in kinds


def read(pictures: np.ndarray) -> Tensor:
    """uint8 [N, H, W, 3] of any size -> float32 [N, 3, 64, 64] in [-1, 1], squashed where they are not square."""
    images = torch.from_numpy(np.array(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1  # a copy: maps are read-only
    if images.shape[2:] == (SIDE, SIDE):
        return images.contiguous()
    return F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True).clamp(-1, 1)


def read_one(picture: np.ndarray) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [64, 64, 3], as `read` has it: what has to be kept of a picture to be measured."""
    return np.round((read(picture[None])[0].permute(1, 2, 0).numpy() + 1) * 127.5).astype(np.uint8)


def softened(images: Tensor) -> Tensor:
    """The same pictures with no detail finer than a sixteenth of the side: sharp and blurred ones look the same."""
    small = F.avg_pool2d(images, SIDE // SOFT_SIDE)
    return F.interpolate(small, (SIDE, SIDE), mode="bilinear")


@torch.no_grad()
def features(pictures: np.ndarray, space: Callable[[Tensor], Tensor]) -> np.ndarray:
    """float64 [N, D] of pictures uint8 [N, H, W, 3], which may be a memory map: they are taken some at a time."""
    return np.concatenate([space(images).double().numpy() for images in batches(pictures)])


def spread(h: Tensor) -> Tensor:
    """[N, C]: the standard deviation of each channel of [N, C, H, W] over its places."""
    mean = h.mean((2, 3))
    return (h.square().mean((2, 3)) - mean.square()).clamp(min=0).sqrt()


def contrast(images: Tensor) -> Tensor:
    """[N]: the spread of brightness within each picture."""
    return images.mean(dim=1).flatten(1).std(dim=1)


def with_contrast(images: Tensor, factor: float) -> Tensor:
    """The same pictures with so many times the contrast, each around its own mean."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (mean + factor * (images - mean)).clamp(-1, 1)


def batches(pictures: np.ndarray) -> Iterator[Tensor]:
    """The pictures as `read` gives them, some at a time."""
    for start in range(0, len(pictures), BATCH):
        yield read(pictures[start : start + BATCH])


# ---- learned


def learned(images: Tensor) -> Tensor:
    """[N, 464]: the mean and the spread of each channel after each convolution of the classifier of built-in kinds.

    The values of a layer have length 1 together, so that each layer says as much as any other.
    """
    h, out = at_reading_size(images), []
    for layer in classifier(images.device):
        h = layer(h)
        if h.ndim == 4 and isinstance(layer, torch.nn.ReLU):
            out += [F.normalize(h.mean((2, 3)), dim=1), F.normalize(spread(h), dim=1)]
    return torch.cat(out, dim=1)


# ---- form


def form(images: Tensor) -> Tensor:
    """[N, 486]: edges, texture, palette and layout of colors, weighted."""
    half = F.avg_pool2d(images, 2)  # (N, 3, 32, 32)
    light = half.mean(dim=1, keepdim=True)  # (N, 1, 32, 32)
    parts = {"edges": edges(light), "texture": texture(light), "layout": layout(images), "palette": palette(half)}
    return torch.cat([WEIGHTS[name] * part for name, part in parts.items()], dim=1)


def edges(light: Tensor) -> Tensor:
    """[N, 408] of brightness [N, 1, H, W]: how much of the contrast lies in each direction, by place and in all.

    Histograms of oriented gradients (Dalal and Triggs 2005, section 6) over three scales, on 4x4 places and on one,
    each divided by its sum, square roots taken: Euclidean distances are then Hellinger's.
    """
    across = light.new_tensor([[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]]]) / 8
    out = []
    for scale in SCALES:
        padded = F.pad(F.avg_pool2d(light, scale), (1, 1, 1, 1), mode="reflect")
        dx, dy = F.conv2d(padded, across), F.conv2d(padded, across.transpose(2, 3))
        strength = (dx.square() + dy.square() + 1e-12).sqrt()
        turn = (torch.atan2(dy, dx) % math.pi) / math.pi * DIRECTIONS
        below, share = turn.floor().long(), turn.frac()
        votes = strength.new_zeros(len(light), DIRECTIONS, *strength.shape[2:])
        votes.scatter_add_(1, below % DIRECTIONS, strength * (1 - share))
        votes.scatter_add_(1, (below + 1) % DIRECTIONS, strength * share)
        for places in (4, 1):
            mean = F.adaptive_avg_pool2d(votes, places)
            out.append((mean / (mean.sum((1, 2, 3), keepdim=True) + 0.01)).sqrt().flatten(1))
    return torch.cat(out, dim=1)


def texture(light: Tensor) -> Tensor:
    """[N, 4] of brightness [N, 1, H, W]: the logarithm of the mean detail at four scales, an octave apart."""
    out = []
    for scale in (1, 2, 4, 8):
        h = F.avg_pool2d(light, scale)
        around = F.avg_pool2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), 3, 1)
        out.append(torch.log((around - h).abs().mean((1, 2, 3)) + 0.01))
    return torch.stack(out, dim=1)


def layout(images: Tensor) -> Tensor:
    """[N, 48]: the mean color at each of 4x4 places."""
    return F.adaptive_avg_pool2d(images, 4).flatten(1)


def palette(images: Tensor) -> Tensor:
    """[N, 26]: how much of the picture has each shade, each hue by its strength, and each strength of color."""
    r, g, b = images.unbind(dim=1)
    one, other = (r - g) / math.sqrt(2), (r + g - 2 * b) / math.sqrt(6)
    strength, hue = (one.square() + other.square() + 1e-9).sqrt(), torch.atan2(other, one)
    angles = torch.arange(HUES) * (2 * math.pi / HUES)
    hues = [(strength * torch.cos(hue - angle).clamp(min=0) ** 4).mean((1, 2)) for angle in angles.tolist()]
    shades = soft_histogram((r + g + b) / 3, -1, 1, SHADES)
    saturations = soft_histogram(strength, 0, 1.2, SATURATIONS)
    return torch.cat([shades.sqrt(), (torch.stack(hues, 1) + 1e-4).sqrt(), saturations.sqrt()], dim=1)


def soft_histogram(values: Tensor, low: float, high: float, bins: int) -> Tensor:
    """[N, bins] of [N, H, W]: shares; each value is divided between the two nearest centers, so nothing jumps."""
    width = (high - low) / (bins - 1)
    centers = torch.linspace(low, high, bins).tolist()
    flat = values.flatten(1).clamp(low, high)
    return torch.stack([(1 - (flat - center).abs() / width).clamp(min=0).mean(1) for center in centers], dim=1)
