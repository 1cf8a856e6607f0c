"""The feature spaces in which figures are measured: the table SPACES, and two spaces that need no download.

`handcrafted` describes edge directions, texture, palette and the layout of colors. On images of known classes it told
most classes apart better than random convolutions, wavelets and k-means filters did, at a tenth of their cost.
`classifier` is the inner layers of the network that tells the built-in kinds apart. It sees kinds of texture, which
`handcrafted` misses, and misses plain shapes, which `handcrafted` sees: figures that need both are measured in both.

Both read images at 64 x 64 pixels and use no detail finer than 2 pixels, so that a blur or a little noise, which are a
matter of quality, change the features little. Shapes here: N images, float32 [N, 3, 64, 64] in [-1, 1].
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from pggan.metrics.kinds import WEIGHTS_SHA256, at_reading_size, trained_classifier
from pggan.metrics.random_features import of_images
from pggan.metrics.resizing import SIDE as INCEPTION_SIDE
from pggan.metrics.small_images import SIDE, spread

DIRECTIONS = 8  # of edges, over half a turn
SCALES = (1, 2, 4)  # gradients are taken over so many of 32 pixels
HUES, SHADES, SATURATIONS = 12, 8, 6
WEIGHTS = {"edges": 1.0, "texture": 0.3, "layout": 0.1, "palette": 0.5}  # chosen on the built-in kinds


@dataclass(frozen=True)
class FeatureSpace:
    """A function from images to features; images that look similar have features near each other."""

    load: Callable[..., Callable]
    """load() returns the function: images float [N, 3, side, side] -> features [N, D]. Inception's load takes the
    weights' file and the device, and its images are within 0..255; all others are within [-1, 1]."""
    side: int
    """Input size in pixels."""
    version: str
    """Part of every cache key: change it when any feature changes."""
    license: str
    modes: bool = False
    """Whether dropped modes and missing labels are looked for in this space; its side is then 64."""


def _inception(weights: str | None = None, device: torch.device | str = "cpu") -> Callable:
    from pggan.metrics.inception import open_network

    return open_network(weights, device).features


OURS = "MIT, as pggan"
SPACES = {
    "handcrafted": FeatureSpace(lambda: handcrafted, SIDE, "1", OURS, modes=True),
    "classifier": FeatureSpace(lambda: classifier, SIDE, f"1 {WEIGHTS_SHA256[:12]}", OURS, modes=True),
    "rand": FeatureSpace(lambda: of_images, SIDE, "1", OURS),
    "inception": FeatureSpace(_inception, INCEPTION_SIDE, "2015-12-05", "Apache-2.0"),
}
# Of the spaces that read 64 x 64 images.
VERSION = ", ".join(f"{name} {space.version}" for name, space in SPACES.items() if space.side == SIDE)


def modes() -> list[str]:
    """The names of the spaces in which dropped modes and missing labels are looked for."""
    return [name for name, space in SPACES.items() if space.modes]


def mode_features(images: Tensor) -> dict[str, Tensor]:
    """Features [N, D] in each of the spaces `modes`, by name."""
    return {name: SPACES[name].load()(images) for name in modes()}


def classifier(images: Tensor) -> Tensor:
    """[N, 464]: mean and spread of each channel after each convolution of the classifier of built-in kinds.

    The means of a layer are scaled to length 1, and its spreads too, so that all layers count the same.
    """
    h, out = at_reading_size(images), []
    for layer in trained_classifier(images.device):
        h = layer(h)
        if h.ndim == 4 and isinstance(layer, torch.nn.ReLU):
            out += [F.normalize(h.mean((2, 3)), dim=1), F.normalize(spread(h), dim=1)]
    return torch.cat(out, dim=1)


# ---- handcrafted


def handcrafted(images: Tensor) -> Tensor:
    """[N, 486]: edges, texture, layout of colors and palette, weighted by WEIGHTS."""
    half = F.avg_pool2d(images, 2)  # (N, 3, 32, 32)
    light = half.mean(dim=1, keepdim=True)  # (N, 1, 32, 32)
    parts = {"edges": edges(light), "texture": texture(light), "layout": layout(images), "palette": palette(half)}
    return torch.cat([WEIGHTS[name] * part for name, part in parts.items()], dim=1)


