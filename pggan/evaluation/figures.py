"""The figures measured during training, one entry each. To add a figure, add an entry.

The records (metrics.jsonl), wandb's panels, the report and the help text are made from this table. Needs no torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

from pggan.metrics.verdict import VERDICTS

if TYPE_CHECKING:
    from pggan.metrics.scores import Scores


@dataclass(frozen=True)
class Figure:
    """One figure of a set of samples.

    key: its name in metrics.jsonl, `group/name`. label: its title in the report. unit: "" for a plain number, "share"
    (0 to 1, shown in percent) or "samples". better: which values are better.
    """

    key: str
    label: str
    unit: Literal["", "share", "samples"]
    better: Literal["higher", "lower", "none"]
    _: KW_ONLY
    low: float | None = None
    high: float | None = None
    """The fixed ends of its axis; None: follows the values."""
    log: bool = False
    """Whether its axis is logarithmic."""
    band: bool = False
    """Whether it has a 95 % interval, recorded under `key` + "_low" and "_high"."""
    raw: bool = False
    """Whether it is measured for G itself, too, not just for G_ema."""
    names: tuple[str, ...] = ()
    """What the values 0, 1, 2 ... stand for, if it has only these; drawn as steps."""
    of: Callable[[Scores], Any]
    """Gets its value from the scores of a set of samples: a float, or None if it was not measured. With `band`: an
    object with the attributes value, low and high."""

    @property
    def raw_key(self) -> str:
        """Its name in metrics.jsonl when measured for G itself: `group/raw_name`."""
        return self.key.replace("/", "/raw_")

    def record(self, scores: Scores, raw: bool = False) -> dict[str, float]:
        """Its entries in metrics.jsonl, to six digits; without values that are not finite. raw: under `raw_key`."""
        found, key = self.of(scores), self.raw_key if raw else self.key
        values = {key: found.value, f"{key}_low": found.low, f"{key}_high": found.high} if self.band else {key: found}
        known = {key: value for key, value in values.items() if value is not None and math.isfinite(value)}
        return {key: float(f"{value:.6g}") for key, value in known.items()}


share = partial(Figure, unit="share", better="lower", low=0)
score = partial(Figure, unit="", better="higher", low=0)

FIGURES = (
    score(
        "diversity/score", "diversity score (1: as real images)", high=1, band=True, raw=True, of=lambda s: s.diversity
    ),
    score(
        "diversity/effective_samples", "effective samples", unit="samples", of=lambda s: s.diversity.effective_samples
    ),
    share("diversity/duplicate_share", "near-duplicates among the samples", of=lambda s: s.diversity.duplicates),
    share("diversity/dropped_share", "real images that no sample resembles", of=lambda s: s.evidence.dropped),
    score("diversity/coverage", "coverage (1: as by real images)", of=lambda s: s.coverage),
    share("diversity/copied_share", "copies of training images", of=lambda s: s.copied if s.copies else None),
    Figure("quality/rfd", "RFD (not an FID)", "", "lower", log=True, raw=True, of=lambda s: s.rfd),
    Figure("quality/kid_rand", "kernel distance", "", "lower", band=True, raw=True, of=lambda s: s.kid),
    score("quality/fidelity", "fidelity (1: as held-out real images)", of=lambda s: s.evidence.least_fidelity),
    score(
        "diversity/verdict",
        "verdict",
        better="none",
        high=len(VERDICTS) - 1,
        names=VERDICTS,
        of=lambda s: VERDICTS.index(s.verdict),
    ),
)


def records(scores: Scores, raw: bool = False) -> dict[str, float]:
    """The entries in metrics.jsonl of all figures. raw: of those measured for G itself, under their raw keys."""
    chosen = [figure for figure in FIGURES if figure.raw or not raw]
    return {key: value for figure in chosen for key, value in figure.record(scores, raw).items()}
