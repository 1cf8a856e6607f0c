#!/usr/bin/env python3
"""Measures the diversity of samples, and finds copies of training images: `python tools/diversity.py REAL FAKE`."""

import os
from dataclasses import dataclass
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro
from _comparing import Sets, check, flag, write_json

from pggan.config import cli
from pggan.errors import plain, refuse_if

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True)
class Args(Sets):
    """Measure how varied generated images are, and whether they copy the training images: has training collapsed?

    Needs at least 200 real images, which should be the training images, and at least 100 samples.

    Example: python tools/diversity.py photos/ runs/demo/checkpoints/latest.pt
    """

    num: Annotated[int | None, flag("INT", "the largest: half as many as there are real images, at most 500")] = None
    """Number of samples to use."""
    held_out: Annotated[str | None, flag("SET", "none: similarities within the training images set it")] = None
    """Real images that were not trained on; their similarity to the training images sets the threshold for copies."""
    features: Annotated[str, flag("NAME")] = "none"
    """Look for dropped modes in the features of a pretrained network, too: efficientnet-lite0 or efficientnet-lite1. It
    sees what pictures show, such as one painter of three that is gone."""
    copies: bool = True
    """Whether to search for copies of training images."""
    tags: Annotated[str | None, flag("FILE", "the classes, from folders or dataset.json")] = None
    """A CSV table of the real images' kinds: a first line such as `file,hair,eyes`, then a line per image."""
    tag: Annotated[tuple[str, ...], tyro.conf.arg(metavar="COLUMN ...", help_behavior_hint="(default: all)")] = ()
    """The columns of --tags to use."""
    montage: Annotated[str | None, flag("FILE")] = None
    """Save a picture of near-duplicates, of samples beside the training images they resemble, and of dropped modes."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="diversity.py")
    written = ("json", "montage")
    check(args, {"num": 100, "seed": 0, "builtin_images": 1}, ("cache", "held_out", "tags"), written)
    no_picture = args.montage and not args.montage.lower().endswith(IMAGE_ENDINGS)
    refuse_if(no_picture, f"--montage {plain(args.montage)} is not the name of a picture: end it in .png")
    refuse_if(args.tag and not args.tags, "--tag names columns of --tags: add --tags FILE")
    refuse_if(args.held_out and not args.copies, "--held-out is used to judge copies: leave out --no-copies")
    from pggan.evaluation import diversity
    from pggan.metrics.spaces import MORE, SPACES

    known = ("none", *MORE)
    refuse_if(args.features not in known, f"--features {args.features}: there are only {', '.join(known)}")
    more = [args.features] if args.features != "none" else []
    for name in more:
        SPACES[name].load()  # weights that are missing are an error before anything is read

    how = {"num": args.num, "seed": args.seed, "fit": args.fit, **args.opening()}
    real, fake, held_out = diversity.open_sets(args.real, args.fake, args.held_out, **how)
    known = diversity.labels_of(real, args.tags, args.tag)
    found = diversity.compare(real, fake, held_out, copies=args.copies, known=known, more=more, cache=args.cache)
    result = found.result(args.seed)
    if args.num and args.num > found.scores.count:
        most = "at most 500, and at most half as many as there are real images"
        result["notes"].append(f"of {args.num:,} samples {found.scores.count} were used: {most}")
    print("\n".join(diversity.table(result)))
    write_json(args.json, result)
    if args.montage:
        diversity.draw_montage(result, found).save(os.path.expanduser(args.montage))


if __name__ == "__main__":
    cli.run(main)
