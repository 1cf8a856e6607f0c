"""One training step of ours or of a peer, on real images that lie ready; how much it computes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import environment  # noqa: F401
import torch
from benchmarks.flops import Flops
from case import OURS, Case, latents, noise_reals
from peers import PEERS
from torch import Tensor, nn

from pggan.config.presets import with_defaults_for, with_settings
from pggan.config.schema import Config
from pggan.run.profiling import trial_state
from pggan.schedule.stages import Stage
from pggan.training.compile import graphs_for
from pggan.training.step import step

FADE = 10**9  # images: so long that alpha hardly moves while it is measured
COUNTED = 4  # images of the step whose operations are counted


class Side(Protocol):
    """A training that has begun. cycle: steps after which the work repeats (lazy penalties)."""

    case: Case
    cycle: int
    G: nn.Module
    D: nn.Module

    def step(self) -> None:
        """D on `batch` real images and as many fakes, with the penalty; then G; then the average of G."""

    def sample(self) -> Tensor:
        """A batch of G's images, [N, 3, res, res]."""

    def judge(self, images: Tensor) -> object:
        """D's output for a batch."""


def open_side(case: Case) -> Side:
    """The side of a case, built and on its device. Raises peers.MissingPeer."""
    return Ours(case) if case.side == OURS else PEERS[case.side](case)


class Ours:
    """pggan, trained as train.py does, on noise: the paper's networks, grown once, with alpha held still."""

    def __init__(self, case: Case):
        settings = {
            "start_res": case.res // 2,
            "max_res": case.res,
            "fmap_base": case.fmap_base,
            "fmap_max": case.fmap_max,
            "latent": case.latent,
            "batch": str(case.batch),
            "penalty_interval": case.penalty_interval,
            "precision": case.precision,
        }
        config = with_settings(with_defaults_for(Config(), loss=case.loss), settings)
        self.case, self.cycle = case, case.penalty_interval
        device = torch.device(case.device)
        self.state = trial_state(config, case.res, device)
        self.state.graphs = graphs_for(case.compile, device)
        if case.alpha < 1:
            self.state.stage.plan = Stage(case.res, fade=FADE)
            self.state.nimg = round(case.alpha * FADE / case.batch) * case.batch
        self.reals = noise_reals(case)

    @property
    def G(self) -> nn.Module:
        return self.state.G

    @property
    def D(self) -> nn.Module:
        return self.state.D

    def step(self) -> None:
        step(self.state, self.reals, say=_refuse)
        self.state.nimg += self.case.batch

    def sample(self) -> Tensor:
        return self.state.G(latents(self.case), self.case.alpha)

    def judge(self, images: Tensor) -> Tensor:
        return self.state.D(images, alpha=self.case.alpha)


def _refuse(text: str) -> None:
    raise RuntimeError(f"a measured step must be a plain one, but it said: {text}")


def work(case: Case) -> dict[str, float]:
    """Parameters of G and D; FLOP an image of both forward passes and of a whole step. A multiply-add is two.

    Counted on COUNTED images and without torch.compile, which hides operations from the counter.
    """
    side = open_side(replace(case, compile="off", batch=COUNTED))
    side.step()  # makes Adam's moments
    with torch.no_grad():
        images = side.sample()
        flop_g = _flop(side.sample) / COUNTED
        flop_d = _flop(lambda: side.judge(images)) / COUNTED
    return {
        "parameters_g": sum(weight.numel() for weight in side.G.parameters()),
        "parameters_d": sum(weight.numel() for weight in side.D.parameters()),
        "flop_g": flop_g,
        "flop_d": flop_d,
        "flop_step": _flop(lambda: [side.step() for _ in range(side.cycle)]) / (side.cycle * COUNTED),
    }


def _flop(function: Callable[[], object]) -> int:
    with Flops() as counter:
        function()
    return counter.total
