"""The records of training as lines to read, and as JSON."""

import platform
from collections.abc import Iterator
from dataclasses import asdict

import torch

from benchmarks.road import road
from benchmarks.training import Record
from pggan.config.schema import Config, flat, to_dict
from pggan.run import run_dir
from pggan.run.progress import duration

HEAD = "   res  alpha  batch  images/s       (min to max)   s/kimg       memory  of conv  of matmul  warm-up"
HEAD_PARTS = "   res  alpha    s/step   data      D  penalty      G  average   conv and matmul  all else"


def row(record: Record) -> str:
    """One line under HEAD."""
    least, _, most = record.step_s
    spread = f"({record.batch / most:.1f} to {record.batch / least:.1f})"
    pieces = f"  in {record.pieces} parts" if record.pieces > 1 else ""
    return (
        f"{record.res:>4}px {record.alpha:>6.2f} {record.batch:>6} {record.images_per_s:>9.1f} {spread:>18} "
        f"{record.s_per_kimg:>8.2f} {record.peak_bytes / 2**30:>8.2f} GiB {record.limit_share:>8.1%} "
        f"{record.matmul_share:>10.1%} {record.warm_up_s:>7.1f}s{pieces}"
    )


def parts(record: Record) -> str:
    """One line under HEAD_PARTS: shares of the time of the turns."""
    whole = sum(record.turns.values())
    data, d, penalty, g, average = (record.turns[name] / whole for name in ("data", "d", "penalty", "g", "average"))
    rest = record.overhead_share
    dense = ("-", "-") if rest is None else (f"{1 - rest:.1%}", f"{rest:.1%}")
    return (
        f"{record.res:>4}px {record.alpha:>6.2f} {record.step_s[1]:>9.4f} {data:>6.1%} {d:>6.1%} {penalty:>8.1%} "
        f"{g:>6.1%} {average:>8.1%} {dense[0]:>17} {dense[1]:>9}"
    )


def closing(config: Config, records: list[Record]) -> Iterator[str]:
    """What is said under the rows: the breakdown, the limits, the whole road."""
    broken = [record for record in records if record.turns]
    if broken:
        yield "where a step goes:"
        yield HEAD_PARTS
        yield from map(parts, broken)
    waiting = max(records, key=lambda record: record.data_share)
    yield f"waiting for pictures: at most {waiting.data_share:.2%} of a step, at {waiting.res} px"
    for record in records:
        if record.alpha == 1:
            rates = ", ".join(f"{rate / 1e9:.1f} at {res} px" for res, rate in record.conv_rates.items())
            yield (
                f"GFLOP/s at {record.res} px: 3x3 convolutions {rates}; matmul {record.matmul_limit / 1e9:.1f}; "
                f"training {record.flops_per_s / 1e9:.1f}, by {record.flops_per_image / 1e9:.3g} GFLOP an image"
            )
    yield road_line(config, records)


def road_line(config: Config, records: list[Record]) -> str:
    """The time of the whole road, when every part of it was measured."""
    speeds = {(record.res, record.alpha < 1): record.images_per_s for record in records}
    if any((res, False) not in speeds for res in config.network.stages()):
        return "the whole road is told when all its resolutions are measured: leave out --res"
    stages = road(config, speeds)
    each = ", ".join(f"{stage.res} px {duration(seconds)}" for stage, seconds in stages)
    kimg = stages[-1][0].end / 1000
    return f"the whole road, {kimg:,.1f} kimg: {duration(sum(seconds for _, seconds in stages))} of steps ({each})"


def facts(config: Config, device: torch.device) -> dict[str, object]:
    """What the records depend on beside the code of this project."""
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
    """The records for JSON, each with the facts and, where all was measured, the seconds of the whole road."""
    speeds = {(record.res, record.alpha < 1): record.images_per_s for record in records}
    whole = all((res, False) in speeds for res in config.network.stages())
    seconds = sum(taken for _, taken in road(config, speeds)) if whole else None
    return [{**asdict(record), "road_s": seconds, **facts(config, device)} for record in records]
