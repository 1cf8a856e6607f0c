"""What others measure diversity with, plainly: each a number of a set of pictures, as high as the set is varied.

All but MS-SSIM are taken in the random features of pggan/metrics/random_features.py, balanced by the reals, so that
they need no download, as our own score needs none. In Inception's features they may do better or worse.

Shapes here: pictures are uint8 [n, 64, 64, 3]; features are float64 [n, 512].
"""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pggan.metrics.diversity import effective_number, squared_distances
from pggan.metrics.neighbors import prdc
from pggan.metrics.spaces import batches

SIGNALS = ("ms-ssim", "recall", "vendi", "distance", "coverage")
PAIRS = 500
SCALES = 3  # of Wang's five: at 64 px the third is 16x16, and the window is 11
WEIGHTS = (0.0448, 0.2856, 0.3001)
WINDOW, SIGMA = 11, 1.5


def baselines(reals: np.ndarray, pictures: np.ndarray, features: np.ndarray) -> dict[str, float]:
    """Of pictures with their features; reals: features of real pictures, of which as many count as there are pictures.

    ms-ssim: 1 less the mean over random pairs (Odena et al. 2017). recall: Kynkaanniemi et al. 2019, k = 3. vendi:
    order 1 (Friedman and Dieng 2023), a gaussian as wide as half the median distance of two reals. distance: the mean
    of two pictures, as LPIPS is used, but it is not LPIPS. coverage: Naeem et al. 2020, k = 5.
    """
    reals = reals[: len(features)]
    apart, real_apart = (np.sqrt(squared_distances(each)[np.triu_indices(len(each), 1)]) for each in (features, reals))
    found = prdc(reals, features)
    values = (
        1 - ms_ssim_of_pairs(pictures),
        found.recall,
        effective_number(features, float(np.median(real_apart)) / 2),
        float(apart.mean()),
        found.coverage,
    )
    return dict(zip(SIGNALS, values, strict=True))


def ms_ssim_of_pairs(pictures: np.ndarray, seed: int = 0) -> float:
    """The mean MS-SSIM of 500 random pairs of different places."""
    rng, n = np.random.default_rng(seed), len(pictures)
    first = rng.integers(n, size=PAIRS)
    second = (first + rng.integers(1, n, size=PAIRS)) % n
    light = torch.cat([images.mean(dim=1, keepdim=True) for images in batches(pictures)]) / 2 + 0.5
    return float(ms_ssim(light[first], light[second]).mean())


def ms_ssim(x: Tensor, y: Tensor) -> Tensor:
    """[n] of brightness [n, 1, 64, 64] in [0, 1] (Wang et al. 2003), over three scales with the first three weights."""
    value, total = torch.ones(len(x)), sum(WEIGHTS)
    for scale, weight in enumerate(WEIGHTS):
        mean_x, mean_y = _window(x), _window(y)
        variance_x, variance_y = _window(x * x) - mean_x**2, _window(y * y) - mean_y**2
        alike = (2 * (_window(x * y) - mean_x * mean_y) + 0.03**2) / (variance_x + variance_y + 0.03**2)
        if scale == SCALES - 1:  # brightness counts at the coarsest scale only
            alike = alike * (2 * mean_x * mean_y + 0.01**2) / (mean_x**2 + mean_y**2 + 0.01**2)
        value = value * alike.mean((1, 2, 3)).clamp(min=0) ** (weight / total)
        x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
    return value


def _window(x: Tensor) -> Tensor:
    """The mean under an 11x11 gaussian, at places where it lies within the picture: [n, 1, side - 10, side - 10]."""
    away = torch.arange(WINDOW) - WINDOW // 2
    weights = torch.exp(-0.5 * (away / SIGMA) ** 2)
    rows = torch.arange(x.shape[2] - WINDOW + 1)[:, None]
    band = x.new_zeros(len(rows), x.shape[2])
    band[rows, rows + torch.arange(WINDOW)] = weights / weights.sum()
    return band @ x @ band.T
