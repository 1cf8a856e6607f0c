"""One picture that shows what the figures say: groups of near-duplicates, copies of training pictures, missing reals.

A sheet has a headline and sections; a section has blocks side by side, each some pictures in a row under a caption.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

CELL = 128  # px, the longer side of every picture shown
MARGIN, GAP, BETWEEN = 32, 4, 24  # px: around the sheet, between pictures, between blocks
PAIRS = 4  # side by side; or eight pictures of one block
TITLE, HEADING, PLAIN = 26, 18, 14  # px, heights of letters
LEADING = 1.4  # lines of text are so many heights apart
GROUPS, PER_GROUP, COPIED, FORGOTTEN = 6, 8, 8, 8  # pictures of each section
PAPER, INK, SOFT_INK, RULE = "white", "#1c1c1e", "#6b6b70", "#dcdce0"


@dataclass(frozen=True)
class Block:
    """Pictures uint8 [H, W, 3] in a row, with a caption above them."""

    caption: str
    pictures: Sequence[np.ndarray]


@dataclass(frozen=True)
class Section:
    """Blocks under a heading. note: a line below the heading. Without blocks the heading and the note stand alone."""

    heading: str
    note: str
    blocks: Sequence[Block]


def cell(size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) at which pictures of `size` are shown: in proportion, the longer side 128 px."""
    scale = CELL / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def shown(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """uint8 [H, W, 3] -> [height, width, 3] of `size` (width, height). Where they can, pixels stay squares."""
    image = Image.fromarray(picture)
    whole = size[0] % image.width == 0 and size[1] % image.height == 0
    return np.asarray(image.resize(size, Image.Resampling.NEAREST if whole else Image.Resampling.LANCZOS))


def sheet(title: str, words: str, sections: Sequence[Section]) -> Image.Image:
    """The whole picture. words: below the title, on lines as they fit."""
    pen = _Pen(2 * MARGIN + PAIRS * (2 * CELL + GAP) + (PAIRS - 1) * BETWEEN)
    pen.write(title, TITLE)
    pen.write(words, PLAIN)
    for section in sections:
        pen.rule()
        pen.write(section.heading, HEADING)
        pen.write(section.note, PLAIN, SOFT_INK)
        pen.blocks(section.blocks)
    return pen.cut()


# ---- what the sections show


def repeated(groups: Sequence[np.ndarray], views: np.ndarray) -> Section:
    """The largest groups of near-duplicates (numbers of samples) among samples as they are shown, [n, h, w, 3]."""
    heading = "Near-duplicates among the samples"
    if not groups:
        return Section(heading, "There are none.", [])
    words = f"Samples of a group look nearly the same; {PER_GROUP} of each are shown at most."
    blocks = [
        Block(f"group {number}: {len(group)} of {len(views)} samples", views[group[:PER_GROUP]])
        for number, group in enumerate(groups[:GROUPS], start=1)
    ]
    return Section(heading, f"{len(groups)} in all, the largest first. {words}", blocks)


def closest(likeness: np.ndarray, original: np.ndarray) -> list[int]:
    """Numbers of the eight samples most like a training picture, each another one where that is possible: the closest
    first. likeness, original [n]: see `copies.Copies`."""
    order = np.argsort(-likeness, kind="stable")
    firsts = order[np.sort(np.unique(original[order], return_index=True)[1])]
    return firsts[:COPIED].tolist()


def copied(
    likeness: Sequence[float], limit: float, usual: float, pairs: Sequence[tuple[np.ndarray, np.ndarray]]
) -> Section:
    """Pairs of a sample and the training picture it is like, both as they are shown.

    limit: of likeness, for copies. usual: the share of real pictures that are as like others.
    """
    blocks = [
        Block(f"likeness {value:.2f}{', counts as a copy' if value >= limit else ''}", pair)
        for value, pair in zip(likeness, pairs, strict=True)
    ]
    words = f"From a likeness of {limit:.2f} on it counts as a copy, flipped, moved or cut as it may be."
    words += f" So like others are {usual:.1%} of the real pictures, too."
    return Section("Samples (left) and the training pictures most like them (right)", words, blocks)


def central(deserted: np.ndarray) -> list[int]:
    """Places of the eight deserted reals that most held-out reals are like. deserted [N]: see `deserted.deserted`."""
    order = np.argsort(-deserted, kind="stable")[:FORGOTTEN]
    return order[deserted[order] > 0].tolist()


def forgotten(share: float, pictures: Sequence[np.ndarray]) -> Section:
    """Some of the share of the reals that hardly a sample is like."""
    words = f"Hardly any sample is like {share:.0%} of the real pictures. Some of them:"
    return Section("Left out by the samples", words, [Block("", pictures)])


# ---- drawing


class _Pen:
    """Writes and pastes from the top of a sheet to its bottom. The sheet grows as it is needed."""

    def __init__(self, width: int):
        self.page, self.down = Image.new("RGB", (width, 2 * MARGIN), PAPER), MARGIN

    def write(self, text: str, size: int, ink: str = INK) -> None:
        """`text` on as many lines as it takes between the margins."""
        font = ImageFont.load_default(size)
        for line in wrapped(text, font, self.page.width - 2 * MARGIN):
            self._text(MARGIN, self.down, line, font, ink)
            self.down += round(LEADING * size)

    def rule(self) -> None:
        self.down += BETWEEN // 2
        self._room(self.down + 1)
        ImageDraw.Draw(self.page).line((MARGIN, self.down, self.page.width - MARGIN, self.down), RULE)
        self.down += BETWEEN // 2

    def blocks(self, blocks: Sequence[Block]) -> None:
        """Blocks from left to right, and on a new line where the next does not fit."""
        across, lowest, font = MARGIN, self.down, ImageFont.load_default(PLAIN)
        for block in blocks:
            width = sum(picture.shape[1] + GAP for picture in block.pictures) - GAP
            if across > MARGIN and across + width > self.page.width - MARGIN:
                across, self.down = MARGIN, lowest
            top = self.down + BETWEEN // 2
            if block.caption:
                self._text(across, top, shortened(block.caption, font, width), font, INK)
                top += round(LEADING * PLAIN)
            lowest = max(lowest, self._row(across, top, block.pictures))
            across += width + BETWEEN
        self.down = lowest

    def cut(self) -> Image.Image:
        """The sheet, down to where something stands on it."""
        self._room(self.down + MARGIN)
        return self.page.crop((0, 0, self.page.width, self.down + MARGIN))

    def _row(self, across: int, top: int, pictures: Sequence[np.ndarray]) -> int:
        """Where the row ends below."""
        bottom = top + max(picture.shape[0] for picture in pictures)
        self._room(bottom)
        for picture in pictures:
            self.page.paste(Image.fromarray(picture), (across, top))
            across += picture.shape[1] + GAP
        return bottom

    def _text(self, across: int, top: int, text: str, font: ImageFont.FreeTypeFont, ink: str) -> None:
        self._room(top + 2 * round(font.size))
        ImageDraw.Draw(self.page).text((across, top), text, ink, font)

    def _room(self, bottom: int) -> None:
        """Makes the sheet reach down to `bottom` and beyond."""
        if bottom > self.page.height:
            longer = Image.new("RGB", (self.page.width, 2 * bottom), PAPER)
            longer.paste(self.page, (0, 0))
            self.page = longer


def wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """`text` in lines of at most `width` px, broken between words; no line for no text."""
    lines: list[str] = []
    for word in _printable(text).split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(shortened(word, font, width))
    return lines


def shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """`text`, cut at its end where it is wider than `width` px."""
    text = " ".join(_printable(text).split())
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(f"{text}...") > width:
        text = text[:-1]
    return f"{text}..."


def _printable(text: str) -> str:
    """Without what the font of Pillow has no letters for."""
    return text.encode("latin-1", errors="replace").decode("latin-1")
