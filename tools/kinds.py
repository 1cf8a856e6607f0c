#!/usr/bin/env python3
"""Which kinds of built-in picture a generator still makes: `python tools/kinds.py CKPT`."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan.config import cli
from pggan.errors import UserError


@dataclass(frozen=True)
class Args:
    """Count, with a trained classifier, the kinds among samples of a generator that learned the built-in pictures."""

    ckpt: Annotated[str, tyro.conf.Positional]
    """A checkpoint of a run on builtin, such as runs/builtin-demo-64/checkpoints/latest.pt."""
    num: int = 1000
    """Samples to count; with fewer than some hundreds a rare kind is easily missed."""
    seed: int = 0
    """Which samples."""
    json: str | None = None
    """A file for the figures."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="kinds.py")
    if args.num < 1 or args.seed < 0:
        raise UserError("--num must be at least 1, and --seed not negative")
    import torch

    from pggan.evaluation.samples import draw
    from pggan.metrics.kinds import SMALLEST, count_kinds
    from pggan.training import checkpoint
    from pggan.training.state import load_generator

    learned = checkpoint.load(Path(args.ckpt))["config"]["data"]["data"]
    if not learned.startswith("builtin"):
        raise UserError(f"{args.ckpt} was trained on {learned}: only the built-in pictures have these kinds")
    generator, alpha = load_generator(args.ckpt)
    if generator.res < SMALLEST:
        raise UserError(f"{args.ckpt} is at {generator.res} px; kinds can be told apart from {SMALLEST} px on")
    images = torch.from_numpy(draw(generator, alpha, args.seed, args.num)).permute(0, 3, 1, 2)
    found = count_kinds(images / 127.5 - 1)
    for kind, count in sorted(found.counts.items(), key=lambda item: -item[1]):
        print(f"{kind:>8}  {count:5d}  {'#' * round(60 * count / args.num)}")
    print(f"{'none':>8}  {found.unread:5d}")
    print(f"{len(found.made)} of {len(found.counts)} kinds are made, among {args.num} samples")
    if found.missing:
        print(f"not made: {', '.join(found.missing)}")
    if args.json:
        figures = {"counts": found.counts, "none": found.unread, "made": len(found.made), "num": args.num}
        Path(args.json).write_text(json.dumps({**figures, "seed": args.seed}, indent=2) + "\n")


if __name__ == "__main__":
    cli.run(main)
