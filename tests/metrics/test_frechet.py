"""The Frechet distance against closed forms, matrix roots by scipy, and its three forms against each other."""

import io

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.metrics import frechet
from pggan.metrics.cache import from_arrays, to_arrays
from pggan.metrics.frechet import Moments, RunningMoments, frechet_distance, moments

SOME = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12))  # N of a, N of b, D


def normal(seed: int, n: int, dim: int) -> np.ndarray:
    """Correlated features of uneven variances, away from the origin."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((n, dim)) @ random.standard_normal((dim, dim))
    return mixed * random.uniform(0.1, 3, dim) + random.standard_normal(dim)


def pair(seed: int, shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    n, m, dim = shape
    return normal(seed, n, dim), normal(seed + 1, m, dim)


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return frechet_distance(moments(a), moments(b))


def traces(*sets: np.ndarray) -> float:
    return sum(np.square(each - each.mean(axis=0)).sum() / max(len(each) - 1, 1) for each in sets)


def slow_moments(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [D] and covariance [D, D], in exact sums."""
    n, dim = features.shape
    rows = features.astype(np.longdouble)
    mean = rows.sum(axis=0) / n
    covariance = np.zeros((dim, dim), dtype=np.longdouble)
    for row in rows - mean:
        covariance += np.outer(row, row)
    return mean.astype(float), (covariance / max(n - 1, 1)).astype(float)


def slow_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Equation 6 of Heusel et al. 2017 with scipy's matrix root of the product."""
    (mean, first), (other, second) = slow_moments(a), slow_moments(b)
    root = scipy.linalg.sqrtm(first @ second)
    return ((mean - other) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * np.trace(root).real


def close(value: float, expected: float, size: float, within: float = 1e-6) -> None:
    """Errors are relative to the traces, because the distance is a difference of traces."""
    assert abs(value - expected) <= within * size + 1e-12 * abs(expected), (value, expected, size)


# --- the distance ------------------------------------------------------------------------------------------------


@SOME
@given(SEEDS, st.integers(1, 6), st.booleans())
def test_it_agrees_with_scipys_matrix_root(seed, dim, few):
    a, b = pair(seed, (3 * dim + 2, 3 * dim + 5, dim) if not few else (dim + 1, 4 * dim + 1, dim))
    close(distance(a, b), slow_distance(a, b), traces(a, b))


def test_it_agrees_with_scipys_matrix_root_at_64_features():
    a, b = pair(0, (300, 200, 64))
    assert distance(a, b) == pytest.approx(slow_distance(a, b), rel=1e-9)


@SOME
@given(SEEDS, st.integers(1, 30), st.integers(1, 30))
def test_with_one_feature_it_is_the_closed_form_of_two_gaussians(seed, n, m):
    a, b = pair(seed, (n, m, 1))
    (mean, variance), (other, another) = [(x.mean(), x.var(ddof=1) if len(x) > 1 else 0.0) for x in (a, b)]
    close(distance(a, b), (mean - other) ** 2 + (variance**0.5 - another**0.5) ** 2, traces(a, b))


@pytest.mark.parametrize("dim", [2, 5, 40])
def test_of_diagonal_covariances_it_is_the_sum_over_features(dim):
    random = np.random.default_rng(dim)
    means, deviations = random.standard_normal((2, dim)), random.uniform(0.01, 3, (2, dim))
    a, b = (Moments(9, mean, covariance=np.diag(each**2)) for mean, each in zip(means, deviations, strict=True))
    expected = np.square(means[0] - means[1]).sum() + np.square(deviations[0] - deviations[1]).sum()
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


@SOME
@given(SEEDS, SHAPES)
def test_the_three_forms_agree(seed, shape):
    """Roots of both, the root of either, the root of neither: the choice is made by N and D alone."""
    n, m, dim = shape
    dim += max(n, m)  # both have roots
    a, b = (moments(each) for each in pair(seed, (n, m, dim)))
    assert a.covariance is None and b.covariance is None
    nuclear = frechet_distance(a, b)
    for one, other in ((a.full(), b), (a, b.full()), (a.full(), b.full())):
        close(frechet_distance(one, other), nuclear, a.trace + b.trace)


@pytest.mark.parametrize("dim", [1, 2, 3, 16])
def test_the_forms_of_two_regular_covariances_agree(dim, monkeypatch):
    a, b = (moments(each) for each in pair(3, (50, 60, dim)))
    triangular = frechet_distance(a, b)
    unit, root = frechet._unit, frechet._singular_root
    monkeypatch.setattr(frechet, "_root_and_other", lambda a, b: (root(unit(a)), unit(b)))
    assert frechet_distance(a, b) == pytest.approx(triangular, rel=1e-9)


@SOME
@given(SEEDS, SHAPES)
def test_it_is_symmetric(seed, shape):
    a, b = pair(seed, shape)
    close(distance(a, b), distance(b, a), traces(a, b))


@SOME
@given(SEEDS, SHAPES)
def test_moving_both_sets_by_the_same_changes_nothing(seed, shape):
    a, b = pair(seed, shape)
    by = 10 * normal(seed + 2, 1, shape[2])
    close(distance(a + by, b + by), distance(a, b), traces(a, b) + distance(a, b))


@SOME
@given(SEEDS, SHAPES)
def test_moving_one_set_adds_the_square_of_the_way_to_that_of_equal_means(seed, shape):
    a, b = pair(seed, shape)
    b, by = b - b.mean(axis=0) + a.mean(axis=0), normal(seed + 2, 1, shape[2])
    close(distance(a, b + by), distance(a, b) + np.square(by).sum(), traces(a, b) + 1)


@SOME
@given(SEEDS, SHAPES)
def test_the_order_of_the_rows_does_not_matter(seed, shape):
    a, b = pair(seed, shape)
    shuffled = np.random.default_rng(seed).permutation(a)
    close(distance(shuffled, b), distance(a, b), traces(a, b))


@SOME
@given(SEEDS, SHAPES)
def test_turning_both_sets_changes_nothing(seed, shape):
    a, b = pair(seed, shape)
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((shape[2], shape[2])))[0]
    close(distance(a @ turn, b @ turn), distance(a, b), traces(a, b))