def edges(light: Tensor) -> Tensor:
    """[N, 408] of brightness [N, 1, H, W]: histograms of oriented gradients (Dalal and Triggs 2005, section 6).

    At three scales, each over a 4 x 4 grid and over the whole image. Each histogram is divided by its sum, and its
    square root is taken, so that Euclidean distances between features are Hellinger distances between histograms.
    """
    across = light.new_tensor([[[[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]]]) / 8
    out = []
    for scale in SCALES:
        padded = F.pad(F.avg_pool2d(light, scale), (1, 1, 1, 1), mode="reflect")
        dx, dy = F.conv2d(padded, across), F.conv2d(padded, across.transpose(2, 3))
        strength = (dx.square() + dy.square() + 1e-12).sqrt()
        angle = (torch.atan2(dy, dx) % math.pi) / math.pi * DIRECTIONS
        below, share = angle.floor().long(), angle.frac()
        votes = strength.new_zeros(len(light), DIRECTIONS, *strength.shape[2:])
        votes.scatter_add_(1, below % DIRECTIONS, strength * (1 - share))
        votes.scatter_add_(1, (below + 1) % DIRECTIONS, strength * share)
        for grid in (4, 1):
            mean = F.adaptive_avg_pool2d(votes, grid)
            out.append((mean / (mean.sum((1, 2, 3), keepdim=True) + 0.01)).sqrt().flatten(1))
    return torch.cat(out, dim=1)


def texture(light: Tensor) -> Tensor:
    """[N, 4] of brightness [N, 1, H, W]: the log of the mean absolute detail at four scales, an octave apart."""
    out = []
    for scale in (1, 2, 4, 8):
        h = F.avg_pool2d(light, scale)
        around = F.avg_pool2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), 3, 1)
        out.append(torch.log((around - h).abs().mean((1, 2, 3)) + 0.01))
    return torch.stack(out, dim=1)


def detail(images: Tensor) -> Tensor:
    """[N]: the log of the mean absolute detail of 4 pixels: the first number of `texture`."""
    return texture(F.avg_pool2d(images, 2).mean(dim=1, keepdim=True))[:, 0]


def layout(images: Tensor) -> Tensor:
    """[N, 48]: the mean color in each cell of a 4 x 4 grid."""
    return F.adaptive_avg_pool2d(images, 4).flatten(1)


def palette(images: Tensor) -> Tensor:
    """[N, 26]: square roots of histograms of brightness, of hue (weighted by saturation), and of saturation."""
    r, g, b = images.unbind(dim=1)
    one, other = (r - g) / math.sqrt(2), (r + g - 2 * b) / math.sqrt(6)
    strength, hue = (one.square() + other.square() + 1e-9).sqrt(), torch.atan2(other, one)
    angles = torch.arange(HUES) * (2 * math.pi / HUES)
    hues = [(strength * torch.cos(hue - angle).clamp(min=0) ** 4).mean((1, 2)) for angle in angles.tolist()]
    shades = soft_histogram((r + g + b) / 3, -1, 1, SHADES)
    saturations = soft_histogram(strength, 0, 1.2, SATURATIONS)
    return torch.cat([shades.sqrt(), (torch.stack(hues, 1) + 1e-4).sqrt(), saturations.sqrt()], dim=1)


def soft_histogram(values: Tensor, low: float, high: float, bins: int) -> Tensor:
    """[N, bins] of [N, H, W]: a histogram of shares. Each value is divided between the two nearest bin centers, so that
    a small change of a value changes the histogram little."""
    width = (high - low) / (bins - 1)
    centers = torch.linspace(low, high, bins).tolist()
    flat = values.flatten(1).clamp(low, high)
    return torch.stack([(1 - (flat - center).abs() / width).clamp(min=0).mean(1) for center in centers], dim=1)
