"""Nearest neighbors in a feature space, and precision, recall, density and coverage.

Distances are Euclidean, in float64. They come from one matrix product, and where that cannot tell two rows apart they
are computed again by subtraction: copies are at distance 0 exactly, and every distance is right to nine digits. In
float32, copies came out as far apart as 0.02.

Shapes here: N queries, M keys, D features. Memory: blocks of about 64 MB.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pggan.metrics.frechet import check_features, check_same_width

BLOCK = 2**23  # distances in memory at once: 64 MB
KEYS = 2048  # keys of one matrix product
PAIRS = 2**17  # numbers subtracted at once: they fit the processor's cache
MANY = 8  # for more neighbors than this a partial sort is faster than one search for each
SLACK = 1 + 1e-8  # factor on radii, so that rounding does not exclude the neighbor that the ball reaches to
NEAR = 1e-6  # |x - y|^2 below this share of |x|^2 + |y|^2 is computed again: the product's error is about 1e-15


@dataclass(frozen=True)
class Prdc:
    """How well two sets of images cover each other. All but density are shares, in [0, 1]."""

    precision: float  # share of the fakes within the manifold of the reals: quality
    recall: float  # share of the reals within the manifold of the fakes: diversity
    density: float  # mean number of balls around reals that contain a fake, over k; about 1 for equal distributions
    coverage: float  # share of the reals with a fake in their ball: diversity and quality


def nearest(queries: np.ndarray, keys: np.ndarray, k: int = 1, exclude_self: bool = False) -> tuple[np.ndarray, ...]:
    """The k nearest keys [M, D] of each query [N, D]: (distances, float64 [N, k], ascending; places, int64 [N, k]).

    Up to k = 8, the first of several copies of a query comes first; other keys at equal distances come in any order.
    exclude_self: query i and key i are the same image, which is not its own neighbor; another copy of it is. Raises
    ValueError when there are fewer than k keys.
    """
    queries, keys = check_features(queries), check_features(keys, least=k + exclude_self)
    check_same_width(queries, keys)
    distances, places = np.empty((len(queries), k)), np.empty((len(queries), k), dtype=np.int64)
    for start, block in distance_blocks(queries, keys):
        rows, part = torch.arange(len(block)), slice(start, start + len(block))
        if exclude_self:
            block[rows, start + rows] = torch.inf
        if k > MANY:
            distances[part], places[part] = block.topk(k, dim=1, largest=False)
            continue
        for rank in range(k):
            found = block.argmin(dim=1)
            distances[part, rank], places[part, rank] = block[rows, found], found
            block[rows, found] = torch.inf
    return distances, places


def prdc(reals: np.ndarray, fakes: np.ndarray, k: int = 3, k_balls: int = 5) -> Prdc:
    """Precision, recall, density and coverage of fakes [M, D] against reals [N, D].

    Around each image is a closed ball that reaches to its k-th nearest neighbor in its own set, itself excluded; the
    balls together are the manifold. Precision and recall, with balls to neighbor `k`: Kynkaanniemi et al. 2019,
    equations 1 and 2; density and coverage, to neighbor `k_balls`: Naeem et al. 2020, section 3. All four depend on N
    and M: compare only figures at the same numbers. Raises ValueError when a set has too few images.
    """
    fakes, reals = check_features(fakes, least=k + 1), check_features(reals, least=max(k, k_balls) + 1)
    check_same_width(fakes, reals)
    real_radii = SLACK * torch.from_numpy(nearest(reals, reals, max(k, k_balls), exclude_self=True)[0])
    fake_radii = SLACK * torch.from_numpy(nearest(fakes, fakes, k, exclude_self=True)[0])[:, k - 1]
    precise, balls = 0, 0
    recalled, covered = torch.zeros(len(reals), dtype=torch.bool), torch.zeros(len(reals), dtype=torch.bool)
    for start, block in distance_blocks(fakes, reals):
        precise += int((block <= real_radii[:, k - 1]).any(dim=1).sum())
        recalled |= (block <= fake_radii[start : start + len(block), None]).any(dim=0)
        inside = block <= real_radii[:, k_balls - 1]
        balls += int(inside.sum())
        covered |= inside.any(dim=0)
    recall, coverage = (each.double().mean().item() for each in (recalled, covered))
    return Prdc(precise / len(fakes), recall, balls / (k_balls * len(fakes)), coverage)


def distance_blocks(queries: np.ndarray, keys: np.ndarray) -> Iterator[tuple[int, Tensor]]:
    """(start, distances [n, M]) of the queries from start on, block by block."""
    center = keys.mean(axis=0, dtype=np.float64)
    size = max(1, BLOCK // len(keys))
    for start in range(0, len(queries), size):
        rows = torch.from_numpy(queries[start : start + size] - center)
        parts = (torch.from_numpy(keys[at : at + KEYS] - center) for at in range(0, len(keys), KEYS))
        yield start, torch.cat([_block(rows, part) for part in parts], dim=1)


def _block(queries: Tensor, keys: Tensor) -> Tensor:
    """Distances [n, m] by |x|^2 + |y|^2 - 2 x.y, or by |x - y|^2 where that nearly cancels."""
    sizes = queries.square().sum(dim=1)[:, None] + keys.square().sum(dim=1)
    squares = torch.addmm(sizes, queries, keys.T, alpha=-2)
    near = squares <= NEAR * sizes
    for some in near.nonzero().split(max(1, PAIRS // queries.shape[1])):
        i, j = some.unbind(dim=1)
        squares[i, j] = (queries[i] - keys[j]).square().sum(dim=1)
    return squares.sqrt()
