#!/usr/bin/env python3
"""How far fakes are from reals: `python tools/fid.py REAL FAKE`, each a folder, a zip, builtin or a checkpoint."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan.config import cli
from pggan.errors import UserError

BATCH = 32


@dataclass(frozen=True)
class Args:
    """Measure how far fake pictures are from real ones: FID, KID, precision, recall, density, coverage, SWD."""

    real: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="REAL")]
    """The real pictures: a folder, a zip, builtin[:SEED], or a checkpoint, which samples are drawn from."""
    fake: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FAKE")]
    """What is measured: the same kinds. Beside a checkpoint, real pictures are fitted as its training fitted them."""
    num: int | None = None
    """Samples drawn from a checkpoint. Left out: as many as there are reals, from 1,000 to 50,000."""
    seed: int = 0
    """Which samples are drawn, and which pictures are taken where not all are."""
    features: Literal["inception", "rand"] = "inception"
    """inception: FID and KID, with published weights. rand: RFD, by random filters, which needs no download; it is no
    FID and cannot be compared with one."""
    resize: Literal["tf", "clean"] = "tf"
    """How pictures come to 299x299 px for Inception: tf agrees with torch-fidelity, clean with clean-fid. Figures that
    were measured after different ways cannot be compared."""
    weights: str | None = None
    """The file of Inception's weights. Left out: downloaded once, into your cache folder."""
    res: int | None = None
    """The size to measure at, in pixels of the shorter side. Left out: a checkpoint's, or pictures as they are."""
    fit: Literal["crop", "pad", "stretch"] | None = None
    """How pictures of another shape are made to fit. Left out: as a checkpoint's training did, or crop."""
    swd: int = 2048
    """Pictures a side for the sliced Wasserstein distances, 75 kB of memory each a level; published: 16384. 0: none."""
    builtin_images: int = 2000
    """How many pictures builtin draws."""
    cache: str | None = None
    """Where what was measured of the reals is kept, for the next time. Left out: in your cache folder."""
    json: str | None = None
    """A file for the figures."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where the features are computed and the samples drawn."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="fid.py")
    _check(args)
    from pggan.evaluation.image_sets import open_pair
    from pggan.metrics import protocol
    from pggan.metrics.cache import statistics_folder
    from pggan.metrics.inception import open_network
    from pggan.run.setup import pick_device

    device = pick_device(args.device)
    how = {"builtin_images": args.builtin_images, "cache": args.cache, "device": device}
    real, fake = open_pair(args.real, args.fake, num=args.num, seed=args.seed, res=args.res, fit=args.fit, **how)
    for name, pictures in (("REAL", real), ("FAKE", fake)):
        protocol.check_enough(name, len(pictures))
    if args.features == "rand":
        extractor = protocol.RandomFeatures()
    else:
        extractor = protocol.InceptionFeatures(open_network(args.weights, device), args.resize)
    reals = protocol.gather(real, extractor, BATCH, args.seed, statistics_folder(args.cache))
    fakes = protocol.gather(fake, extractor, BATCH, args.seed, None)
    figures, left_out = protocol.compare(reals, fakes, extractor.space)
    slices, unsliced = protocol.sliced(real, fake, args.swd, BATCH, args.seed) if args.swd else ([], [])
    unreadable = [*real.notes(), *([] if fake is real else fake.notes())]
    notes = [*unreadable, *left_out, *unsliced, *protocol.bias_note(reals, fakes, extractor.space)]
    line = protocol.line(extractor, reals, fakes, (real.describe(), fake.describe()), args.seed)
    print("\n".join([*map(str, (*figures, *slices)), *notes, f"protocol: {line}"]))
    if args.json:
        values = {key: value for figure in (*figures, *slices) for key, value in figure.plain().items()}
        facts = {"reals": reals.count, "fakes": fakes.count, "seed": args.seed, "protocol": line, "notes": notes}
        Path(os.path.expanduser(args.json)).write_text(json.dumps({**values, **facts}, indent=2) + "\n")


def _check(args: Args) -> None:
    for name, least in {"num": 1, "seed": 0, "swd": 0, "builtin_images": 1}.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    for name in ("json", "weights", "cache"):
        if getattr(args, name) == "":
            raise UserError(f"--{name} is empty: name a {'folder' if name == 'cache' else 'file'}")
    cli.check_writable("--json", args.json)
    if args.weights and args.features == "rand":
        raise UserError("--weights are Inception's: leave out --features rand")


if __name__ == "__main__":
    cli.run(main)
