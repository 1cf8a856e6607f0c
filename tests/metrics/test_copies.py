"""Copies of training images: correlations against a direct loop over shifts, and how many changed copies are found."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch.nn import functional as F

from pggan.data.builtin import draw
from pggan.metrics import copies as module
from pggan.metrics.copies import find_copies, threshold, thumbnails
from pggan.metrics.diversity import fit_projection
from pggan.metrics.small_images import read
from pggan.metrics.spaces import handcrafted

SOME = settings(max_examples=15, deadline=None)
SEEDS = st.integers(0, 2**32 - 1)


# --- the correlation ---------------------------------------------------------------------------------------------


def slow_sharpened(light: np.ndarray) -> np.ndarray:
    return light - gaussian_filter(light, 2.5, mode="mirror", radius=8)


def slow_zoomed(light: np.ndarray) -> np.ndarray:
    """The 27 pixels in the middle over 32, interpolated between the centers of pixels."""
    part, centers = light[2:29, 2:29], (np.arange(32) + 0.5) * 27 / 32 - 0.5
    across = np.array([np.interp(centers, np.arange(27), row) for row in part])
    return np.array([np.interp(centers, np.arange(27), column) for column in across.T]).T


def slow_similarity(sample: np.ndarray, picture: np.ndarray) -> float:
    """The best of all zooms and shifts, one at a time; -1 where one of the two is flat."""
    light, other = (each.astype(float).mean(axis=2) / 127.5 - 1 for each in (sample, picture))
    window, best = slow_sharpened(light)[4:28, 4:28], -1.0
    window = window - window.mean()
    for index in (slow_sharpened(other), slow_sharpened(slow_zoomed(other))):
        for dy in range(9):
            for dx in range(9):
                part = index[dy : dy + 24, dx : dx + 24]
                part = part - part.mean()
                scale = np.sqrt((window**2).sum() * (part**2).sum())
                if scale >= 1e-3:
                    best = max(best, (window * part).sum() / scale)
    return best


def slow_find(samples: np.ndarray, training: np.ndarray) -> np.ndarray:
    """[n, N]: the similarity of each sample, or its mirror image if that is higher, to each training image."""
    return np.array(
        [[max(slow_similarity(view, each) for view in (one, one[:, ::-1])) for each in training] for one in samples]
    )


def blobs(seed: int, count: int) -> np.ndarray:
    """Thumbnails of smooth noise, no two alike."""
    raw = torch.rand(count, 3, 9, 9, generator=torch.Generator().manual_seed(seed % 2**31)) * 2 - 1
    return thumbnails(F.interpolate(raw, (64, 64), mode="bicubic").clamp(-1, 1))


def anywhere(count: int) -> np.ndarray:
    """Points that are all equal, so that up to 16 training images are all candidates."""
    return np.zeros((count, 2))


def find(samples: np.ndarray, training: np.ndarray, **others) -> module.Copies:
    return find_copies(samples, [anywhere(len(samples))] * 2, training, anywhere(len(training)), **others)


@SOME
@given(SEEDS, st.integers(1, 3), st.integers(1, 4))
def test_similarity_matches_a_direct_loop_over_zooms_and_shifts(seed, n, count):
    samples, training = blobs(seed, n), blobs(seed + 1, count)
    expected, found = slow_find(samples, training), find(samples, training)
    np.testing.assert_allclose(found.similarity, expected.max(axis=1), atol=2e-4)
    chosen = expected[np.arange(n), found.original]
    np.testing.assert_allclose(chosen, expected.max(axis=1), atol=2e-4)


def test_it_matches_the_loop_on_pictures_of_few_levels_too():
    """Images with flat areas, sharp edges, one bright dot, and steps of one gray level."""
    random = np.random.default_rng(0)
    grounds = np.full((4, 32, 32, 3), 100, np.uint8)
    grounds[0, :16] = 160
    grounds[1, 15:17, 15:17] = 255
    grounds[2] += random.integers(0, 2, (32, 32, 1), dtype=np.uint8)
    grounds[3, 8:24, 4:20] = 20
    samples = np.concatenate([grounds[::-1], blobs(3, 1)])
    found = find(samples, grounds)
    np.testing.assert_allclose(found.similarity, slow_find(samples, grounds).max(axis=1), atol=5e-3)


def test_many_samples_at_once_give_what_one_at_a_time_gives(monkeypatch):
    samples, training = blobs(0, 9), blobs(1, 12)
    whole = find(samples, training)
    monkeypatch.setattr(module, "CHUNK", 4)
    parts = [find(samples, training), *(find(samples[i : i + 1], training) for i in range(9))]
    np.testing.assert_allclose(parts[0].similarity, whole.similarity, atol=1e-5)
    np.testing.assert_allclose(np.concatenate([each.similarity for each in parts[1:]]), whole.similarity, atol=1e-5)
    assert np.array_equal(parts[0].original, whole.original)


@pytest.mark.parametrize("level", [0, 77, 255])
def test_flat_pictures_have_similarity_minus_one(level):
    flat = np.full((2, 32, 32, 3), level, np.uint8)
    assert find(flat, flat).similarity.tolist() == [-1, -1]
    assert find(flat, blobs(0, 4)).similarity.tolist() == [-1, -1]
    assert find(blobs(0, 2), flat).similarity.tolist() == [-1, -1]
    with_flat = find(blobs(0, 2), np.concatenate([flat, blobs(0, 2)]))
    assert with_flat.original.tolist() == [2, 3] and (with_flat.similarity > 0.999).all()


def test_similarity_is_at_most_one_and_one_for_a_picture_with_itself():
    training = blobs(5, 16)
    found = find(training, training)
    assert (found.similarity <= 1).all() and (found.similarity > 0.9999).all()
    assert found.original.tolist() == list(range(16))


def test_brightness_and_contrast_make_no_difference():
    training = blobs(6, 8)
    dim = (training * 0.5 + 20).round().astype(np.uint8)
    found = find(dim, training)
    assert found.original.tolist() == list(range(8)) and (found.similarity > 0.99).all()


def test_the_negative_of_a_picture_is_no_copy_of_it():
    training = blobs(7, 8)
    assert find(255 - training, training).similarity.max() < 0.9


# --- which picture it is -----------------------------------------------------------------------------------------


def test_a_picture_does_not_count_as_a_copy_of_itself_but_another_copy_of_it_does():
    training = np.concatenate([blobs(8, 6), blobs(8, 6)[2:3]])
    found = find(training, training, same=np.arange(7))
    assert found.original[2] == 6 and found.original[6] == 2
    assert found.similarity[[2, 6]].min() > 0.999 and np.delete(found.similarity, [2, 6]).max() < 0.95
    assert (found.original != np.arange(7)).all()


def test_the_mirror_image_of_itself_does_not_count_either():
    """A picture that is its own mirror image, among others."""
    training = blobs(9, 5)
    training[0] = np.concatenate([training[0, :, :16], training[0, :, 15::-1]], axis=1)
    found = find(training, training, same=np.arange(5))
    assert found.original[0] != 0 and found.similarity[0] < 0.95


def test_same_may_name_any_pictures_in_any_order():
    training = blobs(10, 10)
    some = np.array([7, 2, 5])
    found = find(training[some], training, same=some)
    expected = slow_find(training[some], training)
    expected[np.arange(3), some] = -1
    np.testing.assert_allclose(found.similarity, expected.max(axis=1), atol=2e-4)


def test_of_many_training_pictures_those_nearest_by_their_points_are_looked_at():
    training = blobs(11, 40)
    z = np.arange(40.0)[:, None]
    at_hand = find_copies(training[:3], [z[:3], z[:3]], training, z)
    assert at_hand.original.tolist() == [0, 1, 2] and (at_hand.similarity > 0.999).all()
    far_off = find_copies(training[:3], [z[:3] + 100, z[:3] + 100], training, z)
    assert (far_off.original >= 24).all() and far_off.similarity.max() < 0.95


def test_points_of_the_mirror_image_find_the_original_of_a_mirrored_copy():
    training = blobs(12, 40)
    z = np.arange(40.0)[:, None]
    flipped = training[:3, :, ::-1]
    found = find_copies(flipped, [z[:3] + 100, z[:3]], training, z)
    assert found.original.tolist() == [0, 1, 2] and (found.similarity > 0.999).all()


# --- built-in pictures -------------------------------------------------------------------------------------------

COUNT = 100


@pytest.fixture(scope="module")
def drawn() -> torch.Tensor:
    """float32 [160, 3, 64, 64]: 100 training pictures, and 60 others."""
    return read(np.stack([draw(33, index, 64, 64)[0] for index in range(COUNT + 60)]))


@pytest.fixture(scope="module")
def look(drawn):
    """find_copies of images [n, 3, 64, 64] among the training pictures, by their handcrafted features."""
    features = handcrafted(drawn[:COUNT]).double().numpy()
    projection = fit_projection(features)
    training, z = thumbnails(drawn[:COUNT]), projection(features)

    def points(images: torch.Tensor) -> np.ndarray:
        return projection(handcrafted(images).double().numpy())

    return lambda images, same=None: find_copies(
        thumbnails(images), [points(images), points(images.flip(3))], training, z, same
    )


@pytest.fixture(scope="module")
def limit(look, drawn) -> float:
    return threshold(look(drawn[:COUNT], np.arange(COUNT)).similarity)


def moved(images: torch.Tensor, dx: int, dy: int) -> torch.Tensor:
    """Images moved by dx and dy of 64 pixels; the edge pixels are repeated."""
    return F.pad(images, (8, 8, 8, 8), mode="replicate")[:, :, 8 + dy : 72 + dy, 8 + dx : 72 + dx]


def enlarged(images: torch.Tensor, zoom: float) -> torch.Tensor:
    inner = round(64 / zoom)
    cut = (64 - inner) // 2
    return F.interpolate(images[:, :, cut : cut + inner, cut : cut + inner], (64, 64), mode="bilinear", antialias=True)


def noisy(images: torch.Tensor) -> torch.Tensor:
    return (images + 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)


CHANGES = {
    "exact": (1.0, lambda images: images),
    "flipped": (1.0, lambda images: images.flip(3)),
    "moved by 3": (0.95, lambda images: moved(images, -6, 5)),
    "moved by 4 along both": (0.9, lambda images: moved(images, -8, 8)),
    "flipped and moved": (0.9, lambda images: moved(images.flip(3), 4, 4)),
    "enlarged by 1.2": (0.9, lambda images: enlarged(images, 1.2)),
    "enlarged by 1.1": (0.6, lambda images: enlarged(images, 1.1)),
    "noisy": (0.9, noisy),
    "blurred": (0.9, lambda images: F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="reflect"), 3, 1)),
    "dim": (0.95, lambda images: images * 0.7 - 0.1),
}


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found_with_their_original(drawn, look, limit, change):
    share, by = CHANGES[change]
    found = look(by(drawn[:COUNT]))
    right = (found.original == np.arange(COUNT)) & (found.similarity >= limit)
    assert right.mean() >= share


def test_pictures_that_are_not_among_them_are_no_copies(drawn, look, limit):
    assert (look(drawn[COUNT:]).similarity >= limit).mean() < 0.05
    assert (look(drawn[COUNT:].flip(3)).similarity >= limit).mean() < 0.05


def test_thumbnails_are_means_of_the_picture(drawn):
    found = thumbnails(drawn[:10])
    assert found.shape == (10, 32, 32, 3) and found.dtype == np.uint8
    means = (drawn[:10].unflatten(3, (8, 8)).unflatten(2, (8, 8)).mean((3, 5)) + 1) * 127.5
    ours = found.astype(float).reshape(10, 8, 4, 8, 4, 3).mean(axis=(2, 4)).transpose(0, 3, 1, 2)
    assert np.abs(ours - means.numpy()).mean() < 3


# --- the threshold -----------------------------------------------------------------------------------------------


def test_reals_of_low_similarity_leave_the_threshold_at_its_default():
    assert threshold(np.linspace(0, 0.7, 100)) == 0.8


def test_similar_reals_raise_the_threshold_to_their_98_percent_quantile():
    real = np.linspace(0.5, 0.96, 200)
    assert threshold(real) == pytest.approx(np.quantile(real, 0.98))


def test_copies_among_the_reals_do_not_raise_the_threshold():
    apart = np.linspace(0, 0.7, 50)
    assert threshold(np.concatenate([apart, np.full(50, 0.99)])) == threshold(apart) == 0.8


def test_it_is_never_above_what_twins_have():
    assert threshold(np.full(50, 0.969)) <= 0.97
    assert threshold(np.full(50, 1.0)) == 0.97
    assert threshold(np.array([])) == 0.97


@SOME
@given(st.lists(st.floats(-1, 1), max_size=60))
def test_it_lies_between_certain_and_twins_whatever_the_reals_are(real):
    assert 0.8 <= threshold(np.array(real)) <= 0.97
