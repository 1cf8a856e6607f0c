"""What a step of training costs at each resolution, and how far that is from what the machine can do.

A step is all that one is in a run: its pictures, D with its penalty, G, the average.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.breakdown import dense_share, turns_and_penalty
from benchmarks.flops import Flops
from benchmarks.rates import SECONDS, convolution_rates, matmul_rate
from benchmarks.timing import finish, measured
from benchmarks.trial import Trial, few, open_cache, uncompiled
from pggan.config.schema import Config
from pggan.data.packing import ImageCache
from pggan.errors import UserError, out_of_memory
from pggan.models.networks import FULL_PRECISION_RES
from pggan.run import profiling
from pggan.run.setup import pick_precision
from pggan.training.state import HALVES

MID_FADE = 0.5
MOST_CYCLES = 20  # that a step is broken down by


@dataclass(frozen=True)
class Effort:
    """seconds, repeat: about how long each speed is measured, in how many windows; parts: whether a step is broken
    down as well, by some steps more."""

    seconds: float = 5.0
    repeat: int = 5
    parts: bool = True


@dataclass(frozen=True)
class Limits:
    """FLOP/s of the machine at its best: by the resolution of the layer, and of a large matrix product."""

    convolutions: dict[int, float]
    matmul: float


@dataclass(frozen=True)
class Record:
    """One resolution at one alpha. Shares are parts of 1.

    step_s: seconds of a step, [least, median, most] of `windows`; images_per_s and s_per_kimg are by the median.
    warm_up_s: seconds lost until the speed was steady, compiling included; pieces: that a batch is trained in;
    compiled: whether the steps were.
    peak_bytes: at the most; on a GPU all that torch holds there, pictures too, elsewhere tensors, uncompiled.
    flops_per_image: of convolutions and matrix products, as torch counts them; conv_flops_per_image: of the former.
    conv_limit: FLOP/s, the best of conv_rates, which are those of this resolution's own 3x3 layers.
    limit_share, matmul_share: the FLOP/s of training over conv_limit, and over matmul_limit.
    data_share: of a step, waiting for pictures; overhead_share: not inside convolutions and matrix products.
    turns: seconds of a step by what they are for (breakdown.turns_and_penalty). None: not measured.
    """

    res: int
    alpha: float
    batch: int
    images_per_s: float
    s_per_kimg: float
    step_s: list[float]
    windows: int
    warm_up_s: float
    peak_bytes: int
    pieces: int
    precision: str
    compiled: bool
    flops_per_image: float
    conv_flops_per_image: float
    flops_per_s: float
    conv_rates: dict[int, float]
    conv_limit: float
    matmul_limit: float
    limit_share: float
    matmul_share: float
    data_share: float
    overhead_share: float | None = None
    turns: dict[str, float] | None = None


def measure_all(
    config: Config,
    device: torch.device,
    resolutions: list[int] | None = None,
    effort: Effort = Effort(),
    tell: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """A record for each resolution (None: all that `config` trains at), and one for its fade if it has one.

    tell: is shown each record as it is made. Raises UserError, for too few pictures or too little memory.
    """
    resolutions = resolutions or config.network.stages()
    packed = open_cache(config, resolutions)
    records, products = [], {}
    for res in resolutions:
        dtype, batch = dtype_at(config, res, device), int(config.training.batch.at(res))
        brief = min(effort.seconds, SECONDS)
        for alpha in (1.0, MID_FADE) if res > config.network.ends()[0] else (1.0,):
            try:
                gc.collect()  # the networks before these
                if alpha == 1:
                    products[dtype] = products.get(dtype) or matmul_rate(dtype, device, brief)
                    rates = convolution_rates(config.network, res, batch, dtype, device, brief)
                record = measure(config, res, alpha, packed, device, Limits(rates, products[dtype]), effort)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise UserError(f"out of memory at {res} px: lower --batch or --fmap-base") from None
            records.append(record)
            tell(record)
    return records


def dtype_at(config: Config, res: int, device: torch.device) -> torch.dtype:
    """That of the largest layers at `res`."""
    half = HALVES[pick_precision(config.training.precision, device)]
    return half if half and res > FULL_PRECISION_RES else torch.float32


def measure(
    config: Config, res: int, alpha: float, packed: ImageCache, device: torch.device, limits: Limits, effort: Effort
) -> Record:
    """The record of one resolution at about one alpha."""
    every_flop, of_convolutions = flops_per_image(config, res, alpha, packed, device)
    trial = Trial(config, res, alpha, packed, device)
    timing = measured(trial.cycle, device, effort.seconds, effort.repeat)
    step_s = [pick(timing.windows) / trial.steps_a_cycle for pick in (min, median, max)]
    images_per_s = trial.state.batch() / step_s[1]
    waited, peak, dense, turns = trial.waited, peak_bytes(trial, config, alpha, packed), None, None
    if effort.parts:
        dense = dense_share(trial, step_s[1])
        turns = turns_and_penalty(trial, cycles=max(1, min(MOST_CYCLES, round(1 / timing.median))))
    flops_per_s, conv_limit = every_flop * images_per_s, max(limits.convolutions.values())
    return Record(
        res=res,
        alpha=alpha,
        batch=trial.state.batch(),
        images_per_s=images_per_s,
        s_per_kimg=1000 / images_per_s,
        step_s=step_s,
        windows=len(timing.windows),
        warm_up_s=timing.warm_up,
        peak_bytes=peak,
        pieces=trial.state.micro_batches,
        precision=trial.state.precision,
        compiled=bool(trial.state.graphs.compiler),
        flops_per_image=every_flop,
        conv_flops_per_image=of_convolutions,
        flops_per_s=flops_per_s,
        conv_rates=limits.convolutions,
        conv_limit=conv_limit,
        matmul_limit=limits.matmul,
        limit_share=flops_per_s / conv_limit,
        matmul_share=flops_per_s / limits.matmul,
        data_share=waited / step_s[1],
        overhead_share=None if dense is None else 1 - dense,
        turns=turns,
    )


def flops_per_image(
    config: Config, res: int, alpha: float, packed: ImageCache, device: torch.device
) -> tuple[float, float]:
    """(all, those of convolutions), counted with few pictures: an image's share does not depend on the batch."""
    trial = Trial(few(uncompiled(config), res), res, alpha, packed, device)
    with Flops() as flops:
        trial.cycle()
    return flops.total / trial.images_a_cycle, flops.convolutions / trial.images_a_cycle


def peak_bytes(trial: Trial, config: Config, alpha: float, packed: ImageCache) -> int:
    """The most bytes in a step, the one with the penalty among them, warm as the trial is."""
    if trial.device.type != "cuda":
        if trial.state.compiled:
            trial = Trial(uncompiled(config), trial.state.res, alpha, packed, trial.device)
            trial.cycle()
        with profiling.MemoryWatch(profiling.lasting(trial.state)) as watch:
            trial.cycle()
        return watch.peak
    finish(trial.device)
    torch.cuda.reset_peak_memory_stats(trial.device)
    trial.cycle()
    finish(trial.device)
    return torch.cuda.max_memory_allocated(trial.device)
