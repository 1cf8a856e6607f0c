"""The built-in images: pure functions, the same at every size, equally many of each kind, and all different."""

import numpy as np
import pytest
from PIL import Image

from pggan.data.builtin import KINDS, draw, kind_of


def reduced(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """The image resized by Lanczos, float [height, width, 3]."""
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.LANCZOS), dtype=float)


@pytest.fixture(scope="module")
def drawn() -> list[tuple[np.ndarray, int]]:
    """300 images of 32 px with their kinds."""
    return [draw(4, i, 32, 32) for i in range(300)]


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference, in 0..255."""
    return float(np.abs(np.asarray(one, dtype=float) - np.asarray(other, dtype=float)).mean())


def test_a_image_is_a_function_of_seed_and_index_alone():
    first, kind = draw(3, 17, 48, 48)
    np.random.seed(1)
    draw(3, 18, 48, 48)
    again, kind_again = draw(3, 17, 48, 48)
    assert np.array_equal(first, again)
    assert kind == kind_again == kind_of(3, 17)


def test_drawing_leaves_the_global_random_numbers_alone():
    np.random.seed(5)
    expected = np.random.random()
    np.random.seed(5)
    draw(0, 0, 32, 32)
    assert np.random.random() == expected


def test_another_seed_is_another_collection(drawn):
    nearest = min(distance(image, draw(2, i, 32, 32)[0]) for i, (image, _) in enumerate(drawn[:40]))
    assert nearest > 15


@pytest.mark.parametrize(("small", "large"), [((32, 32), (256, 256)), ((64, 64), (256, 256)), ((32, 40), (256, 320))])
def test_the_same_image_at_every_resolution(small, large):
    images = [draw(9, i, *small)[0] for i in range(20)]
    references = [reduced(draw(9, i, *large)[0], *small) for i in range(20)]
    to_itself = [distance(*pair) for pair in zip(images, references, strict=True)]
    to_the_next = [distance(*pair) for pair in zip(images, references[1:], strict=False)]
    assert max(to_itself) < 10
    assert min(to_the_next) > 2 * max(to_itself)


def test_every_ten_images_in_a_row_hold_each_kind_once():
    for seed in (0, 1, 12345):
        kinds = np.array([kind_of(seed, i) for i in range(200)]).reshape(-1, len(KINDS))
        assert np.array_equal(np.sort(kinds, axis=1), np.tile(np.arange(len(KINDS)), (20, 1)))
        assert len(np.unique(kinds, axis=0)) > 15, "the order of the kinds repeats itself"


def test_no_two_images_of_a_kind_are_alike(drawn):
    for kind, name in enumerate(KINDS):
        flat = np.stack([image.ravel() for image, its_kind in drawn if its_kind == kind]).astype(np.float32)
        gaps = [np.abs(flat[i + 1 :] - flat[i]).mean(axis=1).min() for i in range(len(flat) - 1)]
        assert min(gaps) > 4, f"two of the {name} are nearly the same image"


@pytest.mark.parametrize(("width", "height"), [(256, 320), (320, 256), (96, 96), (33, 47), (16, 64), (17, 16)])
def test_any_aspect_ratio_is_filled_to_the_corners(width, height):
    for index in range(len(KINDS)):
        image, _ = draw(6, index, width, height)
        assert image.shape == (height, width, 3)
        assert image.dtype == np.uint8
        corners = image[[0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners.max(axis=1) > 2).all(), "a corner of the canvas was left unpainted"


def test_the_images_are_colored_and_well_lit(drawn):
    pixels = np.stack([image for image, _ in drawn]).astype(float)
    assert 80 < pixels.mean() < 175
    assert pixels.std(axis=(1, 2)).mean() > 25, "images with hardly any contrast"
    assert np.ptp(pixels, axis=3).mean() > 25, "images with hardly any color"


def test_negative_and_huge_seeds_are_seeds_like_any_other():
    images = [draw(seed, 0, 32, 32)[0] for seed in (-1, 0, 2**63, 10**12)]
    assert all(distance(a, b) > 5 for i, a in enumerate(images) for b in images[:i])
