"""The distances between two sets of images: FID or RFD, KID, precision, recall, density, coverage and SWD."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pggan.errors import UserError
from pggan.evaluation import features
from pggan.evaluation.features import PARTS, Gathered, gather
from pggan.evaluation.image_sets import ImageSet
from pggan.metrics.extractors import INCEPTION, RANDOM, UNPUBLISHED, Extractor
from pggan.metrics.frechet import frechet_distance
from pggan.metrics.kernel_distance import kernel_distance
from pggan.metrics.neighbors import prdc
from pggan.metrics.random_features import balance, random_kernel_distance
from pggan.metrics.swd import PATCHES, sliced_distances

LEAST = 2  # images per set for any measurement; a floor needs twice as many real images
K, K_BALLS = 3, 5  # neighbors of precision and recall, and of density and coverage, as published
MIN_REALS, MIN_FAKES = max(K, K_BALLS) + 1, K + 1  # for the measurements by neighbors
NEIGHBORS = ("precision", "recall", "density", "coverage")
MANY = 10_000  # images, from which on the bias of a Frechet distance is small
BATCH = 32


@dataclass(frozen=True)
class Measurement:
    """One measured number. key: its name in JSON, which includes the feature space.

    interval: of 95 %. floor: the same between a random half of the real images and the rest; halves: their numbers.
    """

    title: str
    key: str
    value: float
    interval: tuple[float, float] | None = None
    floor: float | None = None
    halves: Sequence[int] = (0, 0)

    def __str__(self) -> str:
        """A line of the table."""
        interval = "" if self.interval is None else "{:.4g} to {:.4g}".format(*self.interval)
        halves = "{:,} reals against {:,}".format(*self.halves)
        floor = "" if self.floor is None else f"floor {self.floor:.4g} ({halves})"
        return f"{self.title:<28}{self.value:>10.4g}  {interval:<26}{floor}".rstrip()

    def plain(self) -> dict[str, float]:
        """Its entries in JSON."""
        low, high = self.interval or (None, None)
        named = {"": self.value, "_low": low, "_high": high, "_floor": self.floor}
        return {self.key + ending: value for ending, value in named.items() if value is not None}


@dataclass(frozen=True)
class Distances:
    """All measurements. notes: lines for the user. protocol: see `protocol_line`."""

    measurements: list[Measurement]
    reals: int
    fakes: int
    seed: int
    notes: list[str]
    protocol: str

    def lines(self) -> list[str]:
        return [*map(str, self.measurements), *self.notes, f"protocol: {self.protocol}"]

    def plain(self) -> dict:
        """For JSON."""
        values = {key: value for each in self.measurements for key, value in each.plain().items()}
        facts = {name: getattr(self, name) for name in ("reals", "fakes", "seed", "protocol", "notes")}
        return values | facts


def measure(
    real: ImageSet, fake: ImageSet, extractor: Extractor, *, swd: int = 2048, seed: int = 0, cache: Path | None = None
) -> Distances:
    """The distances between two sets, in the extractor's features.

    swd: images per set for the sliced Wasserstein distance; 0: none. seed: of random choices. cache: the folder for
    the features of the real images. Raises UserError for too few images.
    """
    for name, images in (("REAL", real), ("FAKE", fake)):
        if len(images) < LEAST:
            most = f"{LEAST} or more a side, {', '.join(NEIGHBORS)} {MIN_REALS} reals and {MIN_FAKES} fakes"
            raise UserError(f"{name} has only {len(images)} image: FID, RFD and KID need {most}")
    reals = gather(real, extractor, BATCH, seed, cache)
    fakes = gather(fake, extractor, BATCH, seed, None)
    found, notes = compare(reals, fakes, extractor.space)
    slices, unsliced = sliced(real, fake, swd, seed) if swd else ([], [])
    unreadable = dict.fromkeys([*real.notes(), *fake.notes()])  # once, if both are the same set
    words = protocol_line(extractor, reals, fakes, (real.describe(), fake.describe()), seed)
    return Distances([*found, *slices], reals.count, fakes.count, seed, [*unreadable, *unsliced, *notes], words)


def compare(reals: Gathered, fakes: Gathered, space: str) -> tuple[list[Measurement], list[str]]:
    """(measurements, notes about too few images). space: of the extractor.

    The most reliable measurement comes first: with few images the kernel distance, which is unbiased. Random features
    are balanced by the reals, block by block.
    """
    kernel = kernel_distance
    if space == RANDOM:
        balanced, kernel = balance(reals.features.astype(np.float64)), random_kernel_distance
        reals, fakes = reals.balanced(balanced), fakes.balanced(balanced)
    halves = [reals.kept(part) for part in PARTS[1:]]
    frechet_floor, kernel_floor = {}, {}
    if min(map(len, halves)) >= LEAST:
        sums = [reals.moments(part) for part in PARTS[1:]]
        frechet_floor = {"floor": frechet_distance(*sums), "halves": [half.n for half in sums]}
        kernel_floor = {"floor": kernel(*halves).value, "halves": [*map(len, halves)]}
    frechet, kid = frechet_distance(reals.moments(), fakes.moments()), kernel(reals.features, fakes.features)
    frechet_title, kernel_title, key = names(space)
    found = [
        Measurement(frechet_title, key, frechet, **frechet_floor),
        Measurement(kernel_title, f"kid_{space}", kid.value, (kid.low, kid.high), **kernel_floor),
    ]
    notes = []
    if min(reals.count, fakes.count) < MANY:
        biased, better = (title.partition(",")[0] for title in (frechet_title, kernel_title))
        words = f"use the {better}, or compare at equal numbers, beside the floor"
        notes = [f"{reals.count:,} reals and {fakes.count:,} fakes make the {biased} too high: {words}"]
        found.reverse()
    if reals.count < MIN_REALS or fakes.count < MIN_FAKES:
        needed = f"{MIN_REALS} reals and {MIN_FAKES} fakes"
        return found, [f"{', '.join(NEIGHBORS)} need {needed}, not {reals.count} and {fakes.count}: left out", *notes]
    counted = prdc(reals.features, fakes.features, K, K_BALLS)
    return [*found, *(Measurement(name, f"{name}_{space}", getattr(counted, name)) for name in NEIGHBORS)], notes


def sliced(real: ImageSet, fake: ImageSet, count: int, seed: int) -> tuple[list[Measurement], list[str]]:
    """(sliced Wasserstein distances by level, a line if there are none), of at most `count` images per set."""
    count = min(len(real), len(fake), count)
    parts = (images.part(count, seed).mapped(lambda image: image, BATCH) for images in (real, fake))
    try:
        found = sliced_distances(*parts, PATCHES, count, seed)
    except ValueError as error:
        reason = str(error) if real.size else "images of one size are needed, of 16 px at least: say --res"
        return [], [f"SWD is left out: {reason}"]
    words = f"SWD x 1000 of {count:,}"
    levels = [Measurement(f"{words}, {level} px", f"swd_{level}", value) for level, value in found.items()]
    return [*levels, Measurement(f"{words}, mean", "swd_mean", sum(found.values()) / len(found))], []


def protocol_line(extractor: Extractor, reals: Gathered, fakes: Gathered, described: tuple[str, str], seed: int) -> str:
    """All that the measurements depend on, in one line. described: the two sets, in a few words each."""
    kept = features.KEPT
    some = [f"{kept:,} {name}" for name, side in (("reals", reals), ("fakes", fakes)) if side.count > kept]
    others = f"all but {names(extractor.space)[0]} of {' and '.join(some)} chosen at random by seed {seed}"
    sides = f"reals {reals.count:,} ({described[0]})", f"fakes {fakes.count:,} ({described[1]})"
    return ", ".join([extractor.words, *sides, *([others] if some else []), "float64"])


def names(space: str) -> tuple[str, str, str]:
    """(title of the Frechet distance, title of the kernel distance, key of the Frechet distance).

    They are called FID and KID only for Inception's features.
    """
    if space == RANDOM:
        return "RFD", "kernel distance", "rfd"
    if not space.startswith((INCEPTION, UNPUBLISHED)):
        return "Frechet distance", "kernel distance", f"frechet_{space}"
    other = ", other weights" if space.startswith(UNPUBLISHED) else ""
    return f"FID{other}", f"KID{other}", f"fid_{space}"
