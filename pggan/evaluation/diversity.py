"""Measures the diversity of a set of samples against real images: scores, kinds, copies, the verdict, and a report."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from pggan.errors import UserError, plain
from pggan.evaluation.figures import records
from pggan.evaluation.image_sets import ImageSet, SampleSet, Size
from pggan.evaluation.opening import MAX_RES, is_checkpoint, open_pair, open_set
from pggan.metrics import labels, montage, reference, scores, small_images, spaces
from pggan.metrics.cache import from_arrays, statistics_folder, to_arrays
from pggan.metrics.copies import find_copies, threshold, thumbnails
from pggan.metrics.labels import Kind, Labels
from pggan.metrics.reference import MOST_HELD_OUT, Reference
from pggan.metrics.scores import Scores
from pggan.metrics.verdict import DROPPED, UNLIKE

MAX_REALS = 50_000  # 12 kB of memory each
READ_AT = 64  # px of the shorter side, where samples are of many sizes
ONE_ASPECT = 1.02  # samples whose aspects differ by no more than this factor have one aspect
TINY = 16  # px; the content of smaller images is hard to tell apart
MAX_NAMES = 3  # of missing kinds in a sentence
FIGURES = (  # title, value, explanation; filled in from the result
    (
        "fidelity",
        "{fidelity:.2f}",
        "of the samples to the real images; 1: as of held-out ones; if it is low, the rest means little",
    ),
    (
        "diversity score",
        "{score:.2f}",
        "{score_low:.2f} to {score_high:.2f}; 1: as varied as the real images; unclipped {score_unclipped:.2f} "
        "({score_unclipped_low:.2f} to {score_unclipped_high:.2f})",
    ),
    ("effective samples", "{effective_samples:.0f}", "of {fakes}: as varied as so many different images"),
    ("near-duplicates", "{duplicate_share:.1%}", "of the samples; {duplicate_share_of_reals:.1%} of real images"),
    ("dropped", "{dropped_share:.1%}", "of the real images: hardly any sample resembles them"),
    ("coverage", "{coverage:.2f}", "of the real images by samples; 1: as by held-out ones; falls with quality, too"),
    ("NDB / K", "{ndb:.2f}", "of the bins are filled differently than by held-out real images; 0.05 by chance"),
)
COPIES = (
    ("training copies", "{copied_share:.1%}", "of the samples; {copied_share_of_yardstick:.1%} of {yardstick}"),
    (
        "similarity",
        "{similarity_median:.2f}",
        "to the nearest training image, median; {similarity_median_of_yardstick:.2f} of {yardstick}; "
        "from {copied_from_similarity:.2f} on it is a copy",
    ),
)
STATUS = {"missing": "missing", "present": "", "rare": "too few real images", "unclear": "too similar to other kinds"}


def open_sets(
    real: str, fake: str, held_out: str | None = None, *, num: int | None = None, seed: int = 0, fit=None, **how
) -> tuple[ImageSet, ImageSet, ImageSet | None]:
    """(real images, samples, held-out real images or None), all of one size, and no more of each than are used.

    num: samples to use. how: device, builtin_images and cache; see `open_set`. Raises UserError if there are too few.
    """
    if is_checkpoint(real) or is_checkpoint(fake):
        reals, fakes = open_pair(real, fake, num=num, seed=seed, fit=fit, **how)
    else:
        size = common_size(open_set(fake, **how).part(MOST_HELD_OUT, seed))
        reals, fakes = (open_set(spec, size=size, fit=fit or "crop", **how) for spec in (real, fake))
    needed = f"every figure needs {reference.LEAST} real images and {scores.LEAST} samples"
    for name, images, least in (("REAL", reals, reference.LEAST), ("FAKE", fakes, scores.LEAST)):
        if len(images) < least:
            raise UserError(f"{name} has only {len(images)} images: {needed}")
    held = open_set(held_out, size=reals.size, fit=reals.fit, **how) if held_out else None
    most = min(MOST_HELD_OUT, len(reals) // 2)
    return reals.part(MAX_REALS, 0), fakes.part(min(num or most, most), seed), held


def common_size(fakes: ImageSet) -> Size:
    """(width, height) at which all images are read: the samples' own size.

    If they have several sizes: 64 px, at their aspect if they share one, or else square.
    """
    if fakes.size:  # built-in images are drawn at any size
        return READ_AT, READ_AT
    rows = fakes.mapped(lambda image: np.array(image.shape[1::-1]), 32)
    sizes = {tuple(size) for batch in rows for size in batch.tolist()}
    width, height = max(sizes)
    if len(sizes) > 1:
        aspects = [width / height for width, height in sizes]
        width, height = (width, height) if max(aspects) < ONE_ASPECT * min(aspects) else (1, 1)
        width, height = (round(READ_AT * side / min(width, height)) for side in (width, height))
    return min(width, MAX_RES), min(height, MAX_RES)


class RealImages:
    """The real images, and what is measured of them; cached in `folder` across processes. more: see `Reference.of`."""

    def __init__(self, images: ImageSet, folder: Path | None, more: Sequence[str] = ()):
        self.images, self.folder, self.more = images, folder, more

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 [N, 64, 64, 3]"""
        return self.images.read(small_images.read_one)

    @cached_property
    def reference(self) -> Reference:
        key = {"what": f"reference {reference.VERSION}"}
        key |= {name: spaces.SPACES[name].version for name in self.more}
        make = lambda: to_arrays(Reference.of(self.pixels, more=self.more))  # noqa: E731
        arrays = self.images.remembered(key, make, self.folder)
        return from_arrays(Reference, arrays)

    def kinds(self, known: Sequence[Labels], fakes: np.ndarray) -> dict[str, list[Kind]]:
        """The kinds among fakes uint8 [n, 64, 64, 3], for each of the label sets known of all real images."""
        if not known:
            return {}
        some = np.sort(np.random.default_rng(0).permutation(len(self.reference.order))[: labels.MOST_REALS])
        key = {"what": f"kinds {labels.VERSION} {len(some)}"}
        arrays = self.images.remembered(key, lambda: {"features": labels.features(self.pixels[some])}, self.folder)
        real = arrays["features"]
        fake, numbers = labels.features(fakes, self.reference.contrast), np.array(self.images.readable)[some]
        return {each.of: labels.histogram(real, replace(each, numbers=each.numbers[numbers]), fake) for each in known}


