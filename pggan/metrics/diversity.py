"""The diversity score: how varied a set of samples is, compared with real images, with an interval.

The effective number of different images is the Vendi score (Friedman and Dieng 2023): exp of the entropy of the
eigenvalues of K / n. K is a gaussian kernel; its width is set on the reals, so that it tells many images apart, but not
all. The diversity score is the effective number of the samples divided by that of as many held-out real images: 1 means
as varied as the reals, and about 1 / n means that all samples are one image.

Shapes here: z are points, float64 [n, d], made by a `Projection` of features.
"""

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import cdist

from pggan.metrics.neighbors import nearest

DIMENSIONS = 64
WHITENING = 0.5  # 0: principal components keep their widths; 1: all get the same width
EFFECTIVE = 50  # the kernel takes two random real images for the same one with a chance of 1 in 50
HALVES = 60
INTERVAL = (2.5, 97.5)  # percentiles
WIDER = 1.4  # factor on half-sample deviations; measured: intervals then contain 1 for 95 % of held-out real sets
NEAR = 0.55  # times the reals' median distance to their nearest: images closer than that are near-duplicates


@dataclass(frozen=True)
class Projection:
    """Features [n, D] -> points [n, d] along principal components, half whitened.

    The points that it was fitted on have mean 0 and a root mean square length of 1. Half whitened: each component is
    divided by the square root of its width, so that wide components count more than narrow ones, but not in full.
    """

    mean: np.ndarray
    axes: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) @ self.axes


def fit_projection(features: np.ndarray) -> Projection:
    """The projection on the 64 widest directions of features [n, D], or on fewer where n is small."""
    mean = features.mean(axis=0)
    _, widths, rows = np.linalg.svd(features - mean, full_matrices=False)
    rounding = max(1e-9 * widths[0], 1e-6 * np.linalg.norm(features))  # features were float32
    kept = min(DIMENSIONS, int((widths > rounding).sum()))
    if kept == 0:  # all images are the same
        return Projection(mean, np.zeros((features.shape[1], 1)))
    scales = (widths[:kept] / np.sqrt(len(features))) ** -WHITENING
    signs = np.where(rows[:kept][np.arange(kept), np.abs(rows[:kept]).argmax(axis=1)] < 0, -1.0, 1.0)
    axes = (rows[:kept] * (scales * signs)[:, None]).T
    return Projection(mean, axes / np.sqrt((((features - mean) @ axes) ** 2).sum(axis=1).mean()))


def squared_distances(z: np.ndarray) -> np.ndarray:
    """[n, n], exactly 0 between copies, whose features may differ by rounding."""
    squares, sizes = cdist(z, z, "sqeuclidean"), (z**2).sum(axis=1)
    squares[squares < 1e-12 * (sizes[:, None] + sizes)] = 0
    return squares


def kernel_width(z: np.ndarray) -> float:
    """The width s of the kernel exp(-d^2 / 2 s^2) at which exp(-d^2 / s^2) is 1/50 on average over pairs of z.

    Pairs of copies do not count: they do not show how small differences between images are. 1 if all are copies.
    """
    squares = squared_distances(z)
    squares = squares[squares > 0]
    if not len(squares):
        return 1.0
    low, high = 1e-6, 1e3  # the mean grows with s
    for _ in range(60):
        middle = np.sqrt(low * high)
        low, high = (middle, high) if np.exp(-squares / middle**2).mean() < 1 / EFFECTIVE else (low, middle)
    return float(high)


def effective_number(z: np.ndarray, width: float) -> float:
    """The Vendi score of order 1: from 1, all the same, to n, all different."""
    return float(_effective(np.exp(-squared_distances(z) / (2 * width**2))[None])[0])


def _effective(kernels: np.ndarray) -> np.ndarray:
    """The effective numbers [m] of kernels [m, n, n].

    torch keeps to the threads it was given; numpy's threads blocked each other for minutes. torch.tensor copies to
    memory that is always aligned in the same way, because the last bits depend on the alignment.
    """
    shares = torch.linalg.eigvalsh(torch.tensor(kernels)) / kernels.shape[1]
    return torch.special.entr(shares.clamp(min=0)).sum(dim=1).exp().numpy()