@SOME
@given(SEEDS, SHAPES, st.sampled_from([1e-6, 0.3, 7.0, 1e6, -1.0]))
def test_scaling_both_by_c_scales_it_by_the_square_of_c(seed, shape, by):
    a, b = pair(seed, shape)
    close(distance(by * a, by * b), by**2 * distance(a, b), by**2 * traces(a, b))


@SOME
@given(SEEDS, SHAPES)
def test_a_set_is_at_no_distance_from_itself(seed, shape):
    n, _, dim = shape
    a = normal(seed, n, dim)
    within = 1e-13 if n < dim else 1e-7
    close(distance(a, a), 0.0, traces(a), within)
    close(distance(a, a[::-1]), 0.0, traces(a), within)
    close(frechet_distance(moments(a), moments(a).full()), 0.0, traces(a))


@pytest.mark.parametrize("copies", [2, 40])
def test_a_set_of_few_different_pictures_is_at_no_distance_from_itself(copies):
    """Their covariance is singular in both forms; rounding in the empty directions must not add up."""
    a = np.repeat(normal(0, 7, 60), copies, axis=0)
    assert (moments(a).covariance is None) == (copies == 2)
    close(distance(a, a), 0.0, traces(a), 1e-13)


@pytest.mark.parametrize("n", [50, 400])
def test_the_singular_covariance_gives_the_root_whichever_it_is(n):
    """300 copies of 3 pictures against many different ones."""
    a, b = np.repeat(normal(0, 3, 50), 100, axis=0), normal(1, n, 50)
    rows = np.sqrt(100 / 299) * (a - a.mean(axis=0))[::100]
    expected = frechet_distance(Moments(3, a.mean(axis=0), root=rows), moments(b))
    for value in (distance(a, b), distance(b, a)):
        assert value == pytest.approx(expected, rel=1e-9)


HARD = {
    "one picture": np.ones((1, 5)),
    "two pictures": normal(0, 2, 5),
    "two equal pictures": np.ones((2, 5)) / 3,
    "all equal": np.full((30, 5), 0.1),
    "all zero": np.zeros((9, 5)),
    "fewer pictures than features": normal(1, 3, 5),
    "rank deficient": normal(2, 30, 2) @ normal(3, 2, 5),
    "one feature is dead": normal(4, 30, 5) * [1, 1, 0, 1, 1],
    "a million times as large": 1e6 * normal(5, 30, 5),
    "a million times smaller": 1e-6 * normal(6, 30, 5),
    "a million away": normal(7, 30, 5) + 1e6,
    "float32 extremes": np.float32(1e37) * normal(8, 30, 5).astype(np.float32),
    "one picture far off": np.vstack([np.full(5, 1e9), normal(9, 30, 5)]),
    "float16": normal(10, 30, 5).astype(np.float16),
    "integers": np.arange(40).reshape(8, 5),
}


@pytest.mark.parametrize("name", HARD)
@pytest.mark.parametrize("other", HARD)
def test_it_is_finite_and_never_negative(name, other):
    a, b = HARD[name].astype(float), HARD[other].astype(float)
    value = frechet_distance(moments(HARD[name]), moments(HARD[other]))
    assert isinstance(value, float) and np.isfinite(value) and value >= 0
    gap = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    assert gap - 1e-6 * (gap + traces(a, b)) <= value <= (gap + traces(a, b)) * (1 + 1e-6) + 1e-20


@pytest.mark.parametrize("name", HARD)
def test_equal_sets_of_any_kind_are_at_no_distance(name):
    close(distance(HARD[name], HARD[name].copy()), 0.0, traces(HARD[name].astype(float)), 1e-7)


def test_one_picture_has_no_covariance():
    (one, mean), other = (np.array([[1.0, 2.0]]), np.array([1.0, 2.0])), normal(0, 20, 2)
    assert moments(one).trace == 0 and np.array_equal(moments(one).mean, mean)
    assert distance(one, other) == pytest.approx(np.square(mean - other.mean(axis=0)).sum() + traces(other))
    assert distance(one, one + 3) == 18.0


