"""The sets of images that the measuring tools compare: those of a source, and samples of a checkpoint.

A set can be iterated any number of times and is never in memory as a whole. Threads read and prepare images slightly
ahead of their use (Pillow and numpy release the GIL), and images come in order. A set with a size gives images as
training saw them: fitted to that size by Lanczos resampling. Without a size each image has its own.
"""

import io
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from pggan.config.schema import Config
from pggan.data import reading
from pggan.data.fingerprints import digest
from pggan.data.index import MAX_UNREADABLE
from pggan.data.sources import Builtin, Folder, Source
from pggan.errors import UserError, plain
from pggan.evaluation.samples import draw_batches
from pggan.metrics import cache
from pggan.metrics.ahead import ahead
from pggan.metrics.cache import Arrays
from pggan.models.networks import Generator

Size = tuple[int, int]  # (width, height) in pixels
MAX_NAMES = 3  # of unreadable files in a message

Prepare = Callable[[np.ndarray], np.ndarray]


@dataclass
class ImageSet(ABC):
    """Images in a fixed order.

    spec: as the user wrote it. size: of all images, or None if each has its own. fit: see `reading.fit`.
    unreadable: {number of an image: why it cannot be read}; known after the first pass, or set by the caller.
    """

    labels = None  # the class number of each of `names`, where they are known

    spec: str
    size: Size | None
    fit: str
    unreadable: dict[int, str] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.all_names) - len(self.unreadable)

    def __iter__(self) -> Iterator[np.ndarray]:
        """uint8 [H, W, 3] each."""
        return self._prepared(lambda image: image)

    def mapped(self, prepare: Prepare, batch: int) -> Iterator[np.ndarray]:
        """Stacked results of prepare(uint8 [H, W, 3]), [up to batch, ...]; they must all have one shape.

        prepare is called in threads, in any order. Raises UserError when over a tenth of the images cannot be read.
        """
        rows = []
        for row in self._prepared(prepare):
            rows.append(row)
            if len(rows) == batch:
                yield np.stack(rows)
                rows = []
        if rows:
            yield np.stack(rows)

    def read(self, prepare: Prepare, batch: int = 32) -> np.ndarray:
        """uint8 [N, ...]: like `mapped`, all in one array."""
        return np.concatenate([*self.mapped(prepare, batch)])

    def at(self, numbers: list[int]) -> list[np.ndarray]:
        """uint8 [H, W, 3] each: the images with these numbers, counted among the readable ones."""
        found = {number: image for number, image in enumerate(self) if number in set(numbers)}
        return [found[number] for number in numbers]

    @property
    def readable(self) -> list[int]:
        """Numbers of the readable images."""
        return [number for number in range(len(self.all_names)) if number not in self.unreadable]

    @property
    def names(self) -> list[str]:
        """Of the readable images, in order. A name may hold any bytes: print it through `reading.plain`."""
        return [self.all_names[number] for number in self.readable]

    @property
    @abstractmethod
    def all_names(self) -> list[str]:
        """Of all images, including unreadable ones."""

    @abstractmethod
    def describe(self) -> str:
        """The set in a few words, such as `folder monet, crop to 64x64`."""

    @abstractmethod
    def identity(self) -> str:
        """64 hexadecimal digits that change whenever an image could change."""

    @abstractmethod
    def part(self, count: int, seed: int) -> "ImageSet":
        """A random choice of `count` readable images, in order; all of them if there are fewer."""

    def check_unchanged(self) -> None:
        """Raises UserError if the files have changed since `identity` was first called."""
        return

    @abstractmethod
    def _prepared(self, prepare: Prepare) -> Iterator[np.ndarray]:
        """prepare(image) of each image, in order."""

    def remembered(self, key: dict, make: Callable[[], Arrays], folder: Path | None) -> Arrays:
        """The arrays of make(), which passes over the images; cached in `folder` together with `unreadable`.

        key: whatever else the arrays depend on. folder: None: not cached. Raises UserError if files change meanwhile.
        """
        if folder is None:
            return make()

        def whole() -> Arrays:
            arrays = make()
            self.check_unchanged()
            numbers, reasons = list(self.unreadable), list(self.unreadable.values())
            return {**arrays, "unreadable": np.array(numbers, np.int64), "reasons": np.array(reasons, str)}

        versions = {name: version(name) for name in ("numpy", "pillow", "scipy", "torch")}
        key = {**key, "pictures": self.identity(), "N": len(self.all_names), **versions}
        arrays = cache.remembered(key, whole, folder)
        self.unreadable = dict(zip(arrays["unreadable"].tolist(), arrays["reasons"].tolist(), strict=True))
        return arrays

    def notes(self) -> list[str]:
        """Lines for the user about unreadable files, after a pass."""
        if not self.unreadable:
            return []
        count = f"{len(self.unreadable):,} of {len(self.all_names):,} pictures"
        return [f"{count} of {plain(self.spec)} cannot be read and are left out: {self._named_unreadable()}"]

    def _named_unreadable(self) -> str:
        some = [f"{plain(self.all_names[number])} ({self.unreadable[number]})" for number in sorted(self.unreadable)]
        return ", ".join(some[:MAX_NAMES]) + (" ..." if len(some) > MAX_NAMES else "")

    def _fitted_words(self) -> str:
        return f", {self.fit} to {self.size[0]}x{self.size[1]}" if self.size else ", as they are"


