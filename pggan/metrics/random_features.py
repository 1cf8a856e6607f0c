"""Features of random filters: a measure of quality that needs no download and works on any machine.

Their Frechet distance is called RFD (Naeem et al. 2020 and arXiv 2208.09218 use random networks so), never FID: its
numbers have nothing to do with those of Inception. It sees blur, noise and wrong colors; it knows nothing of objects.

Shapes here: N pictures; images are float32 [N, 3, 64, 64] in [-1, 1].
"""

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pggan.metrics.kernel_distance import Estimate, kernel_distance
from pggan.metrics.spaces import batches, spread
from pggan.randomness import Stream

CHANNELS = (16, 32, 48, 64)
COLORS = 8  # places along a side at which the mean color is taken
BLOCKS = (*(2 * count for count in CHANNELS), 3 * COLORS**2)  # numbers in each block of features
WIDTH = sum(BLOCKS)  # 512


@lru_cache(maxsize=1)
def filters() -> tuple[Tensor, ...]:
    """Of four layers, float32 [outputs, inputs, 3, 3], each filter of mean 0 and of norm sqrt 2.

    Uniform numbers from the bits of Philox: the same on every machine.
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
    """64 hexadecimal digits that say which filters these are."""
    whole = b"".join(np.round(weight.double().numpy() * 1e5).astype("<i4").tobytes() for weight in filters())
    return hashlib.sha256(whole).hexdigest()


@torch.no_grad()
def random_features(pictures: np.ndarray) -> np.ndarray:
    """float64 [N, 512] of pictures uint8 [N, H, W, 3], which may be a memory map; see `balance`."""
    return np.concatenate([of_images(images).double().numpy() for images in batches(pictures)])


def of_images(images: Tensor) -> Tensor:
    """[N, 512]: the mean and the spread of each channel after each layer, and the colors at 8x8 places."""
    h, out = images.contiguous(memory_format=torch.channels_last), []
    for weight in filters():
        h = F.relu(F.conv2d(F.pad(h, (1, 1, 1, 1), mode="reflect"), weight))
        out.append(torch.cat([h.mean((2, 3)), spread(h)], dim=1))
        h = F.avg_pool2d(h, 2)
    return torch.cat([*out, F.adaptive_avg_pool2d(images, COLORS).flatten(1)], dim=1)


@dataclass(frozen=True)
class Balance:
    """Centers and scales features, [512] each: b(features [N, 512]) -> [N, 512]."""

    mean: np.ndarray
    factors: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) * self.factors


def balance(reals: np.ndarray) -> Balance:
    """After it the reals [N, 512] have mean 0, and each block of features the same variance, 1 in all.

    Otherwise the block of the largest numbers would be all that a distance sees; an RFD of 1 is now as far as the
    reals are wide.
    """
    totals = [block.var(axis=0).sum() for block in np.split(reals, np.cumsum(BLOCKS)[:-1], axis=1)]
    scales = [1 / np.sqrt(max(len(BLOCKS) * total, 1e-12)) for total in totals]
    return Balance(reals.mean(axis=0), np.repeat(scales, BLOCKS))


def random_kernel_distance(a: np.ndarray, b: np.ndarray) -> Estimate:
    """The kernel distance of balanced features, with a mean variance of 1 as its kernel expects."""
    return kernel_distance(np.sqrt(WIDTH) * a, np.sqrt(WIDTH) * b)
