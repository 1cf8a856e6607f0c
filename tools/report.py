#!/usr/bin/env python3
"""The page of a run, made again from the run's files: `python tools/report.py runs/NAME`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan.config import cli
from pggan.errors import refuse_if


@dataclass(frozen=True)
class Args:
    """Write report.html into a run's folder: samples over time, curves, growth, settings, and commands to continue.

    Training writes it too. Example: python tools/report.py runs/NAME
    """

    run: Annotated[str, tyro.conf.Positional]
    """The folder of a run, such as runs/NAME."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="report.py")
    folder = Path(os.path.expanduser(args.run))
    no_run = not args.run or not (folder / "config.json").is_file()
    refuse_if(no_run, f"{args.run or 'an empty name'} is not the folder of a run: config.json is not in it")
    from pggan.run.report import Report

    print(Report(folder).write())


if __name__ == "__main__":
    cli.run(main)
