"""The records of a run as columns, read on while metrics.jsonl grows; and curves with fewer points."""

import json
import math
from array import array
from pathlib import Path

import numpy as np

TAIL = 512  # bytes kept of what was read, to notice a file that was cut and has grown again
MAX_POINTS = 1500  # of a curve on the page


class Records:
    """The columns of metrics.jsonl. Skips lines that are no record, and a last line that is not complete."""

    def __init__(self, path: Path):
        self.path = path
        self._forget()

    def _forget(self) -> None:
        self.columns: dict[str, array] = {"nimg": array("d")}
        self.offset, self.tail, self.reached = 0, b"", -math.inf

    def read(self) -> None:
        """Reads the lines added since the last call; all of them if the file has been replaced or cut."""
        try:
            with open(self.path, "rb") as file:
                if not self._goes_on(file):
                    self._forget()
                file.seek(self.offset)
                data = file.read()
        except OSError:  # none yet
            self._forget()
            return
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        self.tail = (self.tail + whole)[-TAIL:]
        for line in whole.split(b"\n"):
            self._add(line)

    def _goes_on(self, file) -> bool:
        """Whether the file still holds what was read last."""
        file.seek(self.offset - len(self.tail))
        return file.read(len(self.tail)) == self.tail

    def _add(self, line: bytes) -> None:
        try:
            record = {key: float(value) for key, value in json.loads(line).items() if _is_number(value)}
        except (ValueError, AttributeError, RecursionError, OverflowError):
            return
        if not math.isfinite(record.get("nimg", math.nan)):
            return
        if "growth/res" in record:  # a record of training; evaluations may come in any order
            if record["nimg"] <= self.reached:
                self._take_back(record["nimg"])
            self.reached = record["nimg"]
        count = len(self.columns["nimg"])
        for key in [key for key in record if key not in self.columns]:
            self.columns[key] = array("d", [math.nan]) * count
        for key, column in self.columns.items():
            column.append(record.get(key, math.nan))

    def _take_back(self, nimg: float) -> None:
        """Removes the records of training from `nimg` on: after a rollback they are made again."""
        shown = np.array(self.columns["nimg"])
        trained = ~np.isnan(np.array(self.columns["growth/res"]))
        kept = (shown < nimg) | ((shown == nimg) & ~trained)
        for key, column in self.columns.items():
            self.columns[key] = array("d", np.array(column)[kept].tobytes())

    def table(self) -> dict[str, np.ndarray]:
        """{key: float64 [records]} in the order of nimg, kimg included; NaN where a record has no such key."""
        order = np.argsort(np.array(self.columns["nimg"]), kind="stable")
        columns = {key: np.array(column)[order] for key, column in self.columns.items()}
        return {**columns, "kimg": columns["nimg"] / 1000}


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


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
