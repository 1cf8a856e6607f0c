#!/usr/bin/env python3
"""Images from a checkpoint: `python tools/sample.py CKPT --num 64 --seed 1 --out DIR`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import _root  # noqa: F401  (the project on the path)
import tyro
from _comparing import check

from pggan.config import cli
from pggan.errors import refuse_if


@dataclass(frozen=True)
class Args:
    """Draw images from a checkpoint's G_ema, the moving average of its generator: PNG files and a grid of them.

    Example: python tools/sample.py runs/NAME/checkpoints/latest.pt --num 64 --psi 0.8
    """

    ckpt: Annotated[str, tyro.conf.Positional]
    """A checkpoint, such as runs/NAME/checkpoints/latest.pt, or a .safetensors file of tools/export.py."""
    num: int = 64
    """Number of images."""
    seed: int = 0
    """Seed of the images, 0 or more. Image i of a seed is the same for every --num."""
    psi: float = 1.0
    """Truncation, 0 to 10. Below 1, images come closer to the mean: fewer defects, less variety. 0: only the mean."""
    out: str = "samples"
    """The folder for grid.png and the images, SEED-00000.png and so on."""
    columns: int = 8
    """Images in a row of the grid."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "cpu"
    """The device to draw on. Colors may differ by 1 of 255 between devices."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="sample.py")
    check(args, {"num": 1, "columns": 1, "seed": 0}, ("out",), written=())
    refuse_if(not 0 <= args.psi <= 10, "--psi must be from 0 to 10")
    from pggan.evaluation.samples import save_samples
    from pggan.run.devices import pick_device
    from pggan.training.loading import load_generator

    generator, alpha = load_generator(args.ckpt, pick_device(args.device))
    out = Path(os.path.expanduser(args.out))
    on_grid = save_samples(generator, alpha, out, args.seed, args.num, args.psi, args.columns)
    width, height = generator.config.size(generator.res)
    print(f"{args.num} images of {width}x{height} px, and grid.png of the first {on_grid}, in {out}{os.sep}")


if __name__ == "__main__":
    cli.run(main)
