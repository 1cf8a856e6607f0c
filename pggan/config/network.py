"""The settings of the generator G and the discriminator D. The docstring of a field is its `--help` text. No torch."""

from dataclasses import dataclass, replace
from typing import Literal

from pggan.config.fields import Settings, flag, may_change
from pggan.config.per_resolution import PerResolution
from pggan.config.tables import ARCH_TABLE, FEATURES
from pggan.errors import UserError, refuse_if

ArchName = Literal[*ARCH_TABLE]
HIGHEST_LEVEL = 9  # 4x4 times 2^9 is 2048 px


@dataclass(frozen=True)
class NetworkConfig(Settings):
    """The generator G and the discriminator D."""

    arch: ArchName = "paper"
    """paper: Karras et al. 2018. style: mapping network, modulated convolutions, noise. dcgan: Radford et al. 2016."""
    start_res: int | None = None
    """First resolution, in px of the shorter side. None: the highest one up to 32 (and up to --max-res)."""
    max_res: int | None = may_change(None)
    """Last resolution, in px of the shorter side. None: the highest one up to 256."""
    base: str = "4x4"
    """Smallest size, WIDTHxHEIGHT. All others are this one doubled: 3x3 gives 96 and 192, 4x5 gives 256x320."""
    fmap_base: int = 4096
    """Size of the networks: after k doublings of --base, a layer has fmap_base / 2^(k+1) feature maps.
    --fmap-max limits them."""
    fmap_max: int = 512
    """Largest number of feature maps of any layer."""
    d_width: float = 1.0
    """Feature maps of D, as a share of those that G has at the same resolution."""
    latent: int = 256
    """Length of the latent vector, the random input of G."""
    stddev_group: int = 4
    """Images per group of minibatch stddev, which shows D how varied a batch is. 0: no minibatch stddev."""
    residual: bool = False
    """Skip connections around the blocks (only for --arch dcgan; D of style always has them)."""
    critic_norm: Literal["none", "batch", "layer"] = "none"
    """Normalization in D (only for --arch dcgan). batch: as published. layer: for losses with a gradient penalty."""

    features: Literal[*FEATURES] = "none"
    """D also judges images by the features of this network, which was trained on ImageNet and stays as it is
    (Projected GAN). none: by the images alone."""
    features_res: PerResolution = PerResolution.parse("64")
    """Size to which images are resized for --features, in px of the shorter side, at least 64."""

    def __post_init__(self):
        super().__post_init__()
        for name, least in {"fmap_base": 1, "fmap_max": 1, "latent": 1, "stddev_group": 0}.items():
            value = getattr(self, name)
            refuse_if(value < least, f"{flag(name)} must be at least {least}, not {value}")
        for name in ("start_res", "max_res"):
            if getattr(self, name) is not None:
                self.check_resolution(flag(name), getattr(self, name))
        start, top = self.ends()
        refuse_if(top < start, f"--max-res {top} is below --start-res {start}: swap them or raise it")
        empty = self.fmaps(self.level(top)) < 1
        refuse_if(empty, f"--fmap-base {self.fmap_base} leaves no feature maps at {top} px: raise it")
        refuse_if(not self.can_have(top), f"--d-width {self.d_width:g} leaves D no feature maps at {top} px: raise it")

    def check_resolution(self, name: str, res: int) -> None:
        """Raises UserError if `res`, given by the flag `name`, is none of `resolutions()`."""
        known = ", ".join(map(str, self.resolutions()))
        refuse_if(res not in self.resolutions(), f"{name} {res} is no resolution of --base {self.base}: {known}")

    def ends(self) -> tuple[int, int]:
        """Returns (start_res, max_res), each filled in when it was left out."""
        known = self.resolutions()
        start = self.start_res or max([known[0], *(res for res in known if res <= min(32, self.max_res or 32))])
        return start, self.max_res or max(start, *(res for res in known if res <= 256))

    def grid(self) -> tuple[int, int]:
        """Returns (width, height) of --base. Raises UserError when it is no such pair."""
        width, _, height = self.base.partition("x")
        if not (width.isdecimal() and height.isdecimal() and 2 <= int(width) <= 16 and 2 <= int(height) <= 16):
            raise UserError(f"--base {self.base} is not WIDTHxHEIGHT with sides from 2 to 16, such as 4x4 or 4x5")
        return int(width), int(height)

    def resolutions(self) -> list[int]:
        """Returns all resolutions (shorter side, px) that --base can be doubled to, smallest first."""
        return [min(self.grid()) << level for level in range(HIGHEST_LEVEL + 1)]

    def level(self, res: int) -> int:
        """Returns the number of doublings from --base to `res`."""
        return self.resolutions().index(res)

    def size(self, res: int) -> tuple[int, int]:
        """Returns (width, height) in pixels at resolution `res`."""
        width, height = self.grid()
        return width << self.level(res), height << self.level(res)

    def fmaps(self, level: int) -> int:
        """Returns the feature maps at `level` (section A.1); level -1 is the last hidden dense layer of D."""
        return min(self.fmap_base >> (level + 1), self.fmap_max)

    def of_d(self) -> "NetworkConfig":
        """Returns the sizes of D: `fmaps` with `d_width`."""
        most = max(1, round(self.d_width * self.fmap_max))
        return replace(self, d_width=1.0, fmap_base=round(self.d_width * self.fmap_base), fmap_max=most)

    def can_have(self, res: int) -> bool:
        """Returns whether --base can be doubled to `res`, with feature maps of G and of D left there."""
        return res in self.resolutions() and min(1.0, self.d_width) * self.fmap_base >= 2 << self.level(res)

    def stages(self) -> list[int]:
        """Returns the resolutions to train at, in order."""
        start, top = self.ends()
        return [res for res in self.resolutions() if start <= res <= top]
