"""All pictures, decoded and resized once: one uint8 array [N, H, W, 3] for each resolution, in files to be mapped.

A pack is a folder named by what decides its pixels (the source's fingerprint, fit, margin, aspect, this module's
version). In it index.json names the pictures, 0256.npy holds a resolution and 0256.json how many pictures it enlarged.
Each file is written beside and renamed when it is whole, so an interrupted packing leaves nothing that is taken for
one, and two at once only do the work twice.
"""

import errno
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from pggan.data import working
from pggan.data.contents import digest
from pggan.data.reading import plain
from pggan.data.sources import Source, cache_folder
from pggan.errors import UserError

VERSION = 1  # raise it when any packed pixel changes
MOST_UNREADABLE = 0.1  # of the picture files; with more there is something wrong with the folder
STALE_SECONDS = 24 * 3600  # what an interrupted packing left behind is removed after a day


@dataclass(frozen=True)
class Pack:
    """The packed pictures of a source.

    names, labels (or None): of the N pictures that can be read, in the source's order. unreadable: (name, reason) of
    the others. ignored: files that are no pictures. enlarged: resolution -> how many pictures had fewer pixels.
    crop_margin: the levels are this many times as wide and high as the resolution says, for random crops.
    """

    folder: Path
    fingerprint: str
    names: list[str]
    labels: list[int] | None
    label_names: list[str]
    unreadable: list[tuple[str, str]]
    ignored: int
    enlarged: dict[int, int]
    crop_margin: float

    def __len__(self) -> int:
        return len(self.names)

    def level(self, res: int) -> np.ndarray:
        """uint8 [N, H, W, 3], mapped into memory; writing to it changes no file (torch warns of read-only arrays)."""
        return np.load(_level_file(self.folder, res), mmap_mode="c")

    def notes(self) -> list[str]:
        """What the user should know about the pictures, in plain lines."""
        classes = f" in {len(self.label_names)} classes" if self.labels else ""
        lines = [f"{len(self):,} pictures{classes}, packed in {self.folder}"]
        if self.ignored:
            lines.append(f"{self.ignored:,} other files are no pictures")
        if self.unreadable:
            lines.append(f"{len(self.unreadable):,} cannot be read and are left out: {_named(self.unreadable)}")
        res = max(self.enlarged)
        if self.enlarged[res]:
            which = (
                f"{self.enlarged[res]:,} of {len(self):,} pictures are smaller than {round(res * self.crop_margin)} px"
            )
            lines.append(f"{which} and were enlarged")
        return lines


