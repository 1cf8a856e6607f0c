"""The three kinds of network, as parts that one growing frame (pggan/models/networks.py) is filled with.

Each part is built by `part(config, level, rng)`, or `part(config, rng)` for the two at the base grid. `level` counts
doublings from the base grid; C and C' are `config.fmaps` of this level and the one on the other side.

    input       project(z): [N, Z] -> h [N, K], where truncation pulls;  input(h, noise): -> [N, C, H0, W0]
    up_block    (x, h, noise): [N, C, H, W] -> [N, C', 2H, 2W]
    to_rgb      (x, h): [N, C, H, W] -> [N, 3, H, W]
    from_rgb    [N, 3, H, W] -> [N, C, H, W]
    down_block  [N, C, H, W] -> [N, C', H/2, W/2]
    output      [N, C, H0, W0] -> [N]: one logit a picture

noise: [N, noise_maps, H, W] ~ N(0, 1) at the part's own resolution, or None for none.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from pggan.models.archs import dcgan, paper, style
from pggan.models.layers import downsample, fir_downsample, fir_upsample, upsample


@dataclass(frozen=True)
class Arch:
    """One kind of network. skip: an image is the sum of all toRGB layers' (Karras et al. 2020, section 4.1), and alpha
    weighs the newest; otherwise the newest alone, blended with the one before it in a fade."""

    input: type[nn.Module]
    up_block: type[nn.Module]
    to_rgb: type[nn.Module]
    from_rgb: type[nn.Module]
    down_block: type[nn.Module]
    output: type[nn.Module]
    upsample: Callable[[Tensor], Tensor] = upsample
    downsample: Callable[[Tensor], Tensor] = downsample
    skip: bool = False
    noise_maps: int = 0


def _parts(room) -> dict[str, type[nn.Module]]:
    return {
        "input": room.Input,
        "up_block": room.UpBlock,
        "to_rgb": room.ToRGB,
        "from_rgb": room.FromRGB,
        "down_block": room.DownBlock,
        "output": room.Output,
    }


ARCHS = {
    "paper": Arch(**_parts(paper)),
    "dcgan": Arch(**_parts(dcgan)),
    "style": Arch(**_parts(style), upsample=fir_upsample, downsample=fir_downsample, skip=True, noise_maps=2),
}
