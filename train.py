#!/usr/bin/env python3
"""Train a GAN on a folder of pictures: `python train.py --data DIR --start-res 32 --max-res 256`."""

import sys
from dataclasses import replace
from pathlib import Path

from pggan.config import cli
from pggan.config.presets import before_flags, last_value
from pggan.config.schema import Config, from_dict
from pggan.config.validation import check_ignored
from pggan.errors import Interrupted, UserError

EXAMPLE = """example: grow from 32 to 128 px on one GPU, with less memory at 128 px, within two hours
  python train.py --data DIR --max-res 128 --batch 32:64,128:16 --budget 2h
The same command again continues the run."""


def main(argv: list[str]) -> None:
    resume = last_value(argv, "--resume")
    if resume and last_value(argv, "--preset"):
        raise UserError("--preset and --resume exclude each other: --resume keeps the settings of its checkpoint")
    asks_for_help = "-h" in argv or "--help" in argv
    stored = stored_settings(resume, last_value(argv, "--out")) if resume and not asks_for_help else None
    default = before_flags(argv, stored)
    config = cli.parse(Config, argv, default, prog="train.py", example=EXAMPLE)
    check_ignored(config, default)

    from pggan.run.loop import summary, train

    if config.run.dry_run:
        from pggan.run.dry_run import dry_run

        return dry_run(config)
    try:
        print(summary(train(config, cli.since_start)))
    except Interrupted as interrupted:
        sys.exit(128 + interrupted.number)


def stored_settings(resume: str, out: str | None) -> Config:
    """Returns the settings of the run in `out` if --resume began it, else those of the checkpoint, without a budget."""
    from pggan.run.run_dir import RunDir
    from pggan.training import checkpoint

    begun = RunDir(Path(out).expanduser()).config() if out else None
    if begun and begun.run.resume:
        return begun
    config = from_dict(checkpoint.load(Path(resume).expanduser())["config"])
    return replace(config, schedule=replace(config.schedule, budget=None))


if __name__ == "__main__":
    cli.run(main)
