#!/usr/bin/env python3
"""How varied fakes are against reals: `python tools/diversity.py REAL FAKE`, each a folder, a zip, builtin or a
checkpoint."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import _root  # noqa: F401  (the project on the path)
import tyro

from pggan import cli
from pggan.data.reading import plain
from pggan.errors import UserError

if TYPE_CHECKING:
    import numpy as np

    from pggan.metrics.labels import Kind, Labels
    from pggan.metrics.reference import Reference
    from pggan.metrics.scores import Scores
    from pggan.picture_sets import PictureSet, Size

BATCH = 32
MOST_REALS = 50_000  # 12 kB of memory each
READ_AT = 64  # px of the shorter side, where fakes are of many sizes
FEW = 3  # names in a sentence
TINY = 16  # px below which pictures can hardly be told apart
TABLE = (
    ("score D", "{d:.2f}", "{d_low:.2f} to {d_high:.2f}, unclipped {d_unclipped:.2f}; 1: as varied as the reals"),
    ("as varied as about", "{alike:.0f}", "of {fakes} different pictures"),
    ("near-duplicates", "{duplicate_share:.1%}", "of the fakes, {duplicate_share_of_reals:.1%} of as many reals"),
    ("left out", "{deserted_share:.1%}", "of the reals: hardly a fake is like them"),
    ("coverage", "{coverage:.2f}", "over that of held-out reals; falls with quality, too"),
    ("NDB / K", "{ndb:.2f}", "of the bins are filled unlike by held-out reals; 0.05 by chance"),
)
COPIES = (
    ("training copies", "{copied_share:.1%}", "of the fakes, {copied_share_of_yardstick:.1%} of {yardstick}"),
    (
        "likeness",
        "{likeness_median:.2f}",
        "to the nearest training picture, the median; of {yardstick} "
        "{likeness_median_of_yardstick:.2f}; a copy from {copied_from_likeness:.2f} on",
    ),
)
STATUS = {"missing": "missing", "present": "", "rare": "too few reals to say", "unclear": "too like others to say"}


@dataclass(frozen=True)
class Args:
    """Measure how varied fake pictures are against real ones, and whether they are copies: has it collapsed?"""

    real: Annotated[str, tyro.conf.Positional]
    """The real pictures, those of the training: a folder, a zip, builtin[:SEED], or a checkpoint, which samples are
    drawn from. 200 at least."""
    fake: Annotated[str, tyro.conf.Positional]
    """What is measured: the same kinds of thing, 100 pictures at least."""
    num: int | None = None
    """Fakes that are looked at, 100 at least. Left out, and at most: half as many as there are reals, up to 500."""
    seed: int = 0
    """Which samples are drawn, and which pictures of a folder are taken where not all are."""
    held_out: str | None = None
    """Real pictures that were not trained on: how like the training pictures they are is then what copies are judged
    by. Left out: how like each other the training pictures are."""
    copies: bool = True
    """Whether copies of training pictures are looked for."""
    tags: str | None = None
    """A table that says what kinds the reals are of: a line `file,hair,eyes`, say, then one for each picture. Left out:
    their folders, or a dataset.json, say so."""
    tag: tuple[str, ...] = ()
    """The columns of --tags to look at. Left out: all."""
    fit: Literal["crop", "pad", "stretch"] | None = None
    """How pictures of another shape are made to fit. Left out: as a checkpoint's training did, or crop."""
    builtin_pictures: int = 2000
    """How many pictures builtin draws."""
    montage: str | None = None
    """A file for a picture that shows near-duplicates, the nearest training pictures, and what is missing."""
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
    found = reals.histograms(kinds, pixels[: scores.count]) if kinds else {}
    result = figures(scores, reference, "held-out pictures" if held_out else "the reals")
    result |= verdict(scores, found) | histogram_figures(found)
    if scores.copies:
        result["closest"] = closest(scores, fake.names, real.names)
    result["notes"] = notes(args, scores.count, real, fake, held_out)
    result["protocol"] = protocol(scores.count, args.seed, real, fake, held_out)
    print("\n".join(table(result)))
    if args.json:
        Path(os.path.expanduser(args.json)).write_text(json.dumps(result, indent=2) + "\n")
    if args.montage:
        draw_montage(result, scores, reference, real, views).save(os.path.expanduser(args.montage))


