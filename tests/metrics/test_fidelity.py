"""Fidelity: against a loop over balls, and what it must see: noise near the mean, few of the reals, nothing at all."""

import numpy as np
import pytest

from pggan.metrics.fidelity import K, coverage, fidelity, in_balls


def normal(seed: int, n: int, dim: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


def of(samples: np.ndarray, held: np.ndarray, fitted: np.ndarray, effective: float | None = None) -> float:
    return fidelity(in_balls(samples, fitted), in_balls(held, fitted), effective or len(samples))


def test_a_point_is_in_the_balls_that_a_loop_says():
    fitted, points = normal(0, 40), np.concatenate([normal(1, 30), normal(0, 40)[:5]])
    found = in_balls(points, fitted)
    for place, center in enumerate(fitted):
        reach = sorted(np.linalg.norm(fitted - center, axis=1))[K]
        for row, point in enumerate(points):
            distance = np.linalg.norm(point - center)
            assert found[row, place] == (distance <= reach) or distance == pytest.approx(reach)


def test_held_out_reals_have_fidelity_one():
    found = [of(normal(seed, 200), normal(seed + 100, 200), normal(seed + 200, 300)) for seed in range(6)]
    assert np.mean(found) == pytest.approx(1, abs=0.05) and max(found) < 1.2 and min(found) > 0.8


def test_few_different_reals_are_as_like_as_many():
    held, fitted = normal(1, 400), normal(2, 400)
    for k in (20, 50, 100):
        found = [of(np.resize(normal(3 + seed, k), (200, 6)), held, fitted, k) for seed in range(4)]
        assert np.mean(found) == pytest.approx(1, abs=0.2)


def test_points_near_the_mean_of_all_are_not_like_the_reals_though_they_lie_in_many_balls():
    held, fitted, middle = normal(0, 300, 40), normal(1, 300, 40), 0.1 * normal(2, 300, 40)
    inside, usual = in_balls(middle, fitted), in_balls(held, fitted)
    assert inside.mean() > 3 * usual.mean() and fidelity(inside, usual, 300) > 1  # in one space; see `coverage`
    far = 3 * normal(3, 300, 40)
    assert of(far, held, fitted) < 0.1
    assert coverage(inside, in_balls(far, fitted)) < 0.1 * coverage(usual, usual)


def test_coverage_counts_only_samples_that_are_inside_in_the_other_space():
    balls, inside = np.eye(4, dtype=bool), np.zeros((4, 3), bool)
    inside[[0, 2], [1, 1]] = True
    assert coverage(balls, inside) == 0.5 and coverage(balls, np.ones((4, 3), bool)) == 1
    assert coverage(balls, np.zeros((4, 3), bool)) == 0


def test_reals_that_are_all_the_same_tell_nothing():
    same = np.zeros((50, 3))
    assert of(same, same, same) == 1
    assert of(same + 9, same, same) == 0
