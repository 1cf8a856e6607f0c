"""The Frechet distance between two sets of features; it is the FID when the features are Inception's.

|mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr sqrt(S_a S_b) (Dowson and Landau 1982; Heusel et al. 2017, equation 6). The
last trace is the sum of the singular values of A B^T for any roots A^T A = S_a and B^T B = S_b. One of three forms of
that sum is used, depending on the shapes. No form takes a matrix root, so nothing turns complex or negative.

Shapes here: N images, D features each. All sums are in float64: float32 was wrong by percents.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

LARGEST = 1e100  # larger features would overflow when squared and summed
BLOCK = 1024  # rows summed at once, or D if D is larger


@dataclass(frozen=True, eq=False)
class Moments:
    """The mean and the covariance of N rows of D features. The covariance is `covariance`, or else root^T root."""

    n: int  # number of rows
    mean: np.ndarray  # float64 [D]
    root: np.ndarray | None = None  # float64 [N, D] if N < D: (features - mean) / sqrt(N - 1)
    covariance: np.ndarray | None = None  # float64 [D, D] if N >= D: divided by N - 1; zero for a single row

    @cached_property
    def trace(self) -> float:
        """The sum of the variances."""
        return float(np.square(self.root).sum() if self.covariance is None else np.trace(self.covariance))

    def full(self) -> "Moments":
        """The same moments, with the covariance as a [D, D] matrix."""
        return self if self.root is None else Moments(self.n, self.mean, covariance=_gram(self.root))


class RunningMoments:
    """Moments of rows that come in batches, in the memory of a few [D, D] matrices.

    The first row is subtracted from all. Rows are summed in blocks, each around its own mean; blocks are merged by
    Chan, Golub and LeVeque 1983, equation 2.1. So neither a large common offset nor one outlier costs digits, and the
    result is the same, bit for bit, however the rows were split into batches.
    """

    def __init__(self) -> None:
        self._first: np.ndarray | None = None  # [D]: the first row
        self._waiting: np.ndarray | None = None  # [max(D, BLOCK), D]: the block that is being filled
        self._filled = 0  # rows in it
        self._summed: tuple[int, np.ndarray, np.ndarray] | None = None  # n, mean, scatter

    def add(self, features: np.ndarray) -> None:
        """Adds features [N, D]. Raises ValueError for another shape or D, or features that are not finite."""
        features = check_features(features)
        if self._first is None:
            self._first = features[0].astype(np.float64)
            self._waiting = np.empty((max(BLOCK, features.shape[1]), features.shape[1]))
        check_same_width(features, self._first[None])
        size = len(self._waiting)
        for rows in np.split(features, range(size - self._filled, len(features), size)):  # each fills a block up
            self._waiting[self._filled : self._filled + len(rows)] = rows - self._first
            self._filled += len(rows)
            if self._filled == size:
                self._summed, self._filled = _merge(self._summed, self._waiting), 0

    def moments(self) -> Moments:
        """The moments of all rows so far; more may be added afterwards. Raises ValueError without any row."""
        if self._first is None:
            raise ValueError("there are no features to take moments of")
        rows, dim = self._waiting[: self._filled], len(self._first)
        if self._summed is None and len(rows) < dim:
            mean = rows.mean(axis=0)
            root = (rows - mean) / np.sqrt(max(len(rows) - 1, 1))
            return Moments(len(rows), self._first + mean, root=root)
        n, mean, scatter = _merge(self._summed, rows) if len(rows) else self._summed
        return Moments(n, self._first + mean, covariance=scatter / max(n - 1, 1))


def moments(features: np.ndarray) -> Moments:
    """The moments of features [N, D] of any real dtype. Raises ValueError without rows, or if they are not finite."""
    running = RunningMoments()
    running.add(features)
    return running.moments()


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Frechet distance between gaussians with these moments, >= 0, in squared feature units.

    The error is about 1e-7 of the traces, and far less when both sets have fewer rows than features. Raises ValueError
    when the two do not have the same number of features.
    """
    check_same_width(a.mean[None], b.mean[None])
    gap = a.mean - b.mean
    scale = np.sqrt(a.trace) * np.sqrt(b.trace)
    shared = scale * _overlap(a, b) if scale else 0.0
    return max(0.0, float(gap @ gap + a.trace + b.trace - 2 * shared))


