#!/usr/bin/env python3
"""A film of a run's sample grids: `python tools/film.py runs/NAME`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan.config import cli
from pggan.errors import refuse_if

LIMITS = {"fps": (1, 60), "width": (192, 4096), "frames": (1, 100_000)}


@dataclass(frozen=True)
class Args:
    """Make a film of a run's sample grids, which show how the same latents look as training goes on.

    Example: python tools/film.py runs/NAME --out film.mp4 --fps 12
    """

    run: Annotated[str, tyro.conf.Positional]
    """The folder of a run, such as runs/NAME; the run may still be training."""
    out: str | None = None
    """FILE.webp, an animated image for browsers, or FILE.mp4 (needs `pip install av`). Without it: RUN/film.webp."""
    fps: int = 8
    """Grids per second, from 1 to 60."""
    width: int = 768
    """Width in pixels, from 192 to 4096; an odd number is lowered by 1."""
    frames: int = 200
    """Largest number of grids. If there are more, evenly spaced ones are chosen."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="film.py")
    refuse_if(args.out == "", "--out is empty: name a file")
    for name, (low, high) in LIMITS.items():
        value = getattr(args, name)
        refuse_if(not low <= value <= high, f"--{name} must be from {low} to {high}, not {value}")
    out = Path(os.path.expanduser(args.out)) if args.out else Path(args.run) / "film.webp"
    known = out.suffix.lower() in (".webp", ".mp4")
    refuse_if(not known, f"--out {out} is neither WebP nor MP4: let its name end in .webp or .mp4")
    refuse_if(out.is_dir(), f"--out {out} is a folder: name a file")
    from pggan.run.film import make_film

    count, (width, height) = make_film(Path(args.run), out, args.fps, args.width, args.frames)
    print(f"{count} grids of {args.run}, {width}x{height} px, {out.stat().st_size / 1e6:.1f} MB: {out}")


if __name__ == "__main__":
    cli.run(main)
