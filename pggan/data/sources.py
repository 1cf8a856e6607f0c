"""Where pictures come from: a folder, a zip, or the project's own drawings.

A source lists its pictures in sorted order, knows their classes, and fetches the bytes of any one. It can be pickled,
so that worker processes read for themselves. Its fingerprint says what the pictures are, not where they lie: a copy on
another machine has the same one.
"""

import json
import os
import re
import tempfile
import zipfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from pggan.data import classes, reading
from pggan.data.fingerprints import digest, digests
from pggan.data.reading import plain
from pggan.errors import UserError

IMAGE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff")
IMAGE_ENDINGS += (".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif")
NEVER_LISTED = frozenset(["__macosx", "thumbs.db", "desktop.ini"])
CACHE_NAME = ".pggan-cache"
DRAWING_VERSION = 1  # raise it when builtin.draw changes any picture
MAX_MEMBER_BYTES = 2**29  # of one file in a zip, unpacked
ENCRYPTED = 1  # the flag of a member of a zip
FEW_NAMES = 3  # of the files that are no pictures are remembered


@dataclass
class Source(ABC):
    """Pictures by number.

    names: sorted; relative paths with forward slashes. labels: a class number for each picture, or None.
    label_names: the name of each class. ignored: how many other files lay among the pictures; ignored_names: the first
    few of them. caches: the folders that packed pictures may go to, the best first.
    """

    spec: str
    names: list[str]
    labels: list[int] | None
    label_names: list[str]
    ignored: int
    ignored_names: tuple[str, ...]
    caches: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def fingerprint(self) -> str:
        """64 hexadecimal digits that change when a picture, its name or its label changes, and only then."""
        return digest([*self.fingerprint_lines(), json.dumps([self.labels, self.label_names])])

    @abstractmethod
    def fingerprint_lines(self) -> list[str]:
        """A line for each picture that says what it is."""

    @abstractmethod
    def pyramid(self, index: int, sizes: list[tuple[int, int]], how: str) -> list[tuple[np.ndarray, bool]]:
        """Picture `index` at each (width, height), and whether it was enlarged; see `reading.pyramid`."""


class Files(Source):
    """Pictures that lie in files."""

    @abstractmethod
    def read(self, index: int) -> bytes:
        """The bytes of the file of picture `index`."""

    def pyramid(self, index: int, sizes: list[tuple[int, int]], how: str) -> list[tuple[np.ndarray, bool]]:
        """Picture `index` at each (width, height); see `reading.pyramid`."""
        with reading.decode_errors(self.names[index]):
            data = self.read(index)
            if not data:
                raise reading.Unreadable("empty file")
        return reading.pyramid(data, self.names[index], sizes, how)


def open_source(spec: str, builtin_images: int, cache: Path | str | None = None) -> Source:
    """The source that `spec` names: a folder, a zip, or builtin[:SEED] with `builtin_images` pictures.

    cache: the folder for packed pictures; left out: beside the data, or the user's cache folder if that is read-only.
    Raises UserError when there is no such place, it holds no picture, or the zip is damaged or not to be trusted.
    """
    cache = Path(os.path.expanduser(cache)) if cache else None
    if spec == "builtin" or spec.startswith("builtin:"):
        return _open_builtin(spec, builtin_images, cache)
    path = Path(os.path.expanduser(spec))
    if not os.path.exists(path):
        raise UserError(f"{plain(spec)}: no such folder or zip file")
    if path.is_dir():
        return _open_folder(spec, path.resolve(), cache)
    if not path.is_file() or not (zipfile.is_zipfile(path) or path.suffix.lower() == ".zip"):
        raise UserError(f"{plain(spec)} is neither a folder nor a zip file of pictures")
    try:
        return _open_zip(spec, path.resolve(), cache)
    except (zipfile.BadZipFile, OSError, NotImplementedError, UnicodeDecodeError) as error:
        raise UserError(f"{plain(spec)} cannot be read as a zip file ({plain(error)}): make it again") from None


def cache_folder(candidates: tuple[Path, ...]) -> Path:
    """The first of `candidates` that is a folder, or can be made one, and can be written; a UserError if none."""
    for folder in candidates:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
        except OSError:
            continue
    raise UserError(f"packed pictures cannot be written to {' nor to '.join(map(str, candidates))}: choose --cache")


def _caches(chosen: Path | None, *beside: Path) -> tuple[Path, ...]:
    """Where packed pictures may go: where the user says, or else beside the data, or else the user's cache folder."""
    home = os.path.expanduser("~/.cache")
    if home.startswith("~"):  # a user without a home, as in some containers
        home = tempfile.gettempdir()
    user = Path(os.environ.get("XDG_CACHE_HOME") or home) / "pggan"
    return (chosen,) if chosen else (*(folder / CACHE_NAME for folder in beside), user)


# ---- a folder


@dataclass
class Folder(Files):
    root: Path

    def read(self, index: int) -> bytes:
        return (self.root / self.names[index]).read_bytes()

    def fingerprint_lines(self) -> list[str]:
        try:
            memory = cache_folder(self.caches) / f"fingerprints-{digest([str(self.root)])[:16]}.json"
        except UserError:
            memory = None  # nowhere to write it
        contents = digests(self.root, self.names, memory)
        return [f"{name} {content}" for name, content in zip(self.names, contents, strict=True)]


