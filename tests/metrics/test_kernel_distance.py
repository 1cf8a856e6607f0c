"""The kernel distance against loops over pairs, torch-fidelity, and the truth known for gaussians."""

import itertools

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.metrics import kernel_distance as module
from pggan.metrics.kernel_distance import Estimate, kernel_distance

SOME = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
SIZES = st.integers(2, 15)


def normal(seed: int, n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


def slow_kernel(x: np.ndarray, y: np.ndarray) -> float:
    return (sum(float(one) * float(other) for one, other in zip(x, y, strict=True)) / len(x) + 1) ** 3


def slow_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Binkowski et al. 2018, equation 4: means over pairs of different pictures, minus twice the mean across."""
    inner, outer = (np.mean([slow_kernel(x, y) for x, y in itertools.permutations(rows, 2)]) for rows in (a, b))
    return inner + outer - 2 * np.mean([slow_kernel(x, y) for x, y in itertools.product(a, b)])


def jackknife(a: np.ndarray, b: np.ndarray) -> float:
    """The standard error by leaving one picture out at a time, in each set."""
    total = 0.0
    for rows, without in (
        (a, lambda i: slow_distance(np.delete(a, i, axis=0), b)),
        (b, lambda i: slow_distance(a, np.delete(b, i, axis=0))),
    ):
        values = [without(i) for i in range(len(rows))]
        total += (len(rows) - 1) * np.var(values)
    return total**0.5


def mean_kernel(mean: np.ndarray, other: np.ndarray) -> float:
    """E (x.y / D + 1)^3 of independent gaussians of unit covariance, by their first three moments."""
    dim, eye = len(mean), np.eye(len(mean))

    def second(m):
        return np.outer(m, m) + eye

    def third(m):
        lone = np.einsum("ij,k->ijk", eye, m)
        return np.einsum("i,j,k->ijk", m, m, m) + lone + lone.transpose(0, 2, 1) + lone.transpose(2, 0, 1)

    powers = [1, mean @ other / dim, (second(mean) * second(other)).sum() / dim**2]
    return powers[0] + 3 * powers[1] + 3 * powers[2] + (third(mean) * third(other)).sum() / dim**3


def truth(mean: np.ndarray) -> float:
    """The true distance between a gaussian at 0 and one at `mean`."""
    zero = np.zeros_like(mean)
    return mean_kernel(zero, zero) + mean_kernel(mean, mean) - 2 * mean_kernel(zero, mean)


# --- the estimate ------------------------------------------------------------------------------------------------


@SOME
@given(SEEDS, SIZES, SIZES, st.integers(1, 6), st.sampled_from([1.0, 1e-6, 1e3, 1e6]))
def test_it_matches_a_loop_over_pairs(seed, n, m, dim, by):
    a, b = by * normal(seed, n, dim), by * normal(seed + 1, m, dim)
    size = max(abs(slow_kernel(x, x)) for x in (*a, *b))
    assert abs(kernel_distance(a, b).value - slow_distance(a, b)) <= 1e-13 * size


def test_it_agrees_with_torch_fidelity_where_one_subset_is_everything():
    kid = pytest.importorskip("torch_fidelity.metric_kid", reason="torch-fidelity is not installed")
    a, b = normal(0, 60, 200), 1.2 * normal(1, 60, 200) + 0.1
    theirs = kid.kid_features_to_metric(
        *map(torch.from_numpy, (a, b)), kid_subsets=1, kid_subset_size=60, rng_seed=0, verbose=False
    )
    assert kernel_distance(a, b).value == pytest.approx(theirs[kid.KEY_METRIC_KID_MEAN], rel=1e-11)


def test_over_many_draws_it_is_the_truth_on_average():
    """Unbiased at six pictures a set, where the distance of means or of covariances is mostly bias."""
    mean = np.array([0.5, -0.2, 0.0])
    random = np.random.default_rng(0)
    for away in (0 * mean, mean):
        draws = (random.standard_normal((2, 6, 3)) for _ in range(1000))
        values = [kernel_distance(a, b + away).value for a, b in draws]
        assert abs(np.mean(values) - truth(away)) < 3 * np.std(values) / 1000**0.5


@SOME
@given(SEEDS, SIZES, SIZES, st.integers(1, 6))
def test_it_is_symmetric_and_the_order_of_pictures_does_not_matter(seed, n, m, dim):
    a, b = normal(seed, n, dim), normal(seed + 1, m, dim)
    one, other = kernel_distance(a, b), kernel_distance(b[::-1], np.random.default_rng(seed).permutation(a))
    for name in ("value", "low", "high"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-11)


def test_float32_features_are_summed_in_float64():
    a, b = (normal(seed, 30, 50).astype(np.float32) for seed in (0, 1))
    assert kernel_distance(a, b) == kernel_distance(a.astype(np.float64), b.astype(np.float64))


@pytest.mark.parametrize("size", [1, 7, 16, 40])
def test_blocks_give_the_same_estimate(size, monkeypatch):
    a, b = normal(0, 40, 5), normal(1, 33, 5) + 0.3
    whole = kernel_distance(a, b)
    monkeypatch.setattr(module, "BLOCK", size)
    parts = kernel_distance(a, b)
    assert (parts.value, parts.low) == (pytest.approx(whole.value, rel=1e-11), pytest.approx(whole.low, rel=1e-11))


def test_no_kernel_of_all_pairs_is_held(monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 16)
    sizes, kernel = [], module._kernel

    def watched(a, b):
        sizes.append((len(a), len(b)))
        return kernel(a, b)

    monkeypatch.setattr(module, "_kernel", watched)
    kernel_distance(normal(0, 64, 3), normal(1, 64, 3))
    assert max(sizes) == (16, 16) and len(sizes) == 16 + 2 * 10  # a pair within a set is taken once


# --- the interval ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n", "m"), [(20, 20), (12, 25)])
@pytest.mark.parametrize("away", [0.0, 1.0])
def test_the_standard_error_is_near_that_of_leaving_one_out(n, m, away):
    a, b = normal(0, n, 4), normal(1, m, 4) + away
    found = kernel_distance(a, b, confidence=0.9)
    reach = (found.high - found.low) / 2
    assert reach / scipy.stats.t.ppf(0.95, min(n, m) - 1) == pytest.approx(jackknife(a, b), rel=1.5 / min(n, m))


@pytest.mark.parametrize(("n", "m"), [(40, 40), (30, 100)])
@pytest.mark.parametrize("away", [0.0, 0.1, 1.0])
def test_the_interval_holds_the_truth_as_often_as_promised(n, m, away):
    """In 150 draws of 16 features. At a true rate of 0.95, fewer than 0.9 happen once in a few hundred tests."""
    random = np.random.default_rng(n + m)
    expected, held = truth(np.full(16, away)), 0
    for _ in range(150):
        found = kernel_distance(random.standard_normal((n, 16)), random.standard_normal((m, 16)) + away)
        held += found.low <= expected <= found.high
    assert held >= 0.9 * 150
    assert away or held >= 0.95 * 150


def test_the_interval_is_not_needlessly_wide():
    """It is as wide as the estimates scatter where the truth is not 0, and at most twice as wide where it is 0."""
    random = np.random.default_rng(0)
    for away, factor in ((0.0, 2.0), (1.0, 1.15)):
        draws = [
            kernel_distance(random.standard_normal((60, 16)), random.standard_normal((60, 16)) + away)
            for _ in range(100)
        ]
        reach = np.mean([(found.high - found.low) / 2 for found in draws])
        assert reach / (2.0 * np.std([found.value for found in draws])) < factor


def test_more_confidence_is_a_wider_interval_around_the_same_value():
    a, b = normal(0, 30, 4), normal(1, 30, 4)
    narrow, wide = kernel_distance(a, b, 0.5), kernel_distance(a, b, 0.99)
    assert narrow.value == wide.value and wide.low < narrow.low < narrow.value < narrow.high < wide.high
    assert narrow.high + narrow.low == pytest.approx(2 * narrow.value)


def test_features_may_be_read_only_and_in_any_order_in_memory():
    rows = normal(0, 12, 9)
    rows.flags.writeable = False
    for each in (rows, rows[::-1], np.asfortranarray(rows)):
        assert kernel_distance(each, rows).value == pytest.approx(kernel_distance(rows, rows.copy()).value)


# --- what is hard, and what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize("by", [0.0, 1e-6, 1.0, 1e6, 1e19])
@pytest.mark.parametrize("n", [2, 3, 9])
def test_it_is_finite_on_any_finite_features(n, by):
    for a in (normal(0, n, 5), np.ones((n, 5)), np.repeat(normal(1, 1, 5), n, axis=0)):
        found = kernel_distance(by * a, by * normal(2, 4, 5))
        assert all(type(value) is float and np.isfinite(value) for value in (found.value, found.low, found.high))
        assert found.low <= found.value <= found.high


def test_two_sets_of_one_picture_copied_are_no_distance_apart():
    rows = np.repeat(normal(0, 1, 5), 6, axis=0)
    found = kernel_distance(rows, rows[:4])
    assert found == Estimate(*3 * [pytest.approx(0, abs=1e-12)])


def test_fewer_than_two_pictures_are_refused():
    for a, b in ((normal(0, 1, 3), normal(1, 5, 3)), (normal(0, 5, 3), normal(1, 1, 3)), (np.zeros((0, 3)),) * 2):
        with pytest.raises(ValueError, match="at least 2 images"):
            kernel_distance(a, b)


def test_features_that_do_not_match_or_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="3 features an image cannot be compared with 4"):
        kernel_distance(normal(0, 5, 3), normal(1, 5, 4))
    for value in (np.nan, np.inf, 1e30):
        with pytest.raises(ValueError, match="finite and below 1e"):
            kernel_distance(normal(0, 5, 3), np.full((5, 3), value))
    with pytest.raises(ValueError, match=r"\[N, D\]"):
        kernel_distance(normal(0, 5, 3), np.zeros(5))
