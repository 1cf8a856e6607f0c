#!/usr/bin/env python3
"""Grow a checkpoint to the next resolution: `python tools/grow.py CKPT [--out FILE]`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan.config import cli
from pggan.errors import refuse_if

EXAMPLE = """example: grow from 64 to 128 px, then train there in a new run
  python tools/grow.py runs/NAME/checkpoints/res-0064.pt
  python train.py --resume runs/NAME/checkpoints/grown-0128.pt --out runs/NAME-128"""


@dataclass(frozen=True)
class Args:
    """Double the resolution of a checkpoint: add a block to each network, and check that no output changes."""

    ckpt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CKPT")]
    """Checkpoint to grow, such as runs/NAME/checkpoints/res-0064.pt. Its fade must be over."""
    out: str | None = None
    """File for the grown checkpoint. None: grown-RES.pt beside it; for latest.pt of a manual run, that file."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="grow.py", example=EXAMPLE)
    refuse_if(args.out == "", "--out is empty: name a file")
    from pggan.run.grown_file import grow_file

    before, state, path, in_place = grow_file(Path(args.ckpt), Path(args.out) if args.out else None)
    top = state.config.network.ends()[1]
    same_command = f"the command that trained it, once more (with --max-res {top} or above)"
    print(
        f"grown from {before} to {state.res} px: {path}\n"
        "checked: at alpha 0, the generator, G_ema and the discriminator give exactly the same outputs as before\n"
        f"to continue: {same_command if in_place else f'python train.py --resume {path} --out runs/NAME'}"
    )


if __name__ == "__main__":
    cli.run(main)
