"""The diversity score against slow versions: numbers by pairs, groups by joining, widths by their equation."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist, pdist

from pggan.metrics.diversity import (
    Diversity,
    diversity,
    effective_number,
    fit_projection,
    group_shares,
    half_numbers,
    held_out_statistics,
    kernel_width,
    near_duplicates,
    squared_distances,
)

SOME = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def normal(seed: int, n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


def slow_vendi(z: np.ndarray, width: float) -> float:
    """exp(- sum of lambda log lambda), with lambda the eigenvalues of K / n."""
    kernel = [[np.exp(-np.sum((x - y) ** 2) / (2 * width**2)) / len(z) for y in z] for x in z]
    values = np.linalg.eigvals(np.array(kernel)).real
    return float(np.exp(-sum(value * np.log(value) for value in values if value > 1e-12)))


# --- the projection ---------------------------------------------------------------------------------------------------


@SOME
@given(SEEDS, st.sampled_from([(2, 1), (5, 40), (90, 10), (90, 70), (30, 80)]), st.sampled_from([1e-4, 1.0, 1e3]))
def test_points_have_mean_zero_and_root_mean_square_length_one(seed, shape, scale):
    n, dim = shape
    features = scale * (normal(seed, n, dim) * np.linspace(0.1, 1, dim) + 3)
    z = fit_projection(features)(features)
    assert z.shape == (n, min(64, dim, n - 1))
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-9)
    assert (z**2).sum(axis=1).mean() == pytest.approx(1)


@SOME
@given(SEEDS)
def test_axes_are_the_principal_components_half_whitened(seed):
    """They are uncorrelated, widest first, and their deviations are square roots of the old ones, up to one factor."""
    features = normal(seed, 200, 6) * [9, 5, 3, 2, 1, 0.5] @ np.linalg.qr(normal(seed + 1, 6, 6))[0]
    projection = fit_projection(features)
    covariance = np.cov(projection(features).T)
    np.testing.assert_allclose(covariance - np.diag(np.diag(covariance)), 0, atol=1e-9)
    widths = np.sqrt(np.linalg.eigvalsh(np.cov(features.T)))[::-1]
    np.testing.assert_allclose(np.diag(covariance) / covariance[0, 0], widths / widths[0], rtol=1e-6)
    fresh = normal(seed + 2, 5, 6)
    np.testing.assert_allclose(projection(fresh), (fresh - features.mean(axis=0)) @ projection.axes)


def test_only_the_64_widest_directions_are_kept():
    features = normal(0, 300, 100) * np.where(np.arange(100) < 64, 1, 1e-3)
    projection = fit_projection(features)
    assert projection.axes.shape == (100, 64)
    lost = np.abs(projection.axes[64:]).max() / np.abs(projection.axes[:64]).max()
    assert lost < 0.05


def test_axes_do_not_turn_with_the_sign_that_the_decomposition_gave():
    features = normal(3, 50, 8) * np.arange(1, 9)
    shuffled = features[np.random.default_rng(0).permutation(50)]
    np.testing.assert_allclose(fit_projection(features).axes, fit_projection(shuffled).axes, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 1 / 3, 1e5])
def test_pictures_that_are_all_the_same_make_a_space_of_nothing(value):
    features = np.full((40, 7), value)
    assert not fit_projection(features)(features).any() and fit_projection(features).axes.shape == (7, 1)


# --- distances ---------------------------------------------------------------------------------------------------


@SOME
@given(SEEDS, st.integers(1, 40), st.integers(1, 70), st.sampled_from([1e-3, 1.0, 1e3]))
def test_squared_distances_match_scipy_and_are_zero_between_copies(seed, n, dim, scale):
    z = scale * np.concatenate([normal(seed, n, dim)] * 2)
    found = squared_distances(z)
    np.testing.assert_allclose(found, cdist(z, z, "sqeuclidean"), rtol=1e-9, atol=1e-11 * scale**2 * dim)
    assert (np.diag(found) == 0).all() and (np.diag(found, n) == 0).all() and (found >= 0).all()


# --- the effective number ----------------------------------------------------------------------------------------


@SOME
@given(SEEDS, st.integers(1, 20), st.integers(1, 5), st.floats(0.1, 3))
def test_the_effective_number_matches_the_paper_one_pair_at_a_time(seed, n, dim, width):
    z = normal(seed, n, dim)
    assert effective_number(z, width) == pytest.approx(slow_vendi(z, width), rel=1e-6)


@SOME
@given(SEEDS, st.integers(1, 12), st.integers(1, 8))
def test_k_pictures_far_apart_repeated_count_as_k(seed, k, times):
    z = 100 * np.eye(12)[:k] + normal(seed, 1, 12)
    assert effective_number(np.repeat(z, times, axis=0), 0.5) == pytest.approx(k, rel=1e-9)


@SOME
@given(SEEDS, st.integers(2, 25), st.floats(0.05, 5))
def test_the_effective_number_is_from_one_to_n_and_falls_with_the_width(seed, n, width):
    z = normal(seed, n, 3)
    values = [1, effective_number(z, 1.5 * width), effective_number(z, width), n]
    assert (np.diff(values) >= -1e-9 * n).all()


@SOME
@given(SEEDS, st.integers(2, 5))
def test_repeating_every_picture_changes_no_effective_number_and_order_neither(seed, times):
    z = normal(seed, 12, 4)
    repeated = np.random.default_rng(seed).permutation(np.repeat(z, times, axis=0))
    assert effective_number(repeated, 0.7) == pytest.approx(effective_number(z, 0.7), rel=1e-6)


@SOME
@given(SEEDS, st.integers(3, 40), st.integers(2, 20))
def test_halves_are_halves_and_hold_no_picture_twice(seed, n, dim):
    """Halves of copies have effective number 1; halves of n distant points have n // 2."""
    assert half_numbers(np.ones((n, dim)), 1.0, 5) == pytest.approx(1)
    assert half_numbers(100 * np.eye(n), 1.0, 5) == pytest.approx(n // 2)
    z = normal(seed, n, dim)
    found = half_numbers(z, 0.8, 20, seed)
    assert found.shape == (20,) and np.array_equal(found, half_numbers(z, 0.8, 20, seed))
    assert (found >= 1 - 1e-9).all() and (found <= n // 2 + 1e-9).all()


# --- the width of the kernel -------------------------------------------------------------------------------------


@SOME
@given(SEEDS, st.integers(3, 60), st.integers(3, 40), st.sampled_from([0.01, 1.0, 30.0]))
def test_two_pictures_look_the_same_to_the_kernel_with_a_chance_of_one_in_fifty(seed, n, dim, scale):
    z = scale * normal(seed, n, dim)
    width = kernel_width(z)
    assert np.exp(-(pdist(z) ** 2) / width**2).mean() == pytest.approx(1 / 50, rel=1e-6)


@SOME
@given(SEEDS, st.sampled_from([0.1, 7.0]))
def test_the_width_grows_with_the_points(seed, scale):
    z = normal(seed, 30, 5)
    assert kernel_width(scale * z) == pytest.approx(scale * kernel_width(z), rel=1e-6)


def test_the_width_of_equal_points_is_one():
    assert kernel_width(np.full((9, 3), 0.1)) == 1.0


@pytest.mark.parametrize("times", [2, 5, 20])
def test_repeats_among_the_reals_do_not_narrow_the_kernel(times):
    """Of 30 images repeated 20 times, one pair in 30 is a pair of copies, which is more than 1 in 50."""
    z = normal(0, 30, 10)
    assert kernel_width(np.repeat(z, times, axis=0)) == pytest.approx(kernel_width(z), rel=0.02)


# --- near-duplicates ---------------------------------------------------------------------------------------------


def slow_groups(z: np.ndarray, near: float) -> set[frozenset[int]]:
    """Each pair of near points merges their two groups."""
    group = list(range(len(z)))
    for i in range(len(z)):
        for j in range(i):
            if np.sqrt(np.sum((z[i] - z[j]) ** 2)) <= near:
                old, new = group[i], group[j]
                group = [new if each == old else each for each in group]
    members = [frozenset(i for i in range(len(z)) if group[i] == each) for each in set(group)]
    return {each for each in members if len(each) > 1}


@SOME
@given(SEEDS, st.integers(1, 40), st.integers(1, 3), st.floats(0.01, 0.6))
def test_groups_of_near_duplicates_are_what_joining_near_pairs_gives(seed, n, dim, near):
    z = np.random.default_rng(seed).uniform(0, 1, (n, dim))
    found = near_duplicates(z, near)
    assert {frozenset(group.tolist()) for group in found} == slow_groups(z, near)
    sizes = [len(group) for group in found]
    assert sizes == sorted(sizes, reverse=True)
    assert all(np.array_equal(group, np.unique(group)) for group in found)


def test_links_reach_on_from_one_to_the_next():
    z = np.array([[0.0], [0.9], [1.8], [2.7], [9.0], [9.5], [20.0]])
    assert [group.tolist() for group in near_duplicates(z, 1.0)] == [[0, 1, 2, 3], [4, 5]]


def test_exact_copies_are_near_at_no_distance_at_all():
    z = normal(0, 20, 64)
    assert near_duplicates(z, 0.0) == []
    found = near_duplicates(np.concatenate([z, z[3:5]]), 0.0)
    assert [group.tolist() for group in found] == [[3, 20], [4, 21]]


def test_the_largest_group_is_a_share_of_all_pictures():
    assert group_shares([], 10) == (0.0, 0.0)
    assert group_shares([np.arange(4), np.arange(2)], 16) == (0.375, 0.25)


# --- the score ---------------------------------------------------------------------------------------------------


def three(seed: int, n: int = 150, dim: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Fitting reals, held-out reals and samples of the same distribution, all projected as the first."""
    features = normal(seed, 3 * n, dim) * np.linspace(2, 0.3, dim)
    projection = fit_projection(features[:n])
    fitted, held, samples = np.split(projection(features), 3)
    return fitted, held, samples


@pytest.fixture(scope="module")
def drawn():
    _, held, samples = three(0)
    return held_out_statistics(held), held, samples


def test_held_out_reals_are_as_varied_as_held_out_reals():
    """One of eight 95 % intervals may miss 1; if the score were wrong, all would."""
    found = [diversity(samples, held_out_statistics(held)) for _, held, samples in map(three, range(8))]
    assert sum(each.ratio_low <= 1 <= each.ratio_high for each in found) >= 7
    assert all(0.85 < each.ratio < 1.15 and each.duplicates < 0.05 for each in found)


def test_the_held_out_reals_themselves_score_one(drawn):
    held, z, _ = drawn
    found = diversity(z, held)
    assert found.ratio == pytest.approx(1, rel=1e-9) and found.value == min(found.ratio, 1)
    assert found.ratio_low <= 1 <= found.ratio_high and found.effective_samples == pytest.approx(len(z))
    assert found.duplicates == pytest.approx(held.duplicates, abs=2 / len(z))


def test_what_is_more_varied_than_the_reals_counts_as_one_and_the_ratio_says_so(drawn):
    held, z, samples = drawn
    found = diversity(3 * samples, held)
    assert found.value == found.low == found.high == 1.0 and found.ratio > 1.1 and found.ratio_low > 1
    assert found.effective_samples == pytest.approx(len(z), rel=1e-9)


@pytest.mark.parametrize("k", [1, 2, 5, 16, 50, 100])
def test_k_different_real_pictures_are_said_to_be_about_k(drawn, k):
    held, z, samples = drawn
    found = diversity(np.resize(samples[:k], z.shape), held)
    assert found.effective_samples == pytest.approx(k, rel=0.15)
    assert found.low <= found.value <= found.high <= 1 and found.ratio_low <= found.ratio <= found.ratio_high
    assert found.duplicates == pytest.approx(1.0 if k <= 75 else 2 * (150 - k) / 150, abs=0.02)


def test_fewer_different_pictures_score_less(drawn):
    held, z, samples = drawn
    found = [diversity(np.resize(samples[:k], z.shape), held) for k in (1, 2, 4, 8, 16, 32, 64, 128)]
    assert (np.diff([each.value for each in found]) > 0).all()
    assert found[0].high < 0.05 and found[4].high < 0.4


def test_shrinking_the_samples_to_their_mean_scores_less(drawn):
    held, _, samples = drawn
    found = [diversity(scale * samples, held).ratio for scale in (0.1, 0.3, 0.6, 1.0)]
    assert (np.diff(found) > 0.01).all()


def test_the_share_of_samples_from_one_mode_is_the_share_of_duplicates(drawn):
    held, _, samples = drawn
    one = samples.copy()
    one[: len(one) // 5] = samples[0]
    found = diversity(one, held)
    assert found.duplicates == pytest.approx(0.2, abs=0.02) and found.ratio < 0.95


def test_repeats_among_the_reals_do_not_hide_a_collapse():
    """20 different reals, each of them ten times: one image with a little noise is less varied than they are."""
    _, held, samples = three(1)
    reals = np.random.default_rng(0).permutation(np.resize(held[:20], held.shape))
    found = diversity(samples[:1] + 1e-3 * normal(0, *held.shape), held_out_statistics(reals))
    assert found.high < 0.1
    same = diversity(np.resize(held[:20], held.shape), held_out_statistics(reals))
    assert same.ratio_low <= 1 <= same.ratio_high and same.ratio == pytest.approx(1, abs=0.05)


def test_reals_that_are_all_the_same_give_numbers_all_the_same():
    zeros = np.zeros((100, 1))
    found = diversity(zeros, held_out_statistics(zeros))
    assert np.isfinite(
        [found.value, found.ratio, found.low, found.high, found.effective_samples, found.duplicates]
    ).all()
    assert found.ratio == pytest.approx(1)


def test_held_out_statistics_match_slow_versions(drawn):
    held, z, _ = drawn
    assert held.width == kernel_width(z) and held.number == pytest.approx(slow_vendi(z, held.width), rel=1e-6)
    assert held.counts[0] == 1 and held.counts[-1] == len(z) and (np.diff(held.counts) > 0).all()
    assert held.curve[0] == pytest.approx(1) and held.curve[-1] == pytest.approx(held.number)
    assert (np.diff(held.curve) >= 0).all()
    away = cdist(z, z) + np.diag(np.full(len(z), np.inf))
    assert held.near == pytest.approx(0.55 * np.median(away.min(axis=1)))
    assert held.duplicates == (away.min(axis=1) <= held.near).mean()
    groups = slow_groups(z, held.near)
    assert held.largest == max(map(len, groups), default=0) / len(z)


def test_the_same_points_give_the_same_score(drawn):
    held, z, samples = drawn
    # Where an array lies in memory changes the order of a sum, so the last digit may differ.
    one, other = diversity(samples, held), diversity(samples, held_out_statistics(z))
    for item in fields(Diversity):
        if item.compare:
            assert getattr(other, item.name) == pytest.approx(getattr(one, item.name), rel=1e-12), item.name