def half_numbers(z: np.ndarray, width: float, halves: int = HALVES, seed: int = 0) -> np.ndarray:
    """[halves]: the effective numbers of random halves, drawn without replacement: repeats would be duplicates."""
    kernel = np.exp(-squared_distances(z) / (2 * width**2))
    random = np.random.default_rng(seed)
    chosen = [random.permutation(len(z))[: len(z) // 2] for _ in range(halves)]
    return _effective(np.stack([kernel[np.ix_(some, some)] for some in chosen]))


def near_duplicates(z: np.ndarray, near: float) -> list[np.ndarray]:
    """Groups of two or more points that are connected by steps of at most `near`, the largest first."""
    group = _linked(z, near)
    sizes = np.bincount(group)
    return [np.flatnonzero(group == each) for each in np.argsort(-sizes, kind="stable") if sizes[each] > 1]


def _linked(z: np.ndarray, near: float) -> np.ndarray:
    """[n]: for each point, the number of its group."""
    links = csr_array(np.sqrt(squared_distances(z)) <= near)
    return connected_components(links, directed=False)[1]


def group_shares(groups: list[np.ndarray], count: int) -> tuple[float, float]:
    """The shares of `count` images that are in any of `groups`, and in the first, the largest."""
    return sum(map(len, groups)) / count, len(groups[0]) / count if groups else 0.0


@dataclass(frozen=True)
class HeldOutStatistics:
    """Statistics of n held-out reals, which samples are compared with."""

    width: float  # of the kernel
    number: float  # effective number of the n reals
    halves: np.ndarray  # [60]: effective numbers of random halves of them
    counts: np.ndarray  # [m], ascending: numbers of different reals, from 1 to n
    curve: np.ndarray  # [m]: the effective number of so many different reals
    near: float  # images closer than this are near-duplicates
    duplicates: float  # share of the reals that have a near-duplicate among them
    largest: float  # share of the reals that are in their largest group of near-duplicates; 0 without groups


def held_out_statistics(z: np.ndarray, seed: int = 0) -> HeldOutStatistics:
    """The statistics of held-out reals z [n, d]. seed: of the random halves."""
    width, n = kernel_width(z), len(z)
    order = np.random.default_rng(seed).permutation(n)
    counts = np.unique(np.append(np.geomspace(1, n, 24).round().astype(int), n))
    curve = np.maximum.accumulate([effective_number(z[order[:count]], width) for count in counts])
    different = z[np.unique(_linked(z, 0.0), return_index=True)[1]]
    apart = nearest(different, different, exclude_self=True)[0] if len(different) > 1 else np.zeros(1)
    near = NEAR * float(np.median(apart))
    number, halves = effective_number(z, width), half_numbers(z, width, seed=seed)
    shares = group_shares(near_duplicates(z, near), n)
    return HeldOutStatistics(width, number, halves, counts, curve, near, *shares)


@dataclass(frozen=True)
class Diversity:
    """The diversity of n samples."""

    ratio: float  # effective number of the samples divided by that of the held-out reals
    ratio_low: float  # the 95 % interval of the ratio
    ratio_high: float
    effective_samples: float  # the samples are as varied as so many different reals
    groups: list[np.ndarray] = field(compare=False)  # the numbers of near-duplicate samples, the largest group first
    duplicates: float  # share of the samples that are in a group
    largest: float  # share of the samples that are in the largest group

    @property
    def value(self) -> float:
        """The diversity score: the ratio, at most 1. `low`, `high`: its interval, whose ends are at most 1, too."""
        return min(1.0, self.ratio)

    @property
    def low(self) -> float:
        return min(1.0, self.ratio_low)

    @property
    def high(self) -> float:
        return min(1.0, self.ratio_high)


def diversity(z: np.ndarray, reals: HeldOutStatistics, seed: int = 1) -> Diversity:
    """The diversity of samples z [n, d], as many as the held-out reals.

    The interval comes from pairs of halves, one half of the samples and one of the reals. On a log scale,
    half-samples without replacement scatter around the whole sample as the whole sample scatters around the true value
    (Politis and Romano 1994).
    """
    number = effective_number(z, reals.width)
    ratio = number / reals.number
    logs = np.log(half_numbers(z, reals.width, len(reals.halves), seed) / reals.halves)
    low, high = np.exp(np.log(ratio) + WIDER * np.percentile(logs - np.median(logs), INTERVAL))
    effective_samples = float(np.interp(number, reals.curve, reals.counts))
    groups = near_duplicates(z, reals.near)
    shares = group_shares(groups, len(z))
    return Diversity(ratio, float(low), float(high), effective_samples, groups, *shares)
