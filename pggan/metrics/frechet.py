"""The Frechet distance between two sets of features: the FID, when the features are those of Inception.

|mu_a - mu_b|^2 + tr S_a + tr S_b - 2 tr sqrt(S_a S_b): Dowson and Landau 1982; Heusel et al. 2017, equation 6. The last
trace is the sum of the singular values of A B^T for any roots A^T A = S_a and B^T B = S_b. Which of three forms of that
sum is taken depends on what is at hand, so that no matrix root is ever formed: nothing can turn complex or negative.

Shapes here: N pictures, D features a picture. All sums are in float64: float32 was wrong by percents.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

LARGEST = 1e100  # features beyond this would overflow when squared and summed
BLOCK = 1024  # rows that are summed at once, or D if that is more: sums do not depend on how batches were cut


@dataclass(frozen=True, eq=False)
class Moments:
    """The mean and the covariance of N rows of D features. The covariance is held in one of two forms."""

    n: int
    """Rows that were summed."""
    mean: np.ndarray
    """float64 [D]"""
    root: np.ndarray | None = None
    """float64 [N, D]: (features - mean) / sqrt(N - 1), held when N < D; root^T root is the covariance."""
    covariance: np.ndarray | None = None
    """float64 [D, D], divided by N - 1; held when N >= D. Of a single row it is zero."""

    @cached_property
    def trace(self) -> float:
        """The sum of the variances."""
        return float(np.square(self.root).sum() if self.covariance is None else np.trace(self.covariance))

    def full(self) -> "Moments":
        """The same, with the covariance as a [D, D] matrix."""
        if self.root is None:
            return self
        return Moments(self.n, self.mean, covariance=_gram(self.root))

    def arrays(self) -> dict[str, np.ndarray]:
        """All there is as plain arrays, for `numpy.savez`."""
        form = {"root": self.root} if self.covariance is None else {"covariance": self.covariance}
        return {"n": np.asarray(self.n), "mean": self.mean, **form}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> "Moments":
        """The same bits again, from what `arrays` gave. Raises ValueError when they are no such thing."""
        form = {"root", "covariance"} & set(arrays)
        if len(form) != 1 or not {"n", "mean"} <= set(arrays):
            raise ValueError(f"moments are n, mean, and root or covariance; not {', '.join(sorted(arrays))}")
        name = form.pop()
        n, mean, held = int(arrays["n"]), arrays["mean"], arrays[name]
        rows = n if name == "root" else len(mean)
        if mean.ndim != 1 or held.shape != (rows, len(mean)) or mean.dtype != np.float64 or held.dtype != np.float64:
            raise ValueError(f"moments of {n} rows cannot be {mean.dtype} {mean.shape} and {held.dtype} {held.shape}")
        return cls(n, mean, **{name: held})


@dataclass
class RunningMoments:
    """Moments of rows that come in batches, in the memory of a few [D, D] matrices however many they are.

    Rows are taken relative to the first one and summed in blocks, each around its own mean; blocks are merged by Chan,
    Golub and LeVeque 1983, equation 2.1. So neither a large common offset nor one far-off row costs digits, and the
    result does not depend, by a single bit, on how the rows were cut into batches.
    """

    _first: np.ndarray | None = field(default=None, init=False)  # [D], what rows are taken relative to
    _waiting: np.ndarray | None = field(default=None, init=False)  # [max(D, BLOCK), D], of which `_filled` rows count
    _filled: int = field(default=0, init=False)
    _summed: tuple[int, np.ndarray, np.ndarray] | None = field(default=None, init=False)  # n, mean, scatter

    def add(self, features: np.ndarray) -> None:
        """features: [N, D]. Raises ValueError when they are not that, or of another D, or not finite."""
        features = check_features(features)
        if self._first is None:
            self._first = features[0].astype(np.float64)
            self._waiting = np.empty((max(BLOCK, features.shape[1]), features.shape[1]))
        if features.shape[1] != len(self._first):
            raise ValueError(f"{features.shape[1]} features a picture, where there were {len(self._first)} before")
        for rows in _cut(features, len(self._waiting), self._filled):
            self._waiting[self._filled : self._filled + len(rows)] = rows - self._first
            self._filled += len(rows)
            if self._filled == len(self._waiting):
                self._summed, self._filled = _merge(self._summed, self._waiting), 0

    def moments(self) -> Moments:
        """The moments of all rows so far; more may be added afterwards. Raises ValueError when there are none."""
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
    """The moments of features [N, D], N from 1 up, any real dtype. Raises ValueError when they are not finite."""
    running = RunningMoments()
    running.add(features)
    return running.moments()


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Frechet distance between gaussians with these moments, >= 0, in features squared.

    Its error is about 1e-7 of the traces, far less when both sets have fewer rows than features; clamped at 0.
    Raises ValueError when the two do not have the same number of features.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"{len(a.mean)} features a picture cannot be compared with {len(b.mean)}")
    gap = a.mean - b.mean
    scale = np.sqrt(a.trace) * np.sqrt(b.trace)
    shared = scale * _overlap(a, b) if scale else 0.0
    return max(0.0, float(gap @ gap + a.trace + b.trace - 2 * shared))


def check_features(features: np.ndarray, least: int = 1, largest: float = LARGEST) -> np.ndarray:
    """features [N, D] as they are. Raises ValueError unless there are `least` rows, all finite and below `largest`."""
    features = np.asarray(features)
    if features.ndim != 2 or not features.shape[1]:
        raise ValueError(f"features are [N, D], not {list(features.shape)}")
    if len(features) < least:
        raise ValueError(f"at least {least} pictures are needed in a set, not {len(features)}")
    for start in range(0, len(features), BLOCK):
        if not (np.abs(features[start : start + BLOCK].astype(np.float64)) < largest).all():
            raise ValueError(f"features must be finite and below {largest:.0e}")
    return features


# ---- tr sqrt(S_a S_b), of covariances divided by their traces: in [0, 1]


def _overlap(a: Moments, b: Moments) -> float:
    """At most 1 by the inequality of Cauchy and Schwarz, and 1 for equal ones."""
    if a.covariance is None and b.covariance is None:
        singular = torch.linalg.svdvals(_unit(a) @ _unit(b).T)
    else:
        root, covariance = _root_and_other(a, b)
        singular = torch.linalg.eigvalsh(root @ covariance @ root.T).clamp(min=0).sqrt()
    return min(1.0, singular.sum().item())


def _root_and_other(a: Moments, b: Moments) -> tuple[Tensor, Tensor]:
    """A root [R, D] of one covariance, and the other covariance [D, D].

    A set of fewer rows than features has its root at hand. Of two full covariances a singular one gives the root, the
    one whose triangle breaks off first if both are, since the product then has few values that are rounding only; of
    two regular ones a triangular root is the cheapest to come by.
    """
    for one, other in ((a, b), (b, a)):
        if one.covariance is None:
            return _unit(one), _unit(other)
    full = _unit(a), _unit(b)
    triangles = [torch.linalg.cholesky_ex(matrix) for matrix in full]
    breaks = [int(triangle.info) or len(a.mean) + 1 for triangle in triangles]  # the first row without a root
    one = int(breaks[1] < breaks[0])
    root = triangles[one].L.T if breaks[one] > len(a.mean) else _singular_root(full[one])
    return root, full[1 - one]


def _singular_root(matrix: Tensor) -> Tensor:
    """[R, D], of a matrix [D, D] of trace 1; directions with no more than rounding in them are left out."""
    values, vectors = torch.linalg.eigh(matrix)
    kept = values > len(values) * torch.finfo(values.dtype).eps * values[-1]
    return (vectors[:, kept] * values[kept].sqrt()).T


def _unit(moments: Moments) -> Tensor:
    """The root, or else the covariance, of a set scaled to a trace of 1."""
    if moments.covariance is None:
        return torch.from_numpy(moments.root / np.sqrt(moments.trace))
    return torch.from_numpy(moments.covariance / moments.trace)


# ---- sums


def _cut(features: np.ndarray, size: int, filled: int) -> list[np.ndarray]:
    """features in pieces that each fill a block of `size` rows up, of which `filled` are taken at first."""
    return np.split(features, range(size - filled, len(features), size))


def _merge(summed: tuple[int, np.ndarray, np.ndarray] | None, rows: np.ndarray) -> tuple[int, np.ndarray, np.ndarray]:
    mean = rows.mean(axis=0)
    scatter = _gram(rows - mean)
    if summed is None:
        return len(rows), mean, scatter
    n, before, so_far = summed
    gap, total = mean - before, n + len(rows)
    scatter += so_far + np.outer(gap, gap) * (n * len(rows) / total)
    return total, before + gap * (len(rows) / total), scatter


def _gram(rows: np.ndarray) -> np.ndarray:
    tensor = torch.from_numpy(np.require(rows, requirements="W"))  # torch wants no read-only memory
    return (tensor.T @ tensor).numpy()
