"""Other measures of diversity, in simple form: one number for a set of images, high for a varied set.

All but MS-SSIM use the random features of pggan/metrics/random_features.py, balanced by the reals, because our own
score needs no download either. In Inception's features they may do better or worse.

Shapes: images are uint8 [n, 64, 64, 3]; features are float64 [n, 512].
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pggan.metrics.diversity import effective_number, squared_distances
from pggan.metrics.neighbors import prdc
from pggan.metrics.small_images import batches

SIGNALS = ("ms-ssim", "recall", "vendi", "distance", "coverage")
PAIRS = 500
SCALES = 3  # of Wang's five: the third is 16x16 at 64 px, and the window is 11x11
WEIGHTS = (0.0448, 0.2856, 0.3001)
WINDOW, SIGMA = 11, 1.5


def baselines(reals: np.ndarray, images: np.ndarray, features: np.ndarray) -> dict[str, float]:
    """{measure: value} of images with their features. reals: features of real images; only the first n are used.

    ms-ssim: 1 minus the mean over random pairs (Odena et al. 2017). recall: Kynkaanniemi et al. 2019, k = 3. vendi:
    order 1 (Friedman and Dieng 2023), with a Gaussian kernel as wide as half the median distance of two reals.
    distance: the mean over all pairs of images. LPIPS is used in this way, but this is not LPIPS. coverage: Naeem et
    al. 2020, k = 5.
    """
    reals = reals[: len(features)]
    apart, real_apart = (np.sqrt(squared_distances(each)[np.triu_indices(len(each), 1)]) for each in (features, reals))
    found = prdc(reals, features)
    values = (
        1 - ms_ssim_of_pairs(images),
        found.recall,
        effective_number(features, float(np.median(real_apart)) / 2),
        float(apart.mean()),
        found.coverage,
    )
    return dict(zip(SIGNALS, values, strict=True))


def ms_ssim_of_pairs(images: np.ndarray, seed: int = 0) -> float:
    """The mean MS-SSIM of 500 random pairs."""
    rng, n = np.random.default_rng(seed), len(images)
    first = rng.integers(n, size=PAIRS)
    second = (first + rng.integers(1, n, size=PAIRS)) % n
    gray = torch.cat([batch.mean(dim=1, keepdim=True) for batch in batches(images)]) / 2 + 0.5
    return float(ms_ssim(gray[first], gray[second]).mean())


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """MS-SSIM [n] of gray images [n, 1, 64, 64] in [0, 1]: Wang et al. 2003, with the first three scales."""
    value, total = torch.ones(len(x)), sum(WEIGHTS)
    for scale, weight in enumerate(WEIGHTS):
        mean_x, mean_y = _window(x), _window(y)
        variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
        similarity = (2 * (_window(x * y) - mean_x * mean_y) + 0.03**2) / (variance_x + variance_y + 0.03**2)
        if scale == SCALES - 1:  # brightness counts at the coarsest scale only
            similarity = similarity * (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        value = value * similarity.mean((1, 2, 3)).clamp(min=0) ** (weight / total)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return value


def _window(x: Tensor) -> Tensor:
    """The mean under an 11x11 Gaussian window that lies inside the image: [n, 1, side - 10, side - 10]."""
    offsets = torch.arange(WINDOW) - WINDOW // 2
    weights = torch.exp(-0.5 * (offsets / SIGMA) ** 2)
    rows = torch.arange(x.shape[2] - WINDOW + 1)[:, None]
    band = x.new_zeros(len(rows), x.shape[2])
    band[rows, rows + torch.arange(WINDOW)] = weights / weights.sum()
    return band @ x @ band.T
