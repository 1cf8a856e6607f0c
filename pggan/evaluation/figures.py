"""The figures measured during training, one entry each. To add a figure, add an entry.

The records (metrics.jsonl), wandb's panels, the report and the help text are made from this table. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Literal

from pggan.metrics.verdict import VERDICTS

if TYPE_CHECKING:
    from pggan.metrics.scores import Scores


@dataclass(frozen=True)
class Figure:
    """One figure of a set of samples.

    key: its name in metrics.jsonl, `group/name`. label: a few words for people. unit: "" for a plain number, "share"
    (0 to 1, shown in percent) or "samples". better: which values are better.
    """

    key: str
    label: str
    unit: Literal["", "share", "samples"]
    better: Literal["higher", "lower", "none"]
    _: KW_ONLY
    low: float | None = None
    """The fixed lower end of its axis; None: follows the values."""
    high: float | None = None
    """The fixed upper end of its axis; None: follows the values."""
    log: bool = False
    """Whether its axis is logarithmic."""
    band: bool = False
    """Whether it has a 95 % interval, recorded under `key` + "_low" and "_high"."""
    raw: bool = False
    """Whether it is measured for G itself, too, not just for the moving average of its weights."""
    names: tuple[str, ...] = ()
    """What the values 0, 1, 2 ... stand for, if it is one of a few; drawn as steps."""
    of: Callable[[Scores], float | tuple[float, float, float] | None]
    """Its value in the scores of a set of samples; with `band`, (value, low, high); None where it was not measured."""

    @property
    def raw_key(self) -> str:
        """Its name in metrics.jsonl when measured for G itself: `group/raw_name`."""
        return self.key.replace("/", "/raw_")

    def record(self, scores: Scores, raw: bool = False) -> dict[str, float]:
        """Its entries in metrics.jsonl, rounded to six digits; {} where it was not measured. raw: under `raw_key`."""
        values = self.of(scores)
        values = (values,) if not self.band else values
        keys = [(self.raw_key if raw else self.key) + end for end in ("", "_low", "_high")[: len(values)]]
        known = {key: value for key, value in zip(keys, values, strict=True) if value is not None}
        return {key: float(f"{value:.6g}") for key, value in known.items() if math.isfinite(value)}


FIGURES = (
    Figure(
        "diversity/score",
        "diversity score (1: as varied as the real images)",
        "",
        "higher",
        low=0,
        high=1,
        band=True,
        raw=True,
        of=lambda scores: (scores.diversity.value, scores.diversity.low, scores.diversity.high),
    ),
    Figure(
        "diversity/effective_samples",
        "effective samples (so many different images would be as varied)",
        "samples",
        "higher",
        low=0,
        of=lambda scores: scores.diversity.alike,
    ),
    Figure(
        "diversity/duplicate_share",
        "near-duplicates among the samples",
        "share",
        "lower",
        low=0,
        of=lambda scores: scores.diversity.duplicates,
    ),
    Figure(
        "diversity/dropped_share",
        "real images that hardly any sample is like (dropped modes)",
        "share",
        "lower",
        low=0,
        of=lambda scores: scores.evidence.dropped,
    ),
    Figure(
        "diversity/coverage",
        "coverage of the real images (1: as by unseen real ones)",
        "",
        "higher",
        low=0,
        of=lambda scores: scores.coverage,
    ),
    Figure(
        "diversity/copied_share",
        "samples that are copies of training images",
        "share",
        "lower",
        low=0,
        of=lambda scores: scores.copied if scores.copies else None,
    ),
    Figure(
        "quality/rfd",
        "RFD, Frechet distance of random features (not an FID)",
        "",
        "lower",
        log=True,
        raw=True,
        of=lambda scores: scores.rfd,
    ),
    Figure(
        "quality/kid_rand",
        "kernel distance of random features (0: no difference; not a KID)",
        "",
        "lower",
        band=True,
        raw=True,
        of=lambda scores: (scores.kid.value, scores.kid.low, scores.kid.high),
    ),
    Figure(
        "diversity/verdict",
        "verdict",
        "",
        "none",
        low=0,
        high=len(VERDICTS) - 1,
        names=VERDICTS,
        of=lambda scores: VERDICTS.index(scores.verdict),
    ),
)


def records(scores: Scores, raw: bool = False) -> dict[str, float]:
    """The entries in metrics.jsonl of all figures. raw: of those measured for G itself, under their raw keys."""
    chosen = [figure for figure in FIGURES if figure.raw or not raw]
    return {key: value for figure in chosen for key, value in figure.record(scores, raw).items()}
