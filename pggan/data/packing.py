"""All pictures, decoded and resized once: one uint8 array [N, H, W, 3] for each resolution, in files to be mapped.

A pack is a folder named by what decides its pixels (the source's fingerprint, fit, margin, aspect, this module's
version). In it index.json names the pictures, 0256.npy holds a resolution and 0256.json how many pictures it enlarged.
Each file is written beside and renamed when it is whole, so an interrupted packing leaves nothing that is taken for
one, and two at once only do the work twice.
"""

import sys
import time
from dataclasses import dataclass
from math import gcd
from pathlib import Path

import numpy as np

from pggan.data import cache_files, workers
from pggan.data.fingerprints import digest
from pggan.data.reading import plain
from pggan.data.sources import Source, cache_folder
from pggan.errors import UserError

VERSION = 1  # raise it when any packed pixel changes
MAX_UNREADABLE = 0.1  # of the picture files; with more there is something wrong with the folder


@dataclass(frozen=True)
class ImageCache:
    """The packed pictures of a source.

    names, labels (or None): of the N pictures that can be read, in the source's order. unreadable: (name, reason) of
    the others. ignored: how many files are no pictures; ignored_names: the first few. enlarged: resolution -> how many
    pictures had fewer pixels. crop_margin: the levels are this many times as wide and high as the resolution says, for
    random crops.
    """

    folder: Path
    fingerprint: str
    names: list[str]
    labels: list[int] | None
    label_names: list[str]
    unreadable: list[tuple[str, str]]
    ignored: int
    ignored_names: tuple[str, ...]
    enlarged: dict[int, int]
    crop_margin: float

    def __len__(self) -> int:
        return len(self.names)

    def images(self, res: int) -> np.ndarray:
        """uint8 [N, H, W, 3], mapped into memory read-only: a writable map would have to fit into the memory and swap.

        Raises UserError when the cache was emptied since, or the file cannot be mapped.
        """
        try:
            return np.load(cache_files.resolution_file(self.folder, res), mmap_mode="r")
        except FileNotFoundError as error:
            raise UserError(f"packed pictures are gone ({plain(error)}): start again to pack them") from None
        except OSError as error:
            reason = error.strerror or plain(error)
            raise UserError(f"the packed pictures in {self.folder} cannot be read: {reason}") from None

    def notes(self) -> list[str]:
        """What the user should know about the pictures, in plain lines."""
        classes = f" in {len(self.label_names)} classes" if self.labels else ""
        lines = [f"{len(self):,} pictures{classes}, packed in {self.folder}"]
        if self.ignored:
            names = _first([plain(name) for name in self.ignored_names], self.ignored)
            lines.append(f"{self.ignored:,} other files are no pictures: {names}")
        if self.unreadable:
            count, names = f"{len(self.unreadable):,}", _named(self.unreadable)
            lines.append(f"{count} cannot be read and are left out: {names}; config.json lists all")
        res = max(self.enlarged)
        if self.enlarged[res]:
            size = round(res * self.crop_margin)
            count = f"{self.enlarged[res]:,} of {len(self):,}"
            lines.append(f"{count} pictures are smaller than {size} px and were enlarged")
        return lines


def pack(
    source: Source,
    sizes: list[tuple[int, int, int]],
    fit: str = "crop",
    crop_margin: float = 1.0,
    num_workers: int | None = None,
    progress: bool = True,
) -> ImageCache:
    """The pictures of `source` at each (resolution, width, height) of `sizes`, all of one aspect; cached.

    fit: see `reading.fit`. crop_margin: 1, or 1.25 to leave room for random crops. num_workers: by default one a
    core; few pictures are read in this one.
    Raises UserError when over a tenth of the pictures cannot be read, one is a decompression bomb, no folder can be
    written or its disk is too small.
    """
    folder = cache_folder(source.caches) / _key(source, sizes, fit, crop_margin)
    index = cache_files.read_json(folder / "index.json")
    packed = [(res, *packed_size(width, height, crop_margin)) for res, width, height in sizes]
    missing = [
        (res, width, height)
        for res, width, height in packed
        if index is None or not cache_files.is_whole(folder, res, (len(index["names"]), height, width, 3))
    ]
    cache_files.sweep(folder)
    if missing:
        started = time.monotonic()
        index = _pack_resolutions(source, folder, missing, fit, index, num_workers, progress)
        _tell(progress, len(index["names"]), missing, time.monotonic() - started)
    counts = {
        res: cache_files.read_json(cache_files.resolution_file(folder, res, "json"))["enlarged"] for res, _, _ in sizes
    }
    unreadable = [(name, reason) for name, reason in index["unreadable"]]
    index = {**index, "unreadable": unreadable, "ignored": source.ignored, "ignored_names": source.ignored_names}
    return ImageCache(folder=folder, fingerprint=source.fingerprint, enlarged=counts, crop_margin=crop_margin, **index)


