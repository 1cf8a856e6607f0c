#!/usr/bin/env python3
"""Pictures from a checkpoint: `python tools/sample.py CKPT --num 64 --seed 1 --out DIR`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan.config import cli
from pggan.errors import UserError

MOST_ON_GRID = 256


@dataclass(frozen=True)
class Args:
    """Draw PNGs, and a grid of them, from the moving average of a checkpoint's generator."""

    ckpt: Annotated[str, tyro.conf.Positional]
    """A checkpoint, such as runs/NAME/checkpoints/latest.pt."""
    num: int = 64
    """How many pictures."""
    seed: int = 0
    """Picture i of a seed is always the same, however many are drawn."""
    psi: float = 1.0
    """Below 1 samples are pulled towards the mean: cleaner and less varied. 0: the mean itself."""
    out: str = "samples"
    """The folder that grid.png and SEED-00000.png ... go to."""
    columns: int = 8
    """Pictures in a row of the grid."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "cpu"
    """Where to draw them. Another kind of device may change a color by 1 in 255."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="sample.py")
    for name in ("num", "columns"):
        if getattr(args, name) < 1:
            raise UserError(f"--{name} must be at least 1")
    if args.seed < 0 or not 0 <= args.psi <= 10:
        raise UserError("--seed cannot be negative, and --psi must be from 0 to 10")
    if not args.out:
        raise UserError("--out is empty: name a folder")
    from itertools import chain

    import numpy as np
    from PIL import Image
    from tqdm import tqdm

    from pggan.evaluation.samples import draw_batches, tile
    from pggan.run.setup import pick_device
    from pggan.training.state import load_generator

    generator, alpha = load_generator(args.ckpt, pick_device(args.device))
    out = Path(os.path.expanduser(args.out))
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--out {out} is a file: name a folder") from None
    batches = draw_batches(generator, alpha, args.seed, args.num, args.psi)
    shown, on_grid = [], min(args.num, MOST_ON_GRID)
    for number, image in enumerate(tqdm(chain.from_iterable(batches), total=args.num, disable=None, leave=False)):
        Image.fromarray(image).save(out / f"{args.seed:04d}-{number:05d}.png")
        if number < on_grid:
            shown.append(image)
    tile(np.stack(shown), min(args.columns, on_grid)).save(out / "grid.png")
    width, height = generator.config.size(generator.res)
    print(f"{args.num} pictures of {width}x{height} px, and grid.png of the first {on_grid}, in {out}{os.sep}")


if __name__ == "__main__":
    cli.run(main)
