"""What a comparison of two sets of pictures is made of: one pass over each set, and a line that says all it depends on.

A pass keeps the features of at most 10,000 pictures, a random choice where there are more; the Frechet distance takes
all pictures, by moments that are summed as they come. So 50,000 pictures need no more memory than 10,000.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from pggan.errors import UserError
from pggan.metrics import inception
from pggan.metrics.cache import Arrays, remembered
from pggan.metrics.frechet import Moments, RunningMoments, frechet_distance, moments
from pggan.metrics.inception import Network
from pggan.metrics.kernel_distance import kernel_distance
from pggan.metrics.neighbors import prdc
from pggan.metrics.random_features import (
    WIDTH,
    Balance,
    balance,
    filters_digest,
    random_features,
    random_kernel_distance,
)
from pggan.metrics.resizing import to_inception
from pggan.metrics.spaces import SIDE, VERSION, read_one
from pggan.metrics.swd import sliced_distances

LEAST = 2  # pictures a side for any figure; a floor needs twice as many reals
K, K_BALLS = 3, 5  # neighbors of precision and recall, and of density and coverage, as published
LEAST_REALS, LEAST_FAKES = max(K, K_BALLS) + 1, K + 1
NEIGHBOURS = ("precision", "recall", "density", "coverage")
MANY = 10_000  # pictures from which on the bias of a Frechet distance is small
KEPT = 10_000  # features of a side at most: what compares all pairs needs them at hand
UNPUBLISHED = "unpublished"  # Inception with other weights than the published ones
PARTS = ("all", "first", "second")  # all pictures, a random half of them, and the rest


class Pictures(Protocol):
    """What is asked of a set of pictures; `picture_sets.ImageSet` is one."""

    unreadable: dict[int, str]
    all_names: list[str]
    size: tuple[int, int] | None

    def __len__(self) -> int: ...
    def part(self, count: int, seed: int) -> "Pictures": ...
    def mapped(self, prepare, batch: int) -> Iterator[np.ndarray]: ...
    def identity(self) -> str: ...
    def check_unchanged(self) -> None: ...


class Extractor(Protocol):
    """What turns pictures into features.

    space: its name in keys of JSON: inception_tf, inception_clean, rand. digest: of its weights. protocol: whatever
    else the features depend on. words: all of that for people.
    """

    space: str
    digest: str
    protocol: dict[str, str | int]
    words: str

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> an array that can be stacked; called in threads."""

    def features(self, batch: np.ndarray) -> np.ndarray:
        """What was prepared, [N, ...] -> float32 [N, D]."""


class RandomFeatures:
    """The features of random filters, which look at pictures squashed to 64x64 px."""

    space, protocol = "rand", {"version": VERSION, "features": WIDTH}

    def __init__(self):
        self.digest = filters_digest()
        self.words = f"RFD {WIDTH}-d random filters (sha256 {self.digest[:8]}..., balanced by the reals)"
        self.words += f", squashed to {SIDE}x{SIDE}"

    prepare = staticmethod(read_one)
    features = staticmethod(random_features)


