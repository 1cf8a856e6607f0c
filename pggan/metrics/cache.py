"""What was measured of a set of pictures, remembered: a file named by all that the figures depend on.

A file is used only when it is whole and was made of the very same key; otherwise what it holds is measured again. There
are no names that a user chooses, so that no figure can come from other pictures than those that were named.
"""

import contextlib
import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pggan.data import cache_files
from pggan.data.fingerprints import digest
from pggan.data.reading import plain
from pggan.data.sources import open_source

VERSION = 1  # raise it when what is kept under the same key changes
KEY, CHECKSUM, PREFIX = "key", "sha256", "array/"

Arrays = dict[str, np.ndarray]


def statistics_folder(chosen: str | Path | None = None) -> Path:
    """Where arrays are remembered: in the folder that the user says, or else in the user's cache folder."""
    return open_source("builtin", 0, chosen).caches[-1] / "statistics"


def remembered(key: dict, make: Callable[[], Arrays], folder: Path | None) -> Arrays:
    """What make() gives, from the file of an earlier time if there is one: the same arrays, bit for bit.

    key: all that the arrays depend on, as JSON can write it. make: arrays of plain numbers or text by name.
    folder: see `statistics_folder`; None: nothing is remembered. Where it cannot be written, that is said in one line.
    Raises TypeError for a key or an array that cannot be written down, and whatever make raises.
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
        raise TypeError("only arrays of numbers or text can be remembered")
    try:
        _remember(path, text, arrays)
    except OSError as error:
        print(f"not remembered for next time: {plain(error)}", file=sys.stderr, flush=True)
    return arrays


def _recall(path: Path, text: str) -> Arrays | None:
    """The arrays of a file that is whole and of the key `text`, or else None."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            whole = {name: content[name] for name in content.files}
        arrays = {name.removeprefix(PREFIX): array for name, array in whole.items() if name.startswith(PREFIX)}
        good = whole[KEY].item() == text and whole[CHECKSUM].item() == checksum(text, arrays)
    except Exception:  # damaged bytes raise nearly anything
        return None
    return arrays if good else None


def _remember(path: Path, text: str, arrays: Arrays) -> None:
    """Written beside and renamed. Raises OSError; what stood at `path` then still stands."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cache_files.sweep(path.parent)
    beside = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.tmp")
    named = {PREFIX + name: array for name, array in arrays.items()}
    try:
        with beside.open("wb") as file:
            np.savez(file, **{KEY: np.array(text), CHECKSUM: np.array(checksum(text, arrays))}, **named)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        with contextlib.suppress(OSError):
            beside.unlink(missing_ok=True)


def checksum(text: str, arrays: Arrays) -> str:
    """sha256 over a key and the names, types, shapes and bytes of arrays, as 64 hexadecimal digits."""
    total = hashlib.sha256(text.encode())
    for name in sorted(arrays):
        array = np.asarray(arrays[name], order="C")
        total.update(f"\n{name} {array.dtype.str} {array.shape}\n".encode())
        total.update(array.reshape(-1).view(np.uint8).data if array.size else b"")
    return total.hexdigest()
