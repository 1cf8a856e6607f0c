"""The files of a pack, written so that none is ever half: beside under a name of their own, and renamed when whole."""

import contextlib
import errno
import json
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from pggan import system
from pggan.errors import UserError

STALE_SECONDS = 600  # a packing writes all the time: what is older was left by one that was killed


class PartialFile:
    """One resolution while it is being written: uint8 rows [height, width, 3] from byte `offset` of file `beside`."""

    def __init__(self, folder: Path, res: int, width: int, height: int):
        self.folder, self.res, self.width, self.height = folder, res, width, height
        self.beside = folder / f"{res:04d}-{uuid.uuid4().hex}.tmp"

    def begin(self, count: int) -> None:
        """Makes the file, for `count` pictures, with no more than its header written."""
        array = np.lib.format.open_memmap(self.beside, "w+", np.uint8, (count, self.height, self.width, 3))
        self.offset = array.offset

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

    def drop(self) -> None:
        self.beside.unlink(missing_ok=True)

    def finish(self, enlarged: int) -> None:
        """Gives the file its name, now that it is whole. enlarged: how many pictures were."""
        system.flush_to_disk(self.beside)
        write_json(resolution_file(self.folder, self.res, "json"), {"enlarged": enlarged})
        self.beside.replace(resolution_file(self.folder, self.res))


def make_folder(folder: Path) -> None:
    """The folder of a pack; git is told to leave the cache alone."""
    try:
        folder.mkdir(exist_ok=True)
        (folder.parent / ".gitignore").write_text("*\n")
    except OSError as error:
        raise UserError(f"packed pictures cannot be written to {folder}: {error.strerror}") from None


def sweep(folder: Path) -> None:
    """Removes what packings that were killed left in the folder: each a whole level's worth of disk."""
    for path in folder.glob("*.tmp"):
        with contextlib.suppress(OSError):  # another process was quicker
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


@contextmanager
def disk_errors(folder: Path, needed: int) -> Iterator[None]:
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


def resolution_file(folder: Path, res: int, ending: str = "npy") -> Path:
    return folder / f"{res:04d}.{ending}"


def is_whole(folder: Path, res: int, shape: tuple[int, ...]) -> bool:
    """Whether the level is there, of the shape [N, H, W, 3], with its count of enlarged pictures."""
    try:
        array = np.load(resolution_file(folder, res), mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return array.shape == shape and read_json(resolution_file(folder, res, "json")) is not None


def read_json(path: Path) -> dict | None:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError):
        return None


def write_json(path: Path, content: dict) -> None:
    beside = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    beside.write_text(json.dumps(content))
    beside.replace(path)