def _open_folder(spec: str, root: Path, cache: Path | None) -> Folder:
    files = sorted(_walk(root))
    names = [name for name in files if is_image(name)]
    if not names:
        raise _no_images(spec, len(files))
    described = _beside(root / "dataset.json") if (root / "dataset.json").is_file() else None
    labels = classes.labels(spec, names, described)
    return Folder(spec, names, *labels, *_ignored(files, described), _caches(cache, root), root)


def _beside(path: Path) -> bytes:
    """The text of a folder's own dataset.json."""
    try:
        if path.stat().st_size > MAX_MEMBER_BYTES:
            raise UserError(f"{plain(str(path))} is too large for a dataset.json: mend or remove it")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{plain(str(path))} cannot be read ({error.strerror}): mend or remove it") from None


def _walk(root: Path):
    """Relative paths of the regular, visible files below `root`; links are followed, each folder entered once."""

    def refuse(error: OSError):
        raise UserError(f"{plain(error.filename)} cannot be listed: {error.strerror}")

    entered = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        folders[:] = [] if real in entered else sorted(name for name in folders if _is_listed(name))
        if real not in entered:
            kept = [Path(folder, name) for name in files if _is_listed(name)]
            yield from (path.relative_to(root).as_posix() for path in kept if not _is_special(path))
        entered.add(real)


def _is_special(path: Path) -> bool:
    """A pipe, a socket, a device: reading it might never end. A broken link is none: it is named as unreadable."""
    return path.exists() and not path.is_file()


# ---- a zip


@dataclass
class Zip(Files):
    path: Path

    @cached_property
    def archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self.path)

    def read(self, index: int) -> bytes:
        return _unpacked(self.archive, self.names[index])

    def fingerprint_lines(self) -> list[str]:
        members = map(self.archive.getinfo, self.names)
        return [f"{member.filename} {member.CRC} {member.file_size}" for member in members]

    def __getstate__(self) -> dict:
        return {name: value for name, value in vars(self).items() if name != "archive"}  # open files do not travel


def _open_zip(spec: str, path: Path, cache: Path | None) -> Zip:
    with zipfile.ZipFile(path) as archive:
        members = [member.filename for member in archive.infolist() if not member.is_dir()]
        for name in members:
            if _climbs(name):
                raise UserError(f"{plain(spec)} holds the path {plain(name)}, which leads out of the zip: not trusted")
        described = _description(spec, archive) if "dataset.json" in members else None
    files = sorted({name for name in members if all(map(_is_listed, name.split("/")))})
    names = [name for name in files if is_image(name)]
    if not names:
        raise _no_images(spec, len(files))
    labels = classes.labels(spec, names, described)
    return Zip(spec, names, *labels, *_ignored(files, described), _caches(cache, path.parent), path)


def _description(spec: str, archive: zipfile.ZipFile) -> bytes:
    """The text of dataset.json. Raises UserError when it is damaged, encrypted or too large."""
    try:
        with reading.decode_errors(
            "dataset.json"
        ):
            return _unpacked(archive, "dataset.json")
    except reading.Unreadable as error:
        raise UserError(f"dataset.json in {plain(spec)} cannot be read ({error}): mend or remove it") from None


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of a member. Raises UserError for one too large, Unreadable for an encrypted one."""
    member = archive.getinfo(name)
    if member.file_size > MAX_MEMBER_BYTES:
        raise UserError(f"{plain(name)} would unpack to {member.file_size:,} bytes: remove it")
    if member.flag_bits & ENCRYPTED:
        raise reading.Unreadable("encrypted: zip it again without a password")
    return archive.read(member)


def _climbs(name: str) -> bool:
    parts = re.split(r"[\\/]", name)
    return ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:", name) is not None


# ---- the project's own drawings


@dataclass
class Builtin(Source):
    seed: int

    def fingerprint_lines(self) -> list[str]:
        return [f"builtin {self.seed} {len(self)} {DRAWING_VERSION}"]

    def pyramid(self, index: int, sizes: list[tuple[int, int]], how: str) -> list[tuple[np.ndarray, bool]]:
        """Drawn at each size: the same picture, with nothing to crop and nothing enlarged."""
        from pggan.data import builtin

        return [(builtin.draw(self.seed, index, width, height)[0], False) for width, height in sizes]


def _open_builtin(spec: str, count: int, cache: Path | None) -> Builtin:
    from pggan.data import builtin

    seed = spec.partition(":")[2] if ":" in spec else "0"
    if not seed.isascii() or not seed.isdigit():
        raise UserError(f"{plain(spec)}: the seed of the built-in pictures is a whole number, as in builtin:7")
    labels = [builtin.kind_of(int(seed), index) for index in range(count)]
    names = [f"{index:06d}" for index in range(count)]
    return Builtin(spec, names, labels, list(builtin.KINDS), 0, (), _caches(cache), int(seed))


# ---- names


def is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_ENDINGS)


def _is_listed(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in NEVER_LISTED


def _ignored(files: list[str], described: bytes | None) -> tuple[int, tuple[str, ...]]:
    """How many of `files` are neither pictures nor the dataset.json that was read, and the first few of them."""
    others = [name for name in files if not is_image(name) and (described is None or name != "dataset.json")]
    return len(others), tuple(others[:FEW_NAMES])


def _no_images(spec: str, others: int) -> UserError:
    endings = "jpg, png, webp, bmp, gif, tif and the like"
    return UserError(f"{plain(spec)} holds no pictures ({endings}), only {others} other files")
