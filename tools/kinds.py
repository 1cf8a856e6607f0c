#!/usr/bin/env python3
"""Counts the kinds of built-in images that a generator makes: `python tools/kinds.py CKPT`."""

from dataclasses import dataclass
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro
from _comparing import JSON, check, write_json

from pggan.config import cli


@dataclass(frozen=True)
class Args:
    """Count which kinds of built-in images a generator makes; it must have been trained on them.

    Example: python tools/kinds.py runs/demo/checkpoints/latest.pt
    """

    ckpt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CKPT")]
    """A checkpoint of a run on builtin, at 16 px or more."""
    num: int = 1000
    """Number of samples to count; a few hundred at least, or rare kinds are missed."""
    seed: int = 0
    """Seed of the samples."""
    json: JSON = None
    """Write the figures to this file."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="kinds.py")
    check(args, {"num": 1, "seed": 0})
    from pggan.evaluation.kinds import kinds_of_checkpoint

    found = kinds_of_checkpoint(args.ckpt, args.num, args.seed)
    for kind, count in sorted(found.counts.items(), key=lambda item: -item[1]):
        print(f"{kind:>8}  {count:5d}  {'#' * round(60 * count / args.num)}")
    print(f"{'none':>8}  {found.unread:5d}")
    print(f"{len(found.made)} of {len(found.counts)} kinds are made, among {args.num} samples")
    if found.missing:
        print(f"not made: {', '.join(found.missing)}")
    figures = {"counts": found.counts, "none": found.unread, "made": len(found.made), "num": args.num}
    write_json(args.json, {**figures, "seed": args.seed})


if __name__ == "__main__":
    cli.run(main)
