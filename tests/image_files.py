"""Folders and zips of images for the tests of the data."""

import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from pggan.data import packing, sources

SIZES = [(8, 8, 8), (16, 16, 16)]


def save(path: Path, seed: int = 0, size: tuple[int, int] = (40, 30)) -> None:
    """Writes an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def spoil(path: Path) -> None:
    """Cuts a file short."""
    path.write_bytes(path.read_bytes()[:200])


def zipped(path: Path, files: dict[str, bytes], how=zipfile.ZIP_STORED, encrypted: tuple[str, ...] = ()) -> Path:
    """A zip with these files; the `encrypted` ones are only marked so."""
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
        for name in encrypted:
            archive.getinfo(name).flag_bits |= sources.ENCRYPTED
    return path


def opened(place, cache: Path | None = None) -> sources.Source:
    return sources.open_source(str(place), 10, cache)


def packed(place, sizes=SIZES, cache: Path | None = None, **options) -> packing.ImageCache:
    return packing.pack(sources.open_source(str(place), 12, cache), sizes, **{"progress": False, **options})
