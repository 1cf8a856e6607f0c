"""Style-based networks, growing: Karras et al. 2019 (arXiv 1812.04948) and 2020 (arXiv 1912.04958).

A mapping network of two layers, modulated convolutions with demodulation, noise, FIR resampling, summed toRGB layers,
and a residual discriminator. An image is a sum over resolutions, so growing one adds a term and throws none away.
"""

import torch
from torch import Tensor, nn

from pggan.config.schema import NetworkConfig
from pggan.models.archs import paper
from pggan.models.archs.paper import FromRGB, Output
from pggan.models.layers import (
    GAIN,
    EqualizedConv2d,
    EqualizedLinear,
    fir_downsample,
    fir_upsample,
    leaky_relu,
    pixel_norm,
)

__all__ = ["DownBlock", "FromRGB", "Input", "Output", "ToRGB", "UpBlock"]  # FromRGB and Output are the paper's

Rng = torch.Generator | None
MAPPING_RATE = 0.01  # learning rate of the mapping network over that of all else, 2019, appendix C


class ModulatedConv2d(nn.Module):
    """A "same" convolution whose input channels are scaled by a style and whose output is brought back to unit size.

    2020, section 2.2, equations 1 to 3; the weights are shared by the batch, so that scaling stands before and after.
    """

    def __init__(self, config: NetworkConfig, fan: int, out: int, kernel: int, demodulate: bool, rng: Rng):
        super().__init__()
        self.style = EqualizedLinear(config.latent, fan, gain=1.0, rng=rng)
        nn.init.ones_(self.style.bias)
        self.conv = EqualizedConv2d(fan, out, kernel, gain=1.0, rng=rng, bias=False)
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x: [N, fan, H, W]; w: [N, Z] -> [N, out, H, W]"""
        with torch.autocast(x.device.type, enabled=False):  # a factor rounded to half precision is wrong on all pixels
            style = self.style(w)  # (N, fan)
            if self.demodulate:
                power = style.square() @ (self.conv.weight * self.conv.scale).square().sum(dim=(2, 3)).T  # (N, out)
        y = self.conv(x * style[:, :, None, None].to(x.dtype))
        return y * torch.rsqrt(power + 1e-8)[:, :, None, None].to(y.dtype) if self.demodulate else y


class StyledConv(nn.Module):
    """Modulated convolution, noise of a strength that is learned (from 0), bias, leaky ReLU."""

    def __init__(self, config: NetworkConfig, fan: int, out: int, rng: Rng):
        super().__init__()
        self.conv = ModulatedConv2d(config, fan, out, 3, demodulate=True, rng=rng)
        self.noise = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """noise: [N, 1, H, W] or None"""
        y = self.conv(x, w)
        if noise is not None:
            y = y + (self.noise * noise).to(y.dtype)
        return GAIN * leaky_relu(y + self.bias[:, None, None].to(y.dtype))


class Input(nn.Module):
    """The mapping network, and a learned constant on the base grid."""

    def __init__(self, config: NetworkConfig, rng: Rng):
        super().__init__()
        width, height = config.grid()
        fmaps, latent = config.fmaps(0), config.latent
        self.dense0 = EqualizedLinear(latent, latent, rate=MAPPING_RATE, rng=rng)
        self.dense1 = EqualizedLinear(latent, latent, rate=MAPPING_RATE, rng=rng)
        self.constant = nn.Parameter(torch.randn(fmaps, height, width, generator=rng))
        self.conv = StyledConv(config, fmaps, fmaps, rng)

    def project(self, z: Tensor) -> Tensor:
        """[N, Z] -> w [N, Z], where truncation pulls (2019, appendix B)."""
        return leaky_relu(self.dense1(leaky_relu(self.dense0(pixel_norm(z)))))

    def forward(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        x = self.constant.expand(len(w), -1, -1, -1)
        return self.conv(x, w, None if noise is None else noise[:, :1])


class UpBlock(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        fan, out = config.fmaps(level - 1), config.fmaps(level)
        self.conv0, self.conv1 = StyledConv(config, fan, out, rng), StyledConv(config, out, out, rng)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        first, second = (None, None) if noise is None else noise.split(1, dim=1)
        return self.conv1(self.conv0(fir_upsample(x), w, first), w, second)


class ToRGB(nn.Module):
    """Modulated, 1x1, linear, without demodulation."""

    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        self.conv = ModulatedConv2d(config, config.fmaps(level), 3, 1, demodulate=False, rng=rng)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, w) + self.bias[:, None, None]


class DownBlock(paper.DownBlock):
    """Residual, 2020, section 4.1; the mean square of its output is that of either branch."""

    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__(config, level, rng)
        self.skip = EqualizedConv2d(config.fmaps(level), config.fmaps(level - 1), 1, gain=1.0, rng=rng, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = leaky_relu(self.conv1(fir_downsample(leaky_relu(self.conv0(x)))))
        return (y + self.skip(fir_downsample(x))) / 2**0.5
