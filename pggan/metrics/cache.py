"""A cache of arrays that were measured on a set of images: a file is named by everything the arrays depend on.

A file is used only if it is complete and was written under the same key; otherwise the arrays are measured again. Users
choose no names, so a figure cannot come from other images.
"""

import hashlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pggan import system
from pggan.data import cache_files
from pggan.data.fingerprints import digest
from pggan.data.reading import plain
from pggan.data.sources import open_source

VERSION = 1  # raise it when the arrays under the same key change
KEY, CHECKSUM, PREFIX = "key", "sha256", "array/"

Arrays = dict[str, np.ndarray]


def statistics_folder(chosen: str | Path | None = None) -> Path:
    """The folder of the cache: in the folder that the user chose, or else in the user's cache folder."""
    return open_source("builtin", 0, chosen).caches[-1] / "statistics"


def remembered(key: dict, make: Callable[[], Arrays], folder: Path | None) -> Arrays:
    """The arrays that make() returns, from the cache if they are there: the same, bit for bit.

    key: everything the arrays depend on, as values for JSON. make: returns arrays of numbers or text by name. folder:
    see `statistics_folder`; None: no cache. If the folder cannot be written to, one line on stderr says so. Raises
    TypeError for a key or an array that cannot be stored, and whatever make raises.
    """
    if folder is None:
        return make()
    text = json.dumps({"version": VERSION, **key}, sort_keys=True)
    path = folder / f"{digest([text])[:32]}.npz"
    found = _recall(path, text)
    if found is not None:
        return found
    arrays = make()
    if any(array.dtype.hasobject for array in arrays.values()):
        raise TypeError("only arrays of numbers or text can be cached")
    try:
        _remember(path, text, arrays)
    except OSError as error:
        print(f"not remembered for next time: {plain(error)}", file=sys.stderr, flush=True)
    return arrays


def _recall(path: Path, text: str) -> Arrays | None:
    """The arrays of a complete file with the key `text`, or else None."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            whole = {name: content[name] for name in content.files}
        arrays = {name.removeprefix(PREFIX): array for name, array in whole.items() if name.startswith(PREFIX)}
        good = whole[KEY].item() == text and whole[CHECKSUM].item() == checksum(text, arrays)
    except Exception:  # damaged bytes raise nearly anything
        return None
    return arrays if good else None


def _remember(path: Path, text: str, arrays: Arrays) -> None:
    """Writes the file. Raises OSError, and then leaves `path` unchanged."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cache_files.sweep(path.parent)
    named = {PREFIX + name: array for name, array in arrays.items()}
    with system.replacing(path, unique=True) as temporary:
        with temporary.open("wb") as file:
            np.savez(file, **{KEY: np.array(text), CHECKSUM: np.array(checksum(text, arrays))}, **named)
        system.flush_to_disk(temporary)


def checksum(text: str, arrays: Arrays) -> str:
    """The sha256 of a key and of the names, types, shapes and bytes of arrays, 64 hexadecimal digits."""
    total = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return total.hexdigest()
