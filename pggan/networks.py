"""The generator and the discriminator, and how they grow: Karras et al. 2018, sections 2 and 4, table 2.

Shapes: N pictures, Z latent, C channels. An image at resolution RES is [N, 3, H, W], nominally in [-1, 1]; toRGB is
linear, so a value may lie outside. Only the last two toRGB/fromRGB pairs exist: the others can never be used again.
"""

import torch
from torch import Tensor, nn

from pggan.config import NetworkConfig
from pggan.layers import (
    EqualizedConv2d,
    EqualizedLinear,
    downsample,
    leaky_relu,
    minibatch_stddev,
    pixel_norm,
    upsample,
)

Rng = torch.Generator | None


class GeneratorInput(nn.Module):
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

    def forward(self, h: Tensor) -> Tensor:
        x = h.reshape(-1, self.fmaps, self.height, self.width)  # (N, C, 4, 4)
        x = pixel_norm(leaky_relu(x + self.bias.reshape(1, -1, 1, 1)))
        return pixel_norm(leaky_relu(self.conv(x)))


class GeneratorBlock(nn.Module):
    """Twice the resolution: [N, C, H, W] -> [N, C', 2H, 2W]."""

    def __init__(self, fan: int, out: int, rng: Rng):
        super().__init__()
        self.conv0 = EqualizedConv2d(fan, out, 3, rng=rng)
        self.conv1 = EqualizedConv2d(out, out, 3, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = pixel_norm(leaky_relu(self.conv0(upsample(x))))
        return pixel_norm(leaky_relu(self.conv1(x)))


class DiscriminatorBlock(nn.Module):
    """Half the resolution: [N, C, H, W] -> [N, C', H/2, W/2]."""

    def __init__(self, fan: int, out: int, rng: Rng):
        super().__init__()
        self.conv0 = EqualizedConv2d(fan, fan, 3, rng=rng)
        self.conv1 = EqualizedConv2d(fan, out, 3, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.conv0(x))
        return downsample(leaky_relu(self.conv1(x)))


class DiscriminatorOutput(nn.Module):
    """The base grid to one number a picture, which has seen the variety of its group."""

    def __init__(self, config: NetworkConfig, rng: Rng):
        super().__init__()
        width, height = config.grid()
        fmaps, hidden = config.fmaps(0), config.fmaps(-1)
        self.group = config.stddev_group
        self.conv = EqualizedConv2d(fmaps + 1, fmaps, 3, rng=rng)
        self.dense0 = EqualizedLinear(fmaps * height * width, hidden, rng=rng)
        self.dense1 = EqualizedLinear(hidden, 1, gain=1.0, rng=rng)

    def forward(self, x: Tensor) -> Tensor:
        x = leaky_relu(self.conv(minibatch_stddev(x, self.group)))
        return self.dense1(leaky_relu(self.dense0(x.flatten(1)))).squeeze(1)  # (N,)


class Growing(nn.Module):
    """What both networks share: blocks and RGB layers by resolution, and growth by one block.

    config: sizes; rng: where the initial weights are drawn from (None: torch's own).
    `res` is the resolution the network is at, in pixels of the shorter side.
    """

    def __init__(self, config: NetworkConfig, rng: Rng = None):
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleDict()
        self.rgb = nn.ModuleDict()
        self.res = config.rungs()[0]
        start = config.stages()[0]
        for res in config.rungs()[1 : config.level(start) + 1]:
            self.blocks[str(res)] = self.new_block(res, rng)
            self.res = res
        self.rgb[str(start)] = self.new_rgb(start, rng)

    def grow(self, rng: Rng = None) -> None:
        """Adds the block of twice the resolution. At alpha 0 the network computes what it did before.

        Raises ValueError at the end of the ladder.
        """
        rungs, level = self.config.rungs(), self.config.level(self.res) + 1
        if level == len(rungs) or self.config.fmaps(level) < 1:
            raise ValueError(f"{self.res} px is as far as these networks go")
        like = next(self.parameters())  # device and dtype
        self.rgb = nn.ModuleDict({str(self.res): self.rgb[str(self.res)]})  # older ones can never be seen again
        self.res = rungs[level]
        self.blocks[str(self.res)] = self.new_block(self.res, rng).to(like)
        self.rgb[str(self.res)] = self.new_rgb(self.res, rng).to(like)

    def newest(self) -> set[str]:
        """Names of the parameters that the last grow() added; all, if it never grew."""
        if len(self.rgb) == 1:
            return {name for name, _ in self.named_parameters()}
        new = (f"blocks.{self.res}.", f"rgb.{self.res}.")
        return {name for name, _ in self.named_parameters() if name.startswith(new)}

    def _fading(self, alpha: float) -> bool:
        return alpha < 1 and len(self.rgb) == 2  # the stage that training began with has nothing to fade from

    def _previous_rgb(self) -> nn.Module:
        return next(iter(self.rgb.values()))


class Generator(Growing):
    """G(z, alpha): latents [N, Z] ~ N(0, I) to images [N, 3, H, W] nominally in [-1, 1].

    alpha in [0, 1] is the weight of the newest block in the fade.
    """

    def __init__(self, config: NetworkConfig, rng: Rng = None):
        super().__init__(config, rng)
        self.input = GeneratorInput(config, rng)

    def new_block(self, res: int, rng: Rng) -> nn.Module:
        level = self.config.level(res)
        return GeneratorBlock(self.config.fmaps(level - 1), self.config.fmaps(level), rng)

    def new_rgb(self, res: int, rng: Rng) -> nn.Module:
        return EqualizedConv2d(self.config.fmaps(self.config.level(res)), 3, 1, gain=1.0, rng=rng)

    def forward(self, z: Tensor, alpha: float = 1.0) -> Tensor:
        return self.synthesize(self.project(z), alpha)

    def project(self, z: Tensor) -> Tensor:
        """The latent dense layer's output, [N, Z] -> [N, C * H0 * W0], before its bias and pixelnorm.

        The place to pull samples towards the mean: scaling z itself is undone by its normalisation.
        """
        return self.input.dense(pixel_norm(z))

    def synthesize(self, h: Tensor, alpha: float = 1.0) -> Tensor:
        """From project()'s output to the image."""
        x = below = self.input(h)
        for block in self.blocks.values():
            below, x = x, block(x)
        image = self.rgb[str(self.res)](x)
        if self._fading(alpha):
            image = torch.lerp(upsample(self._previous_rgb()(below)), image, alpha)
        return image


class Discriminator(Growing):
    """D(image, alpha): images [N, 3, H, W] to one logit a picture, [N]; higher means more real."""

    def __init__(self, config: NetworkConfig, rng: Rng = None):
        super().__init__(config, rng)
        self.output = DiscriminatorOutput(config, rng)

    def new_block(self, res: int, rng: Rng) -> nn.Module:
        level = self.config.level(res)
        return DiscriminatorBlock(self.config.fmaps(level), self.config.fmaps(level - 1), rng)

    def new_rgb(self, res: int, rng: Rng) -> nn.Module:
        return EqualizedConv2d(3, self.config.fmaps(self.config.level(res)), 1, rng=rng)

    def forward(self, image: Tensor, alpha: float = 1.0) -> Tensor:
        newest, *older = [*reversed(self.blocks.values()), self.output]
        x = newest(leaky_relu(self.rgb[str(self.res)](image)))
        if self._fading(alpha):
            x = torch.lerp(leaky_relu(self._previous_rgb()(downsample(image))), x, alpha)
        for block in older:
            x = block(x)
        return x


def fade_reals(images: Tensor, alpha: float) -> Tensor:
    """Real images as D must see them in a fade: as blurred as the generator's are. [N, 3, H, W], alpha in [0, 1]."""
    return images if alpha >= 1 else torch.lerp(upsample(downsample(images)), images, alpha)
