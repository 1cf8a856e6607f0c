"""Dropped modes against a slow count, and on clusters of which some get no sample."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pggan.metrics.dropped_modes import dropped_shares

SOME = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def normal(seed: int, n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


def slow_votes(fitted: np.ndarray, points: np.ndarray) -> list[int]:
    """[N]: the votes of points, each for its three nearest."""
    votes = [0] * len(fitted)
    for point in points:
        away = [np.sum((point - each) ** 2) for each in fitted]
        for place in sorted(range(len(fitted)), key=away.__getitem__)[:3]:
            votes[place] += 1
    return votes


def slow_shares(fitted: np.ndarray, held: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """The shares by whole numbers. Cases with a neighborhood exactly at the threshold are skipped."""
    total, count = len(fitted), min(len(held), len(samples))
    size = min(round(max(3, min(14 * total / count, max(3, 0.25 * total)))), total)
    expected, found = slow_votes(fitted, held), slow_votes(fitted, samples)
    out = np.zeros(total)
    for i in range(total):
        away = [np.sum((fitted[i] - each) ** 2) for each in fitted]
        around = sorted(range(total), key=away.__getitem__)[:size]
        has = 5 * sum(found[j] for j in around) * len(held)
        needs = 2 * sum(expected[j] for j in around) * len(samples)
        assume(has != needs or has == 0)
        out[i] = expected[i] / sum(expected) if has < needs else 0.0
    return out


def clusters(seed: int, counts: list[int], dim: int = 8, apart: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """Points around centers, counts[i] around center i, and the center of each. Centers do not depend on the seed."""
    own = np.repeat(np.arange(len(counts)), counts)
    return apart * np.eye(dim)[own] + normal(seed, len(own), dim), own


@SOME
@given(SEEDS, st.integers(3, 40), st.integers(2, 40), st.integers(2, 40), st.floats(0, 3))
def test_it_matches_a_slow_count(seed, total, n, m, shift):
    fitted, held, samples = normal(seed, total, 3), normal(seed + 1, n, 3), normal(seed + 2, m, 3) + shift
    np.testing.assert_allclose(dropped_shares(fitted, held, samples), slow_shares(fitted, held, samples))


@SOME
@given(SEEDS, st.integers(1, 30), st.integers(1, 30), st.integers(1, 30), st.floats(0, 10))
def test_it_is_a_share_of_the_reals(seed, total, n, m, shift):
    found = dropped_shares(normal(seed, total, 2), normal(seed + 1, n, 2), normal(seed + 2, m, 2) + shift)
    assert found.shape == (total,) and found.dtype == np.float64
    assert (found >= 0).all() and found.sum() <= 1 + 1e-9


@SOME
@given(SEEDS)
def test_the_order_of_no_set_matters(seed):
    fitted, held, samples = normal(seed, 60, 4), normal(seed + 1, 51, 4), normal(seed + 2, 49, 4) * 0.3 + 1
    found, random = dropped_shares(fitted, held, samples), np.random.default_rng(seed)
    order = random.permutation(60)
    again = dropped_shares(fitted[order], random.permutation(held), random.permutation(samples))
    np.testing.assert_allclose(again, found[order])


@SOME
@given(SEEDS, st.floats(0.01, 100), st.floats(-100, 100))
def test_the_unit_and_the_origin_of_the_space_do_not_matter(seed, scale, shift):
    sets = normal(seed, 60, 4), normal(seed + 1, 51, 4), normal(seed + 2, 49, 4) * 0.3 + 1
    expected = dropped_shares(*sets)
    np.testing.assert_allclose(dropped_shares(*(scale * each + shift for each in sets)), expected)


@SOME
@given(SEEDS, st.integers(3, 80), st.integers(1, 80))
def test_nothing_is_dropped_by_the_held_out_reals_themselves(seed, total, n):
    fitted, held = normal(seed, total, 5), normal(seed + 1, n, 5)
    assert not dropped_shares(fitted, held, held.copy()).any()


@pytest.mark.parametrize("dim", [2, 10, 50])
def test_hardly_anything_is_dropped_by_other_reals(dim):
    shares = []
    for seed in range(6):
        fitted, held, samples = np.split(normal(seed, 600, dim), 3)
        shares.append(dropped_shares(fitted, held, samples).sum())
    assert np.median(shares) < 0.02 and max(shares) < 0.05


@pytest.mark.parametrize("gone", [[2], [0], [1, 3]])
def test_exactly_the_clusters_without_a_sample_are_dropped(gone):
    fitted, own = clusters(0, [100] * 5)
    held, held_own = clusters(1, [50] * 5)
    samples, sample_own = clusters(2, [80] * 5)
    found = dropped_shares(fitted, held, samples[~np.isin(sample_own, gone)])
    missing = np.isin(own, gone)
    assert not found[~missing].any() and found[missing].any()
    assert found.sum() == pytest.approx(np.isin(held_own, gone).mean(), abs=1e-9)


@pytest.mark.parametrize("left", [0, 5, 15, 60, 80, 100])
def test_a_cluster_is_dropped_when_few_of_its_samples_are_left_and_not_when_most_are(left):
    """left: percentage of the samples of the cluster."""
    fitted, own = clusters(3, [100] * 5)
    held, _ = clusters(4, [50] * 5)
    samples, _ = clusters(5, [80] * 4 + [80 * left // 100])
    found = dropped_shares(fitted, held, samples)
    assert not found[own != 4].any()
    assert found.sum() == pytest.approx(0.2 if left <= 15 else 0.0, abs=0.03)


def test_a_share_is_that_of_the_held_out_reals_rather_than_of_the_fitting_ones():
    fitted, own = clusters(6, [150, 150, 150])
    held, _ = clusters(7, [90, 90, 20])
    samples, _ = clusters(8, [100, 100, 0])
    found = dropped_shares(fitted, held, samples)
    assert found[own == 2].sum() == pytest.approx(0.1) and not found[own < 2].any()


def test_one_point_over_and_over_drops_nearly_all():
    fitted, held, samples = normal(0, 200, 10), normal(1, 200, 10), np.repeat(normal(2, 1, 10), 200, axis=0)
    assert dropped_shares(fitted, held, samples).sum() > 0.8


@pytest.mark.parametrize("worse", ["noise", "moved"])
def test_samples_of_poor_quality_drop_nothing_so_long_as_they_come_in_all_kinds(worse):
    """The samples get noise as wide as the clusters, or are all moved to one side."""
    fitted, _ = clusters(9, [100] * 4)
    held, _ = clusters(10, [50] * 4)
    samples, _ = clusters(11, [50] * 4)
    samples = samples + (normal(12, 200, 8) if worse == "noise" else 0.3)
    assert dropped_shares(fitted, held, samples).sum() < 0.03


def test_fitting_reals_that_are_all_the_same_are_not_dropped_by_each_other():
    assert not dropped_shares(np.zeros((100, 1)), np.zeros((50, 1)), np.zeros((50, 1))).any()


def test_copies_among_the_reals_are_not_dropped():
    """Ten different reals, twenty times each, and samples of all of them; votes go to some of the copies only."""
    z = normal(0, 10, 6)
    shuffled = [np.random.default_rng(seed).permutation(np.repeat(z, 20, axis=0)) for seed in range(3)]
    assert not dropped_shares(*shuffled).any()
