"""The class of each image: from its folder, or from the dataset.json that StyleGAN's tools write."""

import json

from pggan.data.reading import plain
from pggan.errors import UserError


def labels(spec: str, names: list[str], described: bytes | None) -> tuple[list[int] | None, list[str]]:
    """(labels, label names): a class number for each image, or None without classes; and the name of each class.

    names: relative paths; their folders are the classes if there is no dataset.json. described: its content, or None.
    Raises UserError when dataset.json is malformed or lacks an image.
    """
    classes = _folder_classes(names) if described is None else _described_classes(spec, names, described)
    if classes is None:
        return None, []
    number = {label: place for place, label in enumerate(sorted(set(classes)))}
    return [number[label] for label in classes], [str(label) for label in number]


def _folder_classes(names: list[str]) -> list[str] | None:
    """The name of each image's folder, at the first depth at which these differ; None if they differ at none."""
    folders = [name.split("/")[:-1] for name in names]
    depths = zip(*folders, strict=False)  # as deep as the shortest path
    return next((list(depth) for depth in depths if len(set(depth)) > 1), None)


def _described_classes(spec: str, names: list[str], described: bytes) -> list | None:
    """The labels of StyleGAN's dataset.json: {"labels": [[name, label], ...]}, or null for none."""
    try:
        content = json.loads(described)
        pairs = content.get("labels") if isinstance(content, dict) else None
        by_name = {name: label.index(1) if isinstance(label, list) else int(label) for name, label in pairs or []}
        return [by_name[name] for name in names] if by_name else None
    except KeyError as error:
        raise UserError(f"dataset.json in {plain(spec)} has no label for {plain(error.args[0])}") from None
    except (ValueError, TypeError, OverflowError, RecursionError):
        raise UserError(f"dataset.json in {plain(spec)} is not in StyleGAN's format: repair or remove it") from None
