"""An arch: the parts that one kind of network consists of. pggan/models/networks.py builds the networks from them.

Each part is a module made by `part(config, level, rng)`; input and output by `part(config, rng)`. `level` counts
doublings from the base grid, which is H0 x W0. C and C' are the feature maps (`config.fmaps`) before and after a part.

    input       project(z): latents [N, Z] -> h [N, K], which truncation interpolates
                (h, noise): [N, K] -> [N, C, H0, W0]
    up_block    (x, h, noise): [N, C, H, W] -> [N, C', 2H, 2W]
    to_rgb      (x, h): [N, C, H, W] -> [N, 3, H, W]
    from_rgb    [N, 3, H, W] -> [N, C, H, W]
    down_block  [N, C, H, W] -> [N, C', H/2, W/2]
    output      [N, C, H0, W0] -> logits [N]

noise: [N, noise_maps, H, W] ~ N(0, 1) at the part's own resolution, or None.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from pggan.config.network import NetworkConfig
from pggan.models.layers import Rng, downsample, upsample

Part = Callable[[NetworkConfig, int, Rng], nn.Module]
BasePart = Callable[[NetworkConfig, Rng], nn.Module]


@dataclass(frozen=True)
class Arch:
    """The parts, the filters that fades use, and how toRGB layers are combined.

    skip: whether the image is the sum of all toRGB layers (Karras et al. 2020, section 4.1), the newest one times
    alpha. Otherwise it is the output of the newest layer, blended during a fade with that of the layer before it.
    noise_maps: noise maps per block, 0 for none.
    """

    input: BasePart
    up_block: Part
    to_rgb: Part
    from_rgb: Part
    down_block: Part
    output: BasePart
    upsample: Callable[[Tensor], Tensor] = upsample
    downsample: Callable[[Tensor], Tensor] = downsample
    skip: bool = False
    noise_maps: int = 0
