"""The figures measured during training, one entry each. The records, wandb, the report and --help follow this table."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Figure:
    """One figure.

    key: its name in metrics.jsonl and wandb. title: a few words, for a chart. unit: "share" (0 to 1), "images" or ""
    for a plain number. better: which direction is an improvement. chart: figures with the same chart are drawn
    together. low, high: the keys of its 95 % interval, drawn as a band.
    """

    key: str
    title: str
    unit: Literal["", "share", "images"]
    better: Literal["higher", "lower"]
    chart: str
    low: str | None = None
    high: str | None = None
