"""Dropped modes: the share of the real images that hardly any sample resembles.

Each sample and each held-out real votes for the 3 fitting reals nearest to it. Where a neighborhood of fitting reals
gets far fewer votes from the samples than from the held-out reals, that part of the reals is dropped: a class, say, or
a painter. The diversity score measures the variety of all samples together and does not see that a class is gone.

A sample votes for the nearest reals however far they are, so noise in the samples drops nothing. A fault that all
samples share, and that moves them towards some of the reals, can look like dropped modes.
"""

import numpy as np

from pggan.metrics.neighbors import nearest

VOTES = 3  # of each image
EXPECTED = 14  # a neighborhood is so large that it expects the votes of 14 images
RATIO = 0.4  # a neighborhood with less than this share of the expected votes is dropped
LARGEST_SHARE = 0.25  # a neighborhood has at most this share of the fitting reals


def dropped_shares(fitted: np.ndarray, held_out: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """float64 [N]: for each of `fitted`, the share of the held-out votes it got if its neighborhood is dropped, else 0.

    All are points [N, d], [n, d] and [m, d] of one space. The sum is the dropped share of the reals.
    """
    around = neighborhoods(fitted, min(len(held_out), len(samples)))
    expected, found = vote_shares(fitted, held_out), vote_shares(fitted, samples)
    dropped = found[around].sum(axis=1) < RATIO * expected[around].sum(axis=1)
    return np.where(dropped, expected, 0.0)


def neighborhoods(fitted: np.ndarray, count: int) -> np.ndarray:
    """int64 [N, m]: each fitting real and its nearest others, so many that 14 of `count` images should vote there."""
    size = round(np.clip(EXPECTED * len(fitted) / count, VOTES, max(VOTES, LARGEST_SHARE * len(fitted))))
    return nearest(fitted, fitted, min(size, len(fitted)))[1]


def vote_shares(fitted: np.ndarray, points: np.ndarray) -> np.ndarray:
    """float64 [N], summing to 1: the share of all votes of `points` that each of `fitted` gets."""
    places = nearest(points, fitted, min(VOTES, len(fitted)))[1]
    return np.bincount(places.ravel(), minlength=len(fitted)) / places.size
