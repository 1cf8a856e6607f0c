"""Which part of the real pictures the samples leave out.

Each picture, sample or held-out real, is counted for the 3 fitting pictures nearest to it. Where a neighborhood of
fitting pictures gets far fewer counts from the samples than from the held-out reals, that part of the reals is
deserted: a dropped class, an artist that G forgot. A score of overall variety such as D does not see one class of ten
gone.

Each sample counts for the nearest reals, however far they are, so noise in the samples deserts nothing. A fault that
all samples share, and that moves them towards some of the reals, can.
"""

import numpy as np

from pggan.metrics.neighbors import nearest

VOTES = 3  # nearest fitting pictures that each picture is counted for
EXPECTED = 14  # pictures of n that a neighborhood would be counted for: it is as large as that takes
RATIO = 0.4  # deserted: less than this part of what the held-out reals give
LARGEST_SHARE = 0.25  # of the fitting pictures that a neighborhood may be


def deserted(fitted: np.ndarray, held: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """float64 [N]: the share of held-out reals counted for each of `fitted` whose neighborhood is deserted, else 0.

    All are points [N, d], [n, d] and [m, d] of one space; the sum is the share of the reals that is deserted.
    """
    around = neighborhoods(fitted, min(len(held), len(samples)))
    expected, found = counts(fitted, held), counts(fitted, samples)
    empty = found[around].sum(axis=1) < RATIO * expected[around].sum(axis=1)
    return np.where(empty, expected, 0.0)


def neighborhoods(fitted: np.ndarray, count: int) -> np.ndarray:
    """int64 [N, m]: each fitting picture and its nearest others, so many that it expects 14 of `count`."""
    size = round(np.clip(EXPECTED * len(fitted) / count, VOTES, max(VOTES, LARGEST_SHARE * len(fitted))))
    return nearest(fitted, fitted, min(size, len(fitted)))[1]


def counts(fitted: np.ndarray, points: np.ndarray) -> np.ndarray:
    """float64 [N], of sum 1: how often each of `fitted` is among the 3 nearest of `points`, per count."""
    votes = min(VOTES, len(fitted))
    places = nearest(points, fitted, votes)[1]
    return np.bincount(places.ravel(), minlength=len(fitted)) / places.size
