"""Data sources: a folder, a zip file, or the built-in drawings.

A source lists its images in sorted order, knows their classes, and reads any one of them. It can be pickled, so that
worker processes read for themselves. Its fingerprint depends on the images, not on where they are stored: a copy on
another machine has the same fingerprint.
"""

import json
import os
import tempfile
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pggan.data import builtin, classes, reading
from pggan.data.cache_files import stamp
from pggan.data.fingerprints import digest, file_digests
from pggan.data.listing import IMAGE_ENDINGS, is_listed, leads_out, walk
from pggan.errors import UserError, plain, refuse_if

CACHE_NAME = ".pggan-cache"
DRAWING_VERSION = 1  # raise it when builtin.draw changes any image
MAX_MEMBER_BYTES = 2**29  # of one file in a zip, unpacked
ENCRYPTED = 1  # the flag of a member of a zip
MAX_IGNORED_NAMES = 3


@dataclass
class Source(ABC):
    """Images by number.

    names: sorted relative paths with forward slashes. labels: a class number for each image, or None. label_names: the
    name of each class. label_note: why the labels of a dataset.json are not used, or empty. ignored: the number of
    other files; ignored_names: the first few of them. caches: the folders in which packed images may be stored, in
    order of preference.
    """

    spec: str
    names: list[str]
    labels: list[int] | None
    label_names: list[str]
    label_note: str
    ignored: int
    ignored_names: tuple[str, ...]
    caches: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits, which change when an image, its name or its label changes, and only then."""
        return digest([*self.fingerprint_lines(), json.dumps([self.labels, self.label_names])])

    def fingerprint_without(self, left_out: set[str]) -> str:
        """The fingerprint that the source has when these images, which cannot be read, are not there."""
        kept = [number for number, name in enumerate(self.names) if name not in left_out]
        if len(kept) == len(self):
            return self.fingerprint
        lines, labels, names = self.fingerprint_lines(), None, []
        if self.labels is not None:
            used = sorted({self.labels[number] for number in kept})
            names = [self.label_names[label] for label in used]
            labels = [used.index(self.labels[number]) for number in kept]
        return digest([*(lines[number] for number in kept), json.dumps([labels, names])])

    @abstractmethod
    def fingerprint_lines(self) -> list[str]:
        """Lines of text that identify all images: one for each, unless all can be read (the built-in drawings)."""

    @abstractmethod
    def stamp(self) -> str:
        """A text that changes when a file is written to, even if it is then put back as it was."""

    @abstractmethod
    def pyramid(self, index: int, sizes: list[tuple[int, int]], how: str) -> list[tuple[np.ndarray, bool]]:
        """Image `index` at each (width, height), and whether it was enlarged; see `reading.pyramid`."""


class Files(Source):
    """Images that are files."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The bytes of the file of image `index`."""

    def pyramid(self, index: int, sizes: list[tuple[int, int]], how: str) -> list[tuple[np.ndarray, bool]]:
        with reading.decode_errors(self.names[index]):
            data = self.read(index)
            if not data:
                raise reading.Unreadable("empty file")
        return reading.pyramid(data, self.names[index], sizes, how)


def open_source(spec: str, builtin_images: int, cache: Path | str | None = None) -> Source:
    """The source that `spec` names: a folder, a zip, or builtin[:SEED] with `builtin_images` images.

    cache: the folder for packed images. Default: beside the data, or in the user's cache folder if that is read-only.
    Raises UserError when `spec` does not exist or holds no image, or when a zip is damaged or has unsafe paths.
    """
    cache = Path(os.path.expanduser(cache)) if cache else None
    if spec == "builtin" or spec.startswith("builtin:"):
        return _open_builtin(spec, builtin_images, _caches(cache))
    path = Path(os.path.expanduser(spec))
    refuse_if(not os.path.exists(path), f"{plain(spec)}: no such folder or zip file")
    path = path.resolve()
    if path.is_dir():
        return _open_folder(spec, path, _caches(cache, path))
    is_zip = path.is_file() and (path.suffix.lower() == ".zip" or zipfile.is_zipfile(path))
    refuse_if(not is_zip, f"{plain(spec)} is neither a folder nor a zip file of pictures")
    try:
        return _open_zip(spec, path, _caches(cache, path.parent))
    except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
        raise UserError(f"{plain(spec)} cannot be read as a zip file ({plain(error)}): create it again") from None


def cache_folder(candidates: tuple[Path, ...]) -> Path:
    """The first of `candidates` that can be written to; it is created if needed. Raises UserError if none can."""
    for folder in candidates:
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
    raise UserError(f"packed pictures cannot be written to {' nor to '.join(map(str, candidates))}: choose --cache")


def user_cache() -> Path:
    """The project's folder among the user's cache folders."""
    folder = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    no_home = folder.startswith("~")  # in some containers
    return Path(tempfile.gettempdir() if no_home else folder) / "pggan"


