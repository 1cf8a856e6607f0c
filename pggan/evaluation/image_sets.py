"""What a measuring tool compares: pictures of a folder or a zip, the built-in ones, or samples of a checkpoint.

A set is gone through as often as one likes and never lies in memory: threads read and prepare pictures a little way
ahead of what is asked for (Pillow and numpy leave Python's lock), and what is asked for comes in order. Where a set is
given a size, its pictures come as training would have seen them there: fitted by Lanczos resampling. Without a size
they come as they are, each of its own size.
"""

import io
import os
import warnings
import zipfile
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from pggan.config.schema import Config
from pggan.data import reading
from pggan.data.fingerprints import digest
from pggan.data.packing import MAX_UNREADABLE
from pggan.data.reading import plain
from pggan.data.sources import Builtin, Files, Folder, Source, open_source
from pggan.errors import UserError
from pggan.evaluation.samples import draw_batches
from pggan.models.networks import Generator
from pggan.training import checkpoint
from pggan.training.state import state_from

Size = tuple[int, int]  # (width, height) in pixels
BUILTIN_SIZE = (256, 256)  # of built-in pictures where nothing says a size
CHECKPOINT_ENDINGS = (".pt", ".pth", ".ckpt")
LEAST_SAMPLES, MOST_SAMPLES = 1000, 50_000  # that are drawn where nobody says how many
LARGEST = 4096  # px, of a size that is asked for
FEW_NAMES = 3
THREADS = min(8, os.cpu_count() or 1)
AHEAD = 4 * THREADS  # pictures prepared before they are asked for


