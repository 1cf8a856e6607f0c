"""Decodes and resizes all images once: one uint8 array [N, H, W, 3] for each resolution, in files to be mapped.

An ImageCache is a folder, named after all that decides its pixels: the source's fingerprint, fit, margin, aspect ratio
and VERSION. In it, index.json names the images, 0256.npy holds the images at 256 px, and 0256.json counts the
enlarged ones. A file gets its name when it is complete. So an interrupted packing leaves nothing that is used later,
and two processes that pack at the same time only do the work twice.
"""

import sys
import time
from dataclasses import dataclass, replace
from math import gcd
from pathlib import Path

import numpy as np

from pggan.data import cache_files, workers
from pggan.data import index as indexes
from pggan.data.fingerprints import digest
from pggan.data.sources import Source, cache_folder
from pggan.errors import UserError, plain, refuse_if

VERSION = 1  # raise it when any packed pixel changes
DARK = 64  # of 255: if no pixel of any image is brighter, their values are probably not scaled as expected


@dataclass(frozen=True)
class ImageCache:
    """The packed images of a source.

    names, labels (or None): of the N readable images, in the source's order. label_note: as in Source. unreadable:
    (name, reason) of the others. brightest: of all pixels, 0 to 255. ignored: number of files that are no images;
    ignored_names: the first few. enlarged: {resolution: number of images that were smaller}. crop_margin: stored width
    and height over those of the resolution, for random crops.
    """

    folder: Path
    fingerprint: str
    names: list[str]
    labels: list[int] | None
    label_names: list[str]
    unreadable: list[tuple[str, str]]
    brightest: int
    label_note: str
    ignored: int
    ignored_names: tuple[str, ...]
    enlarged: dict[int, int]
    crop_margin: float

    def __len__(self) -> int:
        return len(self.names)

    def images(self, res: int) -> np.ndarray:
        """uint8 [N, H, W, 3], mapped read-only: a writable map would have to fit into memory and swap.

        Raises UserError when the file was removed since, or cannot be mapped.
        """
        try:
            return np.load(cache_files.resolution_file(self.folder, res), mmap_mode="r")
        except FileNotFoundError as error:
            raise UserError(f"packed pictures are gone ({plain(error)}): start again to pack them") from None
        except OSError as error:
            reason = error.strerror or plain(error)
            raise UserError(f"the packed pictures in {self.folder} cannot be read: {reason}") from None

    def notes(self) -> list[str]:
        """Lines for the user about the images."""
        classes = f" in {len(self.label_names)} classes" if self.labels else ""
        lines = [f"{len(self):,} pictures{classes}, packed in {plain(self.folder)}"]
        lines += [self.label_note] if self.label_note else []
        if self.ignored:
            names = indexes.first(map(plain, self.ignored_names), self.ignored)
            lines.append(f"{self.ignored:,} other files are not pictures: {names}")
        if self.unreadable:
            names = indexes.with_reasons(self.unreadable)
            lines.append(f"{len(self.unreadable):,} cannot be read and are left out: {names}; config.json lists all")
        if self.brightest <= DARK:
            scale = "if they have 16 bits or floating point, scale them so that white is 65535 or 1.0"
            lines.append(f"all pictures are dark: no pixel is brighter than {self.brightest} of 255; {scale}")
        res, count = max(self.enlarged.items())
        if count:
            size = round(res * self.crop_margin)
            lines.append(f"{count:,} of {len(self):,} pictures are smaller than {size} px and were enlarged")
        return lines


def pack(
    source: Source,
    sizes: list[tuple[int, int, int]],
    fit: str = "crop",
    crop_margin: float = 1.0,
    num_workers: int | None = None,
    progress: bool = True,
) -> ImageCache:
    """The cache with the images of `source` at each (resolution, width, height) of `sizes`; packs what is missing.

    sizes: all of the same aspect ratio. fit: see `reading.fit`. crop_margin: 1, or 1.25 for random crops. num_workers:
    processes, by default one for each core; few images are read without other processes.
    Raises UserError when over a tenth of the images cannot be read, when one is a decompression bomb, and when no
    folder can be written or its disk is too small.
    """
    aspects = {(width // gcd(width, height), height // gcd(width, height)) for _, width, height in sizes}
    if len(aspects) != 1:
        raise ValueError(f"the resolutions of a cache have one aspect ratio, not {sorted(aspects)}")
    key = digest([source.fingerprint, fit, str(float(crop_margin)), str(aspects), str(VERSION)])[:24]
    folder = cache_folder(source.caches) / key
    index = indexes.read(folder)
    packed = [(res, round(width * crop_margin), round(height * crop_margin)) for res, width, height in sizes]
    missing = [
        (res, width, height)
        for res, width, height in packed
        if index is None or not cache_files.is_complete(folder, res, (len(index["names"]), height, width, 3))
    ]
    cache_files.sweep(folder)
    if missing:
        started = time.monotonic()
        job = workers.Job(source, fit, [cache_files.PartialFile(folder, *size) for size in missing])
        index = _pack_missing(job, folder, index, num_workers, progress)
        if progress:
            names, seconds = ", ".join(str(res) for res, _, _ in missing), time.monotonic() - started
            print(f"packed {len(index['names']):,} pictures at {names} px in {seconds:.1f} s", file=sys.stderr)
    enlarged = {res: cache_files.read_facts(folder, res)["enlarged"] for res, _, _ in sizes}
    kept = {name: index[name] for name in ("fingerprint", "names", "labels", "label_names", "brightest")}
    kept |= {name: getattr(source, name) for name in ("label_note", "ignored", "ignored_names")}
    unreadable = [(name, reason) for name, reason in index["unreadable"]]
    return ImageCache(folder, unreadable=unreadable, **kept, enlarged=enlarged, crop_margin=crop_margin)


def _pack_missing(job: workers.Job, folder: Path, index: dict | None, num_workers: int | None, progress: bool) -> dict:
    """Writes the resolutions of `job.files`, and the index if it is None; returns the index."""
    source, files = job.source, job.files
    kept = set(source.names if index is None else index["names"])
    numbers = [number for number, name in enumerate(source.names) if name in kept]
    before = source.stamp()
    with cache_files.writing(folder, sum(file.width * file.height * 3 for file in files) * len(numbers)):
        try:
            for file in files:
                file.begin(len(numbers))
            results = workers.run(job, list(enumerate(numbers)), num_workers, progress)
            changed = source.stamp() != before or replace(source).fingerprint != source.fingerprint  # of a fresh copy
            refuse_if(changed, f"the pictures in {plain(source.spec)} changed while they were read: start again")
            errors = {numbers[result.row]: result.error for result in results if result.error}
            index = indexes.contents(source, index, errors, max(result.brightest for result in results))
            cache_files.write_json(folder / "index.json", index)  # first: files without an index are never used
            good = [result for result in results if not result.error]
            for place, file in enumerate(files):
                if len(good) < len(results):
                    file.keep_only([result.row for result in good])
                file.finish(sum(result.enlarged[place] for result in good))
        finally:
            for file in files:
                file.remove_temporary()
    return index
