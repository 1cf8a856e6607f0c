"""The sliced Wasserstein distance against scipy in one dimension, and its pyramid against scipy's filters."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.metrics import swd
from pggan.metrics.swd import doubled, laplacian_pyramid, sliced_distances, sliced_wasserstein, smoothed
from pggan.randomness import Stream

SOME = settings(max_examples=30, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


def smooth(seed: int, count: int, side: int = 64, width: int | None = None, deviation: float = 50.0) -> np.ndarray:
    """Soft blobs in color, uint8 [N, side, width, 3]: little detail at the finest level, much at the coarsest."""
    noise = np.random.default_rng(seed).standard_normal((count, side, width or side, 3))
    soft = scipy.ndimage.gaussian_filter(noise, (0, 3, 3, 0), mode="mirror")
    return (128 + deviation * soft / soft.std()).clip(0, 255).astype(np.uint8)


def batched(images: np.ndarray, size: int) -> list[np.ndarray]:
    return [images[start : start + size] for start in range(0, len(images), size)]


def distances(a: np.ndarray, b: np.ndarray, **settings) -> dict[int, float]:
    return sliced_distances([a], [b], **{"patches": 32, **settings})


def pixels(seed: int, *shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, shape)).float()


# --- the distance ------------------------------------------------------------------------------------------------


@SOME
@given(SEEDS, st.integers(1, 50), st.integers(1, 5))
def test_along_each_direction_it_is_scipys_wasserstein_distance(seed, count, dim):
    random = np.random.default_rng(seed)
    a, b = random.standard_normal((2, count, dim))
    directions = random.standard_normal((40, dim))  # more than are sorted at once
    expected = [scipy.stats.wasserstein_distance(a @ each, b @ each) for each in directions]
    assert sliced_wasserstein(*map(torch.from_numpy, (a, b, directions))) == pytest.approx(np.mean(expected))


@SOME
@given(SEEDS, st.integers(1, 50))
def test_the_order_of_the_patches_does_not_matter(seed, count):
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, count, 4, generator=generator, dtype=torch.float64)
    directions = torch.randn(8, 4, generator=generator, dtype=torch.float64)
    turned = sliced_wasserstein(a[torch.randperm(count, generator=generator)], b, directions)
    assert turned == pytest.approx(sliced_wasserstein(a, b, directions), rel=1e-12)


def test_of_two_moved_clouds_it_is_the_mean_length_of_the_move_along_the_directions():
    a, directions = torch.randn(100, 147, generator=torch.Generator().manual_seed(0)), swd._directions(Stream(0))
    moved = sliced_wasserstein(a, a + 2, directions)
    assert moved == pytest.approx((2 * directions.sum(dim=1)).abs().mean().item(), rel=1e-5)


def test_directions_are_512_of_length_1_and_spread_evenly():
    directions = swd._directions(Stream(0))
    assert directions.shape == (4 * 128, 7 * 7 * 3)
    torch.testing.assert_close(directions.norm(dim=1), torch.ones(512))
    spread = torch.linalg.eigvalsh(directions.T @ directions * 147 / 512)
    assert spread.min() > 0.1 and spread.max() < 3  # of 512 random ones between (1 -+ sqrt(147 / 512))^2


def test_a_set_is_at_no_distance_from_itself_at_any_level():
    images = smooth(0, 20)
    found = sliced_distances(batched(images, 7), batched(images, 20), patches=16)
    assert found == {64: 0.0, 32: 0.0, 16: 0.0}


def test_it_is_symmetric_and_positive():
    a, b = smooth(0, 20), smooth(1, 20, deviation=20)
    one, other = distances(a, b), distances(b, a)
    assert one == pytest.approx(other) and min(one.values()) > 0


def test_it_is_a_thousand_times_the_distance_of_standardized_patches():
    """The distance by numpy alone, from the same patches."""
    a, b = smooth(0, 12, 32), 255 - smooth(1, 12, 32) // 2
    found, directions = distances(a, b), swd._directions(Stream(0)).double().numpy()
    for level, value in found.items():
        sets = [swd.descriptors([images], 32, 99, Stream(0))[level].double().numpy() for images in (a, b)]
        flat = [((each - each.mean((0, 2), keepdims=True)) / each.std((0, 2), keepdims=True)) for each in sets]
        first, second = (np.sort(each.reshape(len(each), 147) @ directions.T, axis=0) for each in flat)
        assert value == pytest.approx(1e3 * np.abs(first - second).mean(), rel=1e-4)


# --- what it sees ------------------------------------------------------------------------------------------------


def test_noise_in_the_pixels_shows_at_the_finest_level_and_not_at_the_coarsest():
    a, b = smooth(0, 30), smooth(1, 30)
    noise = np.random.default_rng(0).normal(0, 12, b.shape)
    plain, noisy = distances(a, b), distances(a, (b + noise).clip(0, 255).astype(np.uint8))
    assert noisy[64] > 1.6 * plain[64] and noisy[16] == pytest.approx(plain[16], rel=0.02)


def test_wrong_shapes_show_at_the_coarsest_level():
    """Stripes in place of blobs."""
    a, b = smooth(0, 30), smooth(1, 30)
    stripes = np.broadcast_to(smooth(2, 30)[:, :, :1], b.shape)
    assert distances(a, stripes)[16] > 1.3 * distances(a, b)[16]


def test_brightness_and_contrast_of_a_whole_set_are_standardized_away():
    a = smooth(0, 30, deviation=20)
    found = distances(a, (2 * (a.astype(int) - 128) + 128).clip(0, 255).astype(np.uint8))
    assert max(found.values()) < 5


def test_one_size_of_16_pixels_has_one_level_the_picture_itself():
    assert list(distances(smooth(0, 5, 16), smooth(1, 5, 16))) == [16]


# --- the pyramid -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("height", "width", "levels"),
    [
        (64, 64, [64, 32, 16]),
        (16, 16, [16]),
        (31, 40, [31]),
        (48, 64, [48, 24]),
        (128, 32, [32, 16]),
        (50, 50, [50, 25]),
    ],
)
def test_the_levels_halve_down_to_16_pixels_and_sum_up_to_the_picture(height, width, levels):
    images = pixels(0, 2, 3, height, width)
    pyramid = laplacian_pyramid(images)
    assert [min(level.shape[2:]) for level in pyramid] == levels
    whole = pyramid[-1]
    for level in reversed(pyramid[:-1]):
        whole = level + doubled(whole)
    torch.testing.assert_close(whole, images, rtol=0, atol=1e-4)


@SOME
@given(SEEDS, st.integers(2, 12), st.integers(2, 12))
def test_halving_and_doubling_match_scipys_filters_mirrored(seed, height, width):
    images = pixels(seed, 2, 3, 2 * height, 2 * width)
    kernel = np.array([1, 4, 6, 4, 1]) / 16

    def slow(array):
        for axis in (2, 3):
            array = scipy.ndimage.convolve1d(array, kernel, axis=axis, mode="mirror")
        return array

    np.testing.assert_allclose(smoothed(images, 2), slow(images.double().numpy())[:, :, ::2, ::2], atol=1e-3)
    spread = np.zeros((2, 3, 4 * height, 4 * width))
    spread[:, :, ::2, ::2] = images
    np.testing.assert_allclose(doubled(images), 4 * slow(spread), atol=1e-3)


@pytest.mark.parametrize("color", [0, 1, 77, 255])
def test_a_flat_picture_has_no_detail_up_to_its_edges(color):
    *details, last = laplacian_pyramid(torch.full((1, 3, 128, 64), float(color)))
    assert all((level == 0).all() for level in details) and (last == color).all()


# --- patches -----------------------------------------------------------------------------------------------------


def numbered(count: int, height: int, width: int) -> torch.Tensor:
    """[N, 3, h, w]: the value of each pixel is its place."""
    return torch.arange(count * 3 * height * width).reshape(count, 3, height, width).float()


@SOME
@given(SEEDS, st.integers(1, 4), st.integers(7, 20), st.integers(7, 20), st.integers(0, 10**6))
def test_patches_stay_inside_and_are_7_by_7_pixels_of_one_picture(seed, count, height, width, index):
    found = swd._patches(numbered(count, height, width), 9, index, Stream(seed)).long().numpy()
    assert found.shape == (9 * count, 3, 49)
    picture, channel, row, column = np.unravel_index(found, (count, 3, height, width))
    assert (picture == np.repeat(np.arange(count), 9)[:, None, None]).all()
    assert (channel == np.arange(3)[:, None]).all()
    assert (row == row[:, :1, :1] + np.repeat(np.arange(7), 7)).all()
    assert (column == column[:, :1, :1] + np.tile(np.arange(7), 7)).all()


def test_patches_come_from_everywhere_in_the_picture_corners_included():
    corners = swd._patches(numbered(200, 9, 12)[:, :1].repeat(1, 3, 1, 1), 128, 0, Stream(0))[:, 0, 0].long().numpy()
    _, channel, row, column = np.unravel_index(corners, (200, 3, 9, 12))
    counts = np.bincount(6 * row + column, minlength=3 * 6)
    assert (channel == 0).all() and counts.sum() == 200 * 128
    assert scipy.stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("size", [1, 3, 10])
def test_a_picture_gives_the_same_patches_whatever_the_batches(size, monkeypatch):
    images = smooth(0, 10, 32)
    whole = swd.descriptors([images], 8, 99, Stream(0))
    monkeypatch.setattr(swd, "PIXELS", 2 * 32 * 32)
    parts = swd.descriptors(batched(images, size), 8, 99, Stream(0))
    assert whole.keys() == parts.keys() and all(torch.equal(whole[level], parts[level]) for level in whole)


def test_the_order_of_the_pictures_hardly_matters():
    """In another order, each image gives patches from other places, so the distances differ a little."""
    a, b = smooth(0, 60, 32), smooth(1, 60, 32) // 2
    shuffled = np.random.default_rng(0).permutation(b)
    assert distances(a, b) == pytest.approx(distances(a, shuffled), rel=0.1)


def test_another_seed_takes_other_patches_and_directions():
    a, b = smooth(0, 10, 32), smooth(1, 10, 32)
    assert distances(a, b, seed=0) == distances(a, b, seed=0) != distances(a, b, seed=1)


def test_as_published_there_are_128_patches_of_each_of_16384_pictures():
    assert (swd.PATCHES, swd.IMAGES, swd.DIRECTIONS) == (128, 16384, 512)
    assert {level: len(each) for level, each in swd.descriptors([smooth(0, 3)], 128, 9, Stream(0)).items()} == {
        64: 384,
        32: 384,
        16: 384,
    }


def test_no_more_pictures_are_read_than_asked_for():
    images = smooth(0, 10, 32)

    def endless():
        while True:
            yield images

    assert {len(each) for each in swd.descriptors(endless(), 4, 25, Stream(0)).values()} == {100}
    assert set(sliced_distances(endless(), endless(), patches=4, images=25).values()) == {0.0}


def test_of_sets_of_different_sizes_a_random_part_of_the_larger_is_taken():
    a, b = smooth(0, 40, 32), smooth(1, 60, 32)
    found = distances(a, b)
    assert found == distances(a, b) and found == pytest.approx(distances(b, a))
    assert found == pytest.approx(distances(a, b[:40]), rel=0.5)
    patches = torch.arange(900).reshape(100, 3, 3).float()
    part = swd._part(patches, 40, Stream(0))
    assert len(part.unique(dim=0)) == 40 and set(part[:, 0, 0].tolist()) <= set(patches[:, 0, 0].tolist())


def test_channels_are_standardized_each_by_itself_over_the_whole_set():
    random = np.random.default_rng(0)
    patches = random.standard_normal((5000, 3, 49)) * [[1], [20], [0.5]] + [[0], [200], [-3]]
    found = swd._standardized(torch.from_numpy(patches).float())
    expected = (patches - patches.mean((0, 2), keepdims=True)) / patches.std((0, 2), keepdims=True)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("other", [np.full((6, 32, 32, 3), 9, np.uint8), smooth(0, 6, 32)])
def test_flat_pictures_give_finite_distances(other):
    flat = np.full((6, 32, 32, 3), 200, np.uint8)
    found = distances(flat, other)
    assert all(np.isfinite(value) and value >= 0 for value in found.values())
    assert (other == 9).all() == (max(found.values()) == 0)


# --- what is refused ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        (np.zeros((2, 8, 32, 3), np.uint8), "16 x 16"),
        (np.zeros((0, 32, 32, 3), np.uint8), "no images"),
    ],
)
def test_other_arrays_are_refused(batch, words):
    with pytest.raises(ValueError, match=words):
        sliced_distances([batch], [batch])


def test_no_pictures_and_pictures_of_several_sizes_are_refused():
    with pytest.raises(ValueError, match="no images"):
        sliced_distances([], [smooth(0, 2, 32)])
    with pytest.raises(ValueError, match="several sizes"):
        sliced_distances([smooth(0, 2, 32), smooth(0, 2, 64)], [smooth(0, 2, 32)])
    with pytest.raises(ValueError, match="cannot be compared"):
        sliced_distances([smooth(0, 2, 32)], [smooth(0, 2, 64)])
