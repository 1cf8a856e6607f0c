"""The records of training as lines to read and as JSON, with the time of a whole run."""

import platform
from collections.abc import Iterator
from dataclasses import asdict

import torch
from benchmarks.training import Record

from pggan.config.schema import Config, to_dict
from pggan.run import run_dir
from pggan.run.progress import duration
from pggan.schedule import scheduler_for
from pggan.schedule.forecast import forecast
from pggan.schedule.stages import Stage, StageStart

HEAD = "   res  alpha  batch  images/s       (min to max)       memory  of conv  of matmul  warm-up"
HEAD_BREAKDOWN = "   res  alpha    s/step   data      D  penalty      G   G_ema"


def row(record: Record) -> str:
    """One line under HEAD."""
    least, _, most = record.step_s
    spread = f"({record.batch / most:.1f} to {record.batch / least:.1f})"
    split = f"  in {record.micro_batches} micro-batches" if record.micro_batches > 1 else ""
    return (
        f"{record.res:>4}px {record.alpha:>6.2f} {record.batch:>6} {record.images_per_s:>9.1f} {spread:>18} "
        f"{record.peak_bytes / 2**30:>8.2f} GiB {record.limit_share:>8.1%} {record.matmul_share:>10.1%} "
        f"{record.warm_up_s:>7.1f}s{split}"
    )


def breakdown(record: Record) -> str:
    """One line under HEAD_BREAKDOWN: shares of the time of a step."""
    share = {name: f"{seconds / sum(record.seconds.values()):.1%}" for name, seconds in record.seconds.items()}
    return (
        f"{record.res:>4}px {record.alpha:>6.2f} {record.step_s[1]:>9.4f} {share['data']:>6} {share['d']:>6} "
        f"{share['penalty']:>8} {share['g']:>6} {share['ema']:>7}"
    )


def closing(config: Config, records: list[Record]) -> Iterator[str]:
    """The lines after all rows: the breakdown, the limits, the time of a whole run."""
    broken = [record for record in records if record.seconds]
    if broken:
        yield "where the time of a step goes:"
        yield HEAD_BREAKDOWN
        yield from map(breakdown, broken)
    waiting = max(records, key=lambda record: record.data_share)
    yield f"waiting for images: at most {waiting.data_share:.2%} of a step, at {waiting.res} px"
    for record in records:
        if record.alpha == 1:
            rates = ", ".join(f"{rate / 1e9:.1f} at {res} px" for res, rate in record.conv_rates.items())
            yield (
                f"GFLOP/s at {record.res} px: 3x3 convolutions {rates}; matmul {record.matmul_rate / 1e9:.1f}; "
                f"training {record.flops_per_s / 1e9:.1f} ({record.flops_per_image / 1e9:.3g} GFLOP an image)"
            )
    stages = whole_run(config, records)
    if not stages:
        yield "the time of a whole run needs all its resolutions: leave out --res"
        return
    each = ", ".join(f"{stage.res} px {duration(seconds)}" for stage, seconds in stages)
    kimg, total = stages[-1][0].end / 1000, sum(seconds for _, seconds in stages)
    yield f"a whole run of {kimg:,.1f} kimg: {duration(total)} of steps ({each})"


def whole_run(config: Config, records: list[Record]) -> list[tuple[Stage, float]]:
    """(stage, seconds of its steps) of each stage of the schedule; empty if a resolution was not measured."""
    first, *later = config.network.stages()
    fading = {record.res: record.images_per_s for record in records if record.alpha < 1}
    stable = {record.res: record.images_per_s for record in records if record.alpha == 1}
    if not stable.keys() >= {first, *later}:
        return []
    start = StageStart(first, later=tuple(later), fades=False)
    stages = [stage for stage, _ in forecast(scheduler_for(config.schedule), start, [], stable.get)]
    return [(stage, stage_seconds(stage, fading.get(stage.res, 0), stable[stage.res])) for stage in stages]


def stage_seconds(stage: Stage, fading: float, stable: float) -> float:
    """Seconds of a stage at these images/s. Its time limit may end it earlier, but not before its floor."""
    fade = stage.fade / fading if stage.fade else 0.0
    planned, least = (fade + images / stable for images in (stage.stable, stage.floor))
    return min(planned, max(stage.seconds, least)) if stage.seconds else planned


def as_json(config: Config, device: torch.device, records: list[Record]) -> list[dict[str, object]]:
    """The records, each with the facts that it depends on, and run_s: seconds of a whole run, if known."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    facts = {
        "run_s": sum(seconds for _, seconds in whole_run(config, records)) or None,
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "commit": run_dir.commit(),
        "settings": {"preset": config.preset, **to_dict(config.network), **to_dict(config.training)},
    }
    return [{**asdict(record), **facts} for record in records]
