"""The networks of Karras et al. 2018, sections 2 and 4, table 2: equalized layers, pixelnorm, minibatch stddev."""

import torch
from torch import Tensor, nn

from pggan.config.schema import NetworkConfig
from pggan.models.layers import EqualizedConv2d, EqualizedLinear, downsample, leaky_relu, minibatch_stddev, pixel_norm

Rng = torch.Generator | None


class Input(nn.Module):
    """Latent to the base grid. The gain sqrt(2)/4 of the dense layer is the published code's."""

    def __init__(self, config: NetworkConfig, rng: Rng):
        super().__init__()
        self.width, self.height = config.grid()
        self.fmaps = config.fmaps(0)
        self.dense = EqualizedLinear(
            config.latent, self.fmaps * self.height * self.width, gain=2**0.5 / 4, bias=False, rng=rng
        )
        self.bias = nn.Parameter(torch.zeros(self.fmaps))  # one a map, not one an output of the dense layer
        self.conv = EqualizedConv2d(self.fmaps, self.fmaps, 3, rng=rng)

    def project(self, z: Tensor) -> Tensor:
        """[N, Z] -> [N, C * H0 * W0], before bias and pixelnorm: scaling z itself is undone by its normalization."""
        return self.dense(pixel_norm(z))

    def forward(self, h: Tensor, noise: Tensor | None = None) -> Tensor:
        x = h.reshape(-1, self.fmaps, self.height, self.width)  # (N, C, 4, 4)
        x = pixel_norm(leaky_relu(x + self.bias.reshape(1, -1, 1, 1)))
        return pixel_norm(leaky_relu(self.conv(x)))


class UpBlock(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        fan, out = config.fmaps(level - 1), config.fmaps(level)
        self.conv0 = EqualizedConv2d(fan, out, 3, rng=rng, up=True)
        self.conv1 = EqualizedConv2d(out, out, 3, rng=rng)

    def forward(self, x: Tensor, h: Tensor | None = None, noise: Tensor | None = None) -> Tensor:
        x = pixel_norm(leaky_relu(self.conv0(x)))
        return pixel_norm(leaky_relu(self.conv1(x)))


class ToRGB(EqualizedConv2d):
    """1x1 and linear: no tanh."""

    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__(config.fmaps(level), 3, 1, gain=1.0, rng=rng)

    def forward(self, x: Tensor, h: Tensor | None = None) -> Tensor:
        return super().forward(x)


class FromRGB(EqualizedConv2d):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__(3, config.fmaps(level), 1, rng=rng)

    def forward(self, image: Tensor) -> Tensor:
        return leaky_relu(super().forward(image))


class DownBlock(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        fan, out = config.fmaps(level), config.fmaps(level - 1)
        self.conv0 = EqualizedConv2d(fan, fan, 3, rng=rng)
        self.conv1 = EqualizedConv2d(fan, out, 3, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.conv0(x))
        return downsample(leaky_relu(self.conv1(x)))


class Output(nn.Module):
    """The base grid to one number a picture, which has seen the variety of its group (none for a group of 0)."""

    def __init__(self, config: NetworkConfig, rng: Rng):
        super().__init__()
        width, height = config.grid()
        fmaps, hidden = config.fmaps(0), config.fmaps(-1)
        self.group = config.stddev_group
        self.conv = EqualizedConv2d(fmaps + (self.group > 0), fmaps, 3, rng=rng)
        self.dense0 = EqualizedLinear(fmaps * height * width, hidden, rng=rng)
        self.dense1 = EqualizedLinear(hidden, 1, gain=1.0, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.conv(minibatch_stddev(x, self.group) if self.group else x))
        return self.dense1(leaky_relu(self.dense0(x.flatten(1)))).squeeze(1)  # (N,)
