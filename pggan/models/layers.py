"""The layers of a progressively grown GAN, from Karras et al. 2018 (arXiv 1710.10196).

Shapes: N images, C channels, H x W pixels; images and feature maps are [N, C, H, W].
"""

from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pggan.models import conv2d_gradfix
from pggan.models.conv2d_gradfix import convolve

LEAK = 0.2  # slope of the leaky ReLU below zero, appendix A
GAIN = 2**0.5  # He et al. 2015, for layers followed by a leaky ReLU
Rng = torch.Generator | None  # source of the initial weights; None: torch's global one


class EqualizedConv2d(nn.Module):
    """A "same" convolution with equalized learning rate (section 4.1).

    The weights are drawn from N(0, 1) and multiplied by gain / sqrt(fan_in) at run time, so Adam moves all layers at
    the same relative speed. The bias is not scaled. up: nearest-neighbor x2 upsampling before the convolution, both as
    one transposed convolution with 4/9 of the multiplications.
    """

    def __init__(
        self, fan: int, out: int, kernel: int, gain: float = GAIN, rng: Rng = None, bias: bool = True, up: bool = False
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
        return convolve(x, upsampling(weight), self.bias, stride=2, padding=self.padding, transposed=True)


def upsampling(weight: Tensor) -> Tensor:
    """[out, fan, k, k] -> [fan, out, k + 1, k + 1]: the weight of a transposed convolution of stride 2 that equals
    nearest-neighbor x2 upsampling followed by `weight`.

    Each pixel of the small image reaches an output pixel through up to four weights, which are summed (the "fused
    scale" of Karras et al. 2018).
    """
    padded = F.pad(weight.flip(2, 3).transpose(0, 1), (1, 1, 1, 1))  # (fan, out, k + 2, k + 2)
    rows = padded[:, :, 1:] + padded[:, :, :-1]
    return rows[:, :, :, 1:] + rows[:, :, :, :-1]


class EqualizedLinear(nn.Module):
    """A dense layer with equalized learning rate.

    lr_multiplier: its learning rate relative to that of other layers, bias included (Karras et al. 2019, appendix C).
    """

    def __init__(
        self, fan: int, out: int, gain: float = GAIN, bias: bool = True, rng: Rng = None, lr_multiplier: float = 1.0
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out, fan, generator=rng) / lr_multiplier)
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        self.scale, self.lr_multiplier = gain * lr_multiplier / fan**0.5, lr_multiplier

    def forward(self, x: Tensor) -> Tensor:
        """[N, fan] -> [N, out]"""
        bias = self.bias if self.bias is None or self.lr_multiplier == 1 else self.bias * self.lr_multiplier
        return F.linear(x, self.weight * self.scale, bias)


def without_autocast(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Keeps the dtype of x: on a GPU, autocast would turn bfloat16 and float16 into float32 here."""

    @wraps(function)
    def run(x: Tensor) -> Tensor:
        if not torch.is_autocast_enabled(x.device.type):
            return function(x)
        with torch.autocast(x.device.type, enabled=False):
            return function(x)

    return run


def leaky_relu(x: Tensor) -> Tensor:
    return conv2d_gradfix.leaky_relu(x, LEAK)


@without_autocast
def pixel_norm(x: Tensor) -> Tensor:
    """x / sqrt(mean over channels of x^2 + eps) at each pixel (section 4.2); also for latents [N, C]."""
    fp16 = x.dtype == torch.float16  # cannot represent 1e-8 or 256^2
    power = (x.float() if fp16 else x).square().mean(dim=1, keepdim=True)  # (N, 1, H, W)
    return x * torch.rsqrt(power + (1e-4 if fp16 else 1e-8)).to(x.dtype)


def minibatch_stddev(x: Tensor, group: int) -> Tensor:
    """Appends a map with the standard deviation within the image's group (section 3). [N, C, H, W] -> [N, C+1, H, W]

    Groups are strided: image i with i + N/group, i + 2 N/group ... The variance is the biased one.
    Raises ValueError if N is not a multiple of min(group, N).
    """
    n, c, h, w = x.shape
    group = min(group, n)
    if n % group:
        raise ValueError(f"a batch of {n} does not divide into groups of {group} for minibatch stddev")
    y = x.to(torch.promote_types(x.dtype, torch.float32))  # 1e-8 would be 0 in half precision, the gradient infinite
    y = y.reshape(group, n // group, c, h, w)  # (G, M, C, H, W)
    y = (y - y.mean(dim=0)).square().mean(dim=0)  # (M, C, H, W): variance over the group
    y = (y + 1e-8).sqrt().mean(dim=(1, 2, 3))  # (M,)
    y = y.to(x.dtype).repeat(group).reshape(n, 1, 1, 1).expand(n, 1, h, w)  # image i belongs to group i mod M
    return torch.cat([x, y], dim=1)


@without_autocast
def upsample(x: Tensor) -> Tensor:
    """Nearest neighbor x2. [N, C, H, W] -> [N, C, 2H, 2W]"""
    return F.interpolate(x, scale_factor=2, mode="nearest")


def downsample(x: Tensor) -> Tensor:
    """Mean of each 2x2. [N, C, H, W] -> [N, C, H/2, W/2]"""
    return F.avg_pool2d(x, 2)


@without_autocast
def fir_upsample(x: Tensor) -> Tensor:
    """x2 with the filter [1, 3, 3, 1] (Karras et al. 2020, appendix B), edges repeated. [N, C, H, W] -> [N, C, 2H, 2W]

    Bilinear interpolation by a factor of two is this filter.
    """
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


@without_autocast
def fir_downsample(x: Tensor) -> Tensor:
    """Half the size with the filter [1, 3, 3, 1] / 8, edges repeated. [N, C, H, W] -> [N, C, H/2, W/2]"""
    x = F.pad(x, (1, 1, 1, 1), mode="replicate")
    x = (x[:, :, :-3:2] + x[:, :, 3::2]) / 8 + (x[:, :, 1:-2:2] + x[:, :, 2:-1:2]) * 0.375
    return (x[..., :-3:2] + x[..., 3::2]) / 8 + (x[..., 1:-2:2] + x[..., 2:-1:2]) * 0.375