# --- the moments -------------------------------------------------------------------------------------------------


@SOME
@given(SEEDS, SHAPES, st.sampled_from([1.0, 1e-6, 1e6]), st.sampled_from([0.0, 1e6]))
def test_moments_match_exact_sums_at_any_scale_and_offset(seed, shape, by, away):
    """Also a million deviations from zero, where mean(x^2) - mean(x)^2 has no correct digit."""
    features = by * (normal(seed, shape[0], shape[2]) + away)
    mean, covariance = slow_moments(features)
    ours = moments(features)
    np.testing.assert_allclose(ours.mean, mean, rtol=1e-14, atol=1e-14 * by)
    np.testing.assert_allclose(ours.full().covariance, covariance, rtol=1e-9, atol=1e-9 * by**2)
    assert ours.trace == pytest.approx(np.trace(covariance), rel=1e-9, abs=1e-20)


@pytest.mark.parametrize("n", [1, 5, 11, 12, 13, 1023, 1024, 1025, 3000])
def test_moments_of_blocks_match_numpy(n):
    features = normal(n, n, 12) + 1e4
    ours = moments(features)
    assert ours.n == n and (ours.covariance is None) == (n < 12)
    np.testing.assert_allclose(ours.mean, features.mean(axis=0), rtol=1e-14)
    expected = np.cov(features.T) if n > 1 else np.zeros((12, 12))
    np.testing.assert_allclose(ours.full().covariance, expected, rtol=1e-9, atol=1e-9)


@SOME
@given(SEEDS, st.integers(1, 60), st.integers(1, 20), st.lists(st.integers(0, 60), max_size=6))
def test_batches_give_the_very_bits_of_the_whole(seed, n, dim, cuts):
    features = normal(seed, n, dim)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frechet, "BLOCK", 8)  # so that many blocks are merged
        running = RunningMoments()
        for batch in np.split(features, sorted(min(cut, n) for cut in cuts)):
            if len(batch):
                running.add(batch)
                running.moments()  # a look in between changes nothing
        whole, parts = to_arrays(moments(features)), to_arrays(running.moments())
    assert whole.keys() == parts.keys()
    assert all(np.array_equal(whole[name], parts[name]) for name in whole)
    np.testing.assert_allclose(running.moments().full().covariance, slow_moments(features)[1], atol=1e-9)


def test_what_was_given_is_left_as_it_was():
    features = normal(0, 20, 4)
    before, running = features.copy(), RunningMoments()
    running.add(features)
    kept = running.moments()
    mean = kept.mean.copy()
    running.add(features + 1)
    assert np.array_equal(features, before) and np.array_equal(kept.mean, mean) and kept.n == 20


def test_features_and_moments_may_be_read_only():
    """Memory maps are read-only; torch would warn, and warnings are errors here."""
    features = normal(0, 6, 9)
    features.flags.writeable = False
    kept = moments(features)
    for array in to_arrays(kept).values():
        array.flags.writeable = False
    assert frechet_distance(kept, kept.full()) == pytest.approx(0, abs=1e-6 * kept.trace)


def test_memory_does_not_grow_with_the_number_of_pictures():
    running = RunningMoments()
    sizes = []
    for seed in range(6):
        running.add(normal(seed, 1500, 8))
        sizes.append(sum(each.nbytes for each in (running._waiting, running._first, *running._summed[1:])))
    assert len(set(sizes)) == 1 and running.moments().n == 9000


@pytest.mark.parametrize("n", [1, 5, 200])
def test_saved_moments_come_back_bit_for_bit(n):
    kept = moments(normal(n, n, 12).astype(np.float32))
    file = io.BytesIO()
    np.savez(file, **to_arrays(kept))
    file.seek(0)
    with np.load(file, allow_pickle=False) as content:
        back = from_arrays(Moments, dict(content))
    assert back.n == kept.n and to_arrays(back).keys() == to_arrays(kept).keys()
    assert all(np.array_equal(to_arrays(back)[name], to_arrays(kept)[name]) for name in to_arrays(kept))
    assert frechet_distance(back, moments(normal(1, 9, 12))) == frechet_distance(kept, moments(normal(1, 9, 12)))


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(5,), (2, 3, 4), (4, 0), ()])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        moments(np.zeros(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e200])
def test_features_that_are_not_finite_are_refused(value):
    features = np.zeros((4, 3))
    features[2, 1] = value
    with pytest.raises(ValueError, match="finite"):
        moments(features)


def test_no_pictures_are_refused_and_so_is_another_number_of_features():
    with pytest.raises(ValueError, match="at least 1 image"):
        moments(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="no features"):
        RunningMoments().moments()
    running = RunningMoments()
    running.add(np.zeros((2, 3)))
    with pytest.raises(ValueError, match="4 features an image"):
        running.add(np.zeros((2, 4)))
    with pytest.raises(ValueError, match="3 features an image cannot be compared with 4"):
        frechet_distance(moments(np.zeros((2, 3))), moments(np.zeros((2, 4))))
