"""The class of each image: from its folder, or from the dataset.json that StyleGAN's tools write."""

import json
from collections.abc import Callable
from itertools import takewhile
from typing import NamedTuple

from pggan.errors import UserError, plain

DESCRIPTION = "dataset.json"


class Classes(NamedTuple):
    """labels: a class number for each image, or None without classes. names: of the classes. note: for the user, why
    the labels of a dataset.json are not used; empty if they are, or if there is none."""

    labels: list[int] | None
    names: list[str]
    note: str = ""


def description(files: set[str]) -> str | None:
    """The path of dataset.json among `files`: at the top, or in a folder that holds all files. None: there is none."""
    depths = zip(*(name.split("/")[:-1] for name in files), strict=False)
    shared = [parts[0] for parts in takewhile(lambda parts: len(set(parts)) == 1, depths)]
    paths = ("/".join([*shared[:depth], DESCRIPTION]) for depth in range(len(shared) + 1))
    return next((path for path in paths if path in files), None)


def classes(names: list[str], path: str | None, read: Callable[[str], bytes]) -> Classes:
    """names: relative paths; their folders are the classes if there is no dataset.json. path: of it, or None. read:
    gives the bytes of a path. A dataset.json that is damaged, or has no single class for each image, is left unused."""
    if path is None:
        return _numbered(_folder_classes(names))
    try:
        return _numbered(_described_classes(names, path, read))
    except (_NotUsed, UserError) as reason:
        return Classes(None, [], f"the labels in {plain(path)} are not used: {reason}")
    except Exception as error:  # reading, unpacking and parsing may raise nearly anything on damaged bytes
        return Classes(None, [], f"{plain(path)} is damaged and not used ({plain(error) or type(error).__name__})")


class _NotUsed(Exception):
    """The message says why."""


def _numbered(labels: list | None) -> Classes:
    if labels is None:
        return Classes(None, [])
    number = {label: place for place, label in enumerate(sorted(set(labels)))}
    return Classes([number[label] for label in labels], [str(label) for label in number])


def _folder_classes(names: list[str]) -> list[str] | None:
    """The name of each image's folder, at the first depth at which these differ; None if they differ at none."""
    folders = [name.split("/")[:-1] for name in names]
    depths = zip(*folders, strict=False)  # as deep as the shortest path
    return next((list(depth) for depth in depths if len(set(depth)) > 1), None)


def _described_classes(names: list[str], path: str, read: Callable[[str], bytes]) -> list[int] | None:
    """The labels of StyleGAN's dataset.json: {"labels": [[name, label], ...]}, or null for none.

    Names are relative to the folder of dataset.json. A label is a whole number, or a list with a single 1 among zeros.
    """
    content = json.loads(read(path))
    pairs = content.get("labels") if isinstance(content, dict) else None
    if not pairs:
        return None
    if not isinstance(pairs, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in pairs):
        raise _NotUsed("they are not in StyleGAN's format")
    folder, by_name = path.removesuffix(DESCRIPTION), {}
    for name, label in pairs:
        key, number = folder + normal(str(name)), _class_number(label)
        if by_name.setdefault(key, number) != number:
            raise _NotUsed(f"{plain(name)} has several")
    missing = next((name for name in names if name not in by_name), None)
    if missing:
        raise _NotUsed(f"{plain(missing)} has none")
    return [by_name[name] for name in names]


def _class_number(label: object) -> int:
    """Raises _NotUsed for anything but a class: several classes, none, a vector of other numbers."""
    if isinstance(label, list):
        if sorted(map(_whole, label)) != [0] * (len(label) - 1) + [1]:
            raise _NotUsed("they are vectors, not one class for each picture")
        return label.index(1)
    return _whole(label)


def _whole(number: object) -> int:
    is_whole = isinstance(number, int) or (isinstance(number, float) and number.is_integer())
    if isinstance(number, bool) or not is_whole:
        raise _NotUsed(f"{plain(number)[:40]} is not a whole number")
    return int(number)


def normal(name: str) -> str:
    """A path in a zip or in dataset.json with forward slashes, and without empty parts and `.`."""
    return "/".join(part for part in name.replace("\\", "/").split("/") if part not in ("", "."))
