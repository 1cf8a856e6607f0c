"""Random filters: the filters, the features against loops over pixels, and the changes they detect."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from pggan.data.builtin import draw
from pggan.metrics import random_features as module
from pggan.metrics.frechet import frechet_distance, moments
from pggan.metrics.random_features import (
    BLOCKS,
    CHANNELS,
    WIDTH,
    balance,
    filters,
    filters_digest,
    random_features,
    random_kernel_distance,
)
from pggan.metrics.small_images import read

DIGEST = "6488a7db2713"
ODD = {
    "black": np.zeros((2, 64, 64, 3), np.uint8),
    "white": np.full((2, 20, 64, 3), 255, np.uint8),
    "noise": np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8),
    "one pixel": np.full((3, 1, 1, 3), 77, np.uint8),
    "wide": np.random.default_rng(1).integers(0, 256, (1, 10, 200, 3), dtype=np.uint8),
}


@pytest.fixture(scope="module")
def pictures() -> np.ndarray:
    """uint8 [160, 64, 64, 3]"""
    return np.stack([draw(32, index, 64, 64)[0] for index in range(160)])


def as_pixels(images: torch.Tensor) -> np.ndarray:
    return ((images + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


# --- the filters -------------------------------------------------------------------------------------------------


def test_each_filter_sums_to_zero_over_each_input_and_has_norm_root_two():
    inputs = 3
    for weight, outputs in zip(filters(), CHANNELS, strict=True):
        assert weight.shape == (outputs, inputs, 3, 3) and weight.dtype == torch.float32
        assert weight.sum((2, 3)).abs().max() < 1e-5
        torch.testing.assert_close(weight.square().sum((1, 2, 3)), torch.full((outputs,), 2.0))
        inputs = outputs


def test_no_two_filters_are_similar():
    for weight in filters():
        flat = weight.flatten(1) / 2**0.5
        assert (flat @ flat.T - torch.eye(len(flat))).abs().max() < 0.8


def test_the_filters_are_always_the_same():
    """The digest is in the key of every cached reference, and figures of different filters cannot be compared."""
    before, digest = [weight.clone() for weight in filters()], filters_digest()
    module.filters.cache_clear()
    module.filters_digest.cache_clear()
    torch.manual_seed(5)
    assert all(torch.equal(one, other) for one, other in zip(before, filters(), strict=True))
    assert filters_digest() == digest and digest.startswith(DIGEST)


def test_drawing_the_filters_leaves_the_random_state_alone():
    module.filters.cache_clear()
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(1), np.random.rand()
    torch.manual_seed(3)
    np.random.seed(3)
    filters()
    assert (torch.rand(1), np.random.rand()) == expected


# --- the features ------------------------------------------------------------------------------------------------


def slow_features(image: np.ndarray) -> np.ndarray:
    """[512] of one image [3, 64, 64]; correlation by sums of shifted images."""
    h, out = image, []
    for weight in filters():
        side, padded = h.shape[1], np.pad(h, ((0, 0), (1, 1), (1, 1)), mode="reflect")
        taps = weight.double().numpy()
        summed = sum(
            np.einsum("oi,iyx->oyx", taps[:, :, dy, dx], padded[:, dy : dy + side, dx : dx + side])
            for dy in range(3)
            for dx in range(3)
        )
        h = np.maximum(summed, 0)
        out += [h.mean(axis=(1, 2)), h.std(axis=(1, 2))]
        h = h.reshape(len(h), side // 2, 2, side // 2, 2).mean(axis=(2, 4))
    return np.concatenate([*out, image.reshape(3, 8, 8, 8, 8).mean(axis=(2, 4)).ravel()])


def test_features_match_sums_of_shifted_pictures(pictures):
    found = random_features(pictures[:3])
    assert found.shape == (3, WIDTH) and WIDTH == sum(BLOCKS) == 512 and found.dtype == np.float64
    expected = np.stack([slow_features(image) for image in read(pictures[:3]).double().numpy()])
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-3)


def test_one_picture_at_a_time_gives_what_all_at_once_give(pictures):
    """More images than a batch, with flat ones among them."""
    some = np.concatenate([pictures[:130], ODD["black"]])
    whole = random_features(some)
    for index in (0, 7, 127, 128, 131):
        np.testing.assert_allclose(random_features(some[index : index + 1])[0], whole[index], atol=1e-5)


@pytest.mark.parametrize("name", ODD)
def test_features_of_any_picture_are_finite(name):
    found = random_features(ODD[name])
    assert found.shape == (len(ODD[name]), WIDTH) and np.isfinite(found).all()


def test_nothing_but_color_is_seen_in_a_flat_picture():
    """The filters have mean 0, and the edges are mirrored."""
    found = random_features(np.full((1, 64, 64, 3), [0, 128, 255], np.uint8))[0]
    assert np.abs(found[:-192]).max() < 1e-4
    np.testing.assert_allclose(found[-192:], np.repeat([-1, 128 / 127.5 - 1, 1], 64), atol=1e-6)


def test_a_memory_map_that_may_not_be_written_to_gives_the_same_features(pictures, tmp_path):
    np.save(tmp_path / "pictures.npy", pictures[:5])
    mapped = np.load(tmp_path / "pictures.npy", mmap_mode="r")
    assert np.array_equal(random_features(mapped), random_features(pictures[:5]))


# --- balance -----------------------------------------------------------------------------------------------------


def test_balanced_features_have_mean_zero_and_blocks_of_one_variance_that_sum_to_one(pictures):
    found = random_features(pictures)
    balanced = balance(found)(found)
    assert balanced.shape == found.shape
    np.testing.assert_allclose(balanced.mean(axis=0), np.zeros(WIDTH), atol=1e-9)
    blocks = np.split(balanced.var(axis=0), np.cumsum(BLOCKS)[:-1])
    np.testing.assert_allclose([block.sum() for block in blocks], 1 / len(BLOCKS))


def test_balance_scales_each_block_as_a_whole_and_moves_all_sets_alike(pictures):
    found = random_features(pictures[:40])
    balanced = balance(found)
    gaps = (balanced(found[1:2]) - balanced(found[:1])) / (found[1:2] - found[:1] + 1e-300)
    for block in np.split(gaps[0], np.cumsum(BLOCKS)[:-1]):
        told = block[np.abs(block) > 1e-9]  # a feature may be dead
        np.testing.assert_allclose(told, np.median(told), rtol=1e-6)


def test_equal_pictures_are_balanced_without_a_warning():
    found = random_features(ODD["black"])
    assert np.isfinite(balance(found)(random_features(ODD["noise"]))).all()


def test_the_kernel_distance_of_other_real_pictures_holds_zero_and_that_of_others_does_not(pictures):
    reals = random_features(pictures[:80])
    balanced = balance(reals)
    usual = random_kernel_distance(balanced(reals), balanced(random_features(pictures[80:])))
    assert usual.low < 0 < usual.high
    blurred = F.avg_pool2d(F.pad(read(pictures[80:]), (2, 2, 2, 2), mode="reflect"), 5, 1)
    assert random_kernel_distance(balanced(reals), balanced(random_features(as_pixels(blurred)))).low > usual.high


def test_the_kernel_distance_has_features_of_mean_variance_one():
    """The kernel (x.y / D + 1)^3 expects x.y / D near 1: with much smaller products it would be linear."""
    random = np.random.default_rng(0)
    a, b = (random.standard_normal((40, WIDTH)) / np.sqrt(WIDTH) for _ in range(2))

    def kernel(x, y):
        return (x @ y.T + 1) ** 3

    own = [(kernel(x, x).sum() - np.trace(kernel(x, x))) / (40 * 39) for x in (a, b)]
    assert random_kernel_distance(a, b).value == pytest.approx(sum(own) - 2 * kernel(a, b).mean(), abs=1e-12)


# --- what the distance sees --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rfd(pictures):
    """The RFD of images from 80 real ones; 1 is the variance of the reals."""
    reals = random_features(pictures[:80])
    balanced = balance(reals)
    own = moments(balanced(reals))
    return lambda others: frechet_distance(own, moments(balanced(random_features(others))))


def test_blur_noise_and_wrong_colors_are_farther_than_other_real_pictures(pictures, rfd):
    held = pictures[80:]
    images, random = read(held), torch.Generator().manual_seed(0)
    worse = {
        "blurred": F.avg_pool2d(F.pad(images, (2, 2, 2, 2), mode="reflect"), 5, 1),
        "noisy": (images + 0.2 * torch.randn(images.shape, generator=random)).clamp(-1, 1),
        "gray": images.mean(dim=1, keepdim=True).expand(-1, 3, -1, -1),
        "other colors": images[:, [2, 0, 1]],
        "dim": images * 0.5,
    }
    usual = rfd(held)
    assert 0 < usual < 0.3
    assert {name: rfd(as_pixels(each)) > 1.1 * usual for name, each in worse.items()} == dict.fromkeys(worse, True)
    assert rfd(ODD["noise"]) > 1


def test_more_blur_and_more_noise_are_farther(pictures, rfd):
    images, random = read(pictures[80:]), torch.Generator().manual_seed(0)
    static = torch.randn(images.shape, generator=random)
    blurred = [rfd(as_pixels(F.avg_pool2d(F.pad(images, (w // 2,) * 4, mode="reflect"), w, 1))) for w in (1, 3, 7, 15)]
    noisy = [rfd(as_pixels((images + amount * static).clamp(-1, 1))) for amount in (0, 0.1, 0.2, 0.4)]
    assert np.all(np.diff(blurred) > 0) and np.all(np.diff(noisy) > 0)