def _caches(chosen: Path | None, *beside: Path) -> tuple[Path, ...]:
    return (chosen,) if chosen else (*(folder / CACHE_NAME for folder in beside), user_cache())


def _listing(spec: str, files: Iterable[str], read: Callable[[str], bytes]) -> tuple:
    """The first fields of a Source, up to `ignored_names`. files: relative paths. read: gives the bytes of a path."""
    names, others = [], []
    described = classes.description(files := set(files))
    for name in sorted(files - {described}):
        (names if name.lower().endswith(IMAGE_ENDINGS) else others).append(name)
    endings = "jpg, png, webp, bmp, gif, tif and the like"
    only = f", only {len(others):,} other {'file' if len(others) == 1 else 'files'}" if others else ""
    refuse_if(not names, f"{plain(spec)} holds no pictures ({endings}){only}")
    return spec, names, *classes.classes(names, described, read), len(others), tuple(others[:MAX_IGNORED_NAMES])


# ---- a folder


@dataclass
class Folder(Files):
    root: Path

    def read(self, index: int) -> bytes:
        return (self.root / self.names[index]).read_bytes()

    def fingerprint_lines(self) -> list[str]:
        memory = None  # without a cache folder, all files are read each time
        with suppress(UserError):
            memory = cache_folder(self.caches) / f"fingerprints-{digest([str(self.root)])[:16]}.json"
        digests = file_digests(self.root, self.names, memory)
        return [f"{name} {digest}" for name, digest in zip(self.names, digests, strict=True)]

    def stamp(self) -> str:
        stamps = []
        for name in self.names:
            try:
                stamps.append(stamp(self.root / name))
            except OSError:
                stamps.append([])
        return json.dumps(stamps)


def _open_folder(spec: str, root: Path, caches: tuple[Path, ...]) -> Folder:
    run = (root / "config.json").is_file() and (root / "growth.json").is_file()
    refuse_if(run, f"{plain(spec)} is the folder of a run, not of pictures: name the folder of its pictures")
    return Folder(*_listing(spec, walk(root), lambda name: (root / name).read_bytes()), caches, root)


# ---- a zip


@dataclass
class Zip(Files):
    """members: the name in the zip of each image, which may have backslashes or begin with ./"""

    path: Path
    members: list[str]

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    def read(self, index: int) -> bytes:
        return _unpacked(self.archive, self.members[index])

    def fingerprint_lines(self) -> list[str]:
        members = map(self.archive.getinfo, self.members)
        return [f"{name} {member.CRC} {member.file_size}" for name, member in zip(self.names, members, strict=True)]

    def stamp(self) -> str:
        return json.dumps(stamp(self.path))

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "archive"}  # open files cannot be pickled


def _open_zip(spec: str, path: Path, caches: tuple[Path, ...]) -> Zip:
    with zipfile.ZipFile(path) as archive:
        members = [member.filename for member in archive.infolist() if not member.is_dir()]
        for name in sorted(filter(leads_out, members)):
            raise UserError(f"{plain(spec)} holds the path {plain(name)}, which leads out of the zip: not trusted")
        by_name = {classes.normal(member): member for member in members}
        files = [name for name in by_name if name and all(map(is_listed, name.split("/")))]
        listing = _listing(spec, files, lambda name: _unpacked(archive, by_name[name]))
    return Zip(*listing, caches, path, [by_name[name] for name in listing[1]])


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member. Raises UserError when it is too large, Unreadable when it is encrypted."""
    member = archive.getinfo(name)
    too_large = member.file_size > MAX_MEMBER_BYTES
    refuse_if(too_large, f"{plain(name)} would unpack to {member.file_size:,} bytes: remove it")
    if member.flag_bits & ENCRYPTED:
        raise reading.Unreadable("encrypted: zip it again without a password")
    return archive.read(member)


# ---- the built-in drawings


@dataclass
class Builtin(Source):
    seed: int

    def fingerprint_lines(self) -> list[str]:
        return [f"builtin {self.seed} {len(self)} {DRAWING_VERSION}"]

    def stamp(self) -> str:
        return ""

    def pyramid(self, index: int, sizes: list[tuple[int, int]], how: str) -> list[tuple[np.ndarray, bool]]:
        """The image drawn at each (width, height): the same image, never cropped or enlarged."""
        return [(builtin.draw(self.seed, index, width, height)[0], False) for width, height in sizes]


def _open_builtin(spec: str, count: int, caches: tuple[Path, ...]) -> Builtin:
    seed = spec.partition(":")[2] if ":" in spec else "0"
    number = seed.isascii() and seed.isdigit()
    refuse_if(not number, f"{plain(spec)}: the seed of the built-in pictures is a whole number, as in builtin:7")
    labels = [builtin.kind_of(int(seed), index) for index in range(count)]
    names = [f"{index:06d}" for index in range(count)]
    return Builtin(spec, names, labels, list(builtin.KINDS), "", 0, (), caches, int(seed))
