"""Feature extractors, and one pass of an extractor over a set of images.

A pass keeps the features of at most 10,000 images, a random choice where there are more. The Frechet distance uses all
images, through moments that are summed during the pass. So 50,000 images need no more memory than 10,000.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import numpy as np

from pggan.metrics import inception
from pggan.metrics.cache import Arrays, remembered
from pggan.metrics.frechet import Moments, RunningMoments, moments
from pggan.metrics.inception import Network
from pggan.metrics.random_features import WIDTH, Balance, filters_digest, random_features
from pggan.metrics.resizing import to_inception
from pggan.metrics.spaces import SIDE, VERSION, read_one

KEPT = 10_000  # features of a set at most: measures of all pairs need them in memory
UNPUBLISHED = "unpublished"  # Inception with other weights than the published ones
PARTS = ("all", "first", "second")  # all images, a random half of them, and the rest


class Images(Protocol):
    """The part of `image_sets.ImageSet` that is used here."""

    unreadable: dict[int, str]
    all_names: list[str]

    def mapped(self, prepare, batch: int) -> Iterator[np.ndarray]: ...
    def identity(self) -> str: ...
    def check_unchanged(self) -> None: ...


class Extractor(Protocol):
    """Turns images into features.

    space: its name in keys of JSON: inception_tf, inception_clean, rand. digest: of its weights. protocol: everything
    else the features depend on. words: all of that for people.
    """

    space: str
    digest: str
    protocol: dict[str, str | int]
    words: str

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> an array to be stacked; called in threads."""

    def features(self, batch: np.ndarray) -> np.ndarray:
        """Stacked results of `prepare` [N, ...] -> float32 [N, D]."""


class RandomFeatures:
    """Features of random filters, from images resized to 64x64 px."""

    space, protocol = "rand", {"version": VERSION, "features": WIDTH}

    def __init__(self):
        self.digest = filters_digest()
        self.words = f"RFD {WIDTH}-d random filters (sha256 {self.digest[:8]}..., balanced by the reals)"
        self.words += f", squashed to {SIDE}x{SIDE}"

    prepare = staticmethod(read_one)
    features = staticmethod(random_features)


class InceptionFeatures:
    """Features of Inception. how: the resizing to 299x299 px, tf or clean; see `resizing`.

    The space's name says how, and whether the weights are the published ones: other FIDs do not compare.
    """

    def __init__(self, network: Network, how: str):
        self.network, self.how, self.digest = network, how, network.digest
        self.space = f"{'inception' if network.published else UNPUBLISHED}_{how}"
        self.protocol = {"resize": how, "device": network.device.type}
        self.words = f"FID {inception.WIDTH}-d Inception (weights sha256 {self.digest[:8]}..., "
        self.words += f"{'published' if network.published else 'not the published ones'}), resize {how}"

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] -> float32 [3, 299, 299]"""
        return to_inception(image, self.how)

    def features(self, batch: np.ndarray) -> np.ndarray:
        """float32 [N, 3, 299, 299] -> float32 [N, 2048]"""
        return self.network.features(batch)


@dataclass(frozen=True)
class Gathered:
    """The result of a pass over N images.

    count: N. features: float32 [min(N, 10,000), D]. first: bool, which of `features` are of the first random half.
    summed: the moments of each of PARTS; empty if all features were kept.
    """

    count: int
    features: np.ndarray
    first: np.ndarray
    summed: dict[str, Moments]

    def moments(self, part: str = "all") -> Moments:
        """Of all images, of a random half (`first`) or of the rest (`second`)."""
        return self.summed[part] if self.summed else moments(self.kept(part))

    def kept(self, part: str = "all") -> np.ndarray:
        """The kept features of a part."""
        return self.features[{"all": slice(None), "first": self.first, "second": ~self.first}[part]]

    def balanced(self, balance: Balance) -> "Gathered":
        """The same with balanced features."""
        summed = {part: _balanced(moments, balance) for part, moments in self.summed.items()}
        return Gathered(self.count, balance(self.features), self.first, summed)


def gather(images: Images, extractor: Extractor, batch: int, seed: int, folder: Path | None) -> Gathered:
    """The result of one pass over the images, cached in `folder` (None: not cached). seed: of the random choices.

    Sets `images.unreadable`. Raises UserError when the files change during the pass.
    """

    def make() -> Arrays:
        arrays = _pass(images, extractor, batch, seed)
        if folder is not None:
            images.check_unchanged()
        return arrays

    arrays = remembered(_key(images, extractor, batch, seed) if folder else {}, make, folder)
    images.unreadable = dict(zip(arrays["unreadable"].tolist(), arrays["reasons"].tolist(), strict=True))
    summed = {part: _part(arrays, part) for part in PARTS if f"{part}/n" in arrays}
    return Gathered(int(arrays["count"]), arrays["features"], arrays["first"], summed)


def _key(images: Images, extractor: Extractor, batch: int, seed: int) -> dict:
    libraries = {name: version(name) for name in ("numpy", "pillow", "torch")}
    choices = {"N": len(images.all_names), "kept": KEPT, "batch": batch, "seed": seed, "dtype": "float32"}
    features = {"weights": extractor.digest, **extractor.protocol}
    return {"what": "features", "pictures": images.identity(), **features, **choices, **libraries}


def _pass(images: Images, extractor: Extractor, batch: int, seed: int) -> Arrays:
    """The arrays to cache: the kept features, and moments if these are not all."""
    order = np.random.default_rng(seed).permutation(len(images.all_names))  # unreadable images leave gaps at its end
    first, chosen = order % 2 == 0, order < KEPT
    sums = {part: RunningMoments() for part in PARTS} if len(order) > KEPT else {}
    kept, count = [], 0
    for prepared in images.mapped(extractor.prepare, batch):
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
        "unreadable": np.array(list(images.unreadable), np.int64),
        "reasons": np.array(list(images.unreadable.values()), str),
        **{f"{part}/{name}": array for part, arrays in moments_of.items() for name, array in arrays.items()},
    }


def _part(arrays: Arrays, part: str) -> Moments:
    names = [name for name in arrays if name.startswith(f"{part}/")]
    return Moments.from_arrays({name.removeprefix(f"{part}/"): arrays[name] for name in names})


def _balanced(moments: Moments, balance: Balance) -> Moments:
    whole = moments.full()
    covariance = whole.covariance * np.outer(balance.factors, balance.factors)
    return Moments(whole.n, balance(whole.mean), covariance=covariance)