def _check(args: Args) -> None:
    for name, least in {"num": 100, "seed": 0, "builtin_pictures": 1}.items():
        value = getattr(args, name)
        if value is not None and value < least:
            raise UserError(f"--{name.replace('_', '-')} must be at least {least}, not {value}")
    for name in ("json", "montage", "cache", "held_out"):
        if getattr(args, name) == "":
            what = "folder" if name in ("cache", "held_out") else "file"
            raise UserError(f"--{name.replace('_', '-')} is empty: name a {what}")
    if args.montage and Path(args.montage).suffix.lower() not in (".png", ".jpg", ".jpeg", ".webp"):
        raise UserError(f"--montage is a picture, {plain(args.montage)} is none: end the name in .png")
    if args.tag and not args.tags:
        raise UserError("--tag names columns of --tags: name that file, too")
    if args.held_out and not args.copies:
        raise UserError("--held-out is what copies are judged by: leave out --no-copies")


# ---- opening and reading


def open_sets(args: Args) -> "tuple[PictureSet, PictureSet, PictureSet | None]":
    """(reals, fakes, held-out reals), no more of each than are looked at. Raises UserError where there are too few."""
    from pggan.metrics import reference, scores
    from pggan.picture_sets import is_checkpoint, open_pair, open_set
    from pggan.starting import pick_device

    how = {"device": pick_device(args.device), "builtin_pictures": args.builtin_pictures, "cache": args.cache}
    if is_checkpoint(args.real) or is_checkpoint(args.fake):
        real, fake = open_pair(args.real, args.fake, num=args.num, seed=args.seed, fit=args.fit, **how)
    else:
        size, fit = common_size(open_set(args.fake, **how).part(reference.MOST_HELD, args.seed)), args.fit or "crop"
        real, fake = (open_set(spec, size=size, fit=fit, **how) for spec in (args.real, args.fake))
    needed = f"D, coverage and NDB need {reference.LEAST} real pictures and {scores.LEAST} fake ones"
    for name, pictures, least in (("REAL", real, reference.LEAST), ("FAKE", fake, scores.LEAST)):
        if len(pictures) < least:
            raise UserError(f"{name} has only {len(pictures)} pictures: {needed}")
    held_out = open_set(args.held_out, size=real.size, fit=real.fit, **how) if args.held_out else None
    most = min(reference.MOST_HELD, len(real) // 2)
    return real.part(MOST_REALS, 0), fake.part(min(args.num or most, most), args.seed), held_out


def common_size(pictures: "PictureSet") -> "Size":
    """(width, height) that all pictures are compared at: that of the fakes where they have one, as a checkpoint would.

    Of fakes of many sizes and one aspect, that aspect; else square.
    """
    from pggan.picture_sets import LARGEST

    if pictures.size:  # built-in ones have any size
        return READ_AT, READ_AT
    sizes = {tuple(size) for batch in pictures.mapped(_size, BATCH) for size in batch.tolist()}
    width, height = max(sizes)
    if len(sizes) > 1:
        alike = max(w / h for w, h in sizes) < 1.02 * min(w / h for w, h in sizes)
        width, height = (width, height) if alike else (1, 1)
        width, height = (round(READ_AT * side / min(width, height)) for side in (width, height))
    return min(width, LARGEST), min(height, LARGEST)


def _size(picture: "np.ndarray") -> "np.ndarray":
    """[width, height]"""
    import numpy as np

    return np.array(picture.shape[1::-1])


def read(pictures: "PictureSet", prepare: "Callable[[np.ndarray], np.ndarray]") -> "np.ndarray":
    """uint8 [N, ...]: what `prepare` makes of each picture that can be read, in an array that is made once."""
    import numpy as np

    out, count = np.empty((len(pictures.all_names), 0), np.uint8), 0
    for batch in pictures.mapped(prepare, BATCH):
        if count == 0:
            out = np.empty((len(out), *batch.shape[1:]), np.uint8)
        out[count : count + len(batch)] = batch
        count += len(batch)
    return out[:count]


def read_fakes(fake: "PictureSet") -> "tuple[np.ndarray, np.ndarray]":
    """(uint8 [n, 64, 64, 3] to measure, uint8 [n, h, w, 3] to show), from one pass."""
    import numpy as np

    from pggan.metrics.montage import cell, shown
    from pggan.metrics.spaces import SIDE, read_one

    width, height = cell(fake.size)

    def both(picture: np.ndarray) -> np.ndarray:
        return np.concatenate([read_one(picture).ravel(), shown(picture, (width, height)).ravel()])

    rows = read(fake, both)
    small, large = np.split(rows, [3 * SIDE * SIDE], axis=1)
    return small.reshape(-1, SIDE, SIDE, 3), large.reshape(-1, height, width, 3)


class Reals:
    """What is known of the reals: remembered from an earlier time, or else measured now."""

    def __init__(self, pictures: "PictureSet", folder: Path | None):
        self.pictures, self.folder = pictures, folder

    @cached_property
    def pixels(self) -> "np.ndarray":
        """uint8 [N, 64, 64, 3]"""
        from pggan.metrics.spaces import read_one

        pixels = read(self.pictures, read_one)
        self.pictures.check_unchanged()
        return pixels

    @cached_property
    def reference(self) -> "Reference":
        from pggan.metrics.reference import VERSION, Reference

        return Reference.from_arrays(self._remembered(VERSION, lambda: Reference.of(self.pixels).arrays()))

    def histograms(self, kinds: "list[Labels]", fakes: "np.ndarray") -> "dict[str, list[Kind]]":
        """What the fakes uint8 [n, 64, 64, 3] are of, by what the kinds are kinds of."""
        import numpy as np

        from pggan.metrics import labels

        count = len(self.reference.order)
        some = np.sort(np.random.default_rng(0).permutation(count)[: labels.MOST_REALS])
        known = self._remembered(f"kinds {labels.VERSION}", lambda: {"features": labels.features(self.pixels[some])})
        found = labels.features(fakes, self.reference.contrast)
        readable = [place for place in range(len(self.pictures.all_names)) if place not in self.pictures.unreadable]
        chosen = np.array(readable)[some]
        return {
            each.of: labels.histogram(known["features"], replace(each, numbers=each.numbers[chosen]), found)
            for each in kinds
        }

    def _remembered(self, what: str, make: "Callable[[], dict[str, np.ndarray]]") -> "dict[str, np.ndarray]":
        """make(), and the pictures that could not be read, from the cache where they are there."""
        import numpy as np

        from pggan.metrics.cache import remembered

        def whole() -> dict[str, np.ndarray]:
            arrays, unreadable = make(), self.pictures.unreadable
            numbers, reasons = np.array(list(unreadable), np.int64), np.array(list(unreadable.values()), str)
            return {**arrays, "unreadable": numbers, "reasons": reasons}

        libraries = {name: version(name) for name in ("numpy", "pillow", "scipy", "torch")}
        key = {"what": what, "pictures": self.pictures.identity(), "N": len(self.pictures.all_names), **libraries}
        arrays = remembered(key if self.folder else {}, whole, self.folder)
        unreadable = zip(arrays.pop("unreadable").tolist(), arrays.pop("reasons").tolist(), strict=True)
        self.pictures.unreadable = dict(unreadable)
        return arrays


def judged_by(reference: "Reference", held_out: "PictureSet") -> "Reference":
    """The reference with the likeness of held-out pictures to the training pictures in the place of the reals' own."""
    import torch

    from pggan.metrics import reference as settings
    from pggan.metrics import spaces
    from pggan.metrics.copies import find_copies, thumbnails

    pixels = read(held_out.part(settings.MOST_HELD, 0), spaces.read_one)
    z = [reference.space(spaces.features(each, spaces.form)) for each in (pixels, pixels[:, :, ::-1])]
    thumbs = thumbnails(torch.cat(list(spaces.batches(pixels))))
    return replace(reference, likeness=find_copies(thumbs, z, reference.thumbs, reference.z).likeness)


# ---- saying


def kinds_of(real: "PictureSet", args: Args) -> "list[Labels]":
    """What kinds the reals are of, as --tags, or else their folders or dataset.json say; nothing where nobody does."""
    import numpy as np

    from pggan.metrics.labels import Labels, read_tags

    if args.tags:
        return read_tags(args.tags, real.names, list(args.tag))
    return [] if real.labels is None else [Labels("kind", np.array(real.labels), real.label_names)]


def verdict(scores: "Scores", found: "dict[str, list[Kind]]") -> dict[str, str]:
    """The verdict and its reason; missing kinds are a collapse too, if nothing worse is."""
    names = missing(found)
    some = ", ".join(names[:FEW]) + (f" and {len(names) - FEW} more" if len(names) > FEW else "")
    if not names:
        return {"verdict": scores.verdict, "reason": scores.reason}
    if scores.verdict == "healthy":
        return {"verdict": "partial-collapse", "reason": f"hardly any fake is of these kinds of real picture: {some}"}
    return {"verdict": scores.verdict, "reason": f"{scores.reason}; kinds that are missing: {some}"}


def missing(found: "dict[str, list[Kind]]") -> list[str]:
    """Their names on one line each; with what they are kinds of, where there are several such things."""
    return [
        plain(kind.name if len(found) == 1 else f"{of} {kind.name}")
        for of, kinds in found.items()
        for kind in kinds
        if kind.status == "missing"
    ]


def histogram_figures(found: "dict[str, list[Kind]]") -> dict:
    kinds = {of: {kind.name: {**asdict(kind)} for kind in kinds} for of, kinds in found.items()}
    return {"kinds": kinds, "missing_kinds": missing(found)} if found else {}


def figures(scores: "Scores", reference: "Reference", yardstick: str) -> dict:
    """Every figure under its name in JSON. yardstick: what copies are judged by."""
    import numpy as np

    from pggan.metrics.copies import threshold

    d = scores.diversity
    found = {
        "d": d.value,
        "d_unclipped": d.ratio,
        "d_low": d.low,
        "d_high": d.high,
        "alike": d.alike,
        "fakes": scores.count,
        "reals": len(reference.order),
        "duplicate_share": d.duplicates,
        "duplicate_share_of_reals": scores.real_duplicates,
        "duplicate_groups": [len(group) for group in scores.groups],
        "deserted_share": scores.evidence.deserted,
        "coverage": scores.coverage,
        "ndb": scores.different_bins,
        "rfd": scores.rfd,
        "kid_rand": scores.kid.value,
    }
    if scores.copies is None:
        return found
    return found | {
        "copied_share": scores.copied,
        "copied_share_of_yardstick": scores.real_copied,
        "copied_from_likeness": threshold(reference.likeness),
        "likeness_median": float(np.median(scores.copies.likeness)),
        "likeness_median_of_yardstick": float(np.median(reference.likeness)),
        "yardstick": yardstick,
    }


def closest(scores: "Scores", fakes: list[str], reals: list[str]) -> list[dict]:
    """The fakes most like a training picture, by name."""
    from pggan.metrics import montage

    likeness, original = scores.copies.likeness, scores.copies.original
    return [
        {"fake": plain(fakes[place]), "real": plain(reals[original[place]]), "likeness": float(likeness[place])}
        for place in montage.closest(likeness, original)
    ]


def notes(args: Args, count: int, real: "PictureSet", fake: "PictureSet", held_out: "PictureSet | None") -> list[str]:
    """What else the user should know, in plain lines."""
    out = [note for pictures in (real, fake, held_out) if pictures is not None for note in pictures.notes()]
    if args.num and args.num > count:
        out.append(f"of --num {args.num:,} fakes {count} count: at most 500, and half as many as there are reals")
    if min(real.size) < TINY:
        out.append(f"at {real.size[0]}x{real.size[1]} px pictures can hardly be told apart: the figures say little")
    return list(dict.fromkeys(out))


def protocol(count: int, seed: int, real: "PictureSet", fake: "PictureSet", held_out: "PictureSet | None") -> str:
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
        lines += [f"{plain(of)}, share of the fakes (95 % interval), of the reals:"]
        for kind in kinds.values():
            share = "" if kind["share"] is None else "{share:.1%} ({low:.1%} to {high:.1%})".format(**kind)
            lines += [
                f"  {plain(kind['name'])[:24]:<24}{share:>24}{kind['real_share']:>8.1%}  {STATUS[kind['status']]}"
            ]
    last = f"protocol: {result['protocol']}", f"verdict: {result['verdict']}", f"reason: {result['reason']}"
    return [line.rstrip() for line in (*lines, *result["notes"], *last)]


def draw_montage(result: dict, scores: "Scores", reference: "Reference", real: "PictureSet", views: "np.ndarray"):
    """The sheet of `montage`. views uint8 [n, h, w, 3]: the fakes as they are shown."""
    from pggan.metrics import montage, verdict

    def reals(numbers: list[int]) -> "list[np.ndarray]":
        return [montage.shown(picture, views.shape[2:0:-1]) for picture in pictures_at(real, numbers)]

    sections = [montage.repeated(scores.groups, views[: scores.count])]
    if scores.copies:
        places = montage.closest(scores.copies.likeness, scores.copies.original)
        originals = reals(scores.copies.original[places].tolist())
        pairs = list(zip(views[places], originals, strict=True))
        sections.append(montage.copied(scores.copies.likeness[places], result["copied_from_likeness"], pairs))
    deserted = max(scores.desertion.values(), key=lambda share: share.sum())
    if deserted.sum() > verdict.DESERTED:
        numbers = reference.order[reference.count :][montage.central(deserted)]
        sections.append(montage.forgotten(float(deserted.sum()), reals(numbers.tolist())))
    words = f"{result['reason']}. {result['fakes']} samples, {result['reals']:,} real pictures."
    return montage.sheet(f"{result['verdict']}: D {result['d']:.2f}", words, sections)


def pictures_at(pictures: "PictureSet", numbers: list[int]) -> "list[np.ndarray]":
    """uint8 [H, W, 3]: the pictures of these numbers, counted among those that can be read."""
    from pggan.picture_sets import Read

    if isinstance(pictures, Read):
        readable = [place for place in range(len(pictures.all_names)) if place not in pictures.unreadable]
        return [pictures.picture(readable[number]) for number in numbers]
    found = {number: picture for number, picture in enumerate(pictures) if number in set(numbers)}
    return [found[number] for number in numbers]


if __name__ == "__main__":
    cli.run(main)
