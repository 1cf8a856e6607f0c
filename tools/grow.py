#!/usr/bin/env python3
"""The growth step alone: a checkpoint one resolution up, `python tools/grow.py CKPT [--out FILE]`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan.config import cli
from pggan.errors import UserError


@dataclass(frozen=True)
class Args:
    """Add a block to the networks of a checkpoint, and check that they compute what they did."""

    ckpt: Annotated[str, tyro.conf.Positional]
    """A checkpoint whose fade is over, such as runs/NAME/checkpoints/res-0032.pt."""
    out: str | None = None
    """Where the grown checkpoint goes. Left out: grown-RES.pt beside it; of a manual run's latest.pt, in its place."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="grow.py")
    if args.out == "":
        raise UserError("--out is empty: name a file")
    from pggan.run.grown_file import grow_file

    before, state, path, in_place = grow_file(Path(args.ckpt), Path(args.out) if args.out else None)
    if in_place:
        top = state.config.network.ends()[1]
        go_on = f"the command that trained it, once more (with --max-res {top} or above)"
    else:
        go_on = f"python train.py --resume {path} --out runs/NAME"
    print(
        f"grown from {before} to {state.res} px: {path}\n"
        "checked: at alpha 0 the generator, its average and the discriminator compute exactly what they did\n"
        f"go on: {go_on}"
    )


if __name__ == "__main__":
    cli.run(main)
