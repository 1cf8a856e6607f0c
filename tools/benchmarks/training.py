"""Measures a step of training at each resolution, and compares it with the best that the machine can do.

A step is that of a run: fetching its batch, D with its penalty, G, and G_ema.
"""

import gc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from benchmarks.breakdown import shares_with_penalty
from benchmarks.flops import Flops
from benchmarks.rates import SECONDS, convolution_rates, matmul_rate
from benchmarks.timing import measured
from benchmarks.trial import Trial, open_images

from pggan.config.schema import Config
from pggan.errors import UserError, out_of_memory
from pggan.models.networks import FULL_PRECISION_RES
from pggan.run import profiling
from pggan.run.devices import pick_precision
from pggan.run.setup import processes_for
from pggan.training.gradient_workers import gradient_workers
from pggan.training.state import HALVES

MID_FADE = 0.5
MOST_CYCLES = 20  # of a breakdown


@dataclass(frozen=True)
class Record:
    """The measurements of one resolution at one alpha. Shares are parts of 1; None: not measured.

    images_per_s: at the median step. step_s: seconds of a step, [least, median, most]. warm_up_s: seconds lost until
    the speed was steady, compiling included. micro_batches: parts of a batch. peak_bytes: on a GPU all that torch
    allocates, images included; elsewhere tensors of the first process, uncompiled. flops_per_image: of convolutions
    and matrix products.
    conv_rates: {resolution of a 3x3 layer: FLOP/s}; matmul_rate: FLOP/s of a large matrix product.
    limit_share, matmul_share: the FLOP/s of training over the best of conv_rates, and over matmul_rate.
    data_share: of a step, waiting for its batch. seconds: of a step by purpose (breakdown.shares_with_penalty).
    """

    res: int
    alpha: float
    batch: int
    images_per_s: float
    step_s: list[float]
    warm_up_s: float
    peak_bytes: int
    micro_batches: int
    precision: str
    compiled: bool
    flops_per_image: float
    flops_per_s: float
    conv_rates: dict[int, float]
    matmul_rate: float
    limit_share: float
    matmul_share: float
    data_share: float
    seconds: dict[str, float] | None = None


def measure_all(
    config: Config,
    device: torch.device,
    resolutions: list[int],
    seconds: float = 5.0,
    repeat: int = 5,
    breakdown: bool = True,
    tell: Callable[[Record], None] = lambda record: None,
) -> list[Record]:
    """A record for each resolution, and one for its fade if it has one.

    seconds, repeat: each speed is measured for about so long, in so many windows. breakdown: of a step, too. tell:
    called with each record. Raises UserError if there are too few images or too little memory.
    """
    images = open_images(config, resolutions)
    records, products, brief = [], {}, min(seconds, SECONDS)
    half = HALVES[pick_precision(config.training.precision, device)]
    with gradient_workers(processes_for(config, device), torch.get_num_threads()) as workers:
        for res in resolutions:
            dtype = half if half and res > FULL_PRECISION_RES else torch.float32  # of the largest layers
            batch = int(config.training.batch.at(res))
            for alpha in (1.0, MID_FADE) if res > config.network.ends()[0] else (1.0,):
                try:
                    gc.collect()  # frees the networks of the record before
                    if alpha == 1:
                        products[dtype] = products.get(dtype) or matmul_rate(dtype, device, brief)
                        rates = convolution_rates(config.network, res, batch, dtype, device, brief)
                    how = (rates, products[dtype], seconds, repeat, breakdown)
                    record = measure(Trial(config, res, alpha, images, device, workers), *how)
                except (RuntimeError, MemoryError) as error:
                    if not out_of_memory(error):
                        raise
                    raise UserError(f"out of memory at {res} px: lower --batch or --fmap-base") from None
                records.append(record)
                tell(record)
    return records


def measure(
    trial: Trial, conv_rates: dict[int, float], matmul_rate: float, seconds: float, repeat: int, breakdown: bool
) -> Record:
    """The record of a trial, on a machine with these FLOP/s; see `measure_all`."""
    flops = flops_per_image(trial)
    windows, warm_up_s = measured(trial.cycle, trial.device, seconds, repeat)
    step_s = [pick(windows) / trial.steps_a_cycle for pick in (min, median, max)]
    state, images_per_s = trial.state, trial.state.batch() / step_s[1]
    data_share, peak = median(trial.waits) / step_s[1], peak_bytes(trial)
    cycles = max(1, min(MOST_CYCLES, round(1 / median(windows))))
    purposes = shares_with_penalty(trial, cycles) if breakdown else None
    return Record(
        res=state.res,
        alpha=trial.alpha,
        batch=state.batch(),
        images_per_s=images_per_s,
        step_s=step_s,
        warm_up_s=warm_up_s,
        peak_bytes=peak,
        micro_batches=state.stage.micro_batches,
        precision=state.precision,
        compiled=bool(state.graphs.compiler),
        flops_per_image=flops,
        flops_per_s=flops * images_per_s,
        conv_rates=conv_rates,
        matmul_rate=matmul_rate,
        limit_share=flops * images_per_s / max(conv_rates.values()),
        matmul_share=flops * images_per_s / matmul_rate,
        data_share=data_share,
        seconds=purposes,
    )


def flops_per_image(trial: Trial) -> float:
    """FLOPs an image, counted on one minibatch-stddev group: they do not depend on the batch."""
    few = trial.uncompiled(min(trial.state.batch(), trial.config.network.stddev_group or 4))
    with Flops() as flops:
        few.cycle()
    return flops.total / few.images_a_cycle


def peak_bytes(trial: Trial) -> int:
    """Peak bytes of a cycle, so that a step with the penalty is included."""
    if trial.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(trial.device)
        trial.cycle()
        return torch.cuda.max_memory_allocated(trial.device)
    if trial.state.graphs.compiler:
        trial = trial.uncompiled(trial.state.batch())
        trial.cycle()
    with profiling.MemoryWatch(profiling.lasting(trial.state)) as watch:
        trial.cycle()
    return watch.peak
