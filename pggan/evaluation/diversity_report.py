"""Shows what `diversity.compare` found: a table in plain text, and a montage of images."""

import numpy as np
from PIL import Image

from pggan.data.reading import plain
from pggan.evaluation.diversity import Comparison
from pggan.metrics import montage
from pggan.metrics.verdict import DROPPED

FIGURES = (  # title, value, explanation; filled in from the result
    (
        "diversity score",
        "{score:.2f}",
        "{score_low:.2f} to {score_high:.2f}, unclipped {score_unclipped:.2f}; 1: as varied as the real images",
    ),
    ("effective samples", "{effective_samples:.0f}", "of {fakes}: as varied as so many different images"),
    ("near-duplicates", "{duplicate_share:.1%}", "of the samples; {duplicate_share_of_reals:.1%} of real images"),
    ("dropped", "{dropped_share:.1%}", "of the real images: hardly any sample resembles them"),
    ("coverage", "{coverage:.2f}", "1: as good as held-out real images; falls with quality, too"),
    ("NDB / K", "{ndb:.2f}", "of the bins are filled differently than by held-out real images; 0.05 by chance"),
)
COPIES = (
    ("training copies", "{copied_share:.1%}", "of the samples; {copied_share_of_yardstick:.1%} of {yardstick}"),
    (
        "similarity",
        "{similarity_median:.2f}",
        "to the nearest training image, median; {similarity_median_of_yardstick:.2f} of {yardstick}; "
        "from {copied_from_similarity:.2f} on it is a copy",
    ),
)
STATUS = {"missing": "missing", "present": "", "rare": "too few real images", "unclear": "too similar to other kinds"}


def table(result: dict) -> list[str]:
    """The lines that a user reads. result: of `Comparison.result`."""
    rows = FIGURES + (COPIES if "copied_share" in result else ())
    lines = [f"{name:<20}{value.format(**result):>8}  {words.format(**result)}" for name, value, words in rows]
    for of, kinds in result.get("kinds", {}).items():
        lines.append(f"{plain(of):<32}{'of the samples (95 %)':<28}of the real images")
        for name, kind in kinds.items():
            share = "" if kind["share"] is None else "{share:.1%} ({low:.1%} to {high:.1%})".format(**kind)
            lines.append(f"  {name[:28]:<30}{share:<28}{kind['real_share']:<8.1%}{STATUS[kind['status']]}")
    last = f"protocol: {result['protocol']}", f"verdict: {result['verdict']}", f"reason: {result['reason']}"
    return [line.rstrip() for line in (*lines, *result["notes"], *last)]


def draw_montage(result: dict, found: Comparison) -> Image.Image:
    """A sheet with near-duplicates, samples beside their nearest training images, and dropped real images."""
    scores, views = found.scores, found.views

    def reals(numbers: np.ndarray) -> list[np.ndarray]:
        return [montage.shown(image, views.shape[2:0:-1]) for image in found.real.at(numbers.tolist())]

    sections = [montage.repeated(scores.diversity.groups, views)]
    if scores.copies:
        places = montage.closest(scores.copies.similarity, scores.copies.original)
        pairs = list(zip(views[places], reals(scores.copies.original[places]), strict=True))
        limit, usual = result["copied_from_similarity"], result["copied_share_of_yardstick"]
        sections.append(montage.copied(scores.copies.similarity[places], limit, usual, pairs))
    dropped = max(scores.dropped.values(), key=lambda shares: shares.sum())
    if dropped.sum() > DROPPED:
        fitted = found.reference.order[found.reference.count :]
        sections.append(montage.dropped(float(dropped.sum()), reals(fitted[montage.central(dropped)])))
    reason = result["reason"][0].upper() + result["reason"][1:]
    words = f"{reason}. {result['fakes']} samples, {result['reals']:,} real images."
    return montage.sheet(f"{result['verdict'].capitalize()}: diversity score {result['score']:.2f}", words, sections)
