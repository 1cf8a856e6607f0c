#!/usr/bin/env python3
"""A small file to share: `python tools/export.py CKPT --out FILE.safetensors`."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro
from _comparing import check, flag

from pggan.config import cli
from pggan.errors import refuse_if


@dataclass(frozen=True)
class Args:
    """Write the generator of a checkpoint (G_ema) as a small safetensors file, in half precision, with its settings.

    sample.py, fid.py and diversity.py take it like a checkpoint. To go on training, keep the checkpoint.

    Example: python tools/export.py runs/NAME/checkpoints/res-0064.pt --out mine-64.safetensors
    """

    ckpt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CKPT")]
    """A checkpoint, such as runs/NAME/checkpoints/latest.pt."""
    out: Annotated[str | None, flag("FILE", "CKPT with the ending .safetensors")] = None
    """The file to write; it ends in .safetensors."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="export.py")
    check(args, {}, ("ckpt",), written=("out",))
    from pggan.training import checkpoint
    from pggan.training.generator_file import save_generator

    ckpt = Path(os.path.expanduser(args.ckpt))
    out = Path(os.path.expanduser(args.out)) if args.out else ckpt.with_suffix(checkpoint.GENERATOR_ENDING)
    refuse_if(out.suffix != checkpoint.GENERATOR_ENDING, f"--out {args.out} must end in {checkpoint.GENERATOR_ENDING}")
    values = checkpoint.load(ckpt)
    save_generator(values, out)
    print(f"{out}: the generator at {values['res']} px, {out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    cli.run(main)
