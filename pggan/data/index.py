"""index.json of an ImageCache: its images, their classes, those that cannot be read, and a digest of each."""

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

from pggan.data import cache_files
from pggan.data.fingerprints import digest
from pggan.data.reading import Unreadable
from pggan.data.sources import Source
from pggan.errors import plain, refuse_if

MAX_UNREADABLE = 0.1  # of the image files; with more of them, something is wrong with the data


def changed_since(source: Source, fingerprint: str, left_out: list[str]) -> list[str] | None:
    """The images that are not as they were in a source with this fingerprint: [] if it is the same, None if unknown.

    left_out: the names that could not be read then. Which images changed is known if these were packed in the same
    cache folder. An image that is new but cannot be read does not count.
    """
    if fingerprint in (source.fingerprint, source.fingerprint_without(set(left_out))):
        return []
    before = next((index for index in _all_indexes(source) if index["fingerprint"] == fingerprint), None)
    if before is None:
        return None
    then, now = dict(zip(before["names"], before["digests"], strict=True)), _digests(source)
    differing = sorted(name for name in then | now if then.get(name) != now.get(name))
    return [name for name in differing if name in then or _is_readable(source, name)]


def _is_readable(source: Source, name: str) -> bool:
    try:
        source.pyramid(source.names.index(name), [(1, 1)], "stretch")
    except Unreadable:
        return False
    return True


def _digests(source: Source) -> dict[str, str]:
    """{name: a digest of the image and its label}"""
    labels = source.labels or [None] * len(source)
    lines = source.fingerprint_lines()
    lines = lines if len(lines) == len(source) else lines * len(source)
    numbered = zip(source.names, lines, labels, strict=True)
    return {
        name: digest([line, "" if label is None else source.label_names[label]])[:16] for name, line, label in numbered
    }


def _all_indexes(source: Source) -> Iterator[dict]:
    paths = (path for folder in source.caches for path in sorted(folder.glob("*/index.json")))
    return (index for path in paths if (index := read(path.parent)))


def read(folder: Path) -> dict | None:
    """The content of index.json; None when it is missing, damaged, or of another version."""
    index = cache_files.read_json(folder / "index.json")
    if not isinstance(index, dict):
        return None
    lists = [index.get(name) for name in ("names", "digests", "label_names", "unreadable")]
    if not all(isinstance(values, list) for values in lists):
        return None
    names, digests, label_names, unreadable = lists
    labels = index.get("labels")
    good = [
        all(isinstance(text, str) for text in [*names, *digests, *label_names, index.get("fingerprint")]),
        all(isinstance(item, list) and [type(text) for text in item] == [str, str] for item in unreadable),
        len(names) == len(digests) > 0 and isinstance(index.get("brightest"), int),
        labels is None or (isinstance(labels, list) and len(labels) == len(names)),
        all(isinstance(label, int) and 0 <= label < len(label_names) for label in labels or []),
    ]
    return index if all(good) else None


def contents(source: Source, old: dict | None, errors: dict[int, str], brightest: int) -> dict:
    """The content of index.json. old: before, or None. errors: {number of an image: the reason why it cannot be read}.
    brightest: of all pixels.

    Raises UserError when too many images cannot be read, and when one in the old index cannot be read any more.
    """
    unreadable = sorted((source.names[number], reason) for number, reason in errors.items())
    if old is not None:
        reasons = with_reasons(unreadable)
        refuse_if(errors, f"{len(errors):,} pictures could be read before and now cannot: {reasons}")
        return old
    too_many = len(errors) > MAX_UNREADABLE * len(source)
    refuse_if(too_many, f"{len(errors):,} of {len(source):,} pictures cannot be read: {_by_reason(unreadable)}")
    good = [number for number in range(len(source)) if number not in errors]
    digests = _digests(source)
    return {
        "fingerprint": source.fingerprint_without({name for name, _ in unreadable}),
        "names": [source.names[number] for number in good],
        "digests": [digests[source.names[number]] for number in good],
        "labels": None if source.labels is None else [source.labels[number] for number in good],
        "label_names": source.label_names,
        "unreadable": unreadable,
        "brightest": brightest,
    }


def _by_reason(unreadable: list[tuple[str, str]]) -> str:
    """How many images cannot be read for which reason, with one of each as an example, the most frequent first."""
    kinds: dict[str, list[tuple[str, str]]] = {}
    for name, reason in unreadable:
        kinds.setdefault(re.sub(r"\d+", "0", reason), []).append((name, reason))
    most = sorted(kinds.values(), key=len, reverse=True)
    return "; ".join(f"{len(kind):,} such as {plain(kind[0][0])} ({plain(kind[0][1])})" for kind in most[:3])


def with_reasons(unreadable: list[tuple[str, str]]) -> str:
    return first((f"{plain(name)} ({plain(reason)})" for name, reason in unreadable), len(unreadable))


def first(names: Iterable[str], count: int) -> str:
    """The first three of `count` names."""
    return ", ".join(islice(names, 3)) + (" ..." if count > 3 else "")