def pack(
    source: Source,
    sizes: list[tuple[int, int, int]],
    fit: str = "crop",
    crop_margin: float = 1.0,
    cache: Path | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> Pack:
    """The pictures of `source` at each (resolution, width, height) of `sizes`, all of one aspect; cached.

    fit: see `reading.fit`. crop_margin: 1, or 1.25 to leave room for random crops. cache: a folder; left out: the
    source's own choice. workers: processes, by default one a core; few pictures are read in this one.
    Raises UserError when over a tenth of the pictures cannot be read, one is a decompression bomb, no folder can be
    written or its disk is too small.
    """
    folder = cache_folder((Path(cache),) if cache else source.caches) / _key(source, sizes, fit, crop_margin)
    index = _read_json(folder / "index.json")
    missing = [size for size in sizes if index is None or not _is_whole(folder, size, len(index["names"]), crop_margin)]
    if missing:
        index = _pack_levels(source, folder, missing, fit, crop_margin, index, workers, progress)
    counts = {res: _read_json(_level_file(folder, res, "json"))["enlarged"] for res, _, _ in sizes}
    unreadable = [(name, reason) for name, reason in index["unreadable"]]
    index = {**index, "unreadable": unreadable, "ignored": source.ignored}
    return Pack(folder=folder, fingerprint=source.fingerprint, enlarged=counts, crop_margin=crop_margin, **index)


def packed_size(width: int, height: int, crop_margin: float) -> tuple[int, int]:
    """(width, height) of a packed level."""
    return round(width * crop_margin), round(height * crop_margin)


def _pack_levels(source, folder, sizes, fit, crop_margin, index, workers, progress) -> dict:
    """Writes the levels `sizes`, and the index if it is None; returns the index."""
    _make(folder)
    kept = set(source.names if index is None else index["names"])
    rows = [number for number, name in enumerate(source.names) if name in kept]
    levels = [_Unfinished(folder, res, *packed_size(width, height, crop_margin)) for res, width, height in sizes]
    with _disk_errors(folder, sum(level.row_bytes for level in levels) * len(rows)):
        try:
            for level in levels:
                level.begin(len(rows))
            job = working.Job(source, fit, [level.target() for level in levels])
            started = time.monotonic()
            readings = working.run(job, list(enumerate(rows)), workers, progress)
            bad = {rows[place]: reason for place, reason, _ in readings if reason is not None}
            index = _index(source, rows, bad) if index is None else _unchanged(source, index, bad)
            if bad:
                good = [place for place, number in enumerate(rows) if number not in bad]
                for level in levels:
                    level.keep_only(good)
            _write_json(folder / "index.json", index)
            for which, level in enumerate(levels):
                level.finish(sum(enlarged[which] for _, reason, enlarged in readings if reason is None))
        finally:
            for level in levels:
                level.beside.unlink(missing_ok=True)
    if progress:
        names = ", ".join(str(res) for res, _, _ in sizes)
        seconds = time.monotonic() - started
        print(f"packed {len(index['names']):,} pictures at {names} px in {seconds:.1f} s", file=sys.stderr, flush=True)
    return index


class _Unfinished:
    """One resolution while it is being written, under a name of its own.

    row_bytes: of one picture.
    """

    def __init__(self, folder: Path, res: int, width: int, height: int):
        self.folder, self.res, self.width, self.height = folder, res, width, height
        self.row_bytes = width * height * 3
        self.beside = folder / f"{res:04d}-{uuid.uuid4().hex}.tmp"

    def begin(self, count: int) -> None:
        array = np.lib.format.open_memmap(self.beside, "w+", np.uint8, (count, self.height, self.width, 3))
        self.offset = array.offset

    def target(self) -> working.Target:
        return working.Target(self.beside, self.offset, self.width, self.height)

    def keep_only(self, places: list[int]) -> None:
        """Rewrites the file without the rows of the pictures that could not be read."""
        whole, self.beside = self.beside, self.beside.with_suffix(".kept.tmp")
        try:
            rows = np.load(whole, mmap_mode="r")
            self.begin(len(places))
            with self.beside.open("r+b") as file:
                file.seek(self.offset)
                for place in places:
                    file.write(rows[place])
        finally:
            whole.unlink()

    def finish(self, enlarged: int) -> None:
        with self.beside.open("rb") as file:
            os.fsync(file.fileno())
        _write_json(_level_file(self.folder, self.res, "json"), {"enlarged": enlarged})
        self.beside.replace(_level_file(self.folder, self.res))


def _index(source: Source, rows: list[int], bad: dict[int, str]) -> dict:
    """What index.json holds. Raises UserError when too many pictures are bad."""
    unreadable = [(source.names[number], reason) for number, reason in bad.items()]
    if len(bad) == len(rows) or len(bad) > MOST_UNREADABLE * len(rows):
        raise UserError(f"{len(bad):,} of {len(rows):,} pictures cannot be read: {_named(unreadable)}")
    good = [number for number in rows if number not in bad]
    return {
        "names": [source.names[number] for number in good],
        "labels": None if source.labels is None else [source.labels[number] for number in good],
        "label_names": source.label_names,
        "unreadable": sorted(unreadable),
    }


def _unchanged(source: Source, index: dict, bad: dict[int, str]) -> dict:
    if bad:
        unreadable = [(source.names[number], reason) for number, reason in bad.items()]
        raise UserError(f"{len(bad):,} pictures could be read before and now cannot: {_named(unreadable)}")
    return index


def _named(unreadable: list[tuple[str, str]]) -> str:
    first = ", ".join(f"{plain(name)} ({plain(reason)})" for name, reason in unreadable[:3])
    return first + (" ..." if len(unreadable) > 3 else "")


# ---- the folder


def _key(source: Source, sizes: list[tuple[int, int, int]], fit: str, crop_margin: float) -> str:
    aspects = {(width // gcd(width, height), height // gcd(width, height)) for _, width, height in sizes}
    if len(aspects) != 1:
        raise ValueError(f"the levels of a pack have one aspect, not {sorted(aspects)}")
    return digest([source.fingerprint, fit, str(float(crop_margin)), str(aspects), str(VERSION)])[:24]


def _make(folder: Path) -> None:
    """The folder, free of what interrupted packings left; git is told to leave the cache alone."""
    try:
        folder.mkdir(exist_ok=True)
        (folder.parent / ".gitignore").write_text("*\n")
        for path in folder.glob("*.tmp"):
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"packed pictures cannot be written to {folder}: {error.strerror}") from None


@contextmanager
def _disk_errors(folder: Path, needed: int) -> Iterator[None]:
    """Before: a UserError when the disk has not `needed` bytes. Within: one for a disk that fills up or fails."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise UserError(_too_small(folder, needed, free))
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(_too_small(folder, needed, shutil.disk_usage(folder).free)) from None
        raise UserError(f"packed pictures cannot be written to {folder}: {error.strerror}") from None


def _too_small(folder: Path, needed: int, free: int) -> str:
    return f"packed pictures need {needed:,} bytes and {folder} has {free:,} free: make room or choose another --cache"


def _level_file(folder: Path, res: int, ending: str = "npy") -> Path:
    return folder / f"{res:04d}.{ending}"


def _is_whole(folder: Path, size: tuple[int, int, int], count: int, crop_margin: float) -> bool:
    width, height = packed_size(*size[1:], crop_margin)
    try:
        array = np.load(_level_file(folder, size[0]), mmap_mode="r")
    except (OSError, ValueError):
        return False
    return array.shape == (count, height, width, 3) and _level_file(folder, size[0], "json").exists()


def _read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def _write_json(path: Path, content: dict) -> None:
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    beside.write_text(json.dumps(content))
    beside.replace(path)