@dataclass
class SourceSet(ImageSet):
    """The images of a source: a folder, a zip or the built-in ones."""

    source: Source

    @property
    def all_names(self) -> list[str]:
        return self.source.names

    @property
    def labels(self) -> list[int] | None:
        return self.source.labels and [self.source.labels[number] for number in self.readable]

    def describe(self) -> str:
        if isinstance(self.source, Builtin):
            return f"built-in pictures, seed {self.source.seed}, {self.size[0]}x{self.size[1]}"
        kind = "folder" if isinstance(self.source, Folder) else "zip"
        return f"{kind} {_short(self.spec)}{self._fitted_words()}"

    def identity(self) -> str:
        return digest(["pictures", self.source.fingerprint, str(self.size), self.fit])

    def part(self, count: int, seed: int) -> "SourceSet":
        numbers = self.readable
        if not isinstance(self.source, Builtin):  # the first built-in images are already a random choice
            numbers = np.random.default_rng(seed).permutation(numbers).tolist()
        kept, labels = sorted(numbers[:count]), self.source.labels
        names, labels = [self.source.names[n] for n in kept], labels and [labels[n] for n in kept]
        return SourceSet(self.spec, self.size, self.fit, replace(self.source, names=names, labels=labels))

    def check_unchanged(self) -> None:
        if replace(self.source).fingerprint != self.source.fingerprint:  # the copy computes its own
            raise UserError(f"the pictures of {plain(self.spec)} changed while they were read: start again")

    def at(self, numbers: list[int]) -> list[np.ndarray]:
        known = self.readable
        return [self.image(known[number]) for number in numbers]

    def image(self, number: int) -> np.ndarray:
        """uint8 [H, W, 3], writeable. Raises Unreadable, and UserError for a decompression bomb."""
        if self.size:
            return np.array(self.source.pyramid(number, [self.size], self.fit)[0][0])
        name = self.source.names[number]
        with reading.decode_errors(name):
            data = self.source.read(number)
        return np.array(reading.decode(io.BytesIO(data), name))

    def _prepared(self, prepare: Prepare) -> Iterator[np.ndarray]:
        def one(number: int) -> np.ndarray | reading.Unreadable:
            try:
                return prepare(self.image(number))
            except reading.Unreadable as error:
                return error

        self.unreadable = {}
        total = len(self.source)
        for number, result in enumerate(_with_bar(ahead(one, range(total)), total, "reading")):
            if not isinstance(result, reading.Unreadable):
                yield result
                continue
            self.unreadable[number] = str(result)
            if len(self.unreadable) > MAX_UNREADABLE * total:
                count = f"{'' if number + 1 == total else 'at least '}{len(self.unreadable):,} of {total:,}"
                names = self._named_unreadable()
                raise UserError(f"{count} pictures of {plain(self.spec)} cannot be read: {names}")


@dataclass(frozen=True)
class Trained:
    """G_ema of a checkpoint, at the alpha of the checkpoint. sha256: of the whole checkpoint."""

    G_ema: Generator
    alpha: float
    config: Config
    sha256: str

    @property
    def size(self) -> Size:
        return self.config.network.size(self.G_ema.res)


@dataclass
class SampleSet(ImageSet):
    """Samples of a checkpoint: number i depends on (seed, i) alone. Without a size they have the checkpoint's own."""

    trained: Trained
    num: int
    seed: int

    def __post_init__(self):
        self.size = self.size or self.trained.size

    @property
    def all_names(self) -> list[str]:
        return [f"{number:05d}" for number in range(self.num)]

    def describe(self) -> str:
        fitted = "" if self.size == self.trained.size else self._fitted_words()
        fade = "" if self.trained.alpha == 1 else f", in its fade at alpha {self.trained.alpha:.2f}"
        return f"checkpoint {_short(self.spec)}, seed {self.seed}{fade}{fitted}"

    def identity(self) -> str:
        device = next(self.trained.G_ema.parameters()).device.type  # another kind may change a color by 1 in 255
        facts = [self.trained.sha256, str(self.num), str(self.seed), device, str(self.size), self.fit]
        return digest(["samples", *facts])

    def part(self, count: int, seed: int) -> "SampleSet":
        return replace(self, num=min(count, self.num))  # the first samples are already a random choice

    def _prepared(self, prepare: Prepare) -> Iterator[np.ndarray]:
        def one(sample: np.ndarray) -> np.ndarray:
            fitted = self.size == self.trained.size
            return prepare(sample if fitted else np.array(reading.fit(Image.fromarray(sample), *self.size, self.fit)))

        batches = draw_batches(self.trained.G_ema, self.trained.alpha, self.seed, self.num)
        samples = (sample for batch in batches for sample in batch)
        return _with_bar(ahead(one, samples), self.num, "drawing")


def _with_bar(results: Iterator, total: int, what: str) -> Iterator:
    """The results, with a progress bar on a terminal."""
    return iter(tqdm(results, what, total, unit=" pictures", disable=None, leave=False))


def _short(spec: str) -> str:
    """The last part of a path, on one line."""
    return plain(Path(os.path.expanduser(spec)).resolve().name)
