"""The records of training as lines to read, and as JSON."""

import platform
from collections.abc import Iterator
from dataclasses import asdict

import torch

from benchmarks.training import Record
from pggan.config.schema import Config, flat, to_dict
from pggan.run import run_dir
from pggan.run.progress import duration
from pggan.schedule.fixed import FixedScheduler
from pggan.schedule.stages import Stage, StageStart

HEAD = "   res  alpha  batch  images/s       (min to max)   s/kimg       memory  of conv  of matmul  warm-up"
HEAD_PARTS = "   res  alpha    s/step   data      D  penalty      G  average   conv and matmul  all else"


def row(record: Record) -> str:
    """One line under HEAD."""
    least, _, most = record.step_s
    spread = f"({record.batch / most:.1f} to {record.batch / least:.1f})"
    parts = f"  in {record.micro_batches} micro-batches" if record.micro_batches > 1 else ""
    return (
        f"{record.res:>4}px {record.alpha:>6.2f} {record.batch:>6} {record.images_per_s:>9.1f} {spread:>18} "
        f"{record.s_per_kimg:>8.2f} {record.peak_bytes / 2**30:>8.2f} GiB {record.limit_share:>8.1%} "
        f"{record.matmul_share:>10.1%} {record.warm_up_s:>7.1f}s{parts}"
    )


def parts(record: Record) -> str:
    """One line under HEAD_PARTS: shares of the time of a step."""
    whole = sum(record.players.values())
    data, d, penalty, g, average = (record.players[name] / whole for name in ("data", "d", "penalty", "g", "average"))
    rest = record.overhead_share
    dense = ("-", "-") if rest is None else (f"{1 - rest:.1%}", f"{rest:.1%}")
    return (
        f"{record.res:>4}px {record.alpha:>6.2f} {record.step_s[1]:>9.4f} {data:>6.1%} {d:>6.1%} {penalty:>8.1%} "
        f"{g:>6.1%} {average:>8.1%} {dense[0]:>17} {dense[1]:>9}"
    )


def closing(config: Config, records: list[Record]) -> Iterator[str]:
    """The lines under the rows: the breakdown, the limits, the time of the whole run."""
    broken = [record for record in records if record.players]
    if broken:
        yield "where a step goes:"
        yield HEAD_PARTS
        yield from map(parts, broken)
    waiting = max(records, key=lambda record: record.data_share)
    yield f"waiting for images: at most {waiting.data_share:.2%} of a step, at {waiting.res} px"
    for record in records:
        if record.alpha == 1:
            rates = ", ".join(f"{rate / 1e9:.1f} at {res} px" for res, rate in record.conv_rates.items())
            yield (
                f"GFLOP/s at {record.res} px: 3x3 convolutions {rates}; matmul {record.matmul_limit / 1e9:.1f}; "
                f"training {record.flops_per_s / 1e9:.1f}, by {record.flops_per_image / 1e9:.3g} GFLOP an image"
            )
    yield run_line(config, records)


def run_line(config: Config, records: list[Record]) -> str:
    """The time of the whole run, if all of its resolutions were measured."""
    stages = run_seconds(config, records)
    if not stages:
        return "for the time of the whole run, measure all its resolutions: leave out --res"
    each = ", ".join(f"{stage.res} px {duration(seconds)}" for stage, seconds in stages)
    kimg = stages[-1][0].end / 1000
    return f"the whole run, {kimg:,.1f} kimg: {duration(sum(seconds for _, seconds in stages))} of steps ({each})"


def run_seconds(config: Config, records: list[Record]) -> list[tuple[Stage, float]]:
    """(stage, seconds of its steps) for all stages of --fade-kimg and --stable-kimg; [] if one was not measured."""
    speeds = {(record.res, record.alpha < 1): record.images_per_s for record in records}
    if any((res, False) not in speeds for res in config.network.stages()):
        return []
    stages, start, scheduler = [], 0, FixedScheduler(config.schedule)
    for number, res in enumerate(config.network.stages()):
        stage = scheduler.begin(StageStart(res, start, start, fades=number > 0), [])
        stages.append((stage, stage_seconds(stage, speeds.get((res, True), 0.0), speeds[res, False])))
        start = stage.end
    return stages


def stage_seconds(stage: Stage, fading: float, stable: float) -> float:
    """Seconds of a stage. fading, stable: images/s in its two parts. Its time limit never ends it before its floor."""
    fade = stage.fade / fading if stage.fade else 0.0
    planned, least = (fade + images / stable for images in (stage.stable, stage.floor))
    return min(planned, max(stage.seconds, least)) if stage.seconds else planned


def facts(config: Config, device: torch.device) -> dict[str, object]:
    """The machine, the versions and the settings that the records depend on."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "device": f"{device.type}: {name}",
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "commit": run_dir.commit(),
        "arch": config.network.arch,
        "loss": config.training.loss,
        "compile": flat(config).get("compile", "off"),
        "settings": {"preset": config.preset, **to_dict(config.network), **to_dict(config.training)},
    }


def plain(config: Config, device: torch.device, records: list[Record]) -> list[dict[str, object]]:
    """The records for JSON, each with the facts, and with the seconds of the whole run if all of it was measured."""
    seconds = sum(taken for _, taken in run_seconds(config, records)) or None
    return [{**asdict(record), "run_s": seconds, **facts(config, device)} for record in records]
