#!/usr/bin/env python3
"""Measures the distance between two sets of images: `python tools/fid.py REAL FAKE`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import _root  # noqa: F401  (the project on the path)
from _comparing import Sets, check, flag, write_json

from pggan.config import cli
from pggan.errors import UserError


@dataclass(frozen=True)
class Args(Sets):
    """Measure how close generated images are to real ones: FID, KID, precision, recall, density, coverage, SWD.

    Example: python tools/fid.py photos/ runs/demo/checkpoints/latest.pt
    """

    features: Literal["inception", "rand"] = "inception"
    """inception: FID and KID, with published weights. rand: RFD, with random filters; it needs no download. RFD and FID
    do not compare."""
    resize: Literal["tf", "clean"] = "tf"
    """How images are resized to 299x299 px for Inception: as torch-fidelity does (tf), or as clean-fid does (clean).
    FIDs of the two do not compare."""
    weights: Annotated[str | None, flag("FILE", "downloaded once, into your cache folder")] = None
    """Inception's weights."""
    res: Annotated[int | None, flag("INT", "the checkpoint's; without one, images keep their sizes")] = None
    """Measure at this size, in pixels of the shorter side."""
    swd: int = 2048
    """Number of images per set for the sliced Wasserstein distance (SWD). An image needs 75 kB of memory per level.
    Papers use 16384. 0: do not measure it."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="fid.py")
    check(args, {"num": 1, "seed": 0, "swd": 0, "builtin_images": 1}, ("weights", "cache"))
    if args.weights and args.features == "rand":
        raise UserError("--weights are Inception's: leave out --features rand")
    from pggan.evaluation.distances import measure
    from pggan.evaluation.opening import open_pair
    from pggan.metrics.cache import statistics_folder
    from pggan.metrics.extractors import inception_features, random_filters
    from pggan.metrics.inception import open_network

    how = args.opening()
    real, fake = open_pair(args.real, args.fake, num=args.num, seed=args.seed, res=args.res, fit=args.fit, **how)
    if args.features == "rand":
        extractor = random_filters()
    else:
        extractor = inception_features(open_network(args.weights, how["device"]), args.resize)
    found = measure(real, fake, extractor, swd=args.swd, seed=args.seed, cache=statistics_folder(args.cache))
    print("\n".join(found.lines()))
    write_json(args.json, found.plain())


if __name__ == "__main__":
    cli.run(main)
