"""One pass of a feature extractor over a set of images.

A pass keeps the features of at most 10,000 images, a random choice where there are more. The Frechet distance uses all
images, through moments that are summed during the pass. So 50,000 images need no more memory than 10,000.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pggan.evaluation.image_sets import ImageSet
from pggan.metrics.cache import from_arrays, to_arrays
from pggan.metrics.extractors import Extractor
from pggan.metrics.frechet import Moments, RunningMoments, moments
from pggan.metrics.random_features import Balance

KEPT = 10_000  # features of a set at most: measures of all pairs need them in memory
PARTS = ("all", "first", "second")  # all images, a random half of them, and the rest


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
        summed = {}
        for part, whole in self.summed.items():
            covariance = whole.full().covariance * np.outer(balance.factors, balance.factors)
            summed[part] = Moments(whole.n, balance(whole.mean), covariance=covariance)
        return Gathered(self.count, balance(self.features), self.first, summed)


def gather(images: ImageSet, extractor: Extractor, batch: int, seed: int, folder: Path | None) -> Gathered:
    """The result of one pass over the images, cached in `folder` (None: not cached). seed: of the random choices.

    Sets `images.unreadable`. Raises UserError when the files change during the pass.
    """
    key = {"what": "features", "weights": extractor.digest, **extractor.protocol}
    key |= {"kept": KEPT, "batch": batch, "seed": seed, "dtype": "float32"}
    arrays = images.remembered(key, lambda: to_arrays(_pass(images, extractor, batch, seed)), folder)
    return from_arrays(Gathered, arrays)


def _pass(images: ImageSet, extractor: Extractor, batch: int, seed: int) -> Gathered:
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
    summed = {part: running.moments() for part, running in sums.items()}
    return Gathered(count, np.concatenate(kept), first[:count][chosen[:count]], summed)
