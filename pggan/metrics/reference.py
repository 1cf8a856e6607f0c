"""The statistics of the real images that samples are scored against, measured once.

The reals are split. Projections and neighborhoods are fitted on the fitting reals; the held-out reals, as many as the
samples, show which scores a set as good as the reals gets. Copies are searched for among all: all are training images.

Shapes here: N real images, n of them held out; see spaces.py for features and diversity.py for points z.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pggan.errors import UserError
from pggan.metrics import small_images, spaces
from pggan.metrics.copies import find_copies, thumbnails
from pggan.metrics.diversity import HeldOutStatistics, Projection, fit_projection, held_out_statistics
from pggan.metrics.random_features import Balance, balance, filters_digest, of_images

VERSION = f"3 {spaces.VERSION} {filters_digest()[:12]}"  # raise the number when a figure or an array's name changes
LEAST = 200  # real images
MOST_HELD_OUT = 500
MOST_FITTED = 1000  # for projections and neighborhoods; all reals count for copies
BASELINE = 250  # reals that are compared with all others


@dataclass(frozen=True)
class Points:
    """The fitting reals [N', d] and the held-out reals [n, d] in one feature space, and their projection."""

    projection: Projection
    fitted: np.ndarray
    held_out: np.ndarray


@dataclass(frozen=True)
class Reference:
    """The statistics of N reals; `of` makes them."""

    order: np.ndarray  # int64 [N]: the reals' numbers in random order, the held-out reals first, then the fitting ones
    projection: Projection  # of handcrafted features
    z: np.ndarray  # [N, d]: the handcrafted features of all reals, projected
    held_out: HeldOutStatistics
    modes: dict[str, Points]  # by feature space: softened images, in which dropped modes are looked for
    contrast: float  # mean contrast of the reals
    detail_spread: float  # standard deviation of `spaces.detail` over the reals
    thumbs: np.ndarray  # [N, 32, 32, 3]
    similarity: np.ndarray  # of up to 250 held-out reals: the similarity to the most similar other real
    balance: Balance
    random: np.ndarray  # float32 [N'', 512]: balanced random features, the held-out reals first, then the fitting ones
    classifier: np.ndarray  # float32 [N'', 464]: features of the same reals in the space `classifier`

    @classmethod
    def of(cls, reals: np.ndarray, seed: int = 0) -> "Reference":
        """The reference of reals uint8 [N, H, W, 3], which may be a memory map. seed: of the split.

        Raises UserError with fewer than 200 images, and when all look the same.
        """
        count = len(reals)
        if count < LEAST:
            raise UserError(f"diversity needs {LEAST} real pictures or more, and there are {count}")
        order = np.random.default_rng(seed).permutation(count)
        n = min(MOST_HELD_OUT, count // 2)
        held_out, fitted = order[:n], order[n : n + MOST_FITTED]
        chosen = np.sort(order[: n + MOST_FITTED])
        found = _features(reals, chosen)
        projection = fit_projection(found["handcrafted"][fitted])
        if not projection.axes.any():
            raise UserError("diversity cannot be measured against real pictures that all look the same")
        z = projection(found["handcrafted"])
        some = held_out[:BASELINE]
        mirrored = small_images.features(reals[np.sort(some)][:, :, ::-1], spaces.handcrafted)[
            np.argsort(np.argsort(some))
        ]
        copies = find_copies(found["thumbs"][some], [z[some], projection(mirrored)], found["thumbs"], z, some)
        fitted, held_out = np.searchsorted(chosen, fitted), np.searchsorted(chosen, held_out)
        balanced = balance(found["random"])
        both = np.append(held_out, fitted)
        return cls(
            order=order,
            projection=projection,
            z=z,
            held_out=held_out_statistics(z[order[:n]]),
            modes={name: _points(found[f"soft {name}"], fitted, held_out) for name in spaces.modes()},
            contrast=float(found["contrast"].mean()),
            detail_spread=float(found["detail"].std()),
            thumbs=found["thumbs"],
            similarity=copies.similarity,
            balance=balanced,
            random=balanced(found["random"][both]).astype(np.float32),
            classifier=found["classifier"][both].astype(np.float32),
        )

    @property
    def count(self) -> int:
        """n, the number of held-out reals."""
        return min(MOST_HELD_OUT, len(self.order) // 2)

    def split(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The rows of the held-out reals and of the fitting ones; rows: `random` or `classifier`."""
        return rows[: self.count], rows[self.count :]

    @property
    def held_out_z(self) -> np.ndarray:
        return self.z[self.order[: self.count]]

    @property
    def fitted_z(self) -> np.ndarray:
        return self.z[self.order[self.count : self.count + MOST_FITTED]]


def _points(features: np.ndarray, fitted: np.ndarray, held_out: np.ndarray) -> Points:
    projection = fit_projection(features[fitted])
    return Points(projection, projection(features[fitted]), projection(features[held_out]))


def _features(reals: np.ndarray, chosen: np.ndarray) -> dict[str, np.ndarray]:
    """Handcrafted features and thumbnails of all reals, and all other features of the `chosen` ones, in one pass."""
    wanted = iter(torch.from_numpy(np.isin(np.arange(len(reals)), chosen)).split(small_images.BATCH))

    def look(images: Tensor) -> dict[str, Tensor | np.ndarray]:
        found = {"handcrafted": spaces.handcrafted(images).double(), "thumbs": thumbnails(images)}
        some = images[next(wanted)]
        if len(some):
            soft = spaces.mode_features(small_images.softened(some))
            found |= {f"soft {name}": features.double() for name, features in soft.items()}
            found |= {"random": of_images(some).double(), "contrast": small_images.contrast(some)}
            found |= {"classifier": spaces.classifier(some), "detail": spaces.detail(some).double()}
        return found

    return small_images.joined(map(look, small_images.batches(reals)))
