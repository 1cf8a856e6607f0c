"""The layers against the paper's formulas and a second, slow implementation."""

import math

import numpy as np
import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pggan.models.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    downsample,
    fir_downsample,
    fir_upsample,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
    upsample,
)


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def same(ours: torch.Tensor, theirs: np.ndarray) -> None:
    np.testing.assert_allclose(ours.detach().numpy(), theirs, rtol=1e-12, atol=1e-12)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(1)


@pytest.mark.parametrize("layer", [EqualizedConv2d(64, 64, 3, rng=seeded()), EqualizedLinear(192, 192, rng=seeded())])
def test_weights_start_standard_normal_and_biases_at_zero(layer):
    weight = layer.weight.detach()
    assert abs(weight.mean()) < 5 / weight.numel() ** 0.5
    assert abs(weight.std() - 1) < 5 / (2 * weight.numel()) ** 0.5
    assert abs(weight.pow(4).mean() - 3) < 5 * (96 / weight.numel()) ** 0.5  # the kurtosis of a normal
    assert not layer.bias.any()


@pytest.mark.parametrize("gain", [2**0.5, 1.0, 2**0.5 / 4])
@pytest.mark.parametrize("kernel", [1, 3])
def test_conv_multiplies_the_weight_by_gain_over_root_fan_in_and_leaves_the_bias(kernel, gain):
    layer = EqualizedConv2d(5, 7, kernel, gain=gain).double()
    layer.bias.data = noise(7, seed=1)
    x = noise(2, 5, 4, 6)
    same(layer(x), reference.conv(x.numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy(), gain))
    assert math.isclose(layer.scale, gain / math.sqrt(5 * kernel**2))


@pytest.mark.parametrize("gain", [2**0.5, 1.0, 2**0.5 / 4])
def test_dense_multiplies_the_weight_by_gain_over_root_fan_in_and_leaves_the_bias(gain):
    layer = EqualizedLinear(5, 7, gain=gain).double()
    layer.bias.data = noise(7, seed=1)
    x = noise(3, 5)
    same(layer(x), reference.dense(x.numpy(), layer.weight.detach().numpy(), layer.bias.detach().numpy(), gain))


@pytest.mark.parametrize("layer", [EqualizedConv2d(3, 4, 3), EqualizedLinear(3, 4)])
def test_at_zero_input_the_output_is_the_bias_itself(layer):
    layer.bias.data = torch.tensor([1.0, -2.0, 3.0, 4.0])
    out = layer(torch.zeros(2, 3, 5, 5) if layer.weight.ndim == 4 else torch.zeros(2, 3))
    assert torch.equal(out.transpose(0, 1).reshape(4, -1)[:, 0], layer.bias)


def test_the_default_gain_is_the_root_of_two():
    assert EqualizedConv2d(4, 4, 1).scale == EqualizedLinear(4, 4).scale == pytest.approx(2**0.5 / 2)


@pytest.mark.parametrize("shape", [(4, 6, 3, 5), (4, 6)])
def test_pixel_norm_matches_the_reference(shape):
    same(pixel_norm(noise(*shape)), reference.pixelnorm(noise(*shape).numpy()))


def test_pixel_norm_has_the_published_epsilon():
    small = torch.full((1, 4), 1e-4, dtype=torch.float64)  # x^2 is as large as epsilon
    same(pixel_norm(small), np.full((1, 4), 1e-4 / math.sqrt(1e-8 + 1e-8)))


def test_pixel_norm_in_half_precision_has_an_epsilon_that_half_precision_can_hold():
    dark = torch.full((2, 8, 3, 3), 0.01, dtype=torch.float16)  # x^2 is as large as epsilon
    expected = torch.full((2, 8, 3, 3), 0.5**0.5, dtype=torch.float16)
    torch.testing.assert_close(pixel_norm(dark), expected, rtol=1e-2, atol=0)
    assert torch.equal(pixel_norm(torch.zeros_like(dark)), torch.zeros_like(dark))


@given(groups=st.integers(1, 4), group=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_minibatch_stddev_matches_the_reference(groups, group, seed):
    x = noise(groups * group, 3, 2, 4, seed=seed)
    same(minibatch_stddev(x, group), reference.minibatch_stddev(x.numpy(), group))


def test_minibatch_stddev_groups_are_strided():
    x = torch.zeros(8, 1, 1, 1)
    x[0::2] = torch.tensor([1.0, 3.0, 1.0, 3.0]).reshape(4, 1, 1, 1)  # images 0, 2, 4, 6 differ, 1, 3, 5, 7 do not
    added = minibatch_stddev(x, 4)[:, 1].flatten()
    torch.testing.assert_close(added, torch.tensor([1.0, 1e-4] * 4))


def test_minibatch_stddev_uses_the_biased_variance():
    x = torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1)  # biased: 1, unbiased: 2
    torch.testing.assert_close(minibatch_stddev(x, 2)[:, 1].flatten(), torch.ones(2))


def test_minibatch_stddev_adds_one_constant_map_and_keeps_the_others():
    x = noise(8, 5, 4, 4)
    out = minibatch_stddev(x, 4)
    assert out.shape == (8, 6, 4, 4) and torch.equal(out[:, :5], x)
    assert torch.equal(out[:, 5], out[:, 5, :1, :1].expand(8, 4, 4))


def test_minibatch_stddev_of_a_batch_smaller_than_the_group_takes_the_whole_batch():
    x = noise(3, 2, 2, 2)
    assert torch.equal(minibatch_stddev(x, 4), minibatch_stddev(x, 3))


