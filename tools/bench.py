#!/usr/bin/env python3
"""Measurements, held against their limits.

`python tools/bench.py limits`: what everything beside the step of a run costs.
`python tools/bench.py metrics`: what measuring quality costs, beside the usual library in the same run.
`python tools/bench.py train`: what a step costs at each resolution, and how far that is from the machine's limit.
"""

import json
import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import _root  # noqa: F401  (the project on the path)

from pggan.config import cli
from pggan.config.presets import before_flags
from pggan.config.schema import Config, DataConfig, NetworkConfig, PresetName, ScheduleConfig, TrainingConfig
from pggan.config.validation import check_ignored, validate
from pggan.errors import UserError

PICTURES = 500  # of builtin, that training is measured on


@dataclass(frozen=True)
class Limits:
    """Measure what a run costs beside its steps: start-up, packing, the cached start, waiting for data, and all else.
    `bench.py metrics` and `bench.py train` measure other things; see their --help."""

    data: str = "builtin"
    """Pictures for the packing and the start; 1,400 of them are what the limits are meant for."""
    pictures: int = 1400
    """How many built-in pictures, when --data is builtin."""
    repeat: int = 5
    """Repetitions of each start; the median counts."""
    json: str | None = None
    """A file for the figures."""


@dataclass(frozen=True)
class Metrics:
    """Measure what the measuring costs: the features and the distance of FID, the score D."""

    repeat: int = 5
    """Repetitions of each measurement; the median counts."""
    json: str | None = None
    """A file for the figures."""


@dataclass(frozen=True)
class Train:
    """Measure steps of training, stable and fading: images/s, memory, the share of the machine's own limit, where the
    time goes, and how long the whole road is. All settings of train.py that a step depends on may be given."""

    res: str | None = None
    """Resolutions to measure, 64 or 32,64. Left out: all that the settings train at."""
    seconds: float = 5.0
    """About how long each speed is measured; a step that takes longer is taken --repeat times all the same."""
    repeat: int = 5
    """Windows that each speed is measured in; the median counts, their spread is told."""
    parts: bool = True
    """Break a step down, too, to D, its penalty, G, the average: some steps more, and one compilation without the
    penalty."""
    json: str | None = None
    """A file for the records: a list."""
    preset: PresetName = "paintings"
    """The named settings that all others start from."""
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def config(self) -> Config:
        """The settings of a run."""
        parts = {"network": self.network, "training": self.training, "schedule": self.schedule}
        return Config(preset=self.preset, data=self.data, **parts)


def main(argv: list[str]) -> None:
    if argv and not argv[0].startswith("-"):
        name, *argv = argv
    else:
        name = "limits"
    if name not in COMMANDS:
        raise UserError(f"bench.py measures {', '.join(COMMANDS)}, not '{name}'")
    COMMANDS[name](argv)


def limits(argv: list[str]) -> None:
    args = cli.parse(Limits, argv, prog="bench.py limits")
    from benchmarks.limits import limits

    _check(args)
    with tempfile.TemporaryDirectory() as folder:
        _show(limits(Path(folder), args.data, args.pictures, args.repeat), args.json)


def metrics(argv: list[str]) -> None:
    args = cli.parse(Metrics, argv, prog="bench.py metrics")
    from benchmarks.metrics import metrics

    _check(args)
    with tempfile.TemporaryDirectory() as folder:
        _show(metrics(Path(folder), args.repeat), args.json)


def train(argv: list[str]) -> None:
    default = usual(argv)
    args = cli.parse(Train, argv, default, prog="bench.py train")
    config, resolutions = settings(args, default)
    _check(args)
    import torch
    from benchmarks import report
    from benchmarks.training import Effort, measure_all

    from pggan.run.setup import pick_device

    torch.set_num_threads(config.training.threads or torch.get_num_threads())
    device = pick_device(config.training.device)
    print(report.HEAD, flush=True)
    effort = Effort(args.seconds, args.repeat, args.parts)
    records = measure_all(config, device, resolutions, effort, lambda record: print(report.row(record), flush=True))
    print("\n".join(report.closing(config, records)))
    if args.json:
        _write(report.plain(config, device, records), args.json)


COMMANDS = {"limits": limits, "metrics": metrics, "train": train}


def usual(argv: list[str]) -> Train:
    """What the flags are laid over: the preset, with what --arch and --loss bring with them."""
    config = before_flags(argv)
    data = replace(config.data, builtin_images=PICTURES)
    return Train(
        preset=config.preset, data=data, network=config.network, training=config.training, schedule=config.schedule
    )


def settings(args: Train, default: Train) -> tuple[Config, list[int]]:
    """(settings of a run, resolutions to measure), checked. Raises UserError."""
    config = args.config()
    try:
        resolutions = sorted({int(word) for word in args.res.split(",")}) if args.res else config.network.stages()
    except ValueError:
        raise UserError(f"--res takes resolutions such as 64 or 32,64, not '{args.res}'") from None
    for res in resolutions:
        if res not in config.network.resolutions():
            some = ", ".join(map(str, config.network.resolutions()))
            raise UserError(f"--res {res} is not on the ladder of --base {config.network.base}: {some}")
    start, top = config.network.ends()
    whole = replace(config.network, start_res=min(start, *resolutions), max_res=max(top, *resolutions))
    validate(replace(config, network=whole))
    check_ignored(config, default.config())
    if config.schedule.budget or config.schedule.plan:
        raise UserError("the road is reckoned by --fade-kimg and --stable-kimg: leave out --budget and --plan")
    if args.seconds <= 0:
        raise UserError("--seconds must be above 0")
    return config, resolutions


def _check(args: Limits | Metrics | Train) -> None:
    if args.repeat < 1:
        raise UserError("--repeat must be at least 1")
    cli.check_writable("--json", args.json)


def _show(figures: list, path: str | None) -> None:
    from benchmarks.figures import as_dict

    for figure in figures:
        print(figure)
    if path:
        _write(as_dict(figures), path)


def _write(values: object, path: str) -> None:
    Path(os.path.expanduser(path)).write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
