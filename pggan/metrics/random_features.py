"""Features of random filters: a measure of quality that needs no download and gives the same on every machine.

Their Frechet distance is called RFD (Naeem et al. 2020 and arXiv 2208.09218 use random networks in this way), never
FID: its numbers do not compare with Inception's. It detects blur, noise and wrong colors, but knows nothing of objects.

Shapes here: N images, float32 [N, 3, 64, 64] in [-1, 1].
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pggan.metrics.kernel_distance import Estimate, kernel_distance
from pggan.metrics.small_images import features, spread
from pggan.randomness import Stream

CHANNELS = (16, 32, 48, 64)
COLORS = 8  # the mean color is taken in each cell of an 8 x 8 grid
BLOCKS = (*(2 * count for count in CHANNELS), 3 * COLORS**2)  # features in each block
WIDTH = sum(BLOCKS)  # 512


@lru_cache(maxsize=1)
def filters() -> tuple[Tensor, ...]:
    """The filters of four layers, float32 [outputs, inputs, 3, 3], each with mean 0 and norm sqrt 2.

    They are uniform numbers from the bits of Philox: the same on every machine.
    """
    out, inputs = [], 3
    for level, outputs in enumerate(CHANNELS):
        raw = Stream(0).uniform(f"random filters {level}", 0, outputs, inputs * 9).reshape(outputs, inputs, 9)
        centered = raw - raw.mean(axis=2, keepdims=True)
        scaled = centered / np.sqrt((centered**2).sum(axis=(1, 2), keepdims=True) / 2)
        out.append(torch.from_numpy(scaled.reshape(outputs, inputs, 3, 3).astype(np.float32)))
        inputs = outputs
    return tuple(out)


@lru_cache(maxsize=1)
def filters_digest() -> str:
    """sha256 of the filters, rounded to 1e-5: 64 hexadecimal digits."""
    whole = b"".join(np.round(weight.double().numpy() * 1e5).astype("<i4").tobytes() for weight in filters())
    return hashlib.sha256(whole).hexdigest()


def random_features(pixels: np.ndarray) -> np.ndarray:
    """float64 [N, 512] of images uint8 [N, H, W, 3], which may be a memory map; see `balance`."""
    return features(pixels, of_images)


def of_images(images: Tensor) -> Tensor:
    """[N, 512]: mean and spread of each channel after each layer, and the mean colors of an 8 x 8 grid."""
    h, out = images.contiguous(memory_format=torch.channels_last), []
    for weight in filters():
        h = F.relu(F.conv2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), weight))
        out.append(torch.cat([h.mean((2, 3)), spread(h)], dim=1))
        h = F.avg_pool2d(h, 2)
    return torch.cat([*out, F.adaptive_avg_pool2d(images, COLORS).flatten(1)], dim=1)


@dataclass(frozen=True)
class Balance:
    """Centers and scales features: [N, 512] -> [N, 512]."""

    mean: np.ndarray
    factors: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) * self.factors


def balance(reals: np.ndarray) -> Balance:
    """The Balance that gives reals [N, 512] mean 0 and each block of features the same variance, 1 in total.

    Otherwise the block with the largest numbers would decide every distance. An RFD of 1 is the variance of the reals.
    """
    totals = [block.var(axis=0).sum() for block in np.split(reals, np.cumsum(BLOCKS)[:-1], axis=1)]
    scales = [1 / np.sqrt(max(len(BLOCKS) * total, 1e-12)) for total in totals]
    return Balance(reals.mean(axis=0), np.repeat(scales, BLOCKS))


def random_kernel_distance(a: np.ndarray, b: np.ndarray) -> Estimate:
    """The kernel distance of balanced features, scaled to a mean variance of 1, which its kernel expects."""
    return kernel_distance(np.sqrt(WIDTH) * a, np.sqrt(WIDTH) * b)