def judged_by(against: Reference, held_out: ImageSet) -> Reference:
    """The reference whose threshold for copies comes from held-out images instead of the real images themselves."""
    pixels = held_out.part(MOST_HELD_OUT, 0).read(small_images.read_one)
    z = [against.projection(small_images.features(each, spaces.handcrafted)) for each in (pixels, pixels[:, :, ::-1])]
    thumbs = np.concatenate([thumbnails(images) for images in small_images.batches(pixels)])
    return replace(against, similarity=find_copies(thumbs, z, against.thumbs, against.z).similarity)


@dataclass(frozen=True)
class Comparison:
    """Samples measured against real images. views uint8 [n, h, w, 3]: the samples as a montage shows them."""

    real: ImageSet
    fake: ImageSet
    held_out: ImageSet | None
    reference: Reference
    scores: Scores
    kinds: dict[str, list[Kind]]  # the kinds found among the samples, by label set
    views: np.ndarray

    @property
    def missing(self) -> list[str]:
        """Names of the missing kinds, with the label set if there are several."""
        missing = [(of, each.name) for of, kinds in self.kinds.items() for each in kinds if each.status == "missing"]
        return [plain(name if len(self.kinds) == 1 else f"{of} {name}") for of, name in missing]

    def verdict(self) -> tuple[str, str]:
        """(one of VERDICTS, the reason). Missing kinds are a partial collapse, unless there is a worse finding."""
        found, reason, missing = self.scores.verdict, self.scores.reason, self.missing
        names = ", ".join(missing[:MAX_NAMES])
        names += f" and {len(missing) - MAX_NAMES} more" if len(missing) > MAX_NAMES else ""
        if not missing or found in UNLIKE:
            return found, reason
        if found == "healthy":
            return "partial-collapse", f"hardly any sample is of these kinds of real pictures: {names}"
        return found, f"{reason}; missing kinds: {names}"

    def result(self, seed: int) -> dict:
        """Everything measured, as plain values for JSON. seed: only named in the protocol."""
        (verdict, reason), varied = self.verdict(), self.scores.diversity
        result = {key.partition("/")[2]: value for key, value in records(self.scores).items()} | {
            "verdict": verdict,
            "reason": reason,
            "score_unclipped": varied.ratio,
            "score_unclipped_low": varied.ratio_low,
            "score_unclipped_high": varied.ratio_high,
            "fakes": self.scores.count,
            "reals": len(self.reference.order),
            "dropped_shares": {name: float(shares.sum()) for name, shares in self.scores.dropped.items()},
            "duplicate_share_of_reals": self.scores.held_out.duplicates,
            "duplicate_groups": [len(group) for group in self.scores.diversity.groups],
            "ndb": self.scores.different_bins,
        }
        if self.scores.copies:
            result |= self._copies()
        if self.kinds:
            named = {of: {plain(kind.name): asdict(kind) for kind in kinds} for of, kinds in self.kinds.items()}
            result |= {"kinds": named, "missing_kinds": self.missing}
        return result | {"notes": self.notes(), "protocol": self.protocol(seed)}

    def notes(self) -> list[str]:
        """What else the user should know, in plain lines."""
        sets = [images for images in (self.real, self.fake, self.held_out) if images is not None]
        out = [note for images in sets for note in images.notes()]
        width, height = self.real.size
        if min(width, height) < TINY:
            out.append(f"at {width}x{height} px images are hard to tell apart: the figures mean little")
        for name in self.scores.seen:
            out.append(f"{spaces.flattered(name, trained_through(self.fake))}; the verdict leaves them out")
        if self.scores.verdict in UNLIKE:
            out.append("diversity score, effective samples and dropped modes mean nothing for samples like these")
        return list(dict.fromkeys(out))

    def protocol(self, seed: int) -> str:
        """All that the figures depend on, in one line."""
        count, held_out = self.scores.count, self.held_out
        more = [f"{name} {spaces.SPACES[name].version}" for name in self.scores.dropped if name in spaces.MORE]
        used = ", ".join([f"features {reference.VERSION}", *more])
        parts = [f"diversity score of {count}", used, "measured at 64x64"]
        parts += [f"reals {len(self.real):,} ({self.real.describe()})", f"fakes {count:,} ({self.fake.describe()})"]
        parts += [] if held_out is None else [f"copies judged by {len(held_out):,} ({held_out.describe()})"]
        return ", ".join([*parts, f"seed {seed}", "float64"])

    def _copies(self) -> dict:
        found, usual = self.scores.copies, self.reference.similarity
        fakes, reals = self.fake.names, self.real.names
        closest = [
            {"fake": plain(fakes[n]), "real": plain(reals[found.original[n]]), "similarity": found.similarity[n].item()}
            for n in montage.closest(found.similarity, found.original)
        ]
        return {
            "copied_share_of_yardstick": self.scores.real_copied,
            "copied_from_similarity": threshold(usual),
            "similarity_median": max(0.0, float(np.median(found.similarity))),  # that of flat images is -1
            "similarity_median_of_yardstick": max(0.0, float(np.median(usual))),
            "yardstick": "the real images" if self.held_out is None else "held-out images",
            "closest": closest,
        }


