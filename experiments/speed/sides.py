"""What is measured: one training step, ours or a peer's, on real images that lie ready."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pggan.config.presets import preset, with_settings
from pggan.schedule.stages import Stage
from pggan.training.compile import Graphs, inductor
from pggan.training.state import allow_tf32, new_state
from pggan.training.step import step

OURS = "pggan"
FADE = 10**9  # images, so long that alpha does not move while it is measured
COUNTED = 4  # pictures of the step whose operations are counted


@dataclass(frozen=True)
class Case:
    """A side and its settings. res: pixels; alpha: below 1 it fades; fmap_base, fmap_max: feature maps as in appendix A
    of Karras et al. 2018; precision: fp32, bf16, or amp (the peer's own float16); layout: contiguous or channels_last
    (ours is always channels_last); compile: off or on (ours alone); threads: 0 for all.
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
        """As long as D's last layer is wide, which is one setting in pro-gan-pth."""
        return self.fmap_max

    def variant(self) -> str:
        """What a side may choose for itself: `fp32 compiled`, `bf16 channels_last`."""
        if self.side == OURS:
            return f"{self.precision} compiled" if self.compile == "on" else self.precision
        return f"{self.precision} {self.layout}"


class Side(Protocol):
    """A training that has begun. cycle: steps after which the work repeats itself (lazy penalties)."""

    case: Case
    cycle: int
    G: nn.Module
    D: nn.Module

    def step(self) -> None:
        """D on `batch` real images and as many of G, with the penalty; then G; then the average of G."""

    def sample(self) -> Tensor:
        """A batch of G's images, [N, 3, res, res]."""

    def judge(self, images: Tensor) -> object:
        """What D says of a batch."""


def open_side(case: Case) -> Side:
    """The side of a case, built and on its device. Raises peers.MissingPeer."""
    if case.side == OURS:
        return Ours(case)
    from peers import PEERS

    return PEERS[case.side](case)


class Ours:
    """pggan, as train.py trains it but for the pictures: the paper's networks, grown once, alpha held still."""

    def __init__(self, case: Case):
        settings = {
            "start_res": case.res // 2,
            "max_res": case.res,
            "fmap_base": case.fmap_base,
            "fmap_max": case.fmap_max,
            "latent": case.latent,
            "batch": str(case.batch),
            "penalty_interval": case.penalty_interval,
        }
        config = with_settings(preset("paintings", loss=case.loss), settings)
        self.case, self.cycle = case, case.penalty_interval
        allow_tf32(case.precision)
        self.state = new_state(config, torch.device(case.device), precision=case.precision)
        self.state.grow()
        if case.compile == "on":
            self.state.graphs = Graphs(inductor)
        self.stage = Stage(case.res, 0, fade=FADE if case.alpha < 1 else 0, stable=FADE)
        self.state.nimg = round(case.alpha * FADE / case.batch) * case.batch if case.alpha < 1 else 0
        self.reals = reals(case)

    @property
    def G(self) -> nn.Module:
        return self.state.G

    @property
    def D(self) -> nn.Module:
        return self.state.D

    def step(self) -> None:
        step(self.state, self.stage, self.reals, say=_refuse)
        self.state.nimg += self.case.batch

    def sample(self) -> Tensor:
        return self.state.G(latents(self.case), self.case.alpha)

    def judge(self, images: Tensor) -> Tensor:
        return self.state.D(images, alpha=self.case.alpha)


def _refuse(text: str) -> None:
    raise RuntimeError(f"a step said '{text}': it was not what it should have been")


def reals(case: Case) -> Tensor:
    """float32 [N, 3, res, res] in [-1, 1]: noise, which costs as much as a picture."""
    rng = torch.Generator().manual_seed(0)
    return torch.rand(case.batch, 3, case.res, case.res, generator=rng).mul(2).sub(1).to(case.device)


def latents(case: Case) -> Tensor:
    """float32 [N, latent] ~ N(0, I)."""
    return torch.randn(case.batch, case.latent, device=case.device)


def work(case: Case) -> dict[str, float]:
    """{parameters of G and D, FLOP an image of G's and D's forward pass and of a whole step}; a multiply-add is two.

    Counted without torch.compile, which the counter cannot see into, and on COUNTED pictures.
    """
    side = open_side(replace(case, compile="off", batch=COUNTED))
    side.step()  # Adam's moments
    with torch.no_grad():
        images = side.sample()
    return {
        "parameters_g": sum(weight.numel() for weight in side.G.parameters()),
        "parameters_d": sum(weight.numel() for weight in side.D.parameters()),
        "flop_g": _flop(torch.no_grad()(side.sample)) / COUNTED,
        "flop_d": _flop(torch.no_grad()(lambda: side.judge(images))) / COUNTED,
        "flop_step": _flop(lambda: [side.step() for _ in range(side.cycle)]) / (side.cycle * COUNTED),
    }


def _flop(function: Callable[[], object]) -> int:
    with Operations() as counter:
        function()
    return counter.total


class Operations(TorchDispatchMode):
    """Sums torch's own counts of its convolutions and matrix products, second derivatives included.

    Its FlopCounterMode follows modules besides, and ends in an error where a gradient is taken at an input.
    """

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        count = flop_registry.get(function.overloadpacket)
        if count:
            self.total += count(*args, **(kwargs or {}), out_val=made)
        return made


def depth(case: Case) -> int:
    """log2 of the resolution."""
    return round(math.log2(case.res))
