"""The growing frame: one generator, one discriminator, whatever parts they are made of (pggan/archs).

After Karras et al. 2018, section 2. Shapes: N pictures, Z latent, C channels. An image at resolution RES is
[N, 3, H, W], nominally in [-1, 1]; only dcgan's tanh keeps every value inside. Layers to and from RGB that can never
be used again are dropped.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pggan.config.schema import NetworkConfig
from pggan.models.activation_checkpointing import recomputed
from pggan.models.archs import ARCHS, Arch

Rng = torch.Generator | None

FULL_PRECISION_RES = 16  # at and below, half precision costs accuracy and saves little
CLAMP = 256.0  # of float16 activations, whose largest is 65,504 (Karras et al. 2020b, appendix D)


class Growing(nn.Module):
    """What both networks share: blocks and RGB layers by resolution, and growth by one block.

    config: sizes; rng: where the initial weights are drawn from (None: torch's own).
    `res` is the resolution the network is at, in pixels of the shorter side; `half` the precision above 16 px, None
    for full precision everywhere. recompute: whether parts are computed again for their gradients, and of their
    activations none is kept.
    """

    keeps_rgb = False

    def __init__(self, config: NetworkConfig, rng: Rng = None):
        super().__init__()
        self.config, self.arch = config, ARCHS[config.arch]
        self.half: torch.dtype | None = None
        self.recompute = False
        self.blocks = nn.ModuleDict()
        self.rgb = nn.ModuleDict()
        start = config.stages()[0]
        for res in config.resolutions()[: config.level(start) + 1]:
            if res > config.resolutions()[0]:
                self.blocks[str(res)] = self.new_block(config.level(res), rng)
            if res == start or self.keeps_rgb:
                self.rgb[str(res)] = self.new_rgb(config.level(res), rng)
            self.res = res

    def grow(self, rng: Rng = None) -> None:
        """Adds the block of twice the resolution. At alpha 0 the network computes what it did before.

        Raises ValueError at the end of the ladder.
        """
        resolutions, level = self.config.resolutions(), self.config.level(self.res) + 1
        if level == len(resolutions) or self.config.fmaps(level) < 1:
            raise ValueError(f"{self.res} px is as far as these networks go")
        like = next(self.parameters())  # device and dtype
        if not self.keeps_rgb:
            self.rgb = nn.ModuleDict({str(self.res): self.rgb[str(self.res)]})  # older ones can never be seen again
        self.res = resolutions[level]
        self.blocks[str(self.res)] = self.new_block(level, rng).to(like)
        self.rgb[str(self.res)] = self.new_rgb(level, rng).to(like)
        self.train(self.training)  # the new parts too, whose norms would else take another batch's measure

    @property
    def grown(self) -> bool:
        """Whether there is anything to fade from: not at the resolution that training began with."""
        return self.res > self.config.stages()[0]

    def newest(self) -> set[str]:
        """Names of the parameters and buffers that the last grow() added; all, if it never grew."""
        new = (f"blocks.{self.res}.", f"rgb.{self.res}.") if self.grown else ""
        return {name for name in self.state_dict() if name.startswith(new)}

    def _fading(self, alpha: float | Tensor) -> bool:
        """Nobody looks into a tensor, which may be on a GPU that is busy."""
        return self.grown and (isinstance(alpha, Tensor) or alpha < 1)

    def _run(self, part: nn.Module, res: int, x: Tensor, *more: Tensor | None) -> Tensor:
        """A part's output."""
        if not (self.recompute and torch.is_grad_enabled()):
            return self._compute(part, res, x, *more)

        def later(*given: Tensor | None) -> Tensor:
            return functional_call(part, {name: buffer.clone() for name, buffer in part.named_buffers()}, given)

        runs = (partial(self._compute, run, res) for run in (part, later))  # batch norm measures the first time only
        return recomputed(*runs, [*part.parameters()], x, *more)

    def _compute(self, part: Callable[..., Tensor], res: int, x: Tensor, *more: Tensor | None) -> Tensor:
        """A part's output, in half precision if the network has one and the resolution bears it."""
        if self.half is None:
            return part(x, *more)
        bears = res > FULL_PRECISION_RES
        with torch.autocast(x.device.type, dtype=self.half, enabled=bears):
            y = part(x.to(self.half if bears else torch.float32), *more)
        return y.clamp(-CLAMP, CLAMP) if y.dtype == torch.float16 else y


class Generator(Growing):
    """G(z, alpha): latents [N, Z] ~ N(0, I) to images [N, 3, H, W] nominally in [-1, 1].

    alpha in [0, 1], a number or a 0-d tensor, is the weight of the newest block in the fade. noise: [N, noise_size()] ~
    N(0, 1) for the networks that take some, lower resolutions first; without it they make the picture of average
    detail.
    """

    def __init__(self, config: NetworkConfig, rng: Rng = None):
        self.keeps_rgb = ARCHS[config.arch].skip
        super().__init__(config, rng)
        self.input = self.arch.input(config, rng)

    def new_block(self, level: int, rng: Rng) -> nn.Module:
        return self.arch.up_block(self.config, level, rng)

    def new_rgb(self, level: int, rng: Rng) -> nn.Module:
        return self.arch.to_rgb(self.config, level, rng)

    def forward(self, z: Tensor, alpha: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        return self.synthesize(self.project(z), alpha, noise)

    def project(self, z: Tensor) -> Tensor:
        """What the latents are to the rest of the network, [N, Z] -> [N, K]: the place to pull samples to the mean."""
        return self.input.project(z)

    def synthesize(self, h: Tensor, alpha: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        """From project()'s output to the image."""
        base = self.config.resolutions()[0]
        x = self._run(self.input, base, h, self._noise_at(noise, base))
        image = self._show(None, base, x, h, alpha)
        for name, block in self.blocks.items():
            res = int(name)
            x = self._run(block, res, x, h, self._noise_at(noise, res))
            image = self._show(image, res, x, h, alpha)
        return image

    def noise_size(self) -> int:
        """How many random numbers synthesize() takes for each picture at this resolution; 0: none."""
        return sum(self._noise_maps(res) for res in self.config.resolutions() if res <= self.res)

    def _noise_maps(self, res: int) -> int:
        width, height = self.config.size(res)
        return self.arch.noise_maps * width * height

    def _noise_at(self, noise: Tensor | None, res: int) -> Tensor | None:
        """The share of a resolution: [N, noise_maps, H, W]."""
        if noise is None or not self.arch.noise_maps:
            return None
        start = sum(self._noise_maps(lower) for lower in self.config.resolutions() if lower < res)
        width, height = self.config.size(res)
        return noise[:, start : start + self._noise_maps(res)].reshape(len(noise), -1, height, width)

    def _show(self, image: Tensor | None, res: int, x: Tensor, h: Tensor, alpha: float | Tensor) -> Tensor | None:
        """The image so far at half of `res`, with what this resolution's toRGB layer makes of `x`."""
        newest = res == self.res
        if str(res) not in self.rgb or not (newest or self.arch.skip or self._fading(alpha)):
            return image
        seen = self._run(self.rgb[str(res)], res, x, h)
        seen = seen.float() if self.half else seen
        if image is None:
            return seen
        before = self.arch.upsample(image)
        if self.arch.skip:
            return before + alpha * seen if newest and self.grown else before + seen
        return torch.lerp(before, seen, alpha)


class Discriminator(Growing):
    """D(image, alpha): images [N, 3, H, W] to one logit a picture, [N]; higher means more real."""

    def __init__(self, config: NetworkConfig, rng: Rng = None):
        super().__init__(config, rng)
        self.output = self.arch.output(config, rng)

    def new_block(self, level: int, rng: Rng) -> nn.Module:
        return self.arch.down_block(self.config, level, rng)

    def new_rgb(self, level: int, rng: Rng) -> nn.Module:
        return self.arch.from_rgb(self.config, level, rng)

    def forward(self, image: Tensor, alpha: float | Tensor = 1.0) -> Tensor:
        x = self._run(self.rgb[str(self.res)], self.res, image)
        for name, block in reversed(self.blocks.items()):
            res = int(name)
            x = self._run(block, res, x)
            if res == self.res and self._fading(alpha):
                lower = next(iter(self.rgb))
                before = self._run(self.rgb[lower], int(lower), self.arch.downsample(image))
                full = before.float() if self.half else before  # a share rounded to half precision moves in jumps
                x = torch.lerp(full, x.to(full.dtype), alpha)
        return self._run(self.output, self.config.resolutions()[0], x)


def fade_reals(images: Tensor, alpha: float, arch: Arch = ARCHS["paper"]) -> Tensor:
    """Real images as D must see them in a fade: as blurred as the generator's are, by the same filters.

    [N, 3, H, W], alpha in [0, 1].
    """
    return images if alpha >= 1 else torch.lerp(arch.upsample(arch.downsample(images)), images, alpha)
