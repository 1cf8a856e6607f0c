"""The networks of Karras et al. 2018, sections 2 and 4, table 2: equalized layers, pixelnorm, minibatch stddev."""

import torch
from torch import Tensor, nn

from pggan.config.network import NetworkConfig
from pggan.models.archs.arch import Arch, Rng
from pggan.models.layers import EqualizedConv2d, EqualizedLinear, downsample, leaky_relu, minibatch_stddev, pixel_norm


class Input(nn.Module):
    """Latents to the base grid. The dense layer's gain sqrt(2)/4 is the one of the published code."""

    def __init__(self, config: NetworkConfig, rng: Rng):
        super().__init__()
        width, height = config.grid()
        fmaps = config.fmaps(0)
        self.shape = (fmaps, height, width)
        self.dense = EqualizedLinear(config.latent, fmaps * height * width, gain=2**0.5 / 4, bias=False, rng=rng)
        self.bias = nn.Parameter(torch.zeros(fmaps))  # one per feature map, not per output of the dense layer
        self.conv = EqualizedConv2d(fmaps, fmaps, 3, rng=rng)

    def project(self, z: Tensor) -> Tensor:
        """[N, Z] -> h [N, C * H0 * W0]. Truncation acts on h: scaling z does nothing, since z is normalized."""
        return self.dense(pixel_norm(z))

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Tensor:
        x = h.reshape(-1, *self.shape)  # (N, C, H0, W0)
        x = pixel_norm(leaky_relu(x + self.bias.reshape(1, -1, 1, 1)))
        return pixel_norm(leaky_relu(self.conv(x)))  # (N, C, H0, W0)


class UpBlock(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        fan, out = config.fmaps(level - 1), config.fmaps(level)
        self.conv0 = EqualizedConv2d(fan, out, 3, rng=rng, up=True)
        self.conv1 = EqualizedConv2d(out, out, 3, rng=rng)

    def forward(self, x: Tensor, h: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        x = pixel_norm(leaky_relu(self.conv0(x)))  # (N, C', 2H, 2W)
        return pixel_norm(leaky_relu(self.conv1(x)))  # (N, C', 2H, 2W)


class ToRGB(EqualizedConv2d):
    """1x1 and linear: no tanh."""

    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__(config.fmaps(level), 3, 1, gain=1.0, rng=rng)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        return super().forward(x)  # (N, 3, H, W)


class FromRGB(EqualizedConv2d):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__(3, config.fmaps(level), 1, rng=rng)

    def forward(self, image: Tensor) -> Tensor:
        return leaky_relu(super().forward(image))  # (N, C, H, W)


class DownBlock(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        fan, out = config.fmaps(level), config.fmaps(level - 1)
        self.conv0 = EqualizedConv2d(fan, fan, 3, rng=rng)
        self.conv1 = EqualizedConv2d(fan, out, 3, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.conv0(x))  # (N, C, H, W)
        return downsample(leaky_relu(self.conv1(x)))  # (N, C', H/2, W/2)


class Output(nn.Module):
    """Minibatch stddev (unless its group is 0), a convolution and two dense layers."""

    def __init__(self, config: NetworkConfig, rng: Rng):
        super().__init__()
        width, height = config.grid()
        fmaps, hidden = config.fmaps(0), config.fmaps(-1)
        self.group = config.stddev_group
        self.conv = EqualizedConv2d(fmaps + (self.group > 0), fmaps, 3, rng=rng)
        self.dense0 = EqualizedLinear(fmaps * height * width, hidden, rng=rng)
        self.dense1 = EqualizedLinear(hidden, 1, gain=1.0, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.conv(minibatch_stddev(x, self.group) if self.group else x))  # (N, C, H0, W0)
        return self.dense1(leaky_relu(self.dense0(x.flatten(1)))).squeeze(1)  # (N,)


ARCH = Arch(Input, UpBlock, ToRGB, FromRGB, DownBlock, Output)
