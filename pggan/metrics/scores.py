"""The scores of a set of samples against a Reference: how varied, how good, whether copied, and the verdict."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from pggan.errors import UserError
from pggan.metrics import spaces
from pggan.metrics.copies import Copies, find_copies, threshold, thumbnails
from pggan.metrics.diversity import Diversity, diversity, held_out_statistics, largest_share, near_duplicates
from pggan.metrics.dropped_modes import dropped_shares
from pggan.metrics.frechet import frechet_distance, moments
from pggan.metrics.kernel_distance import Estimate
from pggan.metrics.neighbors import nearest, prdc
from pggan.metrics.random_features import of_images, random_kernel_distance
from pggan.metrics.reference import Reference
from pggan.metrics.verdict import VERDICTS as VERDICTS
from pggan.metrics.verdict import Evidence, judge

LEAST = 100  # samples
BINS, PER_BIN = 50, 20  # of the number of different bins: at most so many, with so many fitting reals in each at least
SIGNIFICANT = 1.96  # standard errors by which a bin's shares differ (Richardson and Weiss 2018, section 3)


@dataclass(frozen=True)
class Scores:
    """What was found of n samples. desertion: by space, what `deserted` says of each fitting real."""

    diversity: Diversity
    count: int
    real_duplicates: float
    """The share of near-duplicates among the held-out reals."""
    real_largest: float
    """The share of the held-out reals in their largest group of near-duplicates."""
    groups: list[np.ndarray]
    """Near-duplicates: the numbers of the samples of each group of two or more, the largest group first."""
    desertion: dict[str, np.ndarray]
    coverage: float
    """The share of reals with a sample in the ball around them, over the same for held-out reals."""
    different_bins: float
    """The share of bins of the space that samples fill otherwise than held-out reals do (NDB / K)."""
    copies: Copies | None
    copied: float
    """The share of samples that are copies of training pictures."""
    real_copied: float
    """The share of reals that are as like another real."""
    looked_at: int
    """How many reals that share is of."""
    rfd: float
    kid: Estimate
    """Of random features."""

    @cached_property
    def evidence(self) -> Evidence:
        return Evidence(
            ratio=self.diversity.ratio,
            high=self.diversity.high,
            alike=self.diversity.effective_samples,
            count=self.count,
            largest=max(0.0, largest_share(self.groups, self.count) - self.real_largest),
            duplicates=sure_excess(self.diversity.duplicates, self.real_duplicates, self.count, self.count),
            deserted=max(float(each.sum()) for each in self.desertion.values()),
            copied=sure_excess(self.copied, self.real_copied, self.count, self.looked_at),
        )

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        return judge(self.evidence)[0]

    @property
    def reason(self) -> str:
        """A sentence."""
        return judge(self.evidence)[1]

    @property
    def figures(self) -> dict[str, float]:
        """The numbers, named as in metrics.jsonl, of six digits: what a library's last bits are is no news."""
        copies = {"diversity/copied_share": self.copied} if self.copies else {}
        values = {
            "diversity/score": self.diversity.value,
            "diversity/score_low": self.diversity.low,
            "diversity/score_high": self.diversity.high,
            "diversity/effective_samples": self.diversity.effective_samples,
            "diversity/duplicate_share": self.diversity.duplicates,
            "diversity/dropped_share": self.evidence.deserted,
            "diversity/coverage": self.coverage,
            **copies,
            "quality/rfd": self.rfd,
            "quality/kid_rand": self.kid.value,
            "quality/kid_rand_low": self.kid.low,
            "quality/kid_rand_high": self.kid.high,
        }
        return {name: float(f"{value:.6g}") for name, value in values.items()}


