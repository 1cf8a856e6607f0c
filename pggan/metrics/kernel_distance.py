"""The kernel distance between two sets of features: the KID, when the features are those of Inception.

The unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, Binkowski et al. 2018,
section 4, over all pairs of pictures rather than over the average of random subsets. Unlike a Frechet distance it has
no bias at small numbers: of two sets from one distribution it is 0 on average, and as often below as above.

Shapes here: N and M pictures, D features a picture. Memory: two blocks of features and one of the kernel.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from pggan.metrics.frechet import check_features

BLOCK = 2048  # pictures of each set that are taken at once
LARGEST = 1e20  # features beyond this would overflow: the variance holds their twelfth power


@dataclass(frozen=True)
class Estimate:
    """A number measured on samples, and an interval that is to hold the truth in 95 % of such measurements."""

    value: float
    low: float
    high: float


def kernel_distance(a: np.ndarray, b: np.ndarray, confidence: float = 0.95) -> Estimate:
    """The squared distance between features a [N, D] and b [M, D], unbiased, so it may be below 0; O((N + M)^2 D).

    The interval: value +- Student's t with min(N, M) - 1 degrees of freedom times the standard error by the method of
    Sen 1960 for U-statistics. Each picture of a set has a mean kernel with the others of its set, less that with the
    other set; 4 times the variance of these means over the number of pictures is what the set adds to the variance.
    Where the distributions differ this is exact to first order. Where they are equal the first order vanishes, and the
    same numbers give about twice the true variance (Efron and Stein 1981): the interval is too wide rather than too
    narrow. Row sums are all it takes, and the estimate takes those, too. Of 400 measurements on gaussians of 8 and 32
    features the interval held the truth in 97 to 100 % where that was 0, and in 92 to 100 % elsewhere, at 20 to 200
    pictures; with 2 features, whose kernel has longer tails, in 84 to 100 %. It tells how much the choice of
    pictures matters, not how much another training of the same network would.

    Raises ValueError when a set has fewer than 2 pictures, or features are not finite or not of one length.
    """
    a, b = (check_features(features, least=2, largest=LARGEST) for features in (a, b))
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} features a picture cannot be compared with {b.shape[1]}")
    across, back = _sums_between(a, b)
    inner, outer = _sums_within(a) / (len(a) - 1), _sums_within(b) / (len(b) - 1)
    across, back = across / len(b), back / len(a)
    value = inner.mean() + outer.mean() - 2 * across.mean()
    variance = 4 * ((inner - across).var() / len(a) + (outer - back).var() / len(b))
    reach = float(stdtrit(min(len(a), len(b)) - 1, (1 + confidence) / 2)) * variance.sqrt().item()
    return Estimate(value.item(), value.item() - reach, value.item() + reach)


def _sums_between(a: np.ndarray, b: np.ndarray) -> tuple[Tensor, Tensor]:
    """float64 [N] and [M]: the sum of the kernel of each picture with all those of the other set."""
    across, back = torch.zeros(len(a), dtype=torch.float64), torch.zeros(len(b), dtype=torch.float64)
    for i in range(0, len(a), BLOCK):
        for j in range(0, len(b), BLOCK):
            kernel = _kernel(a[i : i + BLOCK], b[j : j + BLOCK])
            across[i : i + BLOCK] += kernel.sum(dim=1)
            back[j : j + BLOCK] += kernel.sum(dim=0)
    return across, back


def _sums_within(features: np.ndarray) -> Tensor:
    """float64 [N]: the sum of the kernel of each picture with all others of its set. Each pair is computed once."""
    sums = torch.zeros(len(features), dtype=torch.float64)
    for i in range(0, len(features), BLOCK):
        for j in range(0, i + 1, BLOCK):
            kernel = _kernel(features[i : i + BLOCK], features[j : j + BLOCK])
            if i == j:
                kernel.fill_diagonal_(0)
            else:
                sums[j : j + BLOCK] += kernel.sum(dim=0)
            sums[i : i + BLOCK] += kernel.sum(dim=1)
    return sums


def _kernel(a: np.ndarray, b: np.ndarray) -> Tensor:
    """float64 [n, m]"""
    one, other = (torch.from_numpy(features.astype(np.float64)) for features in (a, b))
    return (one @ other.T / a.shape[1] + 1) ** 3
