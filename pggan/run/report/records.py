"""The records of a run as columns, and curves with fewer points."""

import json
import math
from pathlib import Path

import numpy as np

MAX_POINTS = 1500  # of a curve on the page


def read_records(path: Path) -> dict[str, np.ndarray]:
    """The columns of metrics.jsonl: {key: float64 [records]} in the order of nimg, kimg included.

    NaN where a record has no such key. Skips lines that are no record, and a last line that is not complete.
    """
    records, reached = [], -math.inf
    for record in map(_parsed, path.read_bytes().split(b"\n")[:-1] if path.is_file() else []):
        nimg = record.get("nimg", math.nan)
        if not math.isfinite(nimg):
            continue
        if "growth/res" in record:  # a record of training; evaluations may come in any order
            if nimg <= reached:  # after a rollback the records from here on are made again
                records = [
                    old for old in records if old["nimg"] < nimg or ("growth/res" not in old and old["nimg"] == nimg)
                ]
            reached = nimg
        records.append(record)
    records.sort(key=lambda record: record["nimg"])
    keys = dict.fromkeys(key for record in records for key in record) or ["nimg"]
    table = {key: np.array([record.get(key, math.nan) for record in records]) for key in keys}
    return {**table, "kimg": table["nimg"] / 1000}


def _parsed(line: bytes) -> dict[str, float]:
    """The numbers in a line of metrics.jsonl; {} if it is damaged."""
    try:
        return {key: float(value) for key, value in json.loads(line).items() if type(value) in (int, float)}
    except (ValueError, AttributeError, RecursionError, OverflowError):
        return {}


def last(table: dict[str, np.ndarray], key: str) -> float | None:
    """The last finite value in the column `key`; None if there is none."""
    values = table.get(key, np.empty(0))
    values = values[np.isfinite(values)]
    return float(values[-1]) if len(values) else None


def thinned(table: dict[str, np.ndarray], most: int = MAX_POINTS) -> dict[str, np.ndarray]:
    """Columns of at most `most` points and the last one: the minimum and maximum of each stretch of records.

    The two are in the order of the records. Their kimg is that of the first and the last record of the stretch.
    """
    count = len(table["kimg"])
    if count <= most:
        return table
    width = -(-count // (most // 2))
    out = {key: np.append(_extremes(values, width), values[-1]) for key, values in table.items()}
    return {**out, "kimg": table["kimg"][places(count, most)]}


def places(count: int, most: int = MAX_POINTS) -> np.ndarray:
    """The indices of the records whose kimg the points of `thinned` get."""
    if count <= most:
        return np.arange(count)
    starts = np.arange(0, count, -(-count // (most // 2)))
    ends = np.append(starts[1:], count) - 1
    return np.append(np.stack([starts, ends], 1).ravel(), count - 1)


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """At each of `places`, the mean of the finite values among the `width` around it; NaN if there are none."""
    at = places(len(values))
    around = np.stack([np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))], 1).ravel()
    known = np.isfinite(values)
    sums, counts = (
        np.add.reduceat(np.append(each, 0.0), around)[::2] for each in (np.where(known, values, 0.0), known)
    )
    return np.divide(sums, counts, out=np.full(len(at), np.nan), where=counts > 0)


def _extremes(values: np.ndarray, width: int) -> np.ndarray:
    """[count] -> [2 * stretches]: minimum and maximum of every `width` values; NaN if none is finite."""
    padded = np.full(-(-len(values) // width) * width, np.nan)
    padded[: len(values)] = values
    stretches = padded.reshape(-1, width)
    gone = ~np.isfinite(stretches)
    lowest, highest = np.where(gone, np.inf, stretches).argmin(1), np.where(gone, -np.inf, stretches).argmax(1)
    places = np.sort(np.stack([lowest, highest], 1), axis=1)
    return np.take_along_axis(stretches, places, 1).ravel()
