"""The sha256 of files, remembered so that a second start does not read them again.

A file counts as unchanged while its size, its number on the disk and both of its times are the same. One of the times
(st_ctime) cannot be set: unpacking other files with the old date over it still changes that one.
"""

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from pggan.data.cache_files import read_json, stamp, write_json

SETTLED_NS = 2 * 10**9  # a younger file may change again within the resolution of its times


def digest(lines: list[str]) -> str:
    """sha256 of lines of text as 64 hexadecimal digits. File names in them may hold bytes that are not UTF-8."""
    return hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def file_digests(root: Path, names: list[str], memory: Path | None) -> list[str]:
    """The sha256 of each file in `names` below `root`, or the reason why it cannot be opened.

    memory: the JSON file in which digests are remembered; with None, all files are read each time.
    """
    known = read_json(memory) if memory else None
    known = known if isinstance(known, dict) else {}
    with ThreadPoolExecutor() as threads:  # hashing and reading release Python's lock
        entries = list(threads.map(lambda name: _entry(root / name, known.get(name)), names))
    now = time.time_ns()
    entered = zip(names, entries, strict=True)
    settled = {name: entry for name, entry in entered if now - max(entry[1:3]) > SETTLED_NS}
    if memory and settled != known:
        with suppress(OSError):  # without the memory, the files are read again next time
            write_json(memory, settled)
    return [entry[-1] for entry in entries]


def _entry(path: Path, known: list | None) -> list:
    """[size in bytes, times in ns of writing and of any change, number, sha256] of a file; `known` if the first four
    are the same."""
    try:
        facts = stamp(path)
        if isinstance(known, list) and known[:-1] == facts and isinstance(known[-1], str):
            return known
        with path.open("rb") as file:
            return [*facts, hashlib.file_digest(file, "sha256").hexdigest()]
    except OSError as error:
        now = time.time_ns()
        return [0, now, now, 0, f"cannot be opened: {error.strerror}"]  # too young to be remembered
