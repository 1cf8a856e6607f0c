"""The scores of a set of samples against a Reference: diversity, quality, copies, and the verdict."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.cluster.vq import kmeans2
from torch import Tensor

from pggan.errors import UserError
from pggan.metrics import small_images, spaces
from pggan.metrics.copies import Copies, find_copies, threshold, thumbnails
from pggan.metrics.diversity import Diversity, HeldOutStatistics, diversity, held_out_statistics
from pggan.metrics.dropped_modes import dropped_shares
from pggan.metrics.fidelity import coverage, fidelity, in_balls
from pggan.metrics.frechet import frechet_distance, moments
from pggan.metrics.kernel_distance import Estimate
from pggan.metrics.neighbors import nearest
from pggan.metrics.random_features import of_images, random_kernel_distance
from pggan.metrics.reference import Reference
from pggan.metrics.verdict import Evidence, judge

LEAST = 100  # samples
BINS, REALS_PER_BIN = 50, 20  # of different_bins: at most 50, each with 20 or more fitting reals on average
SIGNIFICANT = 1.96  # standard errors (Richardson and Weiss 2018, section 3)
KMEANS_ROUNDS = 20
UNIFORM = 0.5  # a detail_spread below this share of that of the reals is too small
PICTURES = 0.18  # detail_spread of sets of pictures, at least; of noise and barely trained generators it is smaller


@dataclass(frozen=True)
class Scores:
    """The scores of `count` samples against a Reference. Shares are from 0 to 1. verdict, reason: see `judge`."""

    diversity: Diversity
    count: int
    held_out: HeldOutStatistics  # of as many reals
    dropped: dict[str, np.ndarray]  # by feature space: see `dropped_modes`, for each fitting real
    fidelity: float  # of the samples as they are, in the space `classifier`: see `fidelity.fidelity`
    soft_fidelity: float  # of softened samples
    coverage: float  # see `fidelity.coverage`; divided by the same of held-out reals
    detail_spread: float  # standard deviation of `spaces.detail` over the samples
    real_detail_spread: float
    seen: Sequence[str]  # feature spaces that the verdict leaves out: D looked through them
    in_training: bool  # whether the samples are of a generator that is, or may be, trained on these reals
    different_bins: float  # NDB / K: see `different_bins`
    copies: Copies | None
    copied: float  # share of the samples that are copies of training images
    real_copied: float  # share of the reals that are just as similar to another real
    reals_compared: int  # number of reals in that share
    rfd: float  # Frechet distance of random features
    kid: Estimate  # kernel distance of random features

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(
            ratio=self.diversity.ratio,
            high=self.diversity.ratio_high,
            effective_samples=self.diversity.effective_samples,
            count=self.count,
            largest=max(0.0, self.diversity.largest - self.held_out.largest),
            duplicates=sure_excess(self.diversity.duplicates, self.held_out.duplicates, self.count, self.count),
            dropped=max(float(shares.sum()) for name, shares in self.dropped.items() if name not in self.seen),
            copied=sure_excess(self.copied, self.real_copied, self.count, self.reals_compared),
            fidelity=self.fidelity,
            soft_fidelity=self.soft_fidelity,
            uniform=self.detail_spread < UNIFORM * self.real_detail_spread,
            pictures=self.detail_spread > PICTURES and not self.in_training,
        )

    @property
    def verdict(self) -> str:
        return judge(self.evidence)[0]

    @property
    def reason(self) -> str:
        return judge(self.evidence)[1]


def score(
    reference: Reference,
    fakes: np.ndarray,
    copies: bool = True,
    *,
    seen: Sequence[str] = (),
    in_training: bool = False,
) -> Scores:
    """Scores of fakes uint8 [n, H, W, 3]; at most as many as there are held-out reals (up to 500) are used.

    copies: whether to search for copies of training images. seen, in_training: see `Scores`. Raises UserError with
    fewer than 100 samples.
    """
    if len(fakes) < LEAST:
        raise UserError(f"diversity needs at least {LEAST} samples, and there are {len(fakes)}")
    fakes = fakes[: reference.count]
    count = len(fakes)
    found = _look(fakes, reference.contrast, copies, [name for name in reference.modes if name in spaces.MORE])
    z, held_out_z = reference.projection(found["handcrafted"]), reference.held_out_z[:count]
    held = reference.held_out if count == reference.count else held_out_statistics(held_out_z)
    copied_from, copied, real_copied = _copied(reference, found, z) if copies else (None, 0.0, 0.0)
    random = reference.balance(found["random"])
    varied = diversity(z, held)
    alike, soft_alike, covered = _fidelity(reference, found, random, varied.effective_samples)
    return Scores(
        diversity=varied,
        count=count,
        held_out=held,
        dropped={
            name: dropped_shares(points.fitted, points.held_out, points.projection(found[f"modes {name}"]))
            for name, points in reference.modes.items()
        },
        fidelity=alike,
        soft_fidelity=soft_alike,
        coverage=covered,
        detail_spread=float(found["detail"].std()),
        real_detail_spread=reference.detail_spread,
        seen=seen,
        in_training=in_training,
        different_bins=different_bins(reference.fitted_z, held_out_z, z),
        copies=copied_from,
        copied=copied,
        real_copied=real_copied,
        reals_compared=len(reference.similarity),
        rfd=frechet_distance(moments(reference.random.astype(np.float64)), moments(random)),
        kid=random_kernel_distance(reference.random, random),
    )


def _copied(reference: Reference, found: dict[str, np.ndarray], z: np.ndarray) -> tuple[Copies, float, float]:
    """(the most similar real of each sample, the share of samples that are copies, the same share of reals)."""
    both = [z, reference.projection(found["mirrored"])]
    copies, limit = find_copies(found["thumbs"], both, reference.thumbs, reference.z), threshold(reference.similarity)
    return copies, *(float((each >= limit).mean()) for each in (copies.similarity, reference.similarity))


def sure_excess(own: float, real: float, count: int, reals: int) -> float:
    """How far the share `own` of `count` samples exceeds the share `real` of reals; 0 below two standard errors.

    Near-duplicates come in pairs, which doubles the variance of their share.
    """
    error = np.sqrt(2 * (own * (1 - own) / count + real * (1 - real) / reals))
    return own - real if own - real > max(2 * error, 0.0) else 0.0


def different_bins(fitted: np.ndarray, held: np.ndarray, z: np.ndarray) -> float:
    """NDB / K (Richardson and Weiss 2018): the share of k-means bins that samples fill differently from held-out reals.

    fitted [N, d]: the points the bins are made of; held [n, d]; z [m, d]: the samples. Bins are compared by a
    two-proportion test at 5 %, so samples as good as the reals give about 0.05.
    """
    bins = int(np.clip(len(fitted) // REALS_PER_BIN, 2, BINS))
    centers = k_means(fitted, bins)
    real, fake = (np.bincount(nearest(points, centers)[1][:, 0], minlength=bins) for points in (held, z))
    together = (real + fake) / (len(held) + len(z))
    error = np.sqrt(together * (1 - together) * (1 / len(held) + 1 / len(z)))
    apart = np.abs(real / len(held) - fake / len(z))
    return float((apart > SIGNIFICANT * np.maximum(error, 1e-12)).mean())


def k_means(points: np.ndarray, bins: int) -> np.ndarray:
    """Centers [bins, d] of points [N, d], by 20 rounds from randomly chosen points; an empty bin stays where it is."""
    start = points[np.random.default_rng(0).choice(len(points), bins, replace=len(points) < bins)]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty", UserWarning)
        return kmeans2(points, start, iter=KMEANS_ROUNDS, minit="matrix")[0]


def _fidelity(
    reference: Reference, found: dict[str, np.ndarray], random: np.ndarray, effective: float
) -> tuple[float, float, float]:
    """(fidelity of the samples, the same of softened ones, coverage). found: of `_look`. random: balanced features."""
    soft, count = reference.modes["classifier"], len(random)
    points = {  # of the samples, of the held-out and of the fitting reals
        "sharp": (found["classifier"], *reference.split(reference.classifier)),
        "random": (random, *reference.split(reference.random)),
        "soft": (soft.projection(found["modes classifier"]), soft.held_out, soft.fitted),
    }
    balls = {name: [in_balls(z, fitted) for z in others] for name, (*others, fitted) in points.items()}
    own, usual = (
        coverage(sharp[:count], inside[:count]) for sharp, inside in zip(balls["sharp"], balls["random"], strict=True)
    )
    return fidelity(*balls["sharp"], effective), fidelity(*balls["soft"], effective), own / usual if usual else 0.0


def _look(fakes: np.ndarray, contrast: float, copies: bool, more: Sequence[str]) -> dict[str, np.ndarray]:
    """{name: features [n, D]} of the samples."""
    factor = small_images.contrast_factor(fakes, contrast)

    def look(images: Tensor) -> dict[str, Tensor | np.ndarray]:
        modes = spaces.mode_features(images, more, factor)
        found = {f"modes {name}": features.double() for name, features in modes.items()}
        found |= {name: spaces.SPACES[name].load()(images).double() for name in ("handcrafted", "classifier")}
        found |= {"random": of_images(images).double(), "detail": spaces.detail(images).double()}
        if copies:
            found |= {"thumbs": thumbnails(images), "mirrored": spaces.handcrafted(images.flip(3)).double()}
        return found

    return small_images.joined(map(look, small_images.batches(fakes)))
