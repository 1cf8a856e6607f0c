#!/usr/bin/env python3
"""Measures what the project costs, each figure beside its limit.

`python tools/bench.py limits`: everything beside the training steps of a run.
`python tools/bench.py metrics`: measuring quality and diversity, beside the usual library.
`python tools/bench.py train`: a training step at each resolution, beside the machine's own limit.
"""

import json
import os
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import _root  # noqa: F401  (the project on the path)

from pggan.config import cli
from pggan.config.presets import before_flags
from pggan.config.schema import Config, DataConfig, NetworkConfig, PresetName, ScheduleConfig, TrainingConfig
from pggan.config.validation import check_ignored, validate
from pggan.errors import UserError

Args = TypeVar("Args")
IMAGES = 500  # of builtin, for measuring training


@dataclass(frozen=True)
class Limits:
    """Measure what a run costs beside its steps: start-up, packing, waiting for data and all else. `bench.py metrics`
    and `bench.py train` measure other things. Example: bench.py limits --repeat 3 --json limits.json"""

    data: str = "builtin"
    """Images for the packing and the start. The limits are meant for 1,400 of them."""
    builtin_images: int = 1400
    """How many built-in images, if --data is builtin."""
    repeat: int = 5
    """Repetitions of each start; the median counts."""
    json: str | None = None
    """A file for the figures."""


@dataclass(frozen=True)
class Metrics:
    """Measure what evaluating samples costs: Inception's features, the Frechet distance, the diversity score.
    Example: bench.py metrics --repeat 3 --json metrics.json"""

    repeat: int = 5
    """Repetitions of each measurement; the median counts."""
    json: str | None = None
    """A file for the figures."""


@dataclass(frozen=True)
class Train:
    """Measure training steps, stable and fading: images/s, memory, the share of the machine's own limit, where the time
    goes, and the time of a whole run. Takes all settings of train.py that a step depends on.
    Example: bench.py train --res 32,64 --loss wgan-gp --json train.json"""

    res: str | None = None
    """Resolutions to measure: 64, or 32,64. Left out: all that the settings train at."""
    seconds: float = 5.0
    """About how long to measure each speed. Slow steps are taken at least --repeat times."""
    repeat: int = 5
    """Windows in which each speed is measured; the median counts."""
    breakdown: bool = True
    """Also measure the parts of a step: data, D, penalty, G, average. Takes some more steps, and compiles D without its
    penalty if steps are compiled."""
    json: str | None = None
    """A file for the records, a list."""
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
    name, *rest = argv if argv and not argv[0].startswith("-") else ("limits", *argv)
    if name not in COMMANDS:
        raise UserError(f"bench.py measures {', '.join(COMMANDS)}, not '{name}'")
    COMMANDS[name](rest)


def limits(argv: list[str]) -> None:
    args = _parse(Limits, argv)
    from benchmarks.limits import limits

    with tempfile.TemporaryDirectory() as folder:
        _show(limits(Path(folder), args.data, args.builtin_images, args.repeat), args.json)


def metrics(argv: list[str]) -> None:
    args = _parse(Metrics, argv)
    from benchmarks.metrics import metrics

    with tempfile.TemporaryDirectory() as folder:
        _show(metrics(Path(folder), args.repeat), args.json)


def train(argv: list[str]) -> None:
    default = defaults(argv)
    args = _parse(Train, argv, default)
    config, resolutions = settings(args, default)
    import torch
    from benchmarks import report
    from benchmarks.training import Effort, measure_all

    from pggan.run.devices import pick_device

    torch.set_num_threads(config.training.threads or torch.get_num_threads())
    device = pick_device(config.training.device)
    print(report.HEAD, flush=True)
    effort = Effort(args.seconds, args.repeat, args.breakdown)
    records = measure_all(config, device, resolutions, effort, lambda record: print(report.row(record), flush=True))
    print("\n".join(report.closing(config, records)))
    _write(report.as_json(config, device, records), args.json)


COMMANDS = {"limits": limits, "metrics": metrics, "train": train}


def defaults(argv: list[str]) -> Train:
    """The settings that the flags go over: those of --preset, --arch and --loss."""
    config = before_flags(argv)
    data = replace(config.data, builtin_images=IMAGES)
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
            raise UserError(f"--res {res} is no resolution of --base {config.network.base}: {some}")
    start, top = config.network.ends()
    whole = replace(config.network, start_res=min(start, *resolutions), max_res=max(top, *resolutions))
    validate(replace(config, network=whole))
    check_ignored(config, default.config())
    if config.schedule.budget or config.schedule.plan:
        raise UserError("the time of a run follows from --fade-kimg and --stable-kimg: leave out --budget and --plan")
    if args.seconds <= 0:
        raise UserError("--seconds must be above 0")
    return config, resolutions


def _parse(kind: type[Args], argv: list[str], default: Args | None = None) -> Args:
    args = cli.parse(kind, argv, default, prog=f"bench.py {kind.__name__.lower()}")
    if args.repeat < 1:
        raise UserError("--repeat must be at least 1")
    cli.check_writable("--json", args.json)
    return args


def _show(figures: list, path: str | None) -> None:
    from benchmarks.figures import as_dict

    for figure in figures:
        print(figure)
    _write(as_dict(figures), path)


def _write(values: object, path: str | None) -> None:
    if path:
        Path(os.path.expanduser(path)).write_text(json.dumps(values, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