class InceptionFeatures:
    """The features of Inception. how: the way to 299x299 px, tf or clean, which is part of every figure's name.

    So is whether the weights are the published ones: a FID of others can be compared with no other FID.
    """

    def __init__(self, network: Network, how: str):
        self.network, self.how, self.digest = network, how, network.digest
        self.space = f"{'inception' if network.published else UNPUBLISHED}_{how}"
        self.protocol = {"resize": how, "device": network.device.type}
        self.words = f"FID {inception.WIDTH}-d Inception (weights sha256 {self.digest[:8]}..., "
        self.words += f"{'published' if network.published else 'not the published ones'}), resize {how}"

    def prepare(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> float32 [3, 299, 299]"""
        return to_inception(picture, self.how)

    def features(self, batch: np.ndarray) -> np.ndarray:
        """float32 [N, 3, 299, 299] -> float32 [N, 2048]"""
        return self.network.features(batch)


@dataclass(frozen=True)
class Gathered:
    """What a pass over N pictures brought.

    count: N. features: float32 [min(N, 10,000), D]. first: bool, which of `features` are of the random half. summed:
    the moments of each of PARTS, or nothing where all features are at hand.
    """

    count: int
    features: np.ndarray
    first: np.ndarray
    summed: dict[str, Moments]

    def moments(self, part: str = "all") -> Moments:
        """Of all pictures, of the random half (`first`) or of the rest (`second`)."""
        return self.summed[part] if self.summed else moments(self.kept(part))

    def kept(self, part: str = "all") -> np.ndarray:
        """The features at hand of a part."""
        return self.features[{"all": slice(None), "first": self.first, "second": ~self.first}[part]]

    def balanced(self, balance: Balance) -> "Gathered":
        """The same with balanced features."""
        summed = {part: _balanced(moments, balance) for part, moments in self.summed.items()}
        return Gathered(self.count, balance(self.features), self.first, summed)


def gather(pictures: Pictures, extractor: Extractor, batch: int, seed: int, folder: Path | None) -> Gathered:
    """One pass over the pictures, or none where `folder` remembers it. seed: of the random choices.

    Afterwards `pictures.unreadable` is known. Raises UserError when the files change meanwhile.
    """

    def make() -> Arrays:
        arrays = _pass(pictures, extractor, batch, seed)
        if folder is not None:
            pictures.check_unchanged()
        return arrays

    arrays = remembered(_key(pictures, extractor, batch, seed) if folder else {}, make, folder)
    pictures.unreadable = dict(zip(arrays["unreadable"].tolist(), arrays["reasons"].tolist(), strict=True))
    summed = {part: _part(arrays, part) for part in PARTS if f"{part}/n" in arrays}
    return Gathered(int(arrays["count"]), arrays["features"], arrays["first"], summed)


def _key(pictures: Pictures, extractor: Extractor, batch: int, seed: int) -> dict:
    libraries = {name: version(name) for name in ("numpy", "pillow", "torch")}
    choices = {"N": len(pictures.all_names), "kept": KEPT, "batch": batch, "seed": seed, "dtype": "float32"}
    features = {"weights": extractor.digest, **extractor.protocol}
    return {"what": "features", "pictures": pictures.identity(), **features, **choices, **libraries}


def _pass(pictures: Pictures, extractor: Extractor, batch: int, seed: int) -> Arrays:
    """What there is to remember of a set: the features kept, and the moments where those are not all."""
    order = np.random.default_rng(seed).permutation(len(pictures.all_names))  # unreadable ones leave gaps at its end
    first, chosen = order % 2 == 0, order < KEPT
    sums = {part: RunningMoments() for part in PARTS} if len(order) > KEPT else {}
    kept, count = [], 0
    for prepared in pictures.mapped(extractor.prepare, batch):
        features = np.asarray(extractor.features(prepared), np.float32)
        rows = slice(count, count + len(features))
        parts = {"all": features, "first": features[first[rows]], "second": features[~first[rows]]}
        for part, running in sums.items():
            if len(parts[part]):
                running.add(parts[part])
        kept.append(features[chosen[rows]])
        count += len(features)
    moments_of = {part: running.moments().arrays() for part, running in sums.items()}
    return {
        "features": np.concatenate(kept),
        "first": first[:count][chosen[:count]],
        "count": np.array(count),
        "unreadable": np.array(list(pictures.unreadable), np.int64),
        "reasons": np.array(list(pictures.unreadable.values()), str),
        **{f"{part}/{name}": array for part, arrays in moments_of.items() for name, array in arrays.items()},
    }


def _part(arrays: Arrays, part: str) -> Moments:
    names = [name for name in arrays if name.startswith(f"{part}/")]
    return Moments.from_arrays({name.removeprefix(f"{part}/"): arrays[name] for name in names})


def _balanced(moments: Moments, balance: Balance) -> Moments:
    whole = moments.full()
    covariance = whole.covariance * np.outer(balance.factors, balance.factors)
    return Moments(whole.n, balance(whole.mean), covariance=covariance)


# ---- figures


@dataclass(frozen=True)
class Figure:
    """One measured number. key: its name in JSON, which says the features it was measured in.

    interval: of 95 %. floor: the same between a random half of the reals and the rest; halves: how many each has.
    """

    title: str
    key: str
    value: float
    interval: tuple[float, float] | None = None
    floor: float | None = None
    halves: tuple[int, int] = (0, 0)

    def __str__(self) -> str:
        """A line of the table."""
        interval = "" if self.interval is None else "{:.4g} to {:.4g}".format(*self.interval)
        halves = "{:,} reals against {:,}".format(*self.halves)
        floor = "" if self.floor is None else f"floor {self.floor:.4g} ({halves})"
        return f"{self.title:<28}{self.value:>10.4g}  {interval:<26}{floor}".rstrip()

    def plain(self) -> dict[str, float]:
        """For JSON."""
        low, high = self.interval or (None, None)
        named = {"": self.value, "_low": low, "_high": high, "_floor": self.floor}
        return {self.key + ending: value for ending, value in named.items() if value is not None}


def compare(reals: Gathered, fakes: Gathered, space: str) -> tuple[list[Figure], list[str]]:
    """(the figures that so many pictures allow, and of the others, in a line each, how many they need).

    space: the features, as they are named in keys: inception_tf, inception_clean or rand. What to look at first comes
    first: with few reals the kernel distance, for want of bias. Of random filters each block is balanced by the reals.
    """
    if space == RandomFeatures.space:
        balanced = balance(reals.features.astype(np.float64))
        reals, fakes = reals.balanced(balanced), fakes.balanced(balanced)
    both = [_frechet(reals, fakes, space), _kernel(reals, fakes, space)]
    figures = both if min(reals.count, fakes.count) >= MANY else both[::-1]
    if reals.count < LEAST_REALS or fakes.count < LEAST_FAKES:
        needed = f"{LEAST_REALS} reals and {LEAST_FAKES} fakes"
        return figures, [f"{', '.join(NEIGHBOURS)} need {needed}, not {reals.count} and {fakes.count}: left out"]
    counted = prdc(reals.features, fakes.features, K, K_BALLS)
    return [*figures, *(Figure(name, f"{name}_{space}", getattr(counted, name)) for name in NEIGHBOURS)], []


def sliced(real: Pictures, fake: Pictures, count: int, batch: int, seed: int) -> tuple[list[Figure], list[str]]:
    """(sliced Wasserstein distances by level, and why there are none), of at most `count` pictures a side."""
    count = min(len(real), len(fake), count)
    parts = (pictures.part(count, seed).mapped(lambda picture: picture, batch) for pictures in (real, fake))
    try:
        found = sliced_distances(*parts, images=count, seed=seed)
    except ValueError as error:
        reason = str(error) if real.size else "pictures of one size are needed, of 16 px at least: say --res"
        return [], [f"SWD is left out: {reason}"]
    words = f"SWD x 1000 of {count:,}"
    levels = [Figure(f"{words}, {level} px", f"swd_{level}", value) for level, value in found.levels.items()]
    return [*levels, Figure(f"{words}, mean", "swd_mean", found.mean)], []


def line(extractor: Extractor, reals: Gathered, fakes: Gathered, described: tuple[str, str], seed: int) -> str:
    """All that the figures depend on, in one line. described: the two sets, in a few words each."""
    some = [f"{KEPT:,} {name}" for name, side in (("reals", reals), ("fakes", fakes)) if side.count > KEPT]
    others = f"all but {titles(extractor.space)[0]} of {' and '.join(some)} chosen at random by seed {seed}"
    sides = f"reals {reals.count:,} ({described[0]})", f"fakes {fakes.count:,} ({described[1]})"
    return ", ".join([extractor.words, *sides, *([others] if some else []), "float64"])


def bias_note(reals: Gathered, fakes: Gathered, space: str) -> list[str]:
    """A line for sets so small that the Frechet distance is biased."""
    if min(reals.count, fakes.count) >= MANY:
        return []
    frechet, kernel = (title.partition(",")[0] for title in titles(space))
    counts = f"{reals.count:,} reals and {fakes.count:,} fakes"
    return [
        f"{counts} make the {frechet} too high: look at the {kernel}, or compare at the same numbers, with its floor"
    ]


def check_enough(name: str, count: int) -> None:
    """Raises UserError when a set has too few pictures for any figure."""
    if count < LEAST:
        most = f"precision, recall, density and coverage {LEAST_REALS} reals and {LEAST_FAKES} fakes"
        raise UserError(f"{name} has only {count} picture: FID, RFD and KID need at least {LEAST} a side, {most}")


def titles(space: str) -> tuple[str, str]:
    """What the Frechet distance and the kernel distance are called: FID and KID only of Inception's features."""
    other = ", other weights" if space.startswith(UNPUBLISHED) else ""
    return ("RFD", "kernel distance") if space == RandomFeatures.space else (f"FID{other}", f"KID{other}")


def _frechet(reals: Gathered, fakes: Gathered, space: str) -> Figure:
    value = frechet_distance(reals.moments(), fakes.moments())
    named = titles(space)[0], "rfd" if space == RandomFeatures.space else f"fid_{space}", value
    if reals.count < 2 * LEAST:
        return Figure(*named)
    halves = [reals.moments(part) for part in PARTS[1:]]
    return Figure(*named, floor=frechet_distance(*halves), halves=tuple(half.n for half in halves))


def _kernel(reals: Gathered, fakes: Gathered, space: str) -> Figure:
    distance = random_kernel_distance if space == RandomFeatures.space else kernel_distance
    found = distance(reals.features, fakes.features)
    named = titles(space)[1], f"kid_{space}", found.value, (found.low, found.high)
    halves = [reals.kept(part) for part in PARTS[1:]]
    if min(map(len, halves)) < LEAST:
        return Figure(*named)
    return Figure(*named, floor=distance(*halves).value, halves=tuple(map(len, halves)))
