"""The layers of a progressively grown GAN, from Karras et al. 2018 (arXiv 1710.10196).

Shapes: N pictures, C channels, H x W pixels; images and features are [N, C, H, W].
"""

from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pggan.models import conv2d_gradfix
from pggan.models.conv2d_gradfix import convolve

LEAK = 0.2  # slope of the leaky ReLU below zero, appendix A
GAIN = 2**0.5  # He et al. 2015, for layers that a leaky ReLU follows


class EqualizedConv2d(nn.Module):
    """A "same" convolution with equalized learning rate (section 4.1).

    The weights are drawn from N(0, 1) and multiplied by gain / sqrt(fan_in) at run time, so Adam moves all layers at
    the same relative speed. The bias is not scaled. up: of a picture enlarged x2 by its nearest neighbors, without
    the enlarged picture; 4 of 9 multiplications are left to do.
    """

    def __init__(
        self,
        fan: int,
        out: int,
        kernel: int,
        gain: float = GAIN,
        rng: torch.Generator | None = None,
        bias: bool = True,
        up: bool = False,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, fan, kernel, kernel, generator=rng))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        self.scale = gain / (fan * kernel**2) ** 0.5
        self.padding, self.up = kernel // 2, up

    def forward(self, x: Tensor) -> Tensor:
        """[N, fan, H, W] -> [N, out, H, W], or [N, out, 2H, 2W] if `up`"""
        weight = self.weight * self.scale
        if not self.up:
            return convolve(x, weight, self.bias, padding=self.padding)
        return convolve(x, enlarging(weight), self.bias, stride=2, padding=self.padding, transposed=True)


def enlarging(weight: Tensor) -> Tensor:
    """The weight of a transposed convolution of stride 2 that is x2 by nearest neighbors, then `weight`.

    [out, fan, k, k] -> [fan, out, k + 1, k + 1]: each pixel of the small picture is seen through four neighboring
    places of the kernel, whose weights add up (Karras et al. 2018, their code's fused scaling).
    """
    spread = F.pad(weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))
    rows = spread[:, :, 1:] + spread[:, :, :-1]
    return rows[:, :, :, 1:] + rows[:, :, :, :-1]


class EqualizedLinear(nn.Module):
    """A dense layer with equalized learning rate; `bias=False` leaves the bias to whoever reshapes the output.

    rate: its learning rate over that of other layers, bias included (Karras et al. 2019, appendix C).
    """

    def __init__(
        self,
        fan: int,
        out: int,
        gain: float = GAIN,
        bias: bool = True,
        rng: torch.Generator | None = None,
        rate: float = 1.0,
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, fan, generator=rng) / rate)
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        self.scale, self.rate = gain * rate / fan**0.5, rate

    def forward(self, x: Tensor) -> Tensor:
        """[N, fan] -> [N, out]"""
        bias = self.bias if self.bias is None or self.rate == 1 else self.bias * self.rate
        return F.linear(x, self.weight * self.scale, bias)


def in_its_own_precision(function: Callable) -> Callable:
    """What comes in half precision stays in it: on a GPU, autocast would make float32 of it here."""

    @wraps(function)
    def run(x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return function(x)
        with torch.autocast(x.device.type, enabled=False):
            return function(x)

    return run


def leaky_relu(x: Tensor) -> Tensor:
    return conv2d_gradfix.leaky_relu(x, LEAK)


@in_its_own_precision
def pixel_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean over channels of x^2 + eps) at each pixel (section 4.2); also for [N, C] latents."""
    half = x.dtype == torch.float16  # which holds neither 1e-8 nor the square of 256
    power = (x.float() if half else x).square().mean(dim=1, keepdim=True)
    return x * torch.rsqrt(power + (1e-4 if half else 1e-8)).to(x.dtype)


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Appends one map that says how much the pictures of a group differ (section 3). [N, C, H, W] -> [N, C+1, H, W].

    Groups are strided, picture i with i + N/group, i + 2 N/group ...; the variance is the biased one.
    Raises ValueError when N is no multiple of min(group, N).
    """
    n, c, h, w = x.shape
    group = min(group, n)
    if n % group:
        raise ValueError(f"a batch of {n} does not divide into groups of {group} for minibatch stddev")
    y = x.to(torch.promote_types(x.dtype, torch.float32))  # 1e-8 vanishes in half precision, and with it the gradient
    y = y.reshape(group, n // group, c, h, w)  # [G, M, C, H, W]
    y = (y - y.mean(dim=0)).square().mean(dim=0)  # [M, C, H, W]: variance over the group
    y = (y + 1e-8).sqrt().mean(dim=(1, 2, 3))  # [M]
    y = y.to(x.dtype).repeat(group).reshape(n, 1, 1, 1).expand(n, 1, h, w)  # picture i belongs to group i mod M
    return torch.cat([x, y], dim=1)


@in_its_own_precision
def upsample(x: Tensor) -> Tensor:
    """Nearest neighbor x2. [N, C, H, W] -> [N, C, 2H, 2W]"""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample(x: Tensor) -> Tensor:
    """Mean of each 2x2. [N, C, H, W] -> [N, C, H/2, W/2]"""
    return F.avg_pool2d(x, 2)


@in_its_own_precision
def fir_upsample(x: Tensor) -> Tensor:
    """x2 by the filter [1, 3, 3, 1] (Karras et al. 2020, appendix B), edges repeated. [N, C, H, W] -> [N, C, 2H, 2W]

    At a factor of two, bilinear interpolation between pixel centers is this filter.
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@in_its_own_precision
def fir_downsample(x: Tensor) -> Tensor:
    """Half the size by the filter [1, 3, 3, 1] / 8, edges repeated. [N, C, H, W] -> [N, C, H/2, W/2]"""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = (x[:, :, :-3:2] + x[:, :, 3::2]) / 8 + (x[:, :, 1:-2:2] + x[:, :, 2:-1:2]) * 0.375
    return (x[..., :-3:2] + x[..., 3::2]) / 8 + (x[..., 1:-2:2] + x[..., 2:-1:2]) * 0.375