def packed_size(width: int, height: int, crop_margin: float) -> tuple[int, int]:
    """(width, height) of a packed level."""
    return round(width * crop_margin), round(height * crop_margin)


def _pack_resolutions(
    source: Source,
    folder: Path,
    sizes: list[tuple[int, int, int]],
    fit: str,
    index: dict | None,
    num_workers: int | None,
    progress: bool,
) -> dict:
    """Writes the levels `sizes`, packed sizes, and the index if it is None; returns the index."""
    kept = set(source.names if index is None else index["names"])
    numbers = [number for number, name in enumerate(source.names) if name in kept]
    unfinished = [cache_files.PartialFile(folder, *size) for size in sizes]
    cache_files.make_folder(folder)
    with cache_files.disk_errors(folder, sum(width * height * 3 for _, width, height in sizes) * len(numbers)):
        try:
            for level in unfinished:
                level.begin(len(numbers))
            targets = [workers.Target(level.beside, level.offset, level.width, level.height) for level in unfinished]
            readings = workers.run(workers.Job(source, fit, targets), list(enumerate(numbers)), num_workers, progress)
            bad = {numbers[row]: reason for row, reason, _ in readings if reason is not None}
            index = _index(source, bad) if index is None else _unchanged(source, index, bad)
            _finish(folder, unfinished, index, readings)
        finally:
            for level in unfinished:
                level.drop()
    return index


def _finish(
    folder: Path, unfinished: list[cache_files.PartialFile], index: dict, readings: list[workers.ReadResult]
) -> None:
    """Names the files, the index first: a level without it is never used."""
    good = [row for row, reason, _ in readings if reason is None]
    cache_files.write_json(folder / "index.json", index)
    for which, level in enumerate(unfinished):
        if len(good) < len(readings):
            level.keep_only(good)
        level.finish(sum(enlarged[which] for _, reason, enlarged in readings if reason is None))


def _index(source: Source, bad: dict[int, str]) -> dict:
    """What index.json holds. bad: number of the picture -> reason. Raises UserError when they are too many."""
    unreadable = [(source.names[number], reason) for number, reason in bad.items()]
    if len(bad) > MAX_UNREADABLE * len(source):
        raise UserError(f"{len(bad):,} of {len(source):,} pictures cannot be read: {_named(unreadable)}")
    good = [number for number in range(len(source)) if number not in bad]
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


def _tell(progress: bool, count: int, sizes: list[tuple[int, int, int]], seconds: float) -> None:
    if progress:
        names = ", ".join(str(res) for res, _, _ in sizes)
        print(f"packed {count:,} pictures at {names} px in {seconds:.1f} s", file=sys.stderr, flush=True)


def _named(unreadable: list[tuple[str, str]]) -> str:
    return _first([f"{plain(name)} ({plain(reason)})" for name, reason in unreadable[:3]], len(unreadable))


def _first(names: list[str], count: int) -> str:
    """The first names of `count`."""
    return ", ".join(names) + (" ..." if count > len(names) else "")


def _key(source: Source, sizes: list[tuple[int, int, int]], fit: str, crop_margin: float) -> str:
    aspects = {(width // gcd(width, height), height // gcd(width, height)) for _, width, height in sizes}
    if len(aspects) != 1:
        raise ValueError(f"the levels of a pack have one aspect, not {sorted(aspects)}")
    return digest([source.fingerprint, fit, str(float(crop_margin)), str(aspects), str(VERSION)])[:24]
