#!/usr/bin/env python3
"""The growth step alone: a checkpoint one resolution up, `python tools/grow.py CKPT [--out FILE]`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan import cli
from pggan.errors import UserError


@dataclass(frozen=True)
class Args:
    """Add a block to the networks of a checkpoint, and check that they compute what they did."""

    ckpt: Annotated[str, tyro.conf.Positional]
    """A checkpoint whose fade is over, such as runs/NAME/checkpoints/res-0032.pt."""
    out: str | None = None
    """Where the grown checkpoint goes. Left out: grown-RES.pt beside it."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="grow.py")
    if args.out == "":
        raise UserError("--out is empty: name a file")
    import torch

    from pggan import checkpoint
    from pggan.growth import Probe, grow_state
    from pggan.state import state_from

    path = Path(args.ckpt)
    state = state_from(checkpoint.load(path), torch.device("cpu"))
    before = Probe(state)
    grow_state(state, reason=f"tools/grow.py {path.name}")
    before.check(state)
    out = Path(args.out) if args.out else path.with_name(f"grown-{state.res:04d}.pt")
    if out.exists() and out.resolve() == path.resolve():
        raise UserError(f"--out {out} is the checkpoint itself: name another file")
    checkpoint.save(state.to_dict(), out)
    print(
        f"grown from {before.res} to {state.res} px: {out}\n"
        "checked: at alpha 0 the generator, its average and the discriminator compute exactly what they did\n"
        f"go on: python train.py --resume {out} --out runs/NAME"
    )


if __name__ == "__main__":
    cli.run(main)
