"""The generator and the discriminator, which grow block by block. An arch (pggan/models/archs) provides their parts.

After Karras et al. 2018, section 2. Shapes: N images, Z latent size, C channels. An image at resolution RES is
[N, 3, H, W], nominally in [-1, 1]; only dcgan's tanh keeps every value inside.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pggan.config.network import NetworkConfig
from pggan.models.activation_checkpointing import recomputed
from pggan.models.archs import ARCHS, Arch
from pggan.models.archs.arch import Part, Rng

FULL_PRECISION_RES = 16  # at and below it, half precision costs accuracy and saves little
CLAMP = 256.0  # bound of float16 activations; the largest float16 is 65,504 (Karras et al. 2020b, appendix D)


class Growing(nn.Module):
    """Base class of both networks: blocks and RGB layers by resolution, and growth by one block.

    config: sizes; rng: source of the initial weights (None: torch's own); new_block, new_rgb: parts of the arch;
    keeps_rgb: whether growth keeps all RGB layers, not just the last two.
    `res` is the current resolution in pixels of the shorter side. `autocast_dtype` is the dtype above 16 px, None for
    float32 everywhere. `recompute` turns on activation checkpointing of each part.
    """

    def __init__(self, config: NetworkConfig, rng: Rng, new_block: Part, new_rgb: Part, keeps_rgb: bool = False):
        super().__init__()
        self.config, self.arch = config, ARCHS[config.arch]
        self.new_block, self.new_rgb, self.keeps_rgb = new_block, new_rgb, keeps_rgb
        self.autocast_dtype: torch.dtype | None = None
        self.recompute = False
        self.blocks, self.rgb = nn.ModuleDict(), nn.ModuleDict()
        self.res = config.stages()[0]
        for level, res in enumerate(config.resolutions()[: config.level(self.res) + 1]):
            if level > 0:
                self.blocks[str(res)] = new_block(config, level, rng)
            if res == self.res or keeps_rgb:
                self.rgb[str(res)] = new_rgb(config, level, rng)

    def grow(self, rng: Rng = None) -> None:
        """Adds a block of twice the resolution.

        At alpha 0, G then returns its old images upsampled, and D its old logits of the downsampled images. Raises
        ValueError at the highest resolution.
        """
        resolutions, level = self.config.resolutions(), self.config.level(self.res) + 1
        if level == len(resolutions) or self.config.fmaps(level) < 1:
            raise ValueError(f"{self.res} px is as far as these networks go")
        like = next(self.parameters())  # device and dtype
        if not self.keeps_rgb:
            self.rgb = nn.ModuleDict({str(self.res): self.rgb[str(self.res)]})  # older ones are never used again
        self.res = resolutions[level]
        self.blocks[str(self.res)] = self.new_block(self.config, level, rng).to(like)
        self.rgb[str(self.res)] = self.new_rgb(self.config, level, rng).to(like)
        self.train(self.training)  # the new parts are in the same mode

    @property
    def grown(self) -> bool:
        """Whether there is a lower resolution to fade from. False at the resolution that training began with."""
        return self.res > self.config.stages()[0]

    def newest(self) -> set[str]:
        """Names of the parameters and buffers that the last grow() added; all names if it never grew."""
        new = (f"blocks.{self.res}.", f"rgb.{self.res}.") if self.grown else ""
        return {name for name in self.state_dict() if name.startswith(new)}

    def _fading(self, alpha: float | Tensor) -> bool:
        """Whether alpha is below 1. A tensor always counts as a fade: reading its value would wait for the GPU."""
        return self.grown and (isinstance(alpha, Tensor) or alpha < 1)

    def _run(self, part: nn.Module, res: int, *inputs: Tensor | None) -> Tensor:
        """A part's output, with activation checkpointing if that is on."""
        if not (self.recompute and torch.is_grad_enabled()):
            return self._autocast(part, res, *inputs)

        def again(*inputs: Tensor | None) -> Tensor:
            """Runs the part on copies of its buffers, so that batch norm counts a batch only once."""
            return functional_call(part, {name: buffer.clone() for name, buffer in part.named_buffers()}, inputs)

        runs = (partial(self._autocast, run, res) for run in (part, again))
        return recomputed(*runs, [*part.parameters()], *inputs)

    def _autocast(self, part: Callable[..., Tensor], res: int, x: Tensor, *more: Tensor | None) -> Tensor:
        """A part's output, in `autocast_dtype` if the resolution is high enough."""
        if self.autocast_dtype is None:
            return part(x, *more)
        enabled = res > FULL_PRECISION_RES
        with torch.autocast(x.device.type, dtype=self.autocast_dtype, enabled=enabled):
            y = part(x.to(self.autocast_dtype if enabled else torch.float32), *more)
        return y.clamp(-CLAMP, CLAMP) if y.dtype == torch.float16 else y


class Generator(Growing):
    """G(z, alpha): latents [N, Z] ~ N(0, I) to images [N, 3, H, W], nominally in [-1, 1].

    alpha: in [0, 1], a number or a 0-d tensor, the weight of the newest block in a fade. noise: [N, noise_size()] ~
    N(0, 1), lower resolutions first, for networks with noise maps; None leaves the noise out.
    """

    def __init__(self, config: NetworkConfig, rng: Rng = None):
        arch = ARCHS[config.arch]
        super().__init__(config, rng, arch.up_block, arch.to_rgb, keeps_rgb=arch.skip)
        self.input = arch.input(config, rng)

    def forward(self, z: Tensor, alpha: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        return self.synthesize(self.project(z), alpha, noise)

    def project(self, z: Tensor) -> Tensor:
        """[N, Z] -> h [N, K], the input of synthesize(). Truncation moves h towards the mean of many h."""
        return self.input.project(z)

    def synthesize(self, h: Tensor, alpha: float | Tensor = 1.0, noise: Tensor | None = None) -> Tensor:
        """h [N, K] -> images [N, 3, H, W]."""
        base, maps = self.config.resolutions()[0], self._noise_maps(noise)
        x = self._run(self.input, base, h, maps.get(base))  # (N, C, H0, W0)
        image = self._add_rgb(None, base, x, h, alpha)
        for name, block in self.blocks.items():
            res = int(name)
            x = self._run(block, res, x, h, maps.get(res))  # (N, C, H, W) of this resolution
            image = self._add_rgb(image, res, x, h, alpha)
        return image

    def noise_size(self) -> int:
        """How many random numbers synthesize() takes per image at the current resolution; 0: none."""
        return sum(self._noise_sizes().values())

    def _noise_sizes(self) -> dict[int, int]:
        """{resolution: random numbers per image}, from the base to the current resolution."""
        sizes = {res: self.config.size(res) for res in self.config.resolutions() if res <= self.res}
        return {res: self.arch.noise_maps * width * height for res, (width, height) in sizes.items()}

    def _noise_maps(self, noise: Tensor | None) -> dict[int, Tensor]:
        """{resolution: [N, noise_maps, H, W]}; empty without noise."""
        if noise is None or not self.arch.noise_maps:
            return {}
        sizes = self._noise_sizes()
        parts = zip(sizes, noise.split([*sizes.values()], dim=1), strict=True)
        return {res: part.reshape(len(noise), -1, *reversed(self.config.size(res))) for res, part in parts}

    def _add_rgb(self, image: Tensor | None, res: int, x: Tensor, h: Tensor, alpha: float | Tensor) -> Tensor | None:
        """Upsamples the image so far to `res` and combines it with the output of this resolution's toRGB layer."""
        newest = res == self.res
        if str(res) not in self.rgb or not (newest or self.arch.skip or self._fading(alpha)):
            return image
        rgb = self._run(self.rgb[str(res)], res, x, h)  # (N, 3, H, W)
        rgb = rgb.float() if self.autocast_dtype else rgb
        if image is None:
            return rgb
        before = self.arch.upsample(image)  # (N, 3, H, W)
        if self.arch.skip:
            return before + alpha * rgb if newest and self.grown else before + rgb
        return torch.lerp(before, rgb, alpha)


class Discriminator(Growing):
    """D(image, alpha): images [N, 3, H, W] to logits [N]; higher means more real."""

    def __init__(self, config: NetworkConfig, rng: Rng = None):
        arch = ARCHS[config.arch]
        config = config.of_d()
        super().__init__(config, rng, arch.down_block, arch.from_rgb)
        self.output = arch.output(config, rng)

    def forward(self, image: Tensor, alpha: float | Tensor = 1.0) -> Tensor:
        x = self._run(self.rgb[str(self.res)], self.res, image)  # (N, C, H, W)
        for name, block in reversed(self.blocks.items()):
            res = int(name)
            x = self._run(block, res, x)  # (N, C', H/2, W/2)
            if res == self.res and self._fading(alpha):
                lower = next(iter(self.rgb))
                before = self._run(self.rgb[lower], int(lower), self.arch.downsample(image))  # (N, C', H/2, W/2)
                full = before.float() if self.autocast_dtype else before  # in half precision a small alpha is lost
                x = torch.lerp(full, x.to(full.dtype), alpha)
        return self._run(self.output, self.config.resolutions()[0], x)  # (N,)


def fade_reals(images: Tensor, alpha: float, arch: Arch = ARCHS["paper"]) -> Tensor:
    """Reals [N, 3, H, W] as D must see them in a fade: blurred like G's images, with the arch's own filters.

    alpha: in [0, 1]; 1 returns the images unchanged.
    """
    return images if alpha >= 1 else torch.lerp(arch.upsample(arch.downsample(images)), images, alpha)