@dataclass
class ImageSet(ABC):
    """Pictures in an order of their own, to be gone through.

    spec: as the user wrote it. size: that all pictures come at, or None: each at its own. fit: see `reading.fit`.
    unreadable: number of a picture -> why it cannot be read; known after the first pass, or set by who knows it.
    """

    spec: str
    size: Size | None
    fit: str
    unreadable: dict[int, str] = field(default_factory=dict, init=False)

    def __len__(self) -> int:
        return len(self.all_names) - len(self.unreadable)

    def __iter__(self) -> Iterator[np.ndarray]:
        """uint8 [H, W, 3], one by one."""
        return self._prepared(lambda picture: picture)

    def mapped(self, prepare: Callable[[np.ndarray], np.ndarray], batch: int) -> Iterator[np.ndarray]:
        """[up to batch, ...]: what `prepare` makes of each uint8 [H, W, 3], all of one shape, stacked.

        prepare is called in threads, in any order. Raises UserError when over a tenth of the pictures cannot be read.
        """
        rows = []
        for row in self._prepared(prepare):
            rows.append(row)
            if len(rows) == batch:
                yield np.stack(rows)
                rows = []
        if rows:
            yield np.stack(rows)

    @property
    def names(self) -> list[str]:
        """Of the pictures that can be read, in order. A name may hold any bytes: print it through `reading.plain`."""
        return self._readable(self.all_names)

    @property
    def labels(self) -> list[int] | None:
        """A class number for each of `names`, or None."""
        return None

    @property
    def label_names(self) -> list[str]:
        return []

    @property
    @abstractmethod
    def all_names(self) -> list[str]:
        """Of all pictures, the unreadable ones as well."""

    @abstractmethod
    def describe(self) -> str:
        """A few words that say what this is: `folder monet, crop to 64x64`."""

    @abstractmethod
    def identity(self) -> str:
        """64 hexadecimal digits that change whenever a picture may come out otherwise."""

    @abstractmethod
    def part(self, count: int, seed: int) -> "ImageSet":
        """`count` of the pictures that can be read, chosen at random, in their order; all where they are fewer."""

    def check_unchanged(self) -> None:
        """Raises UserError when the files are no longer what they were when `identity` was asked first."""
        return

    @abstractmethod
    def _prepared(self, prepare: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
        """What `prepare` makes of each picture, in order."""

    def notes(self) -> list[str]:
        """What the user should know about the files, in plain lines, after a pass."""
        if not self.unreadable:
            return []
        count = f"{len(self.unreadable):,} of {len(self.all_names):,} pictures"
        return [f"{count} of {plain(self.spec)} cannot be read and are left out: {self._named_unreadable()}"]

    def _readable(self, values: list) -> list:
        return [value for number, value in enumerate(values) if number not in self.unreadable]

    def _named_unreadable(self) -> str:
        some = [f"{plain(self.all_names[number])} ({self.unreadable[number]})" for number in sorted(self.unreadable)]
        return ", ".join(some[:FEW_NAMES]) + (" ..." if len(some) > FEW_NAMES else "")

    def _fitted_words(self) -> str:
        return f", {self.fit} to {self.size[0]}x{self.size[1]}" if self.size else ", as they are"


@dataclass
class Read(ImageSet):
    """The pictures of a source."""

    source: Source

    @property
    def all_names(self) -> list[str]:
        return self.source.names

    @property
    def labels(self) -> list[int] | None:
        return None if self.source.labels is None else self._readable(self.source.labels)

    @property
    def label_names(self) -> list[str]:
        return self.source.label_names

    def describe(self) -> str:
        if isinstance(self.source, Builtin):
            return f"built-in pictures, seed {self.source.seed}, {self.size[0]}x{self.size[1]}"
        kind = "folder" if isinstance(self.source, Folder) else "zip"
        return f"{kind} {_short(self.spec)}{self._fitted_words()}"

    def identity(self) -> str:
        return digest(["pictures", self.source.fingerprint, str(self.size), self.fit])

    def part(self, count: int, seed: int) -> "Read":
        if isinstance(self.source, Builtin):  # any of them are a random choice
            return open_set(self.spec, size=self.size, fit=self.fit, builtin_images=min(count, len(self)))
        numbers = np.random.default_rng(seed).permutation(self._readable(list(range(len(self.source)))))[:count]
        kept = sorted(numbers.tolist())
        names, labels = (
            values and [values[number] for number in kept] for values in (self.source.names, self.source.labels)
        )
        return Read(self.spec, self.size, self.fit, replace(self.source, names=names, labels=labels))

    def check_unchanged(self) -> None:
        if replace(self.source).fingerprint != self.source.fingerprint:  # a new source remembers nothing
            raise UserError(f"the pictures of {plain(self.spec)} changed while they were read: start again")

    def picture(self, number: int) -> np.ndarray:
        """uint8 [H, W, 3], which may be written to. Raises Unreadable, and UserError for a decompression bomb."""
        if self.size:
            return np.array(self.source.pyramid(number, [self.size], self.fit)[0][0])
        name = self.source.names[number]
        with reading.decode_errors(name):
            data = self.source.read(number)
        return np.array(reading.decode(io.BytesIO(data), name))

    def _prepared(self, prepare: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
        def one(number: int) -> np.ndarray | reading.Unreadable:
            try:
                return prepare(self.picture(number))
            except reading.Unreadable as error:
                return error

        self.unreadable = {}
        done = _ahead(one, range(len(self.source)))
        for number, result in enumerate(_shown(done, len(self.source), "reading")):
            if not isinstance(result, reading.Unreadable):
                yield result
                continue
            self.unreadable[number] = str(result)
            self._refuse_many(number + 1)

    def _refuse_many(self, seen: int) -> None:
        total = len(self.source)
        if len(self.unreadable) > MAX_UNREADABLE * total:
            count = f"{'' if seen == total else 'at least '}{len(self.unreadable):,} of {total:,}"
            names = self._named_unreadable()
            raise UserError(f"{count} pictures of {plain(self.spec)} cannot be read: {names}")


@dataclass(frozen=True)
class Trained:
    """What a checkpoint draws samples with: the moving average of G at its alpha. sha256: of all that it holds."""

    spec: str
    G_ema: Generator
    alpha: float
    config: Config
    sha256: str

    @property
    def size(self) -> Size:
        return self.config.network.size(self.G_ema.res)


@dataclass
class Drawn(ImageSet):
    """Samples of a checkpoint: number i depends on (seed, i) alone. Left out, their size is the checkpoint's own."""

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

    def part(self, count: int, seed: int) -> "Drawn":
        return replace(self, num=min(count, self.num))  # any samples are a random choice

    def _prepared(self, prepare: Callable[[np.ndarray], np.ndarray]) -> Iterator[np.ndarray]:
        def one(sample: np.ndarray) -> np.ndarray:
            return prepare(sample if self.size == self.trained.size else self._fitted(sample))

        batches = draw_batches(self.trained.G_ema, self.trained.alpha, self.seed, self.num)
        samples = (sample for batch in batches for sample in batch)
        return _shown(_ahead(one, samples), self.num, "drawing")

    def _fitted(self, sample: np.ndarray) -> np.ndarray:
        return np.array(reading.fit(Image.fromarray(sample), *self.size, self.fit))


# ---- opening


def open_set(
    spec: str,
    *,
    num: int = LEAST_SAMPLES,
    seed: int = 0,
    size: Size | None = None,
    fit: str = "crop",
    device: str | torch.device = "cpu",
    builtin_images: int = 2000,
    cache: str | Path | None = None,
) -> ImageSet:
    """The set that `spec` names: a folder, a zip, builtin[:SEED] or a checkpoint.

    num, seed: of the samples of a checkpoint, drawn on `device`. size: see ImageSet; left out, samples come at the
    checkpoint's own size and built-in pictures at 256x256. cache: see `open_source`.
    Raises UserError when there is no such thing, it holds no picture, or it is damaged.
    """
    _check(num, seed)
    if is_checkpoint(spec):
        return Drawn(spec, size, fit, open_trained(spec, device), num, seed)
    return _read(spec, size, fit, builtin_images, cache)


def open_pair(
    real: str,
    fake: str,
    *,
    num: int | None = None,
    seed: int = 0,
    res: int | None = None,
    fit: str | None = None,
    device: str | torch.device = "cpu",
    builtin_images: int = 2000,
    cache: str | Path | None = None,
) -> tuple[ImageSet, ImageSet]:
    """Two sets that have been through the same. See `open_set`.

    Where one of them is a checkpoint (the fake's goes first), both come at its size, by the fit it was trained with:
    real pictures as its training saw them, but for random crops. Otherwise they come as they are.
    num: samples of a checkpoint; left out, as many as the other has, from 1,000 to 50,000. res: another size, by its
    shorter side; of the checkpoint's aspect, or else square. fit: another fit than the checkpoint's, or else crop.
    """
    _check(num, seed)
    trained = {spec: open_trained(spec, device) for spec in dict.fromkeys((fake, real)) if is_checkpoint(spec)}
    first = next(iter(trained.values()), None)
    size, fit = _common(first, res, fit)
    sets = {spec: _read(spec, size, fit, builtin_images, cache) for spec in (real, fake) if spec not in trained}
    num = num or samples_for(max((len(pictures) for pictures in sets.values()), default=0))

    def opened(spec: str) -> ImageSet:
        return Drawn(spec, size, fit, trained[spec], num, seed) if spec in trained else sets[spec]

    return opened(real), opened(fake)


def samples_for(reals: int) -> int:
    """How many samples are drawn where nobody says: as many as there are reals, from 1,000 to 50,000."""
    return min(max(reals, LEAST_SAMPLES), MOST_SAMPLES)


def is_checkpoint(spec: str) -> bool:
    """Whether `spec` names a file to be opened as a checkpoint. torch's files are zips, too, but never of pictures."""
    path = os.path.expanduser(spec)
    if not os.path.isfile(path) or path.lower().endswith(".zip"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except Exception:  # no zip, or a damaged one, or one that may not be read
        return path.lower().endswith(CHECKPOINT_ENDINGS)


def open_trained(spec: str, device: str | torch.device) -> Trained:
    """The moving average of a checkpoint's generator, on `device`. Raises UserError."""
    values = checkpoint.load(Path(os.path.expanduser(spec)))
    state = state_from(values, torch.device(device))
    return Trained(spec, state.G_ema.eval(), state.alpha, state.config, values["sha256"])


def _read(spec: str, size: Size | None, fit: str, builtin_images: int, cache: str | Path | None) -> Read:
    path = Path(os.path.expanduser(spec))
    builtin = spec.partition(":")[0] == "builtin"
    if not builtin and (not spec or not os.path.exists(path)):
        raise UserError(f"{plain(spec) or 'an empty name'}: no such folder, zip file or checkpoint")
    if os.path.isdir(path / "checkpoints") and os.path.isdir(path / "samples"):
        latest = path / "checkpoints" / "latest.pt"
        raise UserError(f"{plain(spec)} is the folder of a run: name a checkpoint in it, such as {plain(latest)}")
    source = open_source(spec, builtin_images, cache)
    size = size or (None if isinstance(source, Files) else BUILTIN_SIZE)
    return Read(spec, size, fit, source)


def _common(trained: Trained | None, res: int | None, fit: str | None) -> tuple[Size | None, str]:
    """(size, fit) of both sets."""
    if res is not None and not 1 <= res <= LARGEST:
        raise UserError(f"--res must be from 1 to {LARGEST}, not {res}")
    if trained is None:
        return (res, res) if res else None, fit or "crop"
    width, height = trained.size
    if res:
        width, height = (round(side * res / min(trained.size)) for side in trained.size)
    return (width, height), fit or trained.config.data.fit


def _check(num: int | None, seed: int) -> None:
    if num is not None and num < 1:
        raise UserError(f"--num must be at least 1, not {num}")
    if seed < 0:
        raise UserError(f"--seed cannot be negative, and is {seed}")


def _short(spec: str) -> str:
    """The last part of a path, on one line."""
    return plain(Path(os.path.expanduser(spec)).resolve().name)


# ---- going through


def _ahead(work: Callable, items: Iterable) -> Iterator:
    """work(item) of each, in order, by threads that are never more than AHEAD items further than what was taken."""
    waiting, cores = deque(), torch.get_num_threads()
    with _quiet_pillow(), ThreadPoolExecutor(THREADS, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(cores)  # what other threads will begin with


@contextmanager
def _quiet_pillow() -> Iterator[None]:
    """All threads share one list of warnings to ignore, and `decode_errors` in each puts back the list it found."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _shown(results: Iterator, total: int, what: str) -> Iterator:
    """Passes results on, with a bar on a terminal."""
    with tqdm(total=total, desc=what, unit=" pictures", disable=None, leave=False) as bar:
        for result in results:
            yield result
            bar.update()
