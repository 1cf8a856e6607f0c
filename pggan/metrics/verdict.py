"""The verdict on a set of samples: one word and the reason for it.

The thresholds were chosen on one part of the cases in experiments/diversity-validation and checked on the other part.
"""

from dataclasses import dataclass

VERDICTS = ("healthy", "partial-collapse", "collapsed", "memorization", "too-early", "other-pictures")
UNLIKE = VERDICTS[4:]  # samples that are not like the real images: their variety means nothing

COLLAPSED_BELOW, PARTIAL_BELOW = 0.25, 0.7  # upper end of the diversity score's interval
COLLAPSED_GROUP = 0.5  # share of the samples in one group of near-duplicates
PARTIAL_DUPLICATES = 0.03  # share of near-duplicates in excess of the real images
DROPPED = 0.05  # share of the real images
COPIED = 0.05  # share of copies in excess of the real images
UNLIKE_BELOW, SOFT_UNLIKE_BELOW = 0.33, 0.5  # fidelity of the samples, and of softened ones
UNIFORM_UNLIKE_BELOW = 0.7  # fidelity of samples that all have equally much detail


@dataclass(frozen=True)
class Evidence:
    """The numbers that decide the verdict. Shares are from 0 to 1; an excess is 0 where it may be chance."""

    ratio: float  # the diversity score, not clipped to 1
    high: float  # the upper end of its interval
    effective_samples: float
    count: int  # number of samples
    largest: float  # share of the samples in the largest group of near-duplicates, in excess of as many real images
    duplicates: float  # share of near-duplicates among the samples, in excess of as many real images
    dropped: float  # share of the real images that hardly any sample resembles
    copied: float  # share of copies of training images, in excess of the real images; 0 if copies were not searched for
    fidelity: float  # of the samples to the real images; about 1 for real ones
    soft_fidelity: float  # the same of softened images
    uniform: bool  # whether all have equally much detail, as noise has and pictures have not
    pictures: bool  # whether they look like pictures of some kind, rather than like noise

    @property
    def least_fidelity(self) -> float:
        return min(self.fidelity, self.soft_fidelity)


def judge(seen: Evidence) -> tuple[str, str]:
    """(one of VERDICTS, the reason as a sentence); the most severe finding decides.

    Samples that are nearly all the same are a collapse, whatever they look like. After that, quality comes first: the
    variety of samples that are not like the real images says nothing. Copies of many training images are memorization,
    copies of few a collapse.
    """
    score = f"diversity score {seen.ratio:.2f}"
    varied = f"the samples are as varied as {seen.effective_samples:.0f} of {seen.count} different pictures ({score})"
    copied = seen.copied > COPIED
    also = f", and at least {seen.copied:.0%} are copies of training pictures" if copied else ""
    memorized = copied and seen.copied >= seen.duplicates  # among many copies, some are of the same image
    same = max(seen.largest, seen.duplicates) > COLLAPSED_GROUP
    limit = UNIFORM_UNLIKE_BELOW if seen.uniform else UNLIKE_BELOW
    unlike = seen.fidelity < limit or seen.soft_fidelity < SOFT_UNLIKE_BELOW
    if unlike and not same and not copied:
        how = f"fidelity {seen.least_fidelity:.2f}; 1: as held-out real pictures"
        alike = f"; they are also nearly all alike ({score})" if seen.high < COLLAPSED_BELOW else ""
        if seen.pictures and not seen.uniform:
            far = "the samples are other pictures than the real ones, or still far from them"
            return "other-pictures", f"{far} ({how}){alike}"
        return "too-early", f"the samples are not like the real pictures yet ({how}){alike}"
    if seen.high < COLLAPSED_BELOW:
        return "collapsed", varied + also
    if seen.largest > COLLAPSED_GROUP:
        return "collapsed", f"at least {seen.largest:.0%} of the samples are nearly one and the same picture{also}"
    if seen.high < PARTIAL_BELOW:
        return "partial-collapse", varied + also
    if seen.duplicates > PARTIAL_DUPLICATES and not memorized:
        return "partial-collapse", f"at least {seen.duplicates:.0%} of the samples are near-duplicates of others{also}"
    if copied:
        copies = f"at least {seen.copied:.0%} of the samples are copies of training pictures, perhaps flipped or moved"
        return "memorization", copies
    if seen.dropped > DROPPED:
        return "partial-collapse", f"hardly any sample resembles {seen.dropped:.0%} of the real pictures ({score})"
    return "healthy", varied
