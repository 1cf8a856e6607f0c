"""Neighbors, precision, recall, density and coverage against loops over pairs of pictures."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.metrics import neighbors
from pggan.metrics.neighbors import Prdc, nearest, prdc

SOME = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
SCALES = st.sampled_from([1.0, 1e-6, 1e6])
AWAY = st.sampled_from([0.0, 1e6])


def normal(seed: int, n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


def slow_distances(queries: np.ndarray, keys: np.ndarray) -> np.ndarray:
    return np.array([[np.sqrt(np.square(x - y).sum()) for y in keys] for x in queries.astype(float)])


def slow_nearest(queries, keys, k, exclude_self=False):
    table = slow_distances(queries, keys)
    if exclude_self:
        np.fill_diagonal(table, np.inf)
    places = np.argsort(table, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(table, places, axis=1), places


def slow_prdc(reals: np.ndarray, fakes: np.ndarray, k: int, k_balls: int) -> Prdc:
    """The equations of the two papers, one image and one ball at a time."""

    def radius(rows, i, k):
        return sorted(np.linalg.norm(rows[i] - other) for j, other in enumerate(rows) if j != i)[k - 1]

    def inside(points, rows, k):
        """[points, rows]: whether the point lies in the ball around the row."""
        return np.array([[np.linalg.norm(p - row) <= radius(rows, i, k) for i, row in enumerate(rows)] for p in points])

    balls = inside(fakes, reals, k_balls)
    return Prdc(
        precision=inside(fakes, reals, k).any(axis=1).mean(),
        recall=inside(reals, fakes, k).any(axis=1).mean(),
        density=balls.sum() / (k_balls * len(fakes)),
        coverage=balls.any(axis=0).mean(),
    )


def numbers(found: Prdc) -> list[float]:
    return [found.precision, found.recall, found.density, found.coverage]


# --- neighbors --------------------------------------------------------------------------------------------------


@SOME
@given(SEEDS, st.integers(1, 20), st.integers(4, 20), st.integers(1, 6), st.integers(1, 4), SCALES, AWAY)
def test_neighbours_match_a_loop_over_pairs(seed, n, m, dim, k, by, away):
    queries, keys = by * (normal(seed, n, dim) + away), by * (normal(seed + 1, m, dim) + away)
    distances, places = nearest(queries, keys, k)
    expected, at = slow_nearest(queries, keys, k)
    np.testing.assert_allclose(distances, expected, rtol=1e-8)
    np.testing.assert_array_equal(places, at)
    assert distances.dtype == np.float64 and places.dtype == np.int64 and distances.shape == (n, k)


@SOME
@given(SEEDS, st.integers(5, 20), st.integers(1, 6), st.integers(1, 4))
def test_a_picture_is_not_its_own_neighbour_but_its_copy_is(seed, n, dim, k):
    rows = normal(seed, n, dim)
    rows[-1] = rows[0]
    distances, places = nearest(rows, rows, k, exclude_self=True)
    expected, at = slow_nearest(rows, rows, k, exclude_self=True)
    np.testing.assert_allclose(distances, expected, rtol=1e-9)
    alike = [np.where(found == n - 1, 0, found) for found in (places, at)]  # the others see two copies at one distance
    np.testing.assert_array_equal(alike[0][1:-1], alike[1][1:-1])
    assert distances[0, 0] == distances[-1, 0] == 0 and (places[0, 0], places[-1, 0]) == (n - 1, 0)
    assert (places != np.arange(n)[:, None]).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize(("by", "away"), [(1, 0), (1e3, 0), (1, 1e3), (1e-3, 1)])
def test_copies_are_at_distance_zero_exactly(dtype, by, away):
    rows = (by * normal(0, 300, 500) + away).astype(dtype)
    distances, places = nearest(rows[100:], rows)
    assert (distances == 0).all()
    assert dtype == np.float16 or np.array_equal(places[:, 0], np.arange(100, 300))


def test_distances_far_smaller_than_the_features_keep_their_digits():
    """Pairs a millionth apart, in a cloud a million wide: the matrix product alone would have no correct digit."""
    keys = 1e6 * normal(0, 50, 30)
    queries = keys + 1e-6 * normal(1, 50, 30)
    distances, places = nearest(queries, keys)
    np.testing.assert_array_equal(places[:, 0], np.arange(50))
    np.testing.assert_allclose(distances[:, 0], np.diag(slow_distances(queries, keys)), rtol=1e-3)


def test_of_the_copies_of_a_picture_the_first_comes_first():
    assert nearest(np.ones((7, 3)), np.ones((6, 3)), 6)[1].tolist() == [[0, 1, 2, 3, 4, 5]] * 7


@pytest.mark.parametrize("exclude_self", [False, True])
def test_blocks_give_the_same_neighbours(exclude_self, monkeypatch):
    queries, keys = normal(0, 60, 7), normal(1, 60, 7)
    queries[30:] = keys[30:]
    distances, places = nearest(queries, keys, 3, exclude_self)
    for name, size in (("BLOCK", 700), ("KEYS", 13), ("PAIRS", 20)):
        monkeypatch.setattr(neighbors, name, size)
    again, at = nearest(queries, keys, 3, exclude_self)
    np.testing.assert_allclose(again, distances, rtol=1e-12)
    np.testing.assert_array_equal(at, places)


def test_no_table_of_all_distances_is_held(monkeypatch):
    monkeypatch.setattr(neighbors, "BLOCK", 1000)
    sizes = [block.numel() for _, block in neighbors.distance_blocks(normal(0, 90, 3), normal(1, 110, 3))]
    assert max(sizes) <= 1000 and sum(sizes) == 90 * 110


def test_distances_agree_with_torch_in_float64():
    queries, keys = normal(0, 40, 600), normal(1, 50, 600)
    exact = torch.cdist(
        *map(torch.from_numpy, (queries, keys)), compute_mode="donot_use_mm_for_euclid_dist"
    )  # by subtraction
    np.testing.assert_allclose(nearest(queries, keys, 50)[0], exact.sort(dim=1).values, rtol=1e-12)


# --- precision, recall, density, coverage ------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(SEEDS, st.integers(6, 14), st.integers(4, 14), st.integers(1, 4), SCALES, st.floats(0, 2))
def test_the_four_match_loops_over_pairs(seed, n, m, dim, by, apart):
    reals, fakes = by * normal(seed, n, dim), by * (normal(seed + 1, m, dim) + apart)
    assert numbers(prdc(reals, fakes)) == pytest.approx(numbers(slow_prdc(reals, fakes, 3, 5)), abs=1e-12)
    assert numbers(prdc(reals, fakes, 2, 1)) == pytest.approx(numbers(slow_prdc(reals, fakes, 2, 1)), abs=1e-12)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_precision_is_about_fakes_and_recall_about_reals(scale):
    """Fakes from one of two modes: full precision, half the recall. From three: full recall, 2/3 of the precision."""
    left, right, away = (scale * (0.01 * normal(seed, 60, 4) + 10 * seed) for seed in (1, 2, 3))
    reals = np.concatenate([left, right])
    few = prdc(reals, left + scale * 1e-4)
    assert few.precision == 1 and few.recall == 0.5 and few.coverage == 0.5
    many = prdc(reals, np.concatenate([left, right, away]) + scale * 1e-4)
    assert many.precision == pytest.approx(2 / 3) and many.recall == 1 and many.coverage == 1


def test_swapping_the_sets_swaps_precision_and_recall():
    reals, fakes = normal(0, 50, 3), 0.5 * normal(1, 40, 3)
    one, other = prdc(reals, fakes), prdc(fakes, reals)
    assert (one.precision, one.recall) == (other.recall, other.precision) and one.precision > one.recall + 0.2


def test_of_equal_distributions_density_and_coverage_are_as_their_authors_derive():
    """Naeem et al. 2020, section 3: expected density 1, expected coverage 1 - 2^-k for many pictures."""
    found = prdc(normal(0, 1000, 16), normal(1, 1000, 16))
    assert found.density == pytest.approx(1, abs=0.1) and found.coverage == pytest.approx(1 - 2**-5, abs=0.02)


def test_the_reals_themselves_are_perfect_fakes():
    reals = normal(0, 100, 5)
    found = prdc(reals, reals)
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1) and found.density >= 1


def test_one_far_off_real_does_not_raise_density_as_it_raises_precision():
    """An outlier's ball is large and contains every fake: precision is fooled, density is not."""
    reals, fakes = normal(0, 100, 2), 50 + normal(1, 100, 2)
    outlier = np.vstack([reals, [[60.0, 60.0]]])
    assert prdc(reals, fakes).precision == 0
    assert prdc(outlier, fakes).precision == 1 and prdc(outlier, fakes).density == pytest.approx(0.2)


