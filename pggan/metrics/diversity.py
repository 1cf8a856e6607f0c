"""How varied a set of pictures is against the real ones: the score D, with an interval.

The effective number of different pictures is the Vendi score (Friedman and Dieng 2023): exp of the entropy of the
eigenvalues of K / n, with a gaussian kernel whose width is set so that it can tell many pictures apart, but not all.
D is the effective number of the samples over that of as many held-out real pictures, so 1 means as varied as the reals
and 1 / n or so means one picture.

Shapes here: z are points, float64 [n, d], of the space that `Space` made.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from pggan.metrics.neighbors import nearest

DIMENSIONS = 64
WHITENING = 0.5  # 0: principal components as wide as they are; 1: all of one width
EFFECTIVE = 50  # the kernel is so wide that two real pictures look the same to it with a chance of 1 in 50
HALVES = 60
INTERVAL = (2.5, 97.5)  # percentiles
WIDER = 1.4  # factor on half-sample deviations, measured: intervals then hold 1 for 95 % of held-out real sets
NEAR = 0.55  # of the reals' median distance to the nearest: closer are near-duplicates; of real pictures some 0.5 % are


@dataclass(frozen=True)
class Space:
    """Principal components of features [n, D], of mean 0 and of root mean square length 1 on what they were fitted on.

    Half whitened: wide components count for more than narrow ones, but not as much as they are wider.
    """

    mean: np.ndarray
    axes: np.ndarray

    def __call__(self, features: np.ndarray) -> np.ndarray:
        return (features - self.mean) @ self.axes


def fit_space(features: np.ndarray) -> Space:
    """The space of the 64 widest directions of features [n, D], or of fewer where n is small."""
    mean = features.mean(axis=0)
    _, widths, rows = np.linalg.svd(features - mean, full_matrices=False)
    rounding = max(1e-9 * widths[0], 1e-6 * np.linalg.norm(features))  # features come from float32
    kept = min(DIMENSIONS, int((widths > rounding).sum()))
    if kept == 0:  # all pictures are the same
        return Space(mean, np.zeros((features.shape[1], 1)))
    scales = (widths[:kept] / np.sqrt(len(features))) ** -WHITENING
    signs = np.where(rows[:kept][np.arange(kept), np.abs(rows[:kept]).argmax(axis=1)] < 0, -1.0, 1.0)
    axes = (rows[:kept] * (scales * signs)[:, None]).T
    return Space(mean, axes / np.sqrt((((features - mean) @ axes) ** 2).sum(axis=1).mean()))


def squared_distances(z: np.ndarray) -> np.ndarray:
    """[n, n], exactly 0 between copies that follow from the same numbers."""
    sizes = (z**2).sum(axis=1)
    squares = np.maximum(sizes[:, None] + sizes - 2 * z @ z.T, 0)
    squares[squares < 1e-12 * (sizes[:, None] + sizes)] = 0
    return squares


def kernel_width(z: np.ndarray) -> float:
    """s of exp(-d^2 / 2 s^2) for which exp(-d^2 / s^2) is 1/50 on average over the pairs of different pictures of z.

    1 if all are equal.
    """
    squares = squared_distances(z)
    squares = squares[squares > 0]  # copies say nothing of how fine the differences are
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
    """[m] of [m, n, n]. By torch, as it keeps to the threads it was given: numpy's were minutes in each other's way.

    In memory of torch's own, whose alignment is always the same: the last bits depend on it.
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
    """The groups, of two and more, of points that are linked by steps of at most `near`; the largest group first."""
    group = _linked(z, near)
    sizes = np.bincount(group)
    return [np.flatnonzero(group == each) for each in np.argsort(-sizes, kind="stable") if sizes[each] > 1]


def distinct(z: np.ndarray) -> np.ndarray:
    """[m, d]: the first of all copies of each point of z."""
    return z[np.unique(_linked(z, 0.0), return_index=True)[1]]


def _linked(z: np.ndarray, near: float) -> np.ndarray:
    """[n]: the number of the group that each point is in."""
    links = csr_array(np.sqrt(squared_distances(z)) <= near)
    return connected_components(links, directed=False)[1]


def largest_share(groups: list[np.ndarray], count: int) -> float:
    """The share of `count` pictures that the first of `groups` is; 0 where there is none."""
    return len(groups[0]) / count if groups else 0.0


@dataclass(frozen=True)
class Held:
    """What is known of the held-out reals, as n points of a space."""

    width: float
    number: float
    """Effective number of the n held-out reals."""
    halves: np.ndarray
    """[60]: effective numbers of halves of them."""
    counts: np.ndarray
    """Numbers of different pictures ..."""
    curve: np.ndarray
    """... and the effective number of n pictures that are so many different ones, repeated."""
    near: float
    """Pictures closer than this are near-duplicates."""
    duplicates: float
    """The share of the held-out reals that have a near-duplicate among them."""
    largest: float
    """The share of the held-out reals that are in their largest group of near-duplicates; 0 where there is none."""


def hold(z: np.ndarray, seed: int = 0) -> Held:
    """Held of the held-out reals z [n, d]."""
    width, n = kernel_width(z), len(z)
    order = np.random.default_rng(seed).permutation(n)
    counts = np.unique(np.append(np.geomspace(1, n, 24).round().astype(int), n))
    curve = np.maximum.accumulate([effective_number(z[order[:count]], width) for count in counts])
    different = distinct(z)  # copies among the reals say nothing of how fine their differences are
    apart = nearest(different, different, exclude_self=True)[0] if len(different) > 1 else np.zeros(1)
    near = NEAR * float(np.median(apart))
    number, halves = effective_number(z, width), half_numbers(z, width, seed=seed)
    groups = near_duplicates(z, near)
    duplicates, largest = sum(map(len, groups)) / n, largest_share(groups, n)
    return Held(width, number, halves, counts, curve, near, duplicates, largest)


@dataclass(frozen=True)
class Diversity:
    """value: D in [0, 1]; ratio: unclipped; low, high: a 95 % interval of the ratio; alike: as varied as so many."""

    value: float
    ratio: float
    low: float
    high: float
    alike: float
    duplicates: float
    """The share of samples that have a near-duplicate among the samples."""


def diversity(z: np.ndarray, held: Held, seed: int = 1) -> Diversity:
    """D of samples z [n, d], as many as the held-out reals.

    The interval comes from pairs of halves, one of the samples and one of the reals: half-samples without replacement
    scatter around the whole as the whole does around the truth, on a scale of ratios (Politis and Romano 1994).
    """
    number = effective_number(z, held.width)
    ratio = number / held.number
    logs = np.log(half_numbers(z, held.width, len(held.halves), seed) / held.halves)
    low, high = np.exp(np.log(ratio) + WIDER * np.percentile(logs - np.median(logs), INTERVAL))
    alike = float(np.interp(number, held.curve, held.counts))
    duplicates = sum(map(len, near_duplicates(z, held.near))) / len(z)
    return Diversity(min(1.0, ratio), ratio, float(low), float(high), alike, duplicates)
