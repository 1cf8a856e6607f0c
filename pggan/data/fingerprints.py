"""What the files of a folder hold: the sha256 of each, remembered so that a second start need not read them again.

A file is taken to hold what it held while its size and its time of change are what they were.
"""

import hashlib
import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SETTLED_NS = 2 * 10**9  # a file younger than this may change again without its time of change showing it


def digest(lines: list[str]) -> str:
    """sha256 of some lines of text (file names may hold bytes that are no UTF-8), as 64 hexadecimal digits."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def digests(root: Path, names: list[str], memory: Path | None) -> list[str]:
    """The sha256 of each of the files `names` below `root`, in their order; a file that cannot be opened says why.

    memory: the file in which the answers are remembered; None: all files are read each time.
    """
    known = _recall(memory) if memory else {}
    with ThreadPoolExecutor() as threads:  # hashing and reading leave Python's lock
        entries = list(threads.map(lambda name: _entry(root / name, known.get(name)), names))
    now = time.time_ns()
    settled = {name: entry for name, entry in zip(names, entries, strict=True) if now - entry[1] > SETTLED_NS}
    if memory and settled != known:
        _remember(memory, settled)
    return [entry[2] for entry in entries]


def _entry(path: Path, known: list | None) -> list:
    """[size in bytes, time of change in ns, sha256] of a file; `known` itself when the first two still hold."""
    try:
        status = path.stat()
        if known and known[:2] == [status.st_size, status.st_mtime_ns]:
            return known
        with path.open("rb") as file:
            return [status.st_size, status.st_mtime_ns, hashlib.file_digest(file, "sha256").hexdigest()]
    except OSError as error:
        return [0, time.time_ns(), f"cannot be opened: {error.strerror}"]  # too young to be remembered


def _recall(memory: Path) -> dict[str, list]:
    try:
        return json.loads(memory.read_text())
    except (OSError, ValueError):
        return {}


def _remember(memory: Path, entries: dict[str, list]) -> None:
    """Written beside and renamed. A full disk does no harm here: the files are then read again next time."""
    beside = memory.with_name(f"{memory.name}.{os.getpid()}.tmp")
    try:
        beside.write_text(json.dumps(entries))
        beside.replace(memory)
    except OSError:
        beside.unlink(missing_ok=True)