@SOME
@given(SEEDS, st.integers(8, 40), st.integers(1, 300))
def test_a_copy_of_the_neighbour_that_a_ball_reaches_to_lies_in_it(seed, n, dim):
    """Copied training images make exact ties, which rounding must not decide. Every ball contains k + 1 of them."""
    reals = normal(seed, n, dim)
    random = np.random.default_rng(seed)
    fakes = random.permutation(reals)
    assert prdc(reals, fakes).density == pytest.approx(6 / 5)


EQUAL, OTHER = np.full((20, 3), 0.1), np.full((20, 3), 0.3)


@pytest.mark.parametrize(
    ("reals", "fakes", "expected"),
    [
        (EQUAL, EQUAL, [1, 1, 4, 1]),  # each fake lies in all 20 balls, of radius 0, over k = 5
        (EQUAL, OTHER, [0, 0, 0, 0]),
        (1e6 * EQUAL, 1e6 * OTHER, [0, 0, 0, 0]),
        (np.repeat(normal(0, 4, 3), 6, axis=0), np.repeat(normal(0, 4, 3)[:1], 9, axis=0), [1, 0.25, 6 / 5, 0.25]),
    ],
)
def test_sets_of_copies_have_balls_of_radius_0_that_hold_copies(reals, fakes, expected):
    assert numbers(prdc(reals, fakes)) == pytest.approx(expected)


