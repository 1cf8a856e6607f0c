#!/usr/bin/env python3
"""Measures the distance between two sets of images: `python tools/fid.py REAL FAKE`."""

from dataclasses import dataclass
from typing import Annotated, Literal

import _root  # noqa: F401  (the project on the path)
from _comparing import Sets, check, flag, write_json

from pggan.config import cli
from pggan.errors import refuse_if


@dataclass(frozen=True)
class Args(Sets):
    """Measure how close generated images are to real ones: FID, KID, precision, recall, density, coverage, SWD.

    Example: python tools/fid.py photos/ runs/demo/checkpoints/latest.pt
    """

    features: Annotated[str, flag("NAME", "inception")] = "inception"
    """The feature space. inception: FID and KID, with published weights. rand: RFD, with random filters; it needs no
    download. RFD and FID cannot be compared. efficientnet-lite0: another network trained on ImageNet; its weights are a
    Python package. Others: see pggan/metrics/spaces.py."""
    resize: Literal["tf", "clean"] = "tf"
    """How images are resized to 299x299 px for Inception: as torch-fidelity does (tf), or as clean-fid does (clean).
    FIDs of the two cannot be compared."""
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
    other = args.weights and args.features != "inception"
    refuse_if(other, f"--weights are Inception's: leave out --features {args.features}")
    from pggan.evaluation.distances import measure
    from pggan.evaluation.diversity import trained_through
    from pggan.evaluation.opening import open_pair
    from pggan.metrics.cache import statistics_folder
    from pggan.metrics.extractors import open_extractor
    from pggan.metrics.spaces import SPACES, flattered

    refuse_if(args.features not in SPACES, f"--features {args.features}: there are only {', '.join(SPACES)}")
    how = args.opening()
    real, fake = open_pair(args.real, args.fake, num=args.num, seed=args.seed, res=args.res, fit=args.fit, **how)
    extractor = open_extractor(args.features, args.weights, how["device"], args.resize)
    seen = {images.spec: trained_through(images) for images in (real, fake)}
    flattering = [flattered(args.features, network) for network in seen.values()]
    found = measure(real, fake, extractor, swd=args.swd, seed=args.seed, cache=statistics_folder(args.cache))
    found.notes.extend(note for note in flattering if note)
    print("\n".join(found.lines()))
    write_json(args.json, found.plain())


if __name__ == "__main__":
    cli.run(main)
