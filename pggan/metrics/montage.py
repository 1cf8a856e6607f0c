"""The montage: one image with the evidence for the figures, near-duplicates, copies and dropped modes.

A sheet has a title and sections. A section has blocks side by side; a block is a row of images under a caption. Each
section is made as strips: images as wide as the sheet, from top to bottom.
"""

import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

CELL = 128  # px, the longer side of each image
MARGIN, GAP, BETWEEN = 32, 4, 24  # px: around the sheet, between images, between blocks
WIDTH = 8 * CELL + 4 * GAP + 3 * BETWEEN  # px, without margins: four pairs, or eight images of one block
TITLE, HEADING, PLAIN = 26, 18, 14  # px, font sizes
LEADING = 1.4  # line height over font size
GROUPS, PER_GROUP, COPIED, DROPPED = 6, 8, 8, 8  # images or groups shown
PAPER, INK, SOFT_INK, RULE = "white", "#1c1c1e", "#6b6b70", "#dcdce0"

Section = list[Image.Image]  # strips


def cell(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) at which images of `size` are shown: in proportion, the longer side 128 px."""
    scale = CELL / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shown(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3] of `size` (width, height). Whole factors keep pixels sharp."""
    resized = Image.fromarray(image)
    whole = size[0] % resized.width == 0 and size[1] % resized.height == 0
    return np.asarray(resized.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS))


def sheet(title: str, words: str, sections: Sequence[Section]) -> Image.Image:
    """The whole montage. words: a paragraph below the title."""
    strips = [_text(title, TITLE), _text(words, PLAIN), *(strip for section in sections for strip in section)]
    return ImageOps.expand(_stacked(strips, WIDTH), MARGIN, PAPER)


# ---- the sections


def repeated(groups: Sequence[np.ndarray], views: np.ndarray) -> Section:
    """The largest groups of near-duplicates. groups: numbers of samples; views: the samples as shown, [n, h, w, 3]."""
    heading = "Near-duplicates among the samples"
    if not groups:
        return _section(heading, "There are none.", [])
    words = f"Samples of a group look nearly the same; {PER_GROUP} of each are shown at most."
    blocks = [
        _block(f"group {number}: {len(group)} of {len(views)} samples", views[group[:PER_GROUP]])
        for number, group in enumerate(groups[:GROUPS], start=1)
    ]
    return _section(heading, f"{len(groups)} in all, the largest first. {words}", blocks)


def closest(similarity: np.ndarray, original: np.ndarray) -> list[int]:
    """Numbers of the eight samples most similar to a training image, the most similar first: see `copies.Copies`.

    Each is similar to another training image, as far as there are enough.
    """
    order = np.argsort(-similarity, kind="stable")
    firsts = order[np.sort(np.unique(original[order], return_index=True)[1])]
    return firsts[:COPIED].tolist()


def copied(similarity: Sequence[float], limit: float, usual: float, pairs: Sequence[Sequence[np.ndarray]]) -> Section:
    """Pairs of a sample and the training image most similar to it, both as shown, with their similarity.

    limit: the similarity from which a sample is a copy. usual: the share of real images with such a similarity.
    """
    captions = (f"similarity {value:.2f}{', counts as a copy' if value >= limit else ''}" for value in similarity)
    heading = "Samples (left) and the training pictures most similar to them (right)"
    words = f"From a similarity of {limit:.2f} on it counts as a copy, perhaps flipped, moved or cut a little."
    words += f" {usual:.1%} of the real pictures are as similar to another one."
    return _section(heading, words, list(map(_block, captions, pairs)))


def central(dropped: np.ndarray) -> list[int]:
    """Places of the eight dropped reals with the largest shares. dropped [N]: see `dropped_modes.dropped_shares`."""
    order = np.argsort(-dropped, kind="stable")[:DROPPED]
    return order[dropped[order] > 0].tolist()


def dropped(share: float, images: Sequence[np.ndarray]) -> Section:
    """Some of the reals that hardly any sample resembles. share: of all reals."""
    words = f"Hardly any sample resembles {share:.0%} of the real pictures. Some of them:"
    return _section("Dropped modes", words, [_block("", images)])


def _section(heading: str, note: str, blocks: Sequence[Image.Image]) -> Section:
    """Blocks from left to right; a new strip starts where the next block does not fit."""
    rule = _empty(BETWEEN, WIDTH)
    ImageDraw.Draw(rule).line((0, BETWEEN // 2, WIDTH, BETWEEN // 2), RULE)
    rows: list[list[Image.Image]] = []
    for block in blocks:
        if not rows or sum(each.width + BETWEEN for each in rows[-1]) + block.width > WIDTH:
            rows.append([])
        rows[-1].append(block)
    return [rule, _text(heading, HEADING), _text(note, PLAIN, SOFT_INK), *(_beside(row, BETWEEN) for row in rows)]


# ---- parts of a section


def _empty(height: int, width: int) -> Image.Image:
    return Image.new("RGB", (width, height), PAPER)


def _text(text: str, size: int, ink: str = INK) -> Image.Image:
    """`text` on as many lines as it needs, broken between words; none for an empty text."""
    font, leading = ImageFont.load_default(size), round(LEADING * size)
    lines: list[str] = []
    for word in text.encode("latin-1", "replace").decode("latin-1").split():  # Pillow's font has no more characters
        if lines and font.getlength(f"{lines[-1]} {word}") <= WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    strip = _empty(leading * len(lines), WIDTH)
    for number, line in enumerate(lines):
        ImageDraw.Draw(strip).text((0, number * leading), line, ink, font)
    return strip


def _block(caption: str, images: Sequence[np.ndarray]) -> Image.Image:
    """Images uint8 [H, W, 3] in a row, with a caption above them. The wider of the two decides the width."""
    row = _beside([Image.fromarray(image) for image in images], GAP)
    width = max(row.width, math.ceil(ImageFont.load_default(PLAIN).getlength(caption)))
    return _stacked([_empty(BETWEEN // 2, width), _text(caption, PLAIN), row], width)


def _stacked(images: Sequence[Image.Image], width: int) -> Image.Image:
    """Images from top to bottom, cut to `width` px."""
    whole, down = _empty(sum(image.height for image in images), width), 0
    for image in images:
        whole.paste(image, (0, down))
        down += image.height
    return whole


def _beside(images: Sequence[Image.Image], gap: int) -> Image.Image:
    """Images in a row, `gap` px apart."""
    row = _empty(max(image.height for image in images), sum(image.width + gap for image in images) - gap)
    across = 0
    for image in images:
        row.paste(image, (across, 0))
        across += image.width + gap
    return row
