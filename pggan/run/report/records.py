"""The records of a run as columns, and curves with fewer points."""

import json
import math
from pathlib import Path

import numpy as np

MAX_POINTS = 1500  # of a curve on the page


def read_records(path: Path) -> dict[str, np.ndarray]:
    """The columns of metrics.jsonl: {key: float64 [records]} in the order of nimg, kimg included.

    NaN where a record lacks the key. Skips lines that are no record, and a last line that is not complete.
    """
    records, reached = [], -math.inf
    for record in map(_parsed, path.read_bytes().split(b"\n")[:-1] if path.is_file() else []):
        if math.isnan(nimg := record.get("nimg", math.nan)):
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
    table = {key: np.array([record.get(key, math.nan) for record in records], float) for key in keys}
    return {**table, "kimg": table["nimg"] / 1000}


def _parsed(line: bytes) -> dict[str, float]:
    """The numbers in a line of metrics.jsonl, NaN if not finite; {} if the line is damaged."""
    try:
        numbers = {key: float(value) for key, value in json.loads(line).items() if type(value) in (int, float)}
        return {key: value if math.isfinite(value) else math.nan for key, value in numbers.items()}
    except (ValueError, AttributeError, RecursionError, OverflowError):
        return {}


def last(table: dict[str, np.ndarray], key: str) -> float | None:
    """The last number in the column `key`; None if there is none."""
    values = table.get(key, np.empty(0))
    values = values[~np.isnan(values)]
    return float(values[-1]) if len(values) else None


def thinned(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The table with about MAX_POINTS rows at most: minimum and maximum of each stretch of records, and the last row.

    Their kimg are those of the first and the last record of the stretch.
    """
    count = len(table["kimg"])
    if count <= MAX_POINTS:
        return table
    starts = places(count)[:-1:2]
    out = {
        key: np.append(np.stack([np.fmin.reduceat(v, starts), np.fmax.reduceat(v, starts)], 1), v[-1])
        for key, v in table.items()
    }
    return {**out, "kimg": table["kimg"][places(count)]}


def places(count: int) -> np.ndarray:
    """The records whose kimg the rows of `thinned` get: first and last of each stretch, and the last of all."""
    if count <= MAX_POINTS:
        return np.arange(count)
    starts = np.arange(0, count, -(-count // (MAX_POINTS // 2)))
    ends = np.append(starts[1:], count) - 1
    return np.append(np.stack([starts, ends], 1), count - 1)


def running_mean(values: np.ndarray, width: int) -> np.ndarray:
    """At each of `places`, the mean of the numbers among the `width` values around it; NaN if there are none."""
    at = places(len(values))
    around = np.stack([np.maximum(at - width // 2, 0), np.minimum(at + width // 2 + 1, len(values))], 1).ravel()
    known = ~np.isnan(values)
    sums, counts = (
        np.add.reduceat(np.append(each, 0.0), around)[::2] for each in (np.where(known, values, 0.0), known)
    )
    return np.divide(sums, counts, out=np.full(len(at), np.nan), where=counts > 0)
