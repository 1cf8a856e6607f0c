#!/usr/bin/env python3
"""Grow a generator on a folder of pictures: `python train.py --data DIR --start-res 32 --max-res 256`."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from pggan.config import cli
from pggan.config.presets import ARCH_TABLE, LOSS_TABLE, NAMES, preset, suited
from pggan.config.schema import Config
from pggan.config.validation import check_ignored
from pggan.errors import Interrupted, UserError


def main(argv: list[str]) -> None:
    name, resume = flag(argv, "--preset"), flag(argv, "--resume")
    arch, loss = flag(argv, "--arch"), flag(argv, "--loss")
    for word, value, known in (("--preset", name, NAMES), ("--arch", arch, ARCH_TABLE), ("--loss", loss, LOSS_TABLE)):
        if value and value not in known:
            raise UserError(f"{word} {value} is none of {', '.join(known)}")
    if name and resume:
        raise UserError(
            "--preset and --resume do not go together: what --resume begins keeps its checkpoint's settings"
        )
    asks_for_help = "-h" in argv or "--help" in argv
    default = begun(resume, flag(argv, "--out")) if resume and not asks_for_help else preset(name or "paintings")
    default = suited(default, arch, loss)
    config = cli.parse(Config, argv, default, prog="train.py")

    check_ignored(config, default)

    from pggan.run.loop import summary, train

    if config.run.dry_run:
        from pggan.run.dry_run import dry_run

        return dry_run(config)
    try:
        print(summary(train(config, cli.since_start)))
    except Interrupted as interrupted:
        sys.exit(128 + interrupted.number)


def flag(argv: list[str], name: str) -> str | None:
    """The last value of a flag that decides what the others start from; None when it is not given."""
    value = None
    for word, following in zip(argv, [*argv[1:], ""], strict=False):
        if word == name:
            value = following
        elif word.startswith(name + "="):
            value = word.partition("=")[2]
    return value


def begun(resume: str, out: str | None) -> Config:
    """The settings of the run in `out`, which may have been begun already, or else of the checkpoint it begins from."""
    from pggan.config.schema import from_dict
    from pggan.run.run_dir import RunDir
    from pggan.training import checkpoint

    known = RunDir(Path(os.path.expanduser(out))).config() if out else None
    if known and known.run.resume:
        return known
    config = from_dict(checkpoint.load(Path(os.path.expanduser(resume)))["config"])
    return replace(config, schedule=replace(config.schedule, budget=None))


if __name__ == "__main__":
    cli.run(main)