def compare(
    real: ImageSet,
    fake: ImageSet,
    held_out: ImageSet | None = None,
    *,
    copies: bool = True,
    known: Sequence[Labels] = (),
    more: Sequence[str] = (),
    cache: str | None = None,
) -> Comparison:
    """Measures the set `fake` against the set `real`; see `open_sets`.

    held_out: real images that were not trained on; similarities to the training images are judged by theirs. copies:
    whether to search for copies. known: the kinds of the real images. more: names of `spaces.MORE`, in which dropped
    modes are looked for, too. cache: see `statistics_folder`.
    """
    reals = RealImages(real, statistics_folder(cache), more)
    against = reals.reference if held_out is None else judged_by(reals.reference, held_out)
    pixels, views = read_fakes(fake)
    seen = [name for name in more if spaces.flattered(name, trained_through(fake))]
    found = scores.score(against, pixels, copies=copies, seen=seen, in_training=isinstance(fake, SampleSet))
    kinds = reals.kinds(known, pixels[: found.count])
    return Comparison(real, fake, held_out, against, found, kinds, views)


def trained_through(images: ImageSet) -> str:
    """The network that D looked through when the generator of these samples was trained; "none" if that is unknown."""
    return images.trained.config.network.features if isinstance(images, SampleSet) else "none"


