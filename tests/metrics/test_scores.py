"""Scores of whole sets of pictures: what is healthy, what is not, and the counts that they are made of."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from pggan.data.builtin import draw
from pggan.errors import UserError
from pggan.evaluation.diversity import open_sets
from pggan.evaluation.figures import FIGURES, records
from pggan.metrics import scores as module
from pggan.metrics import small_images, spaces
from pggan.metrics.reference import Reference
from pggan.metrics.scores import different_bins, k_means, score, sure_excess

SOME = settings(max_examples=25, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)
REALS, SAMPLES = 204, 102


def normal(seed: int, n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim))


def changed(pictures: np.ndarray, by) -> np.ndarray:
    """By a function of images in [-1, 1]."""
    return ((by(small_images.read(pictures)).clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, np.ndarray]:
    """204 real pictures and 110 samples, uint8 [314, 64, 64, 3], and their kinds."""
    both = [draw(35, index, 64, 64) for index in range(REALS + 110)]
    return np.stack([picture for picture, _ in both]), np.array([kind for _, kind in both])


@pytest.fixture(scope="module")
def reals(drawn) -> np.ndarray:
    return drawn[0][:REALS]


@pytest.fixture(scope="module")
def samples(drawn) -> np.ndarray:
    return drawn[0][REALS : REALS + SAMPLES]


@pytest.fixture(scope="module")
def reference(reals) -> Reference:
    return Reference.of(reals)


@pytest.fixture(scope="module")
def good(reference, samples):
    return score(reference, samples)


# --- whole sets --------------------------------------------------------------------------------------------------


def test_other_pictures_of_the_same_kind_are_healthy(good):
    assert good.verdict == "healthy" and good.count == SAMPLES
    assert good.diversity.ratio_low <= 1 <= good.diversity.ratio_high and 0.9 < good.diversity.ratio < 1.1
    assert good.coverage > 0.9 and good.different_bins < 0.35 and good.rfd < 0.3
    assert good.evidence.dropped < 0.05 and good.evidence.copied == good.evidence.duplicates == 0
    assert abs(good.kid.value) < 0.5 and good.copied < 0.05
    assert "different pictures" in good.reason


def test_every_figure_is_a_finite_number(good):
    found = records(good)
    assert {figure.key for figure in FIGURES} <= found.keys() and all(map(np.isfinite, found.values()))


ODD = {
    "one picture and a little noise": (
        "collapsed",
        lambda samples: changed(samples[:1].repeat(SAMPLES, 0), lambda x: x + 0.02 * static(x)),
    ),
    "forty pictures": ("partial-collapse", lambda samples: samples[:40]),
    "black": ("collapsed", lambda samples: np.zeros_like(samples)),
    "noise": ("too-early", lambda samples: changed(samples, lambda x: 2 * torch.rand(x.shape, generator=seeded()) - 1)),
    "a third of them one picture": (
        "partial-collapse",
        lambda samples: np.concatenate([samples[:1].repeat(40, 0), samples[40:]]),
    ),
    "blurred": ("healthy", lambda samples: changed(samples, blurred)),
    "dim": ("healthy", lambda samples: changed(samples, lambda x: 0.7 * x)),
    "noisy": ("healthy", lambda samples: changed(samples, lambda x: x + 0.05 * static(x))),
    "of twice the size": ("healthy", lambda samples: samples.repeat(2, 1).repeat(2, 2)),
}


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def static(images: torch.Tensor) -> torch.Tensor:
    return torch.randn(images.shape, generator=seeded())


def blurred(images: torch.Tensor) -> torch.Tensor:
    return F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, 1)


@pytest.mark.parametrize("name", ODD)
def test_a_set_of_samples_has_the_verdict_that_it_deserves(reference, samples, good, name):
    verdict, by = ODD[name]
    made = by(samples)
    fakes = np.resize(made, (SAMPLES, *made.shape[1:]))
    found = score(reference, fakes, copies=False)
    assert found.verdict == verdict
    assert all(np.isfinite(value) for value in records(found).values()) and records(found).keys() < records(good).keys()
    if verdict != "healthy":
        assert found.diversity.high < 1 and found.diversity.ratio < good.diversity.ratio
    else:
        assert found.evidence.dropped < 0.05 and found.diversity.ratio > 0.85
    if "pictures" in name:
        assert found.diversity.effective_samples == pytest.approx(len(made), rel=0.15)


@pytest.mark.parametrize("way", ["flipped", "moved", "a third"])
def test_copies_of_many_training_pictures_are_memorization(reference, reals, samples, way):
    fakes = reals[:SAMPLES]
    if way == "flipped":
        fakes = fakes[:, :, ::-1]
    if way == "moved":
        fakes = changed(fakes, lambda x: F.pad(x, (4, 4, 4, 4), mode="replicate")[:, :, :64, 8:])
    if way == "a third":
        fakes = np.concatenate([fakes[:40], samples[40:]])
    found = score(reference, fakes)
    assert found.verdict == "memorization" and "copies of training pictures" in found.reason
    assert found.copied == pytest.approx(1 / 3 if way == "a third" else 1, abs=0.06)
    copied = slice(40 if way == "a third" else None)
    assert (found.copies.original[copied] == np.arange(SAMPLES)[copied]).mean() > 0.95


def test_copies_are_not_searched_for_when_nobody_asks(reference, reals):
    found = score(reference, reals[:SAMPLES], copies=False)
    assert found.copies is None and found.copied == found.evidence.copied == 0
    assert found.verdict == "healthy" and "diversity/copied_share" not in records(found)


def shapes(seed: int, count: int, side: int = 32) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 [count, 32, 32, 3] of four kinds in any two colors: stripes across and along, discs, patches."""
    random, kinds = np.random.default_rng(seed), np.arange(count) % 4
    y, x = np.mgrid[:side, :side] / side - 0.5
    out = []
    for kind in kinds:
        lean, waves, phase = random.normal(0, 0.15), random.uniform(2, 5), random.uniform(0, 2 * np.pi)
        along = (x if kind == 0 else y) + lean * (y if kind == 0 else x)
        center, radius = random.uniform(-0.2, 0.2, 2), random.uniform(0.1, 0.35)
        mask = {
            0: 0.5 + 0.5 * np.sin(2 * np.pi * waves * along + phase),
            1: 0.5 + 0.5 * np.sin(2 * np.pi * waves * along + phase),
            2: (np.hypot(x - center[0], y - center[1]) < radius).astype(float),
            3: np.kron(random.random((8, 8)), np.ones((side // 8, side // 8))),
        }[int(kind)]
        one, other = random.uniform(0, 255, (2, 3))
        out.append(one + (other - one) * mask[:, :, None])
    return np.round(out).astype(np.uint8), kinds


@pytest.fixture(scope="module")
def four_kinds() -> tuple[Reference, np.ndarray, np.ndarray]:
    """The reference of 300 pictures of four kinds, and 300 other pictures with their kinds."""
    pictures, kinds = shapes(0, 600)
    return Reference.of(pictures[:300]), pictures[300:], kinds[300:]


@pytest.mark.parametrize("gone", [0, 3])
def test_a_kind_without_a_sample_is_dropped_and_no_other(four_kinds, gone):
    reference, pictures, kinds = four_kinds
    found = score(reference, pictures[kinds != gone][:150], copies=False)
    assert found.verdict == "partial-collapse" and 0.05 < found.evidence.dropped < 0.3
    fitted = reference.order[reference.count :] % 4
    assert all(shares[fitted != gone].sum() < 0.05 for shares in found.dropped.values())


def test_nothing_is_dropped_where_all_kinds_have_samples(four_kinds):
    reference, pictures, _ = four_kinds
    assert score(reference, pictures[:150], copies=False).evidence.dropped < 0.05


def test_what_is_dropped_is_looked_for_in_soft_pictures_of_the_contrast_of_the_reals(reference, samples, monkeypatch):
    """Detail and contrast are a matter of quality: without them the points are the same, but for rounding."""
    seen = []
    monkeypatch.setattr(
        module, "dropped_shares", lambda fitted, held, points: seen.append(points) or np.zeros(len(fitted))
    )
    checks = 0.1 * ((torch.arange(64)[:, None] + torch.arange(64)) % 2) - 0.05
    for by in (
        lambda x: x,
        lambda x: small_images.with_contrast(x, 0.6),
        lambda x: small_images.with_contrast(x, 0.8) + checks,
    ):
        score(reference, changed(samples, by), copies=False)
    images = small_images.read(samples)
    matched = small_images.with_contrast(images, reference.contrast / small_images.contrast(images).mean().item())
    for place, (name, space) in enumerate(reference.modes.items()):
        expected = space.projection(spaces.mode_features(matched)[name].double().numpy())
        assert (expected**2).sum(axis=1).mean() > 0.5
        for found in seen[place :: len(reference.modes)]:
            assert np.median(np.linalg.norm(found - expected, axis=1)) < 0.05


def test_worse_pictures_are_farther_from_the_reals(reference, samples, good):
    worse = [score(reference, changed(samples, by), copies=False) for by in (blurred, lambda x: x + 0.3 * static(x))]
    assert all(each.rfd > 1.3 * good.rfd and each.kid.low > 0 for each in worse)


def test_groups_are_those_of_the_samples_that_are_the_same(reference, samples):
    fakes = samples.copy()
    fakes[[5, 17, 80]], fakes[100] = fakes[2], fakes[99]
    found = score(reference, fakes, copies=False)
    assert [group.tolist() for group in found.diversity.groups[:2]] == [[2, 5, 17, 80], [99, 100]]
    assert found.diversity.duplicates == sum(map(len, found.diversity.groups)) / SAMPLES


def test_reals_that_repeat_themselves_are_judged_by_the_repeats_they_have(reals, samples):
    """60 % of the reals are one and the same picture, and so are those of samples as good as they are."""

    def as_often(pictures):
        return np.where(
            np.random.default_rng(len(pictures)).random(len(pictures))[:, None, None, None] < 0.6, reals[:1], pictures
        )

    reference = Reference.of(as_often(reals))
    found = score(reference, as_often(samples))
    assert found.diversity.ratio_low < 1 < found.diversity.ratio_high and found.verdict != "collapsed"
    assert found.evidence.largest < 0.2 and found.evidence.duplicates == found.evidence.copied == 0
    assert score(reference, np.resize(reals[:1], samples.shape)).verdict == "collapsed"


def test_dropped_modes_in_features_that_d_saw_do_not_count(reference, samples):
    found = score(reference, samples, copies=False)
    for seen, verdict in (((), "partial-collapse"), (("network",), "healthy")):
        made = replace(found, dropped={**found.dropped, "network": np.full(10, 0.02)}, seen=seen)
        assert (made.verdict, made.evidence.dropped > 0.1) == (verdict, not seen)


# --- quality first ------------------------------------------------------------------------------------------------


def test_samples_of_a_generator_in_training_are_never_other_pictures(good):
    unlike = replace(good, fidelity=0.1)
    assert unlike.verdict == "other-pictures"
    assert replace(unlike, in_training=True).verdict == replace(unlike, detail_spread=0.1).verdict == "too-early"


ABOVE = [folder / "shared" for folder in Path(__file__).parents]
SHARED = next(
    (folder for folder in ABOVE if (folder / "cases").is_dir()), Path("shared")
)  # beside the project, if at all


@pytest.mark.parametrize(
    ("real", "fake", "verdict"),
    [
        ("data/monet", "cases/noise-64", "too-early"),
        ("data/monet", "data/anime", "other-pictures"),
        ("data/paintings/kandinsky", "data/monet", "other-pictures"),
    ],
)
def test_noise_and_other_pictures_are_told_from_collapses(real, fake, verdict):
    if not (SHARED / real).is_dir():
        pytest.skip("needs the paintings")
    real, fake, _ = open_sets(str(SHARED / real), str(SHARED / fake))
    found = score(Reference.of(real.read(small_images.read_one)), fake.read(small_images.read_one), copies=False)
    assert found.verdict == verdict and found.reason.startswith("the samples are ")
    if verdict == "too-early":
        assert found.coverage < 0.1


# --- numbers of samples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 99])
def test_fewer_than_100_samples_are_refused_in_a_line_with_their_number(reference, samples, count):
    with pytest.raises(UserError, match=rf"100 samples.* {count}$"):
        score(reference, samples[:count])


def test_fewer_samples_than_held_out_reals_are_measured_against_as_many(reference, samples, reals):
    found = score(reference, samples[:100])
    assert found.count == 100 and found.diversity.effective_samples <= 100 and found.verdict == "healthy"
    assert 0.9 < found.diversity.ratio < 1.1
    own = score(reference, reals[reference.order[:100]], copies=False)
    assert own.diversity.ratio == pytest.approx(1, abs=1e-12) and own.coverage == 1


def test_of_more_samples_than_held_out_reals_the_first_count(reference, drawn, good):
    found = score(reference, drawn[0][REALS:])
    assert found.count == SAMPLES and records(found) == records(good)


def test_how_samples_are_stored_and_cut_makes_no_difference(reference, samples, good, tmp_path, monkeypatch):
    np.save(tmp_path / "samples.npy", samples)
    monkeypatch.setattr(small_images, "BATCH", 50)
    found = score(reference, np.load(tmp_path / "samples.npy", mmap_mode="r"))
    assert records(found) == pytest.approx(records(good), rel=1e-4, abs=1e-6) and found.reason == good.reason


def test_the_order_of_the_samples_makes_no_difference_but_to_the_interval(reference, samples, good):
    found = score(reference, samples[::-1], copies=False)
    apart = {name for name, value in records(found).items() if value != pytest.approx(records(good)[name], rel=1e-6)}
    assert apart <= {"diversity/score_low", "diversity/score_high"}
    assert found.diversity.ratio_high == pytest.approx(good.diversity.ratio_high, rel=0.1)


# --- the share that is sure --------------------------------------------------------------------------------------


def test_what_is_above_the_reals_counts_where_it_is_no_chance():
    assert sure_excess(0.2, 0.0, 250, 250) == 0.2
    assert sure_excess(1.0, 0.0, 100, 100) == 1.0
    assert sure_excess(0.9, 0.5, 100, 100) == pytest.approx(0.4)
    assert sure_excess(0.34, 0.3, 100, 100) == sure_excess(0.02, 0.0, 100, 100) == 0.0
    assert sure_excess(0.3, 0.3, 100, 100) == sure_excess(0.0, 0.4, 100, 100) == sure_excess(0.0, 0.0, 100, 250) == 0.0


@SOME
@given(st.integers(100, 500), st.integers(100, 250), st.floats(0, 1))
def test_more_never_counts_for_less(count, reals, real):
    found = [sure_excess(own, real, count, reals) for own in np.linspace(0, 1, 101)]
    assert (np.diff(found) >= 0).all() and min(found) == 0 and max(found) <= 1 - real + 1e-12


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_pairs_that_come_as_often_among_the_reals_are_hardly_ever_an_excess(share):
    random = np.random.default_rng(0)
    own, real = 2 * random.binomial(125, share, (2, 4000)) / 250
    excess = [sure_excess(*each, 250, 250) for each in zip(own, real, strict=True)]
    assert np.mean(np.array(excess) > 0) < 0.04


# --- bins --------------------------------------------------------------------------------------------------------


def test_k_means_changes_neither_its_points_nor_the_random_state():
    points, state = normal(0, 50, 3), np.random.get_state()[1].copy()
    before = points.copy()
    assert np.array_equal(k_means(points, 9), k_means(points, 9))
    assert np.array_equal(points, before) and np.array_equal(np.random.get_state()[1], state)


def test_k_means_of_fewer_different_points_than_bins_has_finite_centres():
    for points in (np.zeros((40, 2)), np.repeat(normal(0, 3, 2), 10, axis=0), normal(1, 4, 2)):
        centers = k_means(points, 8)
        assert centers.shape == (8, 2) and np.isfinite(centers).all()
        assert {tuple(each) for each in points.round(9)} >= {tuple(each) for each in centers.round(9)} or len(
            points
        ) < 8


def slow_different(fitted: np.ndarray, held: np.ndarray, z: np.ndarray) -> float:
    bins = max(2, min(50, len(fitted) // 20))
    centers, apart = k_means(fitted, bins), 0
    own = [[np.argmin(((centers - point) ** 2).sum(axis=1)) for point in points] for points in (held, z)]
    for k in range(bins):
        p, q = (np.mean(np.array(each) == k) for each in own)
        both = (p * len(held) + q * len(z)) / (len(held) + len(z))
        error = np.sqrt(both * (1 - both) * (1 / len(held) + 1 / len(z)))
        apart += error > 0 and abs(p - q) / error > 1.96
    return apart / bins


@SOME
@given(SEEDS, st.integers(2, 150), st.integers(1, 60), st.integers(1, 60), st.floats(0, 2))
def test_the_share_of_different_bins_matches_a_slow_count(seed, total, n, m, shift):
    fitted, held, z = normal(seed, total, 3), normal(seed + 1, n, 3), normal(seed + 2, m, 3) + shift
    assert different_bins(fitted, held, z) == pytest.approx(slow_different(fitted, held, z))


def test_about_five_of_a_hundred_bins_differ_by_chance():
    shares = [different_bins(*np.split(normal(seed, 1500, 6), 3)) for seed in range(24)]
    assert 0.03 < np.mean(shares) < 0.07


def test_all_bins_differ_where_samples_are_nowhere_near_the_reals():
    fitted = np.concatenate([normal(0, 200, 4), normal(1, 200, 4) + 50])
    assert different_bins(fitted, normal(2, 400, 4), normal(3, 400, 4) + 50) == 1.0
    held = normal(4, 400, 4)
    assert different_bins(fitted, held, held.copy()) == 0.0


def test_bins_of_reals_that_are_all_the_same_do_not_differ():
    assert different_bins(np.zeros((100, 1)), np.zeros((100, 1)), np.zeros((100, 1))) == 0.0