def score(reference: Reference, fakes: np.ndarray, copies: bool = True) -> Scores:
    """Scores of fakes uint8 [n, H, W, 3], of which as many count as reals are held out, at most 500.

    copies: whether copies of training pictures are looked for. Raises UserError with fewer than 100 samples.
    """
    if len(fakes) < LEAST:
        raise UserError(f"variety can be measured on {LEAST} samples or more, and there are {len(fakes)}")
    fakes = fakes[: reference.count]
    count = len(fakes)
    looked = _look(fakes, reference.contrast, copies)
    z, held_out_z = reference.projection(looked["handcrafted"]), reference.held_out_z[:count]
    held = reference.held_out if count == reference.count else held_out_statistics(held_out_z)
    found, copied, real_copied = None, 0.0, 0.0
    if copies:
        found = find_copies(
            looked["thumbs"], [z, reference.projection(looked["mirrored"])], reference.thumbs, reference.z
        )
        limit = threshold(reference.similarity)
        copied, real_copied = (float((each >= limit).mean()) for each in (found.similarity, reference.similarity))
    random = reference.balance(looked["random"])
    desertion = {
        name: dropped_shares(points.fitted, points.held_out, points.projection(looked[f"soft {name}"]))
        for name, points in reference.modes.items()
    }
    return Scores(
        diversity=diversity(z, held),
        count=count,
        real_duplicates=held.duplicates,
        real_largest=held.largest,
        groups=near_duplicates(z, held.near),
        desertion=desertion,
        coverage=_coverage(reference.fitted_z[:count], held_out_z, z),
        different_bins=different_bins(reference.fitted_z, held_out_z, z),
        copies=found,
        copied=copied,
        real_copied=real_copied,
        looked_at=len(reference.similarity),
        rfd=frechet_distance(moments(reference.random.astype(np.float64)), moments(random)),
        kid=random_kernel_distance(reference.random, random),
    )


def sure_excess(own: float, real: float, count: int, reals: int) -> float:
    """By how much the share `own` of samples is above that of reals; 0 when it is less than two standard errors.

    Near-duplicates come in pairs, which doubles the variance of their share.
    """
    error = np.sqrt(2 * (own * (1 - own) / count + real * (1 - real) / reals))
    return own - real if own - real > max(2 * error, 0.0) else 0.0


def different_bins(fitted: np.ndarray, held: np.ndarray, z: np.ndarray) -> float:
    """NDB / K, Richardson and Weiss 2018: the share of the k-means bins of `fitted` whose part of the samples z differs
    from that of the held-out reals by a two-proportion test at 5 %; about 0.05 for samples as good as the reals."""
    bins = int(np.clip(len(fitted) // PER_BIN, 2, BINS))
    centers = k_means(fitted, bins)
    real, fake = (np.bincount(nearest(points, centers)[1][:, 0], minlength=bins) for points in (held, z))
    together = (real + fake) / (len(held) + len(z))
    error = np.sqrt(together * (1 - together) * (1 / len(held) + 1 / len(z)))
    apart = np.abs(real / len(held) - fake / len(z))
    return float((apart > SIGNIFICANT * np.maximum(error, 1e-12)).mean())


def k_means(points: np.ndarray, bins: int, rounds: int = 20) -> np.ndarray:
    """Centers [bins, d] of points [N, d], by Lloyd's rounds from points taken at random.

    An empty bin stays where it is, so sets of few different pictures are no trouble.
    """
    centers = points[np.random.default_rng(0).choice(len(points), bins, replace=len(points) < bins)].copy()
    for _ in range(rounds):
        own = nearest(points, centers)[1][:, 0]
        sums, sizes = np.zeros_like(centers), np.bincount(own, minlength=bins)
        np.add.at(sums, own, points)
        centers[sizes > 0] = (sums / np.maximum(sizes, 1)[:, None])[sizes > 0]
    return centers


def _coverage(reals: np.ndarray, held: np.ndarray, z: np.ndarray) -> float:
    """Coverage (Naeem et al. 2020) of the reals by the samples over that by as many held-out reals."""
    size = min(len(reals), len(held), len(z))
    usual, found = (prdc(reals[:size], points[:size]).coverage for points in (held, z))
    return found / usual if usual else 0.0


def _look(fakes: np.ndarray, contrast: float, copies: bool) -> dict[str, np.ndarray]:
    """Features of the samples; the softened ones with the mean contrast of the reals, which is a matter of quality."""
    own = np.concatenate([spaces.contrast(images).numpy() for images in spaces.batches(fakes)]).mean()
    factor = float(np.clip(contrast / max(own, 1e-6), 0.5, 2))
    parts: dict[str, list[np.ndarray]] = {}
    for images in spaces.batches(fakes):
        soft = spaces.softened(spaces.with_contrast(images, factor))
        found = {f"soft {name}": features.double().numpy() for name, features in spaces.mode_features(soft).items()}
        found["handcrafted"] = spaces.handcrafted(images).double().numpy()
        found["random"] = of_images(images).double().numpy()
        if copies:
            mirrored = spaces.handcrafted(images.flip(3)).double().numpy()
            found |= {"thumbs": thumbnails(images), "mirrored": mirrored}
        for name, value in found.items():
            parts.setdefault(name, []).append(value)
    return {name: np.concatenate(values) for name, values in parts.items()}
