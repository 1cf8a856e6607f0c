"""Style-based networks, growing: Karras et al. 2019 (arXiv 1812.04948) and 2020 (arXiv 1912.04958).

A mapping network of two layers, modulated convolutions with demodulation, noise, FIR resampling, summed toRGB layers
and a residual discriminator. An image is a sum over resolutions, so growth adds a term and removes none.
"""

import torch
from torch import Tensor, nn

from pggan.config.network import NetworkConfig
from pggan.models.archs import paper
from pggan.models.archs.arch import Arch, Rng
from pggan.models.layers import EqualizedConv2d, EqualizedLinear, fir_downsample, fir_upsample, leaky_relu, pixel_norm

MAPPING_LR_MULTIPLIER = 0.01  # learning rate of the mapping network relative to all other layers, 2019, appendix C


class ModulatedConv2d(nn.Module):
    """A "same" convolution: a style scales its input channels, demodulation normalizes its output channels.

    2020, section 2.2, equations 1 to 3. All images share one weight; the scales are applied before and after it.
    """

    def __init__(self, config: NetworkConfig, fan: int, out: int, kernel: int, demodulate: bool, rng: Rng):
        super().__init__()
        self.style = EqualizedLinear(config.latent, fan, gain=1.0, rng=rng)
        nn.init.ones_(self.style.bias)
        self.conv = EqualizedConv2d(fan, out, kernel, gain=1.0, rng=rng, bias=False)
        self.demodulate = demodulate

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        """x: [N, fan, H, W]; w: [N, Z] -> [N, out, H, W]"""
        with torch.autocast(x.device.type, enabled=False):  # a rounding error of a scale would be on every pixel
            style = self.style(w)  # (N, fan)
            if self.demodulate:
                power = style.square() @ (self.conv.weight * self.conv.scale).square().sum(dim=(2, 3)).T  # (N, out)
        y = self.conv(x * style[:, :, None, None].to(x.dtype))  # (N, out, H, W)
        return y * torch.rsqrt(power + 1e-8)[:, :, None, None].to(y.dtype) if self.demodulate else y


class StyledConv(nn.Module):
    """Modulated convolution, noise of learned strength (initially 0), bias, leaky ReLU."""

    def __init__(self, config: NetworkConfig, fan: int, out: int, rng: Rng):
        super().__init__()
        self.conv = ModulatedConv2d(config, fan, out, 3, demodulate=True, rng=rng)
        self.noise = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(out))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        """x: [N, fan, H, W]; w: [N, Z]; noise: [N, 1, H, W] or None -> [N, out, H, W]"""
        y = self.conv(x, w)
        if noise is not None:
            y = y + (self.noise * noise).to(y.dtype)
        return 2**0.5 * leaky_relu(y + self.bias[:, None, None].to(y.dtype))


class Input(nn.Module):
    """The mapping network and a learned constant on the base grid."""

    def __init__(self, config: NetworkConfig, rng: Rng):
        super().__init__()
        width, height = config.grid()
        fmaps, latent = config.fmaps(0), config.latent
        self.dense0 = EqualizedLinear(latent, latent, lr_multiplier=MAPPING_LR_MULTIPLIER, rng=rng)
        self.dense1 = EqualizedLinear(latent, latent, lr_multiplier=MAPPING_LR_MULTIPLIER, rng=rng)
        self.constant = nn.Parameter(torch.randn(fmaps, height, width, generator=rng))
        self.conv = StyledConv(config, fmaps, fmaps, rng)

    def project(self, z: Tensor) -> Tensor:
        """[N, Z] -> w [N, Z], which truncation interpolates (2019, appendix B)."""
        return leaky_relu(self.dense1(leaky_relu(self.dense0(pixel_norm(z)))))

    def forward(self, w: Tensor, noise: Tensor | None = None) -> Tensor:
        x = self.constant.expand(len(w), -1, -1, -1)  # (N, C, H0, W0)
        return self.conv(x, w, None if noise is None else noise[:, :1])  # (N, C, H0, W0)


class UpBlock(nn.Module):
    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        fan, out = config.fmaps(level - 1), config.fmaps(level)
        self.conv0, self.conv1 = StyledConv(config, fan, out, rng), StyledConv(config, out, out, rng)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None = None) -> Tensor:
        first, second = (None, None) if noise is None else noise.split(1, dim=1)  # (N, 1, 2H, 2W)
        return self.conv1(self.conv0(fir_upsample(x), w, first), w, second)  # (N, C', 2H, 2W)


class ToRGB(nn.Module):
    """Modulated, 1x1, linear, without demodulation."""

    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__()
        self.conv = ModulatedConv2d(config, config.fmaps(level), 3, 1, demodulate=False, rng=rng)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, w) + self.bias[:, None, None]  # (N, 3, H, W)


class DownBlock(paper.DownBlock):
    """Residual (2020, section 4.1); 1/sqrt(2) keeps the mean square that each branch has."""

    def __init__(self, config: NetworkConfig, level: int, rng: Rng):
        super().__init__(config, level, rng)
        self.skip = EqualizedConv2d(config.fmaps(level), config.fmaps(level - 1), 1, gain=1.0, rng=rng, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = leaky_relu(self.conv1(fir_downsample(leaky_relu(self.conv0(x)))))  # (N, C', H/2, W/2)
        return (y + self.skip(fir_downsample(x))) / 2**0.5  # (N, C', H/2, W/2)


ARCH = Arch(
    *(Input, UpBlock, ToRGB, paper.FromRGB, DownBlock, paper.Output),
    upsample=fir_upsample,
    downsample=fir_downsample,
    skip=True,
    noise_maps=2,
)
