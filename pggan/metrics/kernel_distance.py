"""The kernel distance between two sets of features; it is the KID when the features are Inception's.

The unbiased estimate of the squared maximum mean discrepancy with the kernel (x.y / D + 1)^3 (Binkowski et al. 2018,
section 4), over all pairs of images instead of an average over random subsets. Unlike a Frechet distance it has no bias
at small numbers: for two sets from one distribution it is 0 on average, so it is often below 0.

Shapes here: N and M images, D features each. Memory: two blocks of features and one of the kernel.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from pggan.metrics.frechet import check_features, check_same_width

BLOCK = 2048  # images of each set that are compared at once
LARGEST = 1e20  # larger features would overflow: the variance contains their twelfth power


@dataclass(frozen=True)
class Estimate:
    """A measured number, and an interval that contains the true value in 95 % of such measurements."""

    value: float
    low: float
    high: float


def kernel_distance(a: np.ndarray, b: np.ndarray, confidence: float = 0.95) -> Estimate:
    """The squared distance between features a [N, D] and b [M, D], unbiased, so it may be below 0; O((N + M)^2 D).

    The interval is value +- Student's t, with min(N, M) - 1 degrees of freedom, times the standard error of a
    U-statistic (Sen 1960): each image has a mean kernel with the others of its set, minus that with the other set; a
    set adds 4 times the variance of these numbers, divided by its size, to the variance of the value.

    The error is exact to first order where the distributions differ. Where they are equal it is too large (about twice
    the true variance: Efron and Stein 1981), so the interval is too wide rather than too narrow. Measured 400 times on
    gaussians with 8 and 32 features and 20 to 200 images, the interval contained the truth in 97 to 100 % of the cases
    where it was 0, and in 92 to 100 % elsewhere; with 2 features, whose kernel has longer tails, in 84 to 100 %. The
    interval shows how much the choice of images matters, not how much another training run would.

    Raises ValueError when a set has fewer than 2 images, or features are not finite or not of one length.
    """
    a, b = (check_features(features, least=2, largest=LARGEST) for features in (a, b))
    check_same_width(a, b)
    across, back = _kernel_sums(a, b)
    inner, outer = sum(_kernel_sums(a)) / (len(a) - 1), sum(_kernel_sums(b)) / (len(b) - 1)
    across, back = across / len(b), back / len(a)
    value = inner.mean() + outer.mean() - 2 * across.mean()
    variance = 4 * ((inner - across).var() / len(a) + (outer - back).var() / len(b))
    reach = float(stdtrit(min(len(a), len(b)) - 1, (1 + confidence) / 2)) * variance.sqrt().item()
    return Estimate(value.item(), value.item() - reach, value.item() + reach)


def _kernel_sums(a: np.ndarray, b: np.ndarray | None = None) -> tuple[Tensor, Tensor]:
    """float64 [N] and [M]: for each image, the sum of its kernel with all images of the other set.

    Without b: each pair of `a` is computed once and counted in one of two sums, [N] each, whose total is for each image
    the sum of its kernel with all others.
    """
    within, b = b is None, a if b is None else b
    rows, columns = torch.zeros(len(a), dtype=torch.float64), torch.zeros(len(b), dtype=torch.float64)
    for i in range(0, len(a), BLOCK):
        for j in range(0, i + 1 if within else len(b), BLOCK):
            kernel = _kernel(a[i : i + BLOCK], b[j : j + BLOCK])
            if within and i == j:
                kernel.fill_diagonal_(0)
            else:
                columns[j : j + BLOCK] += kernel.sum(dim=0)
            rows[i : i + BLOCK] += kernel.sum(dim=1)
    return rows, columns


def _kernel(a: np.ndarray, b: np.ndarray) -> Tensor:
    """float64 [n, m]"""
    one, other = (torch.from_numpy(features.astype(np.float64)) for features in (a, b))
    return (one @ other.T / a.shape[1] + 1) ** 3
