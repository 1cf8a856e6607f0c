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
    """Write a small file of a checkpoint, with weights in half precision.

    FILE.safetensors has the generator alone (G_ema); the tools draw samples from it as from a checkpoint.
    FILE.pt has all networks without Adam's state, to start new runs with train.py --resume.

    Example: python tools/export.py runs/NAME/checkpoints/res-0064.pt --out mine-64.safetensors
    """

    ckpt: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CKPT")]
    """A checkpoint, such as runs/NAME/checkpoints/latest.pt."""
    out: Annotated[str | None, flag("FILE", "CKPT with the ending .safetensors")] = None
    """The file to write; it ends in .safetensors, or in .pt."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="export.py")
    check(args, {}, ("ckpt",), written=("out",))
    from pggan.training import checkpoint
    from pggan.training.exported import save_generator, save_start

    ckpt = Path(os.path.expanduser(args.ckpt))
    values = checkpoint.load(ckpt)
    out = Path(os.path.expanduser(args.out)) if args.out else ckpt.with_suffix(checkpoint.GENERATOR_ENDING)
    writers = {checkpoint.GENERATOR_ENDING: (save_generator, "the generator"), ".pt": (save_start, "all networks")}
    ending = out.suffix.lower()
    refuse_if(ending not in writers, f"--out {args.out} must end in {' or '.join(writers)}")
    refuse_if(ending == ".pt" and out.exists(), f"--out {args.out} exists, and may be a checkpoint: name another file")
    write, contents = writers[ending]
    write(values, out)
    print(f"{out}: {contents} at {values['res']} px, {out.stat().st_size / 2**20:.1f} MiB")
    if write is save_start:
        print(f"to start from it: python train.py --resume {out} --data DIR --out runs/NAME")


if __name__ == "__main__":
    cli.run(main)
