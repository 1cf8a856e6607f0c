"""The two ways to 299 x 299 pixels: the numbers of torch-fidelity and of clean-fid, which are far from each other."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

from pggan.metrics.resizing import SIDE, to_inception

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from cleanfid.resize import build_resizer

SIZES = [(1, 1), (1, 7), (2, 5), (64, 48), (299, 299), (300, 299), (301, 700)]


def noise(height: int, width: int) -> np.ndarray:
    """uint8 [height, width, 3]: noise, the hardest input for a filter."""
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), dtype=np.uint8)


def torch_fidelity(picture: np.ndarray) -> np.ndarray:
    pixels = torch.from_numpy(picture).movedim(-1, 0)[None].float()
    return interpolate_bilinear_2d_like_tensorflow1x(pixels, (SIDE, SIDE), align_corners=False)[0].numpy()


def clean_fid(picture: np.ndarray) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of Pillow, about the mode
        return np.moveaxis(build_resizer("clean")(picture), -1, 0)


@pytest.mark.parametrize("size", SIZES)
def test_tf_is_torch_fidelity_s_bit_for_bit(size):
    assert np.array_equal(to_inception(noise(*size), "tf"), torch_fidelity(noise(*size)))


@pytest.mark.parametrize("size", SIZES)
def test_clean_is_clean_fid_s_within_a_hundredth_of_a_grey_level(size):
    assert np.abs(to_inception(noise(*size), "clean") - clean_fid(noise(*size))).max() < 0.01


@settings(deadline=None, max_examples=10)
@given(st.integers(1, 400), st.integers(1, 400))
def test_both_ways_hold_at_any_size(height, width):
    picture = noise(height, width)
    assert np.array_equal(to_inception(picture, "tf"), torch_fidelity(picture))
    assert np.abs(to_inception(picture, "clean") - clean_fid(picture)).max() < 0.02


@pytest.mark.parametrize("how", ["tf", "clean"])
def test_grey_levels_are_neither_rounded_nor_beyond_the_range(how):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::4] = 255
    resized = to_inception(stripes, how)
    assert resized.shape == (3, SIDE, SIDE) and resized.dtype == np.float32
    assert resized.min() == 0 and resized.max() == 255
    assert (resized != resized.round()).mean() > 0.2


def test_the_two_ways_are_far_from_each_other_on_large_pictures():
    gap = to_inception(noise(600, 640), "tf") - to_inception(noise(600, 640), "clean")
    assert np.abs(gap).mean() > 20  # gray levels: tf skips pixels, clean averages them


@pytest.mark.parametrize("how", ["tf", "clean"])
def test_a_picture_of_pillow_and_its_pixels_are_the_same(how):
    picture = noise(40, 50)
    assert np.array_equal(to_inception(Image.fromarray(picture), how), to_inception(picture, how))
