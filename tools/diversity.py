#!/usr/bin/env python3
"""How varied samples are against real pictures, and whether they are copies: `python tools/diversity.py REAL FAKE`."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import _root  # noqa: F401  (the project on the path)
import numpy as np
import tyro
from PIL import Image

from pggan.config import cli
from pggan.data.reading import plain
from pggan.errors import UserError
from pggan.metrics import montage

if TYPE_CHECKING:  # what needs torch is imported once the flags are known to be good
    from pggan.evaluation.image_sets import ImageSet, Size
    from pggan.metrics.labels import Kind, Labels
    from pggan.metrics.reference import Reference
    from pggan.metrics.scores import Scores

BATCH = 32
MOST_REALS = 50_000  # 12 kB of memory each
READ_AT = 64  # px of the shorter side, where fakes are of many sizes
ONE_ASPECT = 1.02  # by how much the aspects of fakes may differ
TINY = 16  # px below which pictures can hardly be told apart
NAMED = 3  # kinds in a sentence
PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
TABLE = (
    (
        "score D",
        "{d:.2f}",
        "{score_low:.2f} to {score_high:.2f}, unclipped {d_unclipped:.2f}; 1: as varied as the reals",
    ),
    ("as varied as about", "{alike:.0f}", "of {fakes} different pictures"),
    ("near-duplicates", "{duplicate_share:.1%}", "of the samples, {duplicate_share_of_reals:.1%} of as many reals"),
    ("left out", "{dropped_share:.1%}", "of the reals: hardly a sample is like them"),
    ("coverage", "{coverage:.2f}", "over that of held-out reals; falls with quality, too"),
    ("NDB / K", "{ndb:.2f}", "of the bins are filled otherwise than by held-out reals; 0.05 by chance"),
)
LIKENESS = "to the nearest training picture, the median; {likeness_median_of_yardstick:.2f} of {yardstick}; "
COPIES = (
    ("training copies", "{copied_share:.1%}", "of the samples, {copied_share_of_yardstick:.1%} of {yardstick}"),
    ("likeness", "{likeness_median:.2f}", LIKENESS + "a copy from {copied_from_likeness:.2f} on"),
)
STATUS = {"missing": "missing", "present": "", "rare": "too few reals to say", "unclear": "too like others to say"}


@dataclass(frozen=True)
class Args:
    """Measure how varied samples are against real pictures, and whether they are copies: has it collapsed?"""

    real: Annotated[str, tyro.conf.Positional]
    """The real pictures, those of the training, 200 at least: a folder, a zip, builtin[:SEED], or a checkpoint, which
    samples are drawn from."""
    fake: Annotated[str, tyro.conf.Positional]
    """The samples, 100 at least: the same kinds. Beside a checkpoint, real pictures are fitted as its training did."""
    num: int | None = None
    """Samples that count. Left out, and at most: half as many as there are reals, up to 500."""
    seed: int = 0
    """Which samples are drawn, and which pictures of a folder of samples are taken where not all are."""
    held_out: str | None = None
    """Real pictures that were not trained on: how like the training pictures they are is then what copies are judged
    by. Left out: how like each other the training pictures are."""
    copies: bool = True
    """Whether copies of training pictures are looked for."""
    tags: str | None = None
    """A table of the kinds that the reals are of: a line `file,hair,eyes`, say, then one for each picture. Left out:
    their folders, or dataset.json, say so."""
    tag: tuple[str, ...] = ()
    """The columns of --tags to look at. Left out: all."""
    fit: Literal["crop", "pad", "stretch"] | None = None
    """How pictures of another shape are made to fit. Left out: as a checkpoint's training did, or crop."""
    builtin_images: int = 2000
    """How many pictures builtin draws."""
    montage: str | None = None
    """A file for a picture of near-duplicates, of samples beside training pictures, and of what is left out."""
    json: str | None = None
    """A file for the figures."""
    cache: str | None = None
    """Where what was measured of the reals is kept, for the next time. Left out: in your cache folder."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where samples are drawn. Everything is measured on the CPU."""


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="diversity.py")
    _check(args)
    from pggan.metrics.cache import statistics_folder
    from pggan.metrics.scores import score

    real, fake, held_out = open_sets(args)
    kinds = kinds_of(real, args)
    reals = Reals(real, statistics_folder(args.cache))
    reference = reals.reference if held_out is None else judged_by(reals.reference, held_out)
    pixels, views = read_fakes(fake)
    scores = score(reference, pixels, copies=args.copies)
    found = reals.histograms(kinds, pixels[: scores.count])
    result = verdict(scores, found) | figures(scores, reference)
    if scores.copies:
        yardstick = "held-out pictures" if held_out else "the reals"
        result |= copy_figures(scores, reference, yardstick, fake.names, real.names)
    if found:
        named = {of: {plain(kind.name): asdict(kind) for kind in kinds} for of, kinds in found.items()}
        result |= {"kinds": named, "missing_kinds": missing(found)}
    result["notes"] = notes(args, scores.count, real, fake, held_out)
    result["protocol"] = protocol(scores.count, args.seed, real, fake, held_out)
    print("\n".join(table(result)))
    if args.json:
        Path(os.path.expanduser(args.json)).write_text(json.dumps(result, indent=2) + "\n")
    if args.montage:
        draw_montage(result, scores, reference, real, views).save(os.path.expanduser(args.montage))