@SOME
@given(SEEDS, st.integers(6, 25), st.integers(4, 25), st.integers(1, 5), st.sampled_from([0.0, 1e-6, 1.0, 1e6, 1e37]))
def test_shares_stay_shares(seed, n, m, different, by):
    """Few different pictures, copied; of any size."""
    random = np.random.default_rng(seed)
    pictures = by * normal(seed, different, 4)
    found = prdc(*(pictures[random.integers(0, different, size)] for size in (n, m)))
    assert all(0 <= share <= 1 for share in (found.precision, found.recall, found.coverage))
    assert np.isfinite(found.density) and found.density >= 0


def test_blocks_give_the_same_four(monkeypatch):
    reals, fakes = normal(0, 80, 4), normal(1, 70, 4)
    whole = prdc(reals, fakes)
    monkeypatch.setattr(neighbors, "BLOCK", 900)
    monkeypatch.setattr(neighbors, "KEYS", 17)
    assert prdc(reals, fakes) == whole


def test_features_may_be_read_only_and_in_any_order_in_memory():
    rows = normal(0, 12, 9)
    rows.flags.writeable = False
    for each in (rows, rows[::-1], np.asfortranarray(rows)):
        assert prdc(each, rows).precision == 1 and (nearest(each, rows)[0] == 0).all()


# --- what is refused ---------------------------------------------------------------------------------------------


def test_too_few_pictures_are_refused_by_the_number_needed():
    with pytest.raises(ValueError, match="at least 6 images"):
        prdc(normal(0, 5, 2), normal(1, 9, 2))
    with pytest.raises(ValueError, match="at least 4 images"):
        prdc(normal(0, 9, 2), normal(1, 3, 2))
    assert prdc(normal(0, 6, 2), normal(1, 4, 2)).density >= 0
    with pytest.raises(ValueError, match="at least 3 images"):
        nearest(normal(0, 2, 2), normal(1, 2, 2), 3)
    with pytest.raises(ValueError, match="at least 3 images"):
        nearest(normal(0, 2, 2), normal(0, 2, 2), 2, exclude_self=True)


@pytest.mark.parametrize("call", [nearest, prdc])
def test_features_that_do_not_match_or_are_not_finite_are_refused(call):
    with pytest.raises(ValueError, match="cannot be compared"):
        call(normal(0, 9, 2), normal(1, 9, 3))
    with pytest.raises(ValueError, match="finite"):
        call(normal(0, 9, 2), np.full((9, 2), np.nan))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        call(normal(0, 9, 2), np.zeros(9))