def check_features(features: np.ndarray, least: int = 1, largest: float = LARGEST) -> np.ndarray:
    """features [N, D], unchanged. Raises ValueError for fewer than `least` rows, or values infinite or too large."""
    features = np.asarray(features)
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(f"features are [N, D], not {list(features.shape)}")
    if len(features) < least:
        raise ValueError(f"a set needs at least {least} images, not {len(features)}")
    for start in range(0, len(features), BLOCK):
        if not (np.abs(features[start : start + BLOCK].astype(np.float64)) < largest).all():
            raise ValueError(f"features must be finite and below {largest:.0e}")
    return features


def check_same_width(a: np.ndarray, b: np.ndarray) -> None:
    """Raises ValueError unless a [N, D] and b [M, D] have the same number of features."""
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"{a.shape[1]} features an image cannot be compared with {b.shape[1]}")


# ---- tr sqrt(S_a S_b) of covariances with trace 1: in [0, 1]


def _overlap(a: Moments, b: Moments) -> float:
    """The trace: at most 1 by the Cauchy-Schwarz inequality, and 1 for equal covariances."""
    if a.covariance is None and b.covariance is None:
        singular = torch.linalg.svdvals(_unit(a) @ _unit(b).T)
    else:
        root, covariance = _root_and_other(a, b)
        singular = torch.linalg.eigvalsh(root @ covariance @ root.T).clamp(min=0).sqrt()  # ascending
        if a.covariance is None or b.covariance is None:
            singular = singular[1:]  # centered rows are linearly dependent: the smallest is the root of a rounded zero
    return min(1.0, singular.sum().item())


def _root_and_other(a: Moments, b: Moments) -> tuple[Tensor, Tensor]:
    """A root [R, D] of one covariance, and the other covariance [D, D].

    A set with fewer rows than features has its root already. Otherwise the root is made of the covariance with the
    lower rank, so that few of the product's values are rounding only. Cholesky roots of regular ones are the cheapest.
    """
    for one, other in ((a, b), (b, a)):
        if one.covariance is None:
            return _unit(one), _unit(other)
    full = _unit(a), _unit(b)
    triangles = [torch.linalg.cholesky_ex(matrix) for matrix in full]
    breaks = [int(triangle.info) or len(a.mean) + 1 for triangle in triangles]  # the first row that failed
    one = int(breaks[1] < breaks[0])
    root = triangles[one].L.T if breaks[one] > len(a.mean) else _singular_root(full[one])
    return root, full[1 - one]


def _singular_root(matrix: Tensor) -> Tensor:
    """The root [R, D] of a matrix [D, D]; directions that hold only rounding errors are left out."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return (vectors[:, kept] * values[kept].sqrt()).T


def _unit(moments: Moments) -> Tensor:
    """The root, or without one the covariance, scaled to trace 1."""
    if moments.covariance is None:
        return torch.from_numpy(moments.root / np.sqrt(moments.trace))
    return torch.from_numpy(moments.covariance / moments.trace)


def _merge(summed: tuple[int, np.ndarray, np.ndarray] | None, rows: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    """(n, mean, scatter) after a block of rows is added."""
    mean = rows.mean(axis=0)
    scatter = _gram(rows - mean)
    if summed is None:
        return len(rows), mean, scatter
    n, before, so_far = summed
    gap, total = mean - before, n + len(rows)
    scatter += so_far + np.outer(gap, gap) * (n * len(rows) / total)
    return total, before + gap * (len(rows) / total), scatter


def _gram(rows: np.ndarray) -> np.ndarray:
    """rows^T rows."""
    tensor = torch.from_numpy(np.require(rows, requirements="W"))  # torch refuses read-only memory
    return (tensor.T @ tensor).numpy()