def test_minibatch_stddev_refuses_a_batch_that_does_not_divide():
    with pytest.raises(ValueError, match="does not divide into groups of 4"):
        minibatch_stddev(noise(6, 2, 2, 2), 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_minibatch_stddev_of_equal_images_has_a_finite_gradient_in_every_precision(dtype):
    x = torch.ones(4, 3, 2, 2, dtype=dtype, requires_grad=True)
    out = minibatch_stddev(x, 4)
    out.float().sum().backward()
    assert out.dtype == dtype and torch.isfinite(x.grad).all()


def test_leaky_relu_has_slope_a_fifth_below_zero():
    same(leaky_relu(torch.tensor([-2.0, 0.0, 3.0], dtype=torch.float64)), np.array([-0.4, 0.0, 3.0]))


def test_upsample_repeats_pixels_and_downsample_averages_squares():
    x = noise(2, 3, 4, 6)
    same(upsample(x), reference.double(x.numpy()))
    same(downsample(x), reference.halve(x.numpy()))
    assert torch.equal(downsample(upsample(x)), x)


# --- rates, and half precision -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [0.01, 1.0, 4.0])
def test_a_rate_scales_the_steps_of_a_dense_layer_and_not_its_beginning(rate):
    """The bias, too: a step of 1 by the optimizer is a step of `rate` in the layer."""
    plain, rated = (
        EqualizedLinear(5, 7, rng=seeded()).double(),
        EqualizedLinear(5, 7, rng=seeded(), lr_multiplier=rate).double(),
    )
    x = noise(3, 5)
    torch.testing.assert_close(rated(x), plain(x), rtol=1e-6, atol=1e-6)
    before = rated(x)
    with torch.no_grad():
        rated.weight += 1.0
        rated.bias += 1.0
    moved = rate * (2**0.5 / 5**0.5 * x.sum(dim=1, keepdim=True) + 1).expand(3, 7)
    torch.testing.assert_close(rated(x) - before, moved)


def test_layers_without_a_bias_have_none():
    conv, dense = EqualizedConv2d(3, 4, 3, bias=False), EqualizedLinear(3, 4, bias=False, lr_multiplier=0.5)
    assert [*conv.state_dict()] == [*dense.state_dict()] == ["weight"]
    assert not conv(torch.zeros(1, 3, 2, 2)).any() and not dense(torch.zeros(1, 3)).any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [1.0, 1000.0])
def test_pixel_norm_in_half_precision_is_that_of_float32_also_where_squares_overflow(dtype, size):
    x = (size * noise(2, 16, 3, 3)).to(dtype)
    out = pixel_norm(x)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), pixel_norm(x.float()), rtol=2e-2, atol=2e-2)


# --- the filter of style -----------------------------------------------------------------------------------------


def test_fir_resampling_is_the_filter_1_3_3_1_with_edges_repeated():
    x = noise(2, 3, 4, 6)
    same(fir_upsample(x), reference.fir_double(x.numpy()))
    same(fir_downsample(x), reference.fir_halve(x.numpy()))


def test_away_from_edges_an_impulse_becomes_the_filter():
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    x = torch.zeros(1, 1, 5, 5)
    x[0, 0, 2, 2] = 1
    expected = torch.zeros(10, 10)
    expected[3:7, 3:7] = torch.outer(taps, taps) / 16
    assert torch.equal(fir_upsample(x)[0, 0], expected)
    x = torch.zeros(1, 1, 8, 8)
    x[0, 0, 3, 4] = 1  # of the 4 x 4 around each output pixel, the place decides the tap
    out = fir_downsample(x)[0, 0]
    assert out[1, 1] * 64 == 3 * 1 and out[1, 2] * 64 == 3 * 3 and out[2, 1] * 64 == 1 and out[2, 2] * 64 == 3
    assert out.sum() * 64 == 16


@given(height=st.integers(1, 5), width=st.integers(1, 5), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_fir_resampling_keeps_constants_is_linear_and_mirrors_as_its_input(height, width, seed):
    a, b = noise(1, 2, 2 * height, 2 * width, seed=seed), noise(1, 2, 2 * height, 2 * width, seed=seed + 100)
    for resample, shape in ((fir_upsample, (4 * height, 4 * width)), (fir_downsample, (height, width))):
        assert resample(a).shape == (1, 2, *shape)
        torch.testing.assert_close(resample(torch.full_like(a, 0.7)), torch.full((1, 2, *shape), 0.7).double())
        torch.testing.assert_close(resample(2 * a - 3 * b), 2 * resample(a) - 3 * resample(b))
        for axes in ((2,), (3,), (2, 3)):
            torch.testing.assert_close(resample(a.flip(axes)), resample(a).flip(axes))
        torch.testing.assert_close(resample(a.transpose(2, 3)), resample(a).transpose(2, 3))


def test_inside_fir_downsampling_is_a_quarter_of_the_adjoint_of_upsampling():
    small, large = noise(1, 1, 8, 8), noise(1, 1, 16, 16, seed=1)
    small[..., :2, :], small[..., -2:, :], small[..., :2], small[..., -2:] = 0, 0, 0, 0
    up, down = (fir_upsample(small) * large).sum(), (small * fir_downsample(large)).sum()
    torch.testing.assert_close(up, 4 * down)


def test_fir_resampling_does_not_shift_a_image():
    """A ramp stays in place, relative to the size of the image."""
    ramp = torch.arange(16.0).reshape(1, 1, 1, 16).expand(1, 1, 16, 16)
    assert torch.equal(fir_downsample(ramp)[0, 0, 3, 1:-1], torch.arange(8.0)[1:-1] * 2 + 0.5)
    assert torch.equal(fir_upsample(ramp)[0, 0, 3, 1:-1], torch.arange(32.0)[1:-1] / 2 - 0.25)
