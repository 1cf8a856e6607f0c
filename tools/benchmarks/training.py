"""Measures a step of training at each resolution, and compares it with the best that the machine can do.

A step is the whole one of a run: fetching its batch, D with its penalty, G, the average.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch

from benchmarks.breakdown import dense_share, shares_with_penalty
from benchmarks.flops import Flops
from benchmarks.rates import SECONDS, convolution_rates, matmul_rate
from benchmarks.timing import finish, measured
from benchmarks.trial import Trial, open_images, uncompiled
from pggan.config.schema import Config
from pggan.data.packing import ImageCache
from pggan.errors import UserError, out_of_memory
from pggan.models.networks import FULL_PRECISION_RES
from pggan.run import profiling
from pggan.run.devices import pick_precision
from pggan.training.state import HALVES

MID_FADE = 0.5
MOST_CYCLES = 20  # of a breakdown


@dataclass(frozen=True)
class Effort:
    """seconds, repeat: each speed is measured for about so long, in so many windows. breakdown: of a step, too."""

    seconds: float = 5.0
    repeat: int = 5
    breakdown: bool = True


@dataclass(frozen=True)
class Limits:
    """FLOP/s of the machine at its best: {resolution of the layer: of convolutions}, and of a large matrix product."""

    convolutions: dict[int, float]
    matmul: float


@dataclass(frozen=True)
class Record:
    """The measurements of one resolution at one alpha. Shares are parts of 1; None: not measured.

    step_s: seconds of a step, [least, median, most] of `windows`; images_per_s and s_per_kimg follow from the median.
    warm_up_s: seconds lost until the speed was steady, compiling included. micro_batches: parts of a batch.
    peak_bytes: on a GPU all that torch allocates, images included; elsewhere tensors, uncompiled.
    flops_per_image: of convolutions and matrix products.
    conv_rates: FLOP/s of this resolution's own 3x3 layers; conv_limit: the best of them.
    limit_share, matmul_share: the FLOP/s of training over conv_limit, and over matmul_limit.
    data_share: of a step, waiting for its batch. overhead_share: outside convolutions and matrix products.
    seconds: of a step by purpose (breakdown.shares_with_penalty).
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
    micro_batches: int
    precision: str
    compiled: bool
    flops_per_image: float
    flops_per_s: float
    conv_rates: dict[int, float]
    conv_limit: float
    matmul_limit: float
    limit_share: float
    matmul_share: float
    data_share: float
    overhead_share: float | None = None
    seconds: dict[str, float] | None = None


def measure_all(
    config: Config,
    device: torch.device,
    resolutions: list[int] | None = None,
    effort: Effort = Effort(),
    tell: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """A record for each resolution, and one for its fade if it has one.

    resolutions: None for all of `config`. tell: called with each record. Raises UserError if there are too few images
    or too little memory.
    """
    resolutions = resolutions or config.network.stages()
    images = open_images(config, resolutions)
    records, products, brief = [], {}, min(effort.seconds, SECONDS)
    for res in resolutions:
        dtype, batch = dtype_at(config, res, device), int(config.training.batch.at(res))
        for alpha in (1.0, MID_FADE) if res > config.network.ends()[0] else (1.0,):
            try:
                gc.collect()  # frees the networks of the record before
                if alpha == 1:
                    products[dtype] = products.get(dtype) or matmul_rate(dtype, device, brief)
                    rates = convolution_rates(config.network, res, batch, dtype, device, brief)
                record = measure(config, res, alpha, images, device, Limits(rates, products[dtype]), effort)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                raise UserError(f"out of memory at {res} px: lower --batch or --fmap-base") from None
            records.append(record)
            tell(record)
    return records


def dtype_at(config: Config, res: int, device: torch.device) -> torch.dtype:
    """The dtype of the largest layers at `res`."""
    half = HALVES[pick_precision(config.training.precision, device)]
    return half if half and res > FULL_PRECISION_RES else torch.float32


def measure(
    config: Config, res: int, alpha: float, images: ImageCache, device: torch.device, limits: Limits, effort: Effort
) -> Record:
    """The record of one resolution at about this alpha."""
    flops = flops_per_image(config, res, alpha, images, device)
    trial = Trial(config, res, alpha, images, device)
    timing = measured(trial.cycle, device, effort.seconds, effort.repeat)
    step_s = [pick(timing.windows) / trial.steps_a_cycle for pick in (min, median, max)]
    images_per_s = trial.state.batch() / step_s[1]
    waited, peak, dense, seconds = median(trial.waits), peak_bytes(trial, config, alpha, images), None, None
    if effort.breakdown:
        dense = dense_share(trial, step_s[1])
        seconds = shares_with_penalty(trial, cycles=max(1, min(MOST_CYCLES, round(1 / median(timing.windows)))))
    flops_per_s, conv_limit = flops * images_per_s, max(limits.convolutions.values())
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
        micro_batches=trial.state.stage.micro_batches,
        precision=trial.state.precision,
        compiled=bool(trial.state.graphs.compiler),
        flops_per_image=flops,
        flops_per_s=flops_per_s,
        conv_rates=limits.convolutions,
        conv_limit=conv_limit,
        matmul_limit=limits.matmul,
        limit_share=flops_per_s / conv_limit,
        matmul_share=flops_per_s / limits.matmul,
        data_share=waited / step_s[1],
        overhead_share=None if dense is None else 1 - dense,
        seconds=seconds,
    )


def flops_per_image(config: Config, res: int, alpha: float, images: ImageCache, device: torch.device) -> float:
    """FLOPs an image, counted on one minibatch-stddev group: they do not depend on the batch."""
    few = min(int(config.training.batch.at(res)), config.network.stddev_group or 4)
    trial = Trial(uncompiled(config, few), res, alpha, images, device)
    with Flops() as flops:
        trial.cycle()
    return flops.total / trial.images_a_cycle


def peak_bytes(trial: Trial, config: Config, alpha: float, images: ImageCache) -> int:
    """Peak bytes of a cycle, so that a step with the penalty is included."""
    if trial.device.type != "cuda":
        if trial.state.graphs.compiler:
            trial = Trial(uncompiled(config), trial.state.res, alpha, images, trial.device)
            trial.cycle()
        with profiling.MemoryWatch(profiling.lasting(trial.state)) as watch:
            trial.cycle()
        return watch.peak
    finish(trial.device)
    torch.cuda.reset_peak_memory_stats(trial.device)
    trial.cycle()
    finish(trial.device)
    return torch.cuda.max_memory_allocated(trial.device)
