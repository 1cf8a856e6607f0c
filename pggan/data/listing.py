"""Which files of a folder or a zip may be pictures to learn from."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from pggan.errors import UserError, plain

IMAGE_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff")
IMAGE_ENDINGS += (".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif", ".heic", ".heif")
NEVER_LISTED = frozenset(["__macosx", "thumbs.db", "desktop.ini"])
OUTPUT_MARK = ".made-by-pggan"  # a file in a folder of samples: they are never taken for pictures to learn from


def walk(root: Path) -> Iterator[str]:
    """Relative paths of the visible files below `root`. Links are followed; each folder is entered once.

    A folder that this project wrote is not entered: its name is given in their place.
    """

    def refuse(error: OSError):
        raise UserError(f"{plain(error.filename)} cannot be listed: {error.strerror}")

    entered = set()
    for folder, folders, files in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if _is_ours(files) and Path(folder) != root:
            folders[:] = []
            yield f"{Path(folder).relative_to(root).as_posix()}/ (made by pggan)"
            continue
        folders[:] = [] if real in entered else sorted(filter(is_listed, folders))
        if real not in entered:
            for path in (Path(folder, name) for name in filter(is_listed, files)):
                if path.is_file() or not path.exists():  # no pipe, socket or device, which might never end
                    yield path.relative_to(root).as_posix()
        entered.add(real)


def _is_ours(files: list[str]) -> bool:
    """Whether a folder with these files is a run, or holds samples that a tool has drawn."""
    return OUTPUT_MARK in files or {"config.json", "growth.json"} <= set(files)


def is_listed(name: str) -> bool:
    return not name.startswith(".") and name.lower() not in NEVER_LISTED


def leads_out(name: str) -> bool:
    """Whether unpacking to this path could write outside the folder of the zip."""
    parts = re.split(r"[\\/]", name)
    return ".." in parts or parts[0] == "" or re.match(r"[A-Za-z]:([\\/]|$)", name) is not None