def _check(args: Args) -> None:
    for name, least in {"num": 100, "seed": 0, "builtin_images": 1}.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    for name in ("json", "montage", "cache", "held_out", "tags"):
        if getattr(args, name) == "":
            what = "folder" if name in ("cache", "held_out") else "file"
            raise UserError(f"--{name.replace('_', '-')} is empty: name a {what}")
    for name in ("json", "montage"):
        folder = os.path.dirname(os.path.expanduser(getattr(args, name) or ""))
        if folder and not os.path.isdir(folder):
            raise UserError(f"--{name}: there is no folder {plain(folder)} to write to")
    if args.montage and not args.montage.lower().endswith(PICTURE_ENDINGS):
        raise UserError(f"--montage is a picture, and {plain(args.montage)} would be none: end the name in .png")
    if args.tag and not args.tags:
        raise UserError("--tag names columns of --tags: name that file, too")
    if args.held_out and not args.copies:
        raise UserError("--held-out is what copies are judged by: leave out --no-copies")


# ---- opening and reading


def open_sets(args: Args) -> "tuple[ImageSet, ImageSet, ImageSet | None]":
    """(reals, fakes, held-out reals), no more of each than count. Raises UserError where there are too few."""
    from pggan.evaluation.image_sets import is_checkpoint, open_pair, open_set
    from pggan.metrics import reference, scores
    from pggan.run.setup import pick_device

    how = {"device": pick_device(args.device), "builtin_images": args.builtin_images, "cache": args.cache}
    if is_checkpoint(args.real) or is_checkpoint(args.fake):
        real, fake = open_pair(args.real, args.fake, num=args.num, seed=args.seed, fit=args.fit, **how)
    else:
        size = common_size(open_set(args.fake, **how).part(reference.MOST_HELD_OUT, args.seed))
        real, fake = (open_set(spec, size=size, fit=args.fit or "crop", **how) for spec in (args.real, args.fake))
    needed = f"every figure needs {reference.LEAST} real pictures and {scores.LEAST} samples"
    for name, pictures, least in (("REAL", real, reference.LEAST), ("FAKE", fake, scores.LEAST)):
        if len(pictures) < least:
            raise UserError(f"{name} has only {len(pictures)} of them: {needed}")
    held_out = open_set(args.held_out, size=real.size, fit=real.fit, **how) if args.held_out else None
    most = min(reference.MOST_HELD_OUT, len(real) // 2)
    return real.part(MOST_REALS, 0), fake.part(min(args.num or most, most), args.seed), held_out


def common_size(fakes: "ImageSet") -> "Size":
    """(width, height) that all pictures come at: that of the fakes, as it would be a checkpoint's.

    Where they are of many sizes: 64 px, by their aspect if they have one, or else square.
    """
    from pggan.evaluation.image_sets import LARGEST

    if fakes.size:  # built-in ones are drawn at any size
        return READ_AT, READ_AT
    rows = fakes.mapped(lambda picture: np.array(picture.shape[1::-1]), BATCH)
    sizes = {tuple(size) for batch in rows for size in batch.tolist()}
    width, height = max(sizes)
    if len(sizes) > 1:
        aspects = [width / height for width, height in sizes]
        width, height = (width, height) if max(aspects) < ONE_ASPECT * min(aspects) else (1, 1)
        width, height = (round(READ_AT * side / min(width, height)) for side in (width, height))
    return min(width, LARGEST), min(height, LARGEST)


def read(pictures: "ImageSet", prepare: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """uint8 [N, ...]: what `prepare` makes of each picture that can be read, in an array that is made once."""
    out, count = np.empty((len(pictures.all_names), 0), np.uint8), 0
    for batch in pictures.mapped(prepare, BATCH):
        if count == 0:
            out = np.empty((len(out), *batch.shape[1:]), np.uint8)
        out[count : count + len(batch)] = batch
        count += len(batch)
    return out[:count]


def read_fakes(fake: "ImageSet") -> tuple[np.ndarray, np.ndarray]:
    """(uint8 [n, 64, 64, 3] to measure, uint8 [n, h, w, 3] to show), from one pass."""
    from pggan.metrics.spaces import SIDE, read_one

    size = montage.cell(fake.size)
    rows = read(fake, lambda picture: np.append(read_one(picture), montage.shown(picture, size)))
    measured, views = np.split(rows, [3 * SIDE * SIDE], axis=1)
    return measured.reshape(-1, SIDE, SIDE, 3), views.reshape(-1, size[1], size[0], 3)


class Reals:
    """What is known of the reals: remembered from an earlier time, or else measured now."""

    def __init__(self, pictures: "ImageSet", folder: Path | None):
        self.pictures, self.folder = pictures, folder

    @cached_property
    def pixels(self) -> np.ndarray:
        """uint8 [N, 64, 64, 3]"""
        from pggan.metrics.spaces import read_one

        pixels = read(self.pictures, read_one)
        self.pictures.check_unchanged()
        return pixels

    @cached_property
    def reference(self) -> "Reference":
        from pggan.metrics.reference import VERSION, Reference

        what = f"reference {VERSION}"
        return Reference.from_arrays(self._remembered(what, lambda: Reference.of(self.pixels).arrays()))

    def histograms(self, kinds: "list[Labels]", fakes: np.ndarray) -> "dict[str, list[Kind]]":
        """What the fakes uint8 [n, 64, 64, 3] are of, by what `kinds` of all reals are kinds of."""
        if not kinds:
            return {}
        from pggan.metrics import labels

        some = np.sort(np.random.default_rng(0).permutation(len(self.reference.order))[: labels.MOST_REALS])
        what = f"kinds {labels.VERSION} {len(some)}"
        known = self._remembered(what, lambda: {"features": labels.features(self.pixels[some])})["features"]
        found, numbers = labels.features(fakes, self.reference.contrast), np.array(readable(self.pictures))[some]
        return {each.of: labels.histogram(known, replace(each, numbers=each.numbers[numbers]), found) for each in kinds}

    def _remembered(self, what: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """make(), and the pictures that could not be read, from the cache where they are there."""
        from pggan.metrics.cache import remembered

        def whole() -> dict[str, np.ndarray]:
            arrays, unreadable = make(), self.pictures.unreadable
            numbers, reasons = np.array(list(unreadable), np.int64), np.array(list(unreadable.values()), str)
            return {**arrays, "unreadable": numbers, "reasons": reasons}

        libraries = {name: version(name) for name in ("numpy", "pillow", "scipy", "torch")}
        key = {"what": what, "pictures": self.pictures.identity(), "N": len(self.pictures.all_names), **libraries}
        arrays = remembered(key, whole, self.folder)
        unreadable = arrays["unreadable"].tolist(), arrays["reasons"].tolist()
        self.pictures.unreadable = dict(zip(*unreadable, strict=True))
        return arrays


def readable(pictures: "ImageSet") -> list[int]:
    """The numbers of the pictures that can be read."""
    return [number for number in range(len(pictures.all_names)) if number not in pictures.unreadable]


def judged_by(reference: "Reference", held_out: "ImageSet") -> "Reference":
    """The reference with the likeness of held-out pictures to the training pictures in place of the reals' own."""
    from pggan.metrics import spaces
    from pggan.metrics.copies import find_copies, thumbnails
    from pggan.metrics.reference import MOST_HELD_OUT

    pixels = read(held_out.part(MOST_HELD_OUT, 0), spaces.read_one)
    z = [reference.projection(spaces.features(each, spaces.handcrafted)) for each in (pixels, pixels[:, :, ::-1])]
    thumbs = np.concatenate([thumbnails(images) for images in spaces.batches(pixels)])
    return replace(reference, similarity=find_copies(thumbs, z, reference.thumbs, reference.z).similarity)


def kinds_of(real: "ImageSet", args: Args) -> "list[Labels]":
    """What kinds all reals are of, as --tags, or else their folders or dataset.json say; nothing where nobody does."""
    from pggan.metrics.labels import Labels, read_tags

    if args.tags:
        return read_tags(args.tags, real.names, list(args.tag))
    return [] if real.labels is None else [Labels("kind", np.array(real.labels), real.label_names)]


# ---- saying


def verdict(scores: "Scores", found: "dict[str, list[Kind]]") -> dict[str, str]:
    """The verdict and its reason. Missing kinds are a partial collapse, where there is nothing worse to say."""
    names = missing(found)
    some = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    if not names:
        return {"verdict": scores.verdict, "reason": scores.reason}
    if scores.verdict == "healthy":
        return {"verdict": "partial-collapse", "reason": f"hardly any sample is of these kinds of real picture: {some}"}
    return {"verdict": scores.verdict, "reason": f"{scores.reason}; missing kinds: {some}"}


def missing(found: "dict[str, list[Kind]]") -> list[str]:
    """The names of missing kinds; after what they are kinds of, where there are several such things."""
    return [
        plain(kind.name if len(found) == 1 else f"{of} {kind.name}")
        for of, kinds in found.items()
        for kind in kinds
        if kind.status == "missing"
    ]


def figures(scores: "Scores", reference: "Reference") -> dict:
    """What is always measured, under its names in JSON."""
    d, kid = scores.diversity, scores.kid
    return {
        "d": d.value,
        "d_unclipped": d.ratio,
        "score_low": d.low,
        "score_high": d.high,
        "alike": d.effective_samples,
        "fakes": scores.count,
        "reals": len(reference.order),
        "duplicate_share": d.duplicates,
        "duplicate_share_of_reals": scores.real_duplicates,
        "duplicate_groups": [len(group) for group in scores.groups],
        "dropped_share": scores.evidence.deserted,
        "coverage": scores.coverage,
        "ndb": scores.different_bins,
        "rfd": scores.rfd,
        "kid_rand": kid.value,
        "kid_rand_low": kid.low,
        "kid_rand_high": kid.high,
    }


def copy_figures(scores: "Scores", reference: "Reference", yardstick: str, fakes: list[str], reals: list[str]) -> dict:
    """What is known of copies. yardstick: what they are judged by; fakes, reals: names."""
    from pggan.metrics.copies import threshold

    found = scores.copies
    return {
        "copied_share": scores.copied,
        "copied_share_of_yardstick": scores.real_copied,
        "copied_from_likeness": threshold(reference.similarity),
        "likeness_median": max(0.0, float(np.median(found.similarity))),  # -1 of flat pictures is nothing to people
        "likeness_median_of_yardstick": max(0.0, float(np.median(reference.similarity))),
        "yardstick": yardstick,
        "closest": [
            {"fake": plain(fakes[n]), "real": plain(reals[found.original[n]]), "likeness": float(found.similarity[n])}
            for n in montage.closest(found.similarity, found.original)
        ],
    }


def notes(args: Args, count: int, real: "ImageSet", fake: "ImageSet", held_out: "ImageSet | None") -> list[str]:
    """What else the user should know, in plain lines."""
    out = [note for pictures in (real, fake, held_out) if pictures is not None for note in pictures.notes()]
    if args.num and args.num > count:
        out.append(f"of {args.num:,} samples {count} count: at most 500, and half as many as there are reals")
    if min(real.size) < TINY:
        out.append(f"at {real.size[0]}x{real.size[1]} px pictures can hardly be told apart: the figures say little")
    return list(dict.fromkeys(out))


def protocol(count: int, seed: int, real: "ImageSet", fake: "ImageSet", held_out: "ImageSet | None") -> str:
    """All that the figures depend on, in one line."""
    from pggan.metrics.reference import VERSION

    sides = [f"reals {len(real):,} ({real.describe()})", f"fakes {count:,} ({fake.describe()})"]
    sides += [f"copies judged by {len(held_out):,} ({held_out.describe()})"] if held_out else []
    return ", ".join([f"D of {count}, features {VERSION}, looked at as 64x64", *sides, f"seed {seed}", "float64"])


def table(result: dict) -> list[str]:
    """What is printed."""
    rows = TABLE + (COPIES if "copied_share" in result else ())
    lines = [f"{name:<20}{value.format(**result):>8}  {words.format(**result)}" for name, value, words in rows]
    for of, kinds in result.get("kinds", {}).items():
        lines.append(f"{plain(of):<32}{'of the samples (95 %)':<28}of the reals")
        for name, kind in kinds.items():
            share = "" if kind["share"] is None else "{share:.1%} ({low:.1%} to {high:.1%})".format(**kind)
            lines.append(f"  {name[:28]:<30}{share:<28}{kind['real_share']:<8.1%}{STATUS[kind['status']]}")
    last = f"protocol: {result['protocol']}", f"verdict: {result['verdict']}", f"reason: {result['reason']}"
    return [line.rstrip() for line in (*lines, *result["notes"], *last)]


def draw_montage(
    result: dict, scores: "Scores", reference: "Reference", real: "ImageSet", views: np.ndarray
) -> Image.Image:
    """The sheet of `montage`. views uint8 [n, h, w, 3]: the fakes as they are shown."""
    from pggan.metrics.verdict import DESERTED

    def reals(numbers: np.ndarray) -> list[np.ndarray]:
        return [montage.shown(picture, views.shape[2:0:-1]) for picture in pictures_at(real, numbers.tolist())]

    sections = [montage.repeated(scores.groups, views)]
    if scores.copies:
        places = montage.closest(scores.copies.similarity, scores.copies.original)
        pairs = list(zip(views[places], reals(scores.copies.original[places]), strict=True))
        limit, usual = result["copied_from_likeness"], result["copied_share_of_yardstick"]
        sections.append(montage.copied(scores.copies.similarity[places], limit, usual, pairs))
    deserted = max(scores.desertion.values(), key=lambda share: share.sum())
    if deserted.sum() > DESERTED:
        numbers = reference.order[reference.count :][montage.central(deserted)]
        sections.append(montage.dropped(float(deserted.sum()), reals(numbers)))
    reason = result["reason"][0].upper() + result["reason"][1:]
    words = f"{reason}. {result['fakes']} samples, {result['reals']:,} real pictures."
    return montage.sheet(f"{result['verdict'].capitalize()}: D {result['d']:.2f}", words, sections)


def pictures_at(pictures: "ImageSet", numbers: list[int]) -> list[np.ndarray]:
    """uint8 [H, W, 3]: the pictures of these numbers, counted among those that can be read."""
    from pggan.evaluation.image_sets import Read

    if isinstance(pictures, Read):
        known = readable(pictures)
        return [pictures.picture(known[number]) for number in numbers]
    found = {number: picture for number, picture in enumerate(pictures) if number in set(numbers)}
    return [found[number] for number in numbers]


if __name__ == "__main__":
    cli.run(main)
