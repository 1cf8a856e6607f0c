"""Radford et al. 2016 (arXiv 1511.06434), growing: transposed convolutions, batch norm, weights ~ N(0, 0.02).

As published, except that resolutions are added one by one. `--residual` adds a second convolution and a skip connection
to each block. `--critic-norm` changes the norm in D: with batch norm, an image's gradient depends on the rest of the
batch, which gradient penalties do not allow (Gulrajani et al. 2017, section 4).

A convolution before a batch norm has no bias: batch norm subtracts it again, so its gradient would be rounding noise.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import skip_init

from pggan.config.network import NetworkConfig
from pggan.models.archs.arch import Arch, Rng
from pggan.models.conv2d_gradfix import convolve
from pggan.models.layers import downsample, leaky_relu, minibatch_stddev, upsample

STD = 0.02  # of the initial weights, section 4


class Conv2d(nn.Conv2d):
    """nn.Conv2d with cheap second derivatives."""

    def forward(self, x: Tensor) -> Tensor:
        return convolve(x, self.weight, self.bias, self.stride[0], self.padding[0])


upsampling4x4 = partial(skip_init, nn.ConvTranspose2d, kernel_size=4, stride=2, padding=1)
downsampling4x4 = partial(skip_init, Conv2d, kernel_size=4, stride=2, padding=1)
conv3x3 = partial(skip_init, Conv2d, kernel_size=3, padding=1)
conv1x1 = partial(skip_init, Conv2d, kernel_size=1)


class Norm(nn.Module):
    """kind: `batch`, `layer` (over C, H and W of an image) or `none`; initial scales ~ N(1, 0.02)."""

    def __init__(self, kind: str, fmaps: int):
        super().__init__()
        norms = {"batch": lambda: nn.BatchNorm2d(fmaps), "layer": lambda: nn.GroupNorm(1, fmaps), "none": nn.Identity}
        self.norm = norms[kind]()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x).to(x.dtype)  # on a GPU, autocast returns float32 from a layer norm


class Input(nn.Module):
    """Latents to the base grid, by a transposed convolution with a kernel of the grid's size."""

    def __init__(self, config: NetworkConfig, rng: Rng):
        super().__init__()
        width, height = config.grid()
        self.shape = (config.fmaps(0), height, width)
        self.conv = skip_init(nn.ConvTranspose2d, config.latent, self.shape[0], kernel_size=(height, width), bias=False)
        self.norm = Norm("batch", config.fmaps(0))
        initialize(self, rng)

    def project(self, z: Tensor) -> Tensor:
        """[N, Z] -> [N, C * H0 * W0], before the norm."""
        return self.conv(z[:, :, None, None]).flatten(1)

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Tensor:
        return F.relu(self.norm(h.reshape(-1, *self.shape)))  # (N, C, H0, W0)


class UpBlock(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        fan, out = config.fmaps(level - 1), config.fmaps(level)
        self.up, self.norm = upsampling4x4(fan, out, bias=False), Norm("batch", out)
        self.residual = config.residual
        if self.residual:
            self.conv, self.norm1 = conv3x3(out, out, bias=False), Norm("batch", out)
            self.skip = conv1x1(fan, out)
        initialize(self, rng)

    def forward(self, x: Tensor, h: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        y = F.relu(self.norm(self.up(x)))  # (N, C', 2H, 2W)
        if self.residual:
            y = F.relu(self.norm1(self.conv(y)) + upsample(self.skip(x)))  # (N, C', 2H, 2W)
        return y


class ToRGB(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        self.conv = conv3x3(config.fmaps(level), 3)
        initialize(self, rng)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        return torch.tanh(self.conv(x))  # (N, 3, H, W)


class FromRGB(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        self.conv = conv1x1(3, config.fmaps(level))
        initialize(self, rng)

    def forward(self, image: Tensor) -> Tensor:
        return leaky_relu(self.conv(image))  # (N, C, H, W)


class DownBlock(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        fan, out = config.fmaps(level), config.fmaps(level - 1)
        bias = config.critic_norm != "batch"
        self.down, self.norm = downsampling4x4(fan, out, bias=bias), Norm(config.critic_norm, out)
        self.residual = config.residual
        if self.residual:
            self.conv, self.norm1 = conv3x3(out, out, bias=bias), Norm(config.critic_norm, out)
            self.skip = conv1x1(fan, out)
        initialize(self, rng)

    def forward(self, x: Tensor) -> Tensor:
        y = leaky_relu(self.norm(self.down(x)))  # (N, C', H/2, W/2)
        if self.residual:
            y = leaky_relu(self.norm1(self.conv(y)) + self.skip(downsample(x)))  # (N, C', H/2, W/2)
        return y


class Output(nn.Module):
    """A convolution with a kernel of the base grid's size, after minibatch stddev if `--stddev-group` is above 0."""

    def __init__(self, config: NetworkConfig, rng: Rng):
        super().__init__()
        width, height = config.grid()
        self.group = config.stddev_group
        self.conv = skip_init(Conv2d, config.fmaps(0) + (self.group > 0), 1, kernel_size=(height, width))
        initialize(self, rng)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(minibatch_stddev(x, self.group) if self.group else x).flatten()  # (N,)


@torch.no_grad()
def initialize(part: nn.Module, rng: Rng) -> None:
    """Weights ~ N(0, 0.02), scales of norms ~ N(1, 0.02), biases 0; 0.02 is the standard deviation."""
    for name, parameter in part.named_parameters():
        if name.endswith("bias"):
            parameter.zero_()
        else:
            parameter.normal_(1.0 if parameter.ndim == 1 else 0.0, STD, generator=rng)


ARCH = Arch(Input, UpBlock, ToRGB, FromRGB, DownBlock, Output)
