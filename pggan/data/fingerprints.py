"""The sha256 of files, remembered so that a second start does not read them again.

A file counts as unchanged while its size and its time of change are the same.
"""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pggan.data.cache_files import read_json, write_json

SETTLED_NS = 2 * 10**9  # a younger file may change again within the resolution of its time of change


def digest(lines: list[str]) -> str:
    """sha256 of lines of text as 64 hexadecimal digits. File names in them may hold bytes that are not UTF-8."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def file_digests(root: Path, names: list[str], memory: Path | None) -> list[str]:
    """The sha256 of each file in `names` below `root`, or the reason why it cannot be opened.

    memory: the JSON file in which digests are remembered; with None, all files are read each time.
    """
    known = (read_json(memory) if memory else None) or {}
    with ThreadPoolExecutor() as threads:  # hashing and reading release Python's lock
        entries = list(threads.map(lambda name: _entry(root / name, known.get(name)), names))
    now = time.time_ns()
    settled = {name: entry for name, entry in zip(names, entries, strict=True) if now - entry[1] > SETTLED_NS}
    if memory and settled != known:
        with suppress(OSError):  # without the memory, the files are read again next time
            write_json(memory, settled)
    return [entry[2] for entry in entries]


def _entry(path: Path, known: list | None) -> list:
    """[size in bytes, time of change in ns, sha256] of a file; `known` if size and time are the same."""
    try:
        status = path.stat()
        if known and known[:2] == [status.st_size, status.st_mtime_ns]:
            return known
        with path.open("rb") as file:
            return [status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]
    except OSError as error:
        return [0, time.time_ns(), f"cannot be opened: {error.strerror}"]  # too young to be remembered