def read_fakes(fake: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n, 64, 64, 3] to measure, uint8 [n, h, w, 3] to show), from one pass."""
    size = montage.cell(fake.size)
    rows = fake.read(lambda image: np.append(small_images.read_one(image), montage.shown(image, size)))
    measured, views = np.split(rows, [3 * small_images.SIDE**2], axis=1)
    return measured.reshape(-1, small_images.SIDE, small_images.SIDE, 3), views.reshape(-1, size[1], size[0], 3)


def labels_of(real: ImageSet, tags: str | None, columns: Sequence[str] = ()) -> list[Labels]:
    """The label sets of all real images: from a table of tags, or else their classes; [] if there are neither."""
    if tags:
        return labels.read_tags(tags, real.names, list(columns))
    return [] if real.labels is None else [Labels("kind", np.array(real.labels), real.source.label_names)]


# ---- what users see


def table(result: dict) -> list[str]:
    """The lines that a user reads. result: of `Comparison.result`."""
    rows = FIGURES + (COPIES if "copied_share" in result else ())
    lines = [f"{name:<20}{value.format(**result):>8}  {words.format(**result)}" for name, value, words in rows]
    for of, kinds in result.get("kinds", {}).items():
        lines.append(f"{plain(of):<32}{'of the samples (95 %)':<28}of the real images")
        for name, kind in kinds.items():
            share = "" if kind["share"] is None else "{share:.1%} ({low:.1%} to {high:.1%})".format(**kind)
            lines.append(f"  {name[:28]:<30}{share:<28}{kind['real_share']:<8.1%}{STATUS[kind['status']]}")
    last = f"protocol: {result['protocol']}", f"verdict: {result['verdict']}", f"reason: {result['reason']}"
    return [line.rstrip() for line in (*lines, *result["notes"], *last)]


def draw_montage(result: dict, found: Comparison) -> Image.Image:
    """A sheet with near-duplicates, samples beside their nearest training images, and dropped real images."""
    scores, views = found.scores, found.views

    def reals(numbers: np.ndarray) -> list[np.ndarray]:
        return [montage.shown(image, views.shape[2:0:-1]) for image in found.real.at(numbers.tolist())]

    sections = [montage.repeated(scores.diversity.groups, views)]
    if scores.copies:
        places = montage.closest(scores.copies.similarity, scores.copies.original)
        pairs = list(zip(views[places], reals(scores.copies.original[places]), strict=True))
        limit, usual = result["copied_from_similarity"], result["copied_share_of_yardstick"]
        sections.append(montage.copied(scores.copies.similarity[places], limit, usual, pairs))
    judged = [shares for name, shares in scores.dropped.items() if name not in scores.seen]
    dropped = max(judged, key=lambda shares: shares.sum())
    if dropped.sum() > DROPPED:
        fitted = found.reference.order[found.reference.count :]
        sections.append(montage.dropped(float(dropped.sum()), reals(fitted[montage.central(dropped)])))
    reason = result["reason"][0].upper() + result["reason"][1:]
    words = f"{reason}. {result['fakes']} samples, {result['reals']:,} real images."
    return montage.sheet(f"{result['verdict'].capitalize()}: diversity score {result['score']:.2f}", words, sections)
