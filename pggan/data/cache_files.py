"""The files of an ImageCache. Each is written under a temporary name and renamed when it is complete."""

import errno
import json
import shutil
import time
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from pggan import system
from pggan.errors import UserError, disk_full

STALE_SECONDS = 600  # packing writes all the time: an older temporary file was left by a process that was killed


class PartialFile:
    """The file of one resolution while it is written: uint8 rows [height, width, 3] from byte `offset` of `path`."""

    def __init__(self, folder: Path, res: int, width: int, height: int):
        self.folder, self.res, self.width, self.height = folder, res, width, height
        self.name = f"{res:04d}-{uuid.uuid4().hex}"
        self.path = folder / f"{self.name}.tmp"

    def begin(self, count: int) -> None:
        """Makes the file, with room for `count` images."""
        shape = (count, self.height, self.width, 3)
        self.offset = np.lib.format.open_memmap(self.path, "w+", np.uint8, shape).offset

    def keep_only(self, rows: list[int]) -> None:
        """Continues with a new file that has only these rows."""
        images = np.load(self.path, mmap_mode="r")
        self.path = self.folder / f"{self.name}.kept.tmp"
        self.begin(len(rows))
        with self.path.open("r+b") as file:
            file.seek(self.offset)
            for row in rows:
                file.write(images[row])

    def finish(self, enlarged: int) -> None:
        """Gives the complete file its final name. enlarged: how many of the images were enlarged."""
        system.flush_to_disk(self.path)
        facts = {"enlarged": enlarged, "crc32": _crc32(self.path)}
        self.path.replace(resolution_file(self.folder, self.res))
        _write_facts(self.folder, self.res, facts)

    def remove_temporary(self) -> None:
        for path in self.folder.glob(f"{self.name}*"):
            path.unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Removes temporary files that killed processes left; each may be as large as a whole resolution."""
    for path in folder.glob("*.tmp"):
        with suppress(OSError):  # another process removed it first
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


@contextmanager
def writing(folder: Path, needed: int) -> Iterator[None]:
    """Makes the folder of an ImageCache and tells git to ignore it.

    Raises UserError when the disk has fewer than `needed` bytes free, and when it fills up or fails within.
    """
    try:
        folder.mkdir(exist_ok=True)
        (folder.parent / ".gitignore").write_text("*\n")
        if shutil.disk_usage(folder).free < needed:
            raise OSError(errno.ENOSPC, "No space left on device")
        yield
    except OSError as error:
        reason = f"packed pictures cannot be written to {folder}: {error.strerror}"
        if disk_full(error):
            free = f"{folder} has {shutil.disk_usage(folder.parent).free:,} free"
            reason = f"packed pictures need {needed:,} bytes and {free}: make room or choose another --cache"
        raise UserError(reason) from None


def resolution_file(folder: Path, res: int, ending: str = "npy") -> Path:
    return folder / f"{res:04d}.{ending}"


def is_complete(folder: Path, res: int, shape: tuple[int, ...]) -> bool:
    """Whether the files of a resolution are there, with an array of `shape` [N, H, W, 3] that was not damaged since.

    The checksum is computed only if the file was touched since: copied, or written to.
    """
    path = resolution_file(folder, res)
    try:
        array, facts = np.load(path, mmap_mode="r"), read_facts(folder, res)
        if facts is None or array.shape != shape or array.dtype != np.uint8:
            return False
        if facts["stamp"] != stamp(path):
            if facts["crc32"] != _crc32(path):
                return False
            with suppress(OSError):  # without a stamp, the checksum is computed again next time
                _write_facts(folder, res, facts)
    except (OSError, ValueError, EOFError):
        return False
    return True


def read_facts(folder: Path, res: int) -> dict | None:
    """What was noted about a resolution: enlarged (how many images were), crc32 and stamp of its file; or None."""
    facts = read_json(resolution_file(folder, res, "json"))
    good = isinstance(facts, dict) and all(isinstance(facts.get(name), int) for name in ("enlarged", "crc32"))
    return facts if good and isinstance(facts.get("stamp"), list) else None


def _write_facts(folder: Path, res: int, facts: dict) -> None:
    write_json(resolution_file(folder, res, "json"), {**facts, "stamp": stamp(resolution_file(folder, res))})


def stamp(path: Path) -> list[int]:
    """Numbers that change when a file is written to or replaced."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _crc32(path: Path) -> int:
    total = 0
    with path.open("rb") as file:
        while block := file.read(2**24):
            total = zlib.crc32(block, total)
    return total


def read_json(path: Path) -> dict | None:
    """The content of a JSON file; None when it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None


def write_json(path: Path, content: dict) -> None:
    """Replaces a JSON file by a complete new one. Raises OSError."""
    with system.replacing(path, unique=True) as temporary:
        temporary.write_text(json.dumps(content))
