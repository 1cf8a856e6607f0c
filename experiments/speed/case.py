"""What is measured: a side (ours or a peer's) with its settings, and the batches that every side trains on."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

OURS = "pggan"


@dataclass(frozen=True)
class Case:
    """A side and its settings.

    res: pixels. alpha: below 1 the newest block fades in. fmap_base, fmap_max: feature maps as in appendix A of Karras
    et al. 2018. precision: fp32, bf16, or amp (the peer's own float16). layout: contiguous or channels_last; ours is
    always channels_last. compile: off or on, for ours only. threads: 0 for as many as torch chooses.
    """

    side: str
    res: int
    alpha: float = 1.0
    batch: int = 16
    fmap_base: int = 1024
    fmap_max: int = 64
    loss: str = "wgan-gp"
    penalty_interval: int = 1
    precision: str = "fp32"
    layout: str = "channels_last"
    compile: str = "off"
    device: str = "cpu"
    threads: int = 0

    @property
    def latent(self) -> int:
        """The length of a latent: the width of D's last layer, because pro-gan-pth has one setting for both."""
        return self.fmap_max

    @property
    def depth(self) -> int:
        """log2 of the resolution."""
        return round(math.log2(self.res))

    def variant(self) -> str:
        """The settings that a side may choose for itself: `fp32 compiled`, `bf16 channels_last`."""
        if self.side == OURS:
            return f"{self.precision} compiled" if self.compile == "on" else self.precision
        return f"{self.precision} {self.layout}"


def noise_reals(case: Case) -> Tensor:
    """float32 [N, 3, res, res] in [-1, 1]: noise, on which a step costs as much as on photos."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(case.batch, 3, case.res, case.res, generator=rng).mul(2).sub(1).to(case.device)


def latents(case: Case) -> Tensor:
    """float32 [N, latent] ~ N(0, I)."""
    return torch.randn(case.batch, case.latent, device=case.device)
