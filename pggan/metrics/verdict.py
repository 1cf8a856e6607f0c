"""In a word and a sentence: has it collapsed?

The thresholds were chosen on one half of experiments/diversity-validation and then judged on the other.
"""

from dataclasses import dataclass

VERDICTS = ("healthy", "partial-collapse", "collapsed", "memorization")

COLLAPSED_BELOW = 0.25  # the top of the interval of D
PARTIAL_BELOW = 0.7
COLLAPSED_GROUP = 0.5  # of the samples are near-duplicates of one picture
PARTIAL_DUPLICATES = 0.03  # near-duplicates among the samples, less those among the reals
DESERTED = 0.05  # of the reals
COPIED = 0.05  # of the samples, less what the reals copy of each other


@dataclass(frozen=True)
class Evidence:
    """What the verdict rests on. All but `alike` and `count` are shares or ratios."""

    ratio: float
    high: float
    alike: float
    count: int
    largest: float
    """The largest group of near-duplicates among the samples, less that among as many reals, at least 0."""
    duplicates: float
    """Near-duplicates among the samples, less those among as many reals; 0 where that may be chance."""
    deserted: float
    copied: float
    """Copies of training pictures, less the reals that are as like others; 0 where that may be chance, or unlooked."""


def judge(seen: Evidence) -> tuple[str, str]:
    """(the verdict, one of VERDICTS, and its reason in a sentence). The worst there is to say goes first.

    Copies of many training pictures are memorization, of few of them a collapse.
    """
    varied = f"the samples are as varied as {seen.alike:.0f} of {seen.count} different pictures (D {seen.ratio:.2f})"
    if seen.high < COLLAPSED_BELOW:
        return "collapsed", f"{varied}{_copies_too(seen)}"
    if seen.largest > COLLAPSED_GROUP:
        return (
            "collapsed",
            f"at least {seen.largest:.0%} of the samples are nearly one and the same picture{_copies_too(seen)}",
        )
    if seen.high < PARTIAL_BELOW:
        return "partial-collapse", f"{varied}{_copies_too(seen)}"
    memorized = seen.copied > COPIED and seen.copied >= seen.duplicates  # of the same pictures, some come up twice
    if seen.duplicates > PARTIAL_DUPLICATES and not memorized:
        few = f"at least {seen.duplicates:.0%} of the samples are near-duplicates of others"
        return "partial-collapse", f"{few}{_copies_too(seen)}"
    if seen.copied > COPIED:
        return (
            "memorization",
            f"at least {seen.copied:.0%} of the samples are copies of training pictures, perhaps flipped or moved",
        )
    if seen.deserted > DESERTED:
        return (
            "partial-collapse",
            f"hardly any sample is like {seen.deserted:.0%} of the real pictures (D {seen.ratio:.2f})",
        )
    return "healthy", varied


def _copies_too(seen: Evidence) -> str:
    return f", and at least {seen.copied:.0%} are copies of training pictures" if seen.copied > COPIED else ""
