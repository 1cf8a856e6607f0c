#!/usr/bin/env python3
"""Measures what the project costs, each figure beside its limit.

`python tools/bench.py limits`: everything beside the training steps of a run.
`python tools/bench.py train`: a training step at each resolution, beside the machine's own limit.
"""

import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import _root  # noqa: F401  (the project on the path)
from _comparing import JSON, check, write_json

from pggan.config import cli
from pggan.config.presets import before_flags
from pggan.config.schema import Config, DataConfig, NetworkConfig, PresetName, ScheduleConfig, TrainingConfig
from pggan.config.validation import check_ignored, validate
from pggan.errors import UserError, refuse_if

Args = TypeVar("Args")
IMAGES = 500  # of builtin, for measuring training


@dataclass(frozen=True)
class Limits:
    """Measure what a run costs beside its steps: start-up, packing, waiting for data and all else. `bench.py train`
    measures the steps. Example: bench.py limits --repeat 3 --json limits.json"""

    data: str = "builtin"
    """Images to pack and to start with. The limits are for 1,400 images."""
    builtin_images: int = 1400
    """Number of built-in images, if --data is builtin."""
    repeat: int = 5
    """How often each start is measured; the median counts."""
    json: JSON = None
    """Write the figures to this file."""


@dataclass(frozen=True)
class Train:
    """Measure training steps, after and during a fade: images/s, memory, how close they are to the fastest convolutions
    and matrix products of this machine, the parts of a step, and the time of a whole run. Takes the settings of
    train.py that a step depends on.
    Example: bench.py train --res 32,64 --loss wgan-gp --json train.json"""

    res: str | None = None
    """Resolutions to measure, such as 64 or 32,64. None: all that the settings train at."""
    seconds: float = 5.0
    """About how many seconds to measure each speed. At least --repeat steps are taken."""
    repeat: int = 5
    """How often each speed is measured; the median counts."""
    breakdown: bool = True
    """Also measure the parts of a step: data, D, penalty, G, G_ema. Takes some more steps. If steps are
    compiled, it also compiles D without its penalty."""
    json: JSON = None
    """Write the records to this file, as a list."""
    preset: PresetName = "paintings"
    """The settings to start from, as in train.py."""
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def config(self) -> Config:
        """The settings of a run."""
        return Config(self.preset, self.data, self.network, self.training, self.schedule)


def main(argv: list[str]) -> None:
    name, *rest = argv if argv and not argv[0].startswith("-") else ("limits", *argv)
    if name not in COMMANDS:
        raise UserError(f"bench.py measures {', '.join(COMMANDS)}, not '{name}'")
    COMMANDS[name](rest)


def limits(argv: list[str]) -> None:
    args = _parse(Limits, argv)
    from benchmarks.limits import as_dict, limits

    with tempfile.TemporaryDirectory() as folder:
        figures = limits(Path(folder), args.data, args.builtin_images, args.repeat)
    print(*figures, sep="\n")
    write_json(args.json, as_dict(figures))


def train(argv: list[str]) -> None:
    default = defaults(argv)
    args = _parse(Train, argv, default)
    config, resolutions = settings(args, default)
    import torch
    from benchmarks import report
    from benchmarks.training import measure_all

    from pggan.run.devices import pick_device

    torch.set_num_threads(config.training.threads or torch.get_num_threads())
    device = pick_device(config.training.device)
    print(report.HEAD, flush=True)
    how = {name: getattr(args, name) for name in ("seconds", "repeat", "breakdown")}
    records = measure_all(config, device, resolutions, **how, tell=lambda row: print(report.row(row), flush=True))
    print("\n".join(report.closing(config, records)))
    write_json(args.json, report.as_json(config, device, records))


COMMANDS = {"limits": limits, "train": train}


def defaults(argv: list[str]) -> Train:
    """The settings before the other flags are applied: those of --preset, --arch and --loss."""
    config = before_flags(argv)
    groups = {name: getattr(config, name) for name in ("preset", "network", "training", "schedule")}
    return Train(data=replace(config.data, builtin_images=IMAGES), **groups)


def settings(args: Train, default: Train) -> tuple[Config, list[int]]:
    """(settings of a run, resolutions to measure), checked. Raises UserError."""
    config, network = args.config(), args.network
    try:
        resolutions = sorted({int(word) for word in args.res.split(",")}) if args.res else network.stages()
    except ValueError:
        raise UserError(f"--res takes resolutions such as 64 or 32,64, not '{args.res}'") from None
    for res in resolutions:
        network.check_resolution("--res", res)
    ends = (*network.ends(), *resolutions)
    validate(replace(config, network=replace(network, start_res=min(ends), max_res=max(ends))))
    check_ignored(config, default.config())
    by_time = config.schedule.budget or config.schedule.plan
    refuse_if(by_time, "the time of a run follows from --fade-kimg and --stable-kimg: leave out --budget and --plan")
    refuse_if(args.seconds <= 0, "--seconds must be above 0")
    return config, resolutions


def _parse(kind: type[Args], argv: list[str], default: Args | None = None) -> Args:
    args = cli.parse(kind, argv, default, prog=f"bench.py {kind.__name__.lower()}")
    check(args, {"repeat": 1})
    return args


if __name__ == "__main__":
    cli.run(main)
