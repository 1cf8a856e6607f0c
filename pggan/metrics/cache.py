"""A cache of arrays that were measured on a set of images. The name of a file depends on all that the arrays depend on.

A file is used only if it is undamaged and was written under the same key; otherwise the arrays are measured again.
Users choose no names, so a figure cannot come from other images.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from pggan import system
from pggan.data import cache_files
from pggan.data.fingerprints import digest
from pggan.data.sources import user_cache
from pggan.errors import plain

VERSION = 1  # raise it when the arrays under the same key change
KEY = "key"  # the name under which a file has its key and the names of its arrays
PREFIX = "array/"

Arrays = dict[str, np.ndarray]


def statistics_folder(chosen: str | Path | None = None) -> Path:
    """The folder of the cache: in the folder that the user chose, or else in the user's cache folder."""
    return (Path(os.path.expanduser(chosen)) if chosen else user_cache()) / "statistics"


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
        folder.mkdir(parents=True, exist_ok=True)
        cache_files.sweep(folder)
        with system.replacing(path, unique=True) as temporary:
            with temporary.open("wb") as file:  # savez would add .npz to a path
                np.savez(file, **{KEY: np.array([text, *arrays])}, **{PREFIX + name: arrays[name] for name in arrays})
            system.flush_to_disk(temporary)
    except OSError as error:
        print(f"not remembered for next time: {plain(error)}", file=sys.stderr, flush=True)
    return arrays


def _recall(path: Path, text: str) -> Arrays | None:
    """The arrays of an undamaged file with the key `text`, or else None."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
            known, *names = content[KEY].tolist()
            damaged = content.zip.testzip()  # compares all checksums
            return {name: content[PREFIX + name] for name in names} if known == text and not damaged else None
    except Exception:  # damaged bytes raise nearly anything
        return None


def to_arrays(value: object, name: str = "value") -> Arrays:
    """The arrays and numbers in `value` by their paths. It consists of dataclasses, dicts, arrays, numbers and None."""
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    if isinstance(value, dict):
        return {path: part for key, item in value.items() for path, part in to_arrays(item, f"{name}/{key}").items()}
    return {} if value is None else {name: np.asarray(value)}


def from_arrays(kind: type, arrays: Arrays, name: str = "value") -> Any:
    """The value of type `kind` that `to_arrays` took apart, bit for bit. Other arrays may be among `arrays`."""
    if is_dataclass(kind):
        types = get_type_hints(kind)
        paths = {field.name: f"{name}/{field.name}" for field in fields(kind)}
        return kind(**{field: from_arrays(types[field], arrays, path) for field, path in paths.items()})
    if get_origin(kind) is dict:
        keys = {path.removeprefix(f"{name}/").partition("/")[0]: None for path in arrays if path.startswith(f"{name}/")}
        return {key: from_arrays(get_args(kind)[1], arrays, f"{name}/{key}") for key in keys}
    return kind(arrays[name]) if kind in (int, float) else arrays.get(name)
