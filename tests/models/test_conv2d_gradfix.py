"""Convolution, leaky ReLU and their first and second derivatives against those of torch, in float64."""

import pytest
import torch
import torch.nn.functional as F
from torch.autograd import gradcheck, gradgradcheck
from torch.utils.flop_counter import FlopCounterMode

from pggan.config.network import NetworkConfig
from pggan.models import conv2d_gradfix, layers
from pggan.models.archs import dcgan
from pggan.models.conv2d_gradfix import convolve, input_gradient, leaky_relu
from pggan.models.networks import Discriminator
from pggan.training.losses import LOSSES, discriminator_loss

GEOMETRIES = [(1, 1, 0), (3, 1, 1), (3, 1, 0), (4, 2, 1), (2, 2, 0)]  # kernel, stride, padding


def normal(*shape, seed=0, **more):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed), **more)


def torchs(x, weight, bias=None, stride=1, padding=0, transposed=False):
    """torch's convolution with torch's own derivatives."""
    return (F.conv_transpose2d if transposed else F.conv2d)(x, weight, bias, stride, padding)


@pytest.mark.parametrize("kernel, stride, padding", GEOMETRIES)
@pytest.mark.parametrize("transposed", [False, True])
def test_a_convolution_and_both_its_derivatives_are_right(kernel, stride, padding, transposed):
    ways = (2, 3) if transposed else (3, 2)
    x, weight, bias = normal(2, 2, 4, 6), normal(*ways, kernel, kernel, seed=1), normal(3, seed=2)
    given = [tensor.requires_grad_() for tensor in (x, weight, bias)]
    assert torch.equal(convolve(*given, stride, padding, transposed), torchs(*given, stride, padding, transposed))
    assert gradcheck(lambda *all: convolve(*all, stride, padding, transposed), given)
    assert gradgradcheck(lambda *all: convolve(*all, stride, padding, transposed), given, fast_mode=True)


def test_a_stride_that_leaves_over_pixels_is_refused():
    with pytest.raises(ValueError, match=r"a stride of 2 does not divide \(5, 4\)"):
        convolve(normal(1, 1, 5, 4), normal(1, 1, 2, 2), stride=2)


def test_leaky_relu_and_both_its_derivatives_are_right():
    x = normal(3, 4).requires_grad_()
    assert torch.equal(leaky_relu(x, 0.2), F.leaky_relu(x, 0.2))
    assert gradcheck(lambda x: leaky_relu(x, 0.2), x)
    assert gradgradcheck(lambda x: leaky_relu(x, 0.2), x)


def critic(arch, fading, critic_norm="none"):
    config = NetworkConfig(
        arch=arch, start_res=8, max_res=16, fmap_base=64, fmap_max=8, critic_norm=critic_norm, stddev_group=2
    )
    D = Discriminator(config, torch.Generator().manual_seed(0))
    D.grow(torch.Generator().manual_seed(1))
    return D.double(), 0.3 if fading else 1.0


def gradients(D, alpha, loss):
    reals, fakes, mix = normal(4, 3, 16, 16, seed=3), normal(4, 3, 16, 16, seed=4), torch.rand(4, dtype=torch.float64)
    total, _ = discriminator_loss(LOSSES[loss], lambda x: D(x, alpha), reals, fakes, mix, weight=2.0)
    return torch.autograd.grad(total, list(D.parameters()), allow_unused=True)


@pytest.mark.parametrize("arch, norm", [("paper", "none"), ("style", "none"), ("dcgan", "none"), ("dcgan", "layer")])
@pytest.mark.parametrize("loss, fading", [("wgan-gp", True), ("logistic", False), ("relativistic", True)])
def test_a_penalized_loss_has_autograds_own_gradient_in_every_network(arch, norm, fading, loss, monkeypatch):
    D, alpha = critic(arch, fading, norm)
    torch.manual_seed(0)
    mine = gradients(D, alpha, loss)
    monkeypatch.setattr(layers, "convolve", torchs)
    monkeypatch.setattr(dcgan, "convolve", torchs)
    monkeypatch.setattr(conv2d_gradfix, "leaky_relu", F.leaky_relu)
    torch.manual_seed(0)
    autograds = gradients(D, alpha, loss)
    assert all((one is None) == (other is None) for one, other in zip(mine, autograds, strict=True))
    for one, other in zip(mine, autograds, strict=True):
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def flops(function):
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops()


def test_the_penalty_costs_six_times_a_forward_pass_and_no_more():
    """One for forward, one for the input gradient, and two for the gradients of each."""
    x, weights = normal(2, 3, 8, 8).requires_grad_(), [normal(4, 3, 3, 3).requires_grad_(), normal(4, 4, 3, 3)]
    weights[1].requires_grad_()

    def forward():
        y = leaky_relu(convolve(x, weights[0], padding=1), 0.2)
        return convolve(y, weights[1], padding=1).square()  # a curved output, as minibatch stddev makes it

    def penalty():
        gradient = input_gradient(forward(), x)
        return torch.autograd.grad(gradient.square().sum(), weights)

    assert flops(penalty) == 6 * flops(forward)


def test_weights_are_wanted_again_after_an_input_gradient_that_failed():
    x, weight = normal(1, 1, 4, 4).requires_grad_(), normal(1, 1, 3, 3).requires_grad_()
    with pytest.raises(RuntimeError):
        input_gradient(convolve(x.detach(), weight.detach()), x)
    convolve(x, weight).sum().backward()
    assert weight.grad is not None and x.grad is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_gives_its_precision_and_the_weights_keep_their_own(dtype):
    x, weight = normal(1, 2, 4, 4).float(), normal(2, 2, 3, 3).float().requires_grad_()
    with torch.autocast("cpu", dtype=dtype):
        y = convolve(x, weight, padding=1)
    assert y.dtype == dtype
    y.float().sum().backward()
    assert weight.grad.dtype == torch.float32


def test_every_geometry_is_its_own_adjoint():
    """<conv(x), y> = <x, conv_transposed(y)>"""
    for kernel, stride, padding in GEOMETRIES:
        x, weight = normal(1, 2, 4, 4), normal(3, 2, kernel, kernel, seed=1)
        y = convolve(x, weight, None, stride, padding)
        other = normal(*y.shape, seed=2)
        back = convolve(other, weight, None, stride, padding, transposed=True)
        torch.testing.assert_close((y * other).sum(), (x * back).sum())
