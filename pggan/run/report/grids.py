"""The sample grids of a run as pictures inside the page."""

import base64
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path

from PIL import Image
from PIL.PngImagePlugin import PngImageFile

MOST = 60  # grids on the page, spread over the run; besides, the newest and the last of each resolution
WIDEST = 1024  # pixels
QUALITY = 80
NAME = re.compile(r"(\d{1,9})-(\d{1,15})\.png")


@dataclass(frozen=True)
class Grid:
    """One sample grid. src: a data URI; width, height: pixels of the grid itself."""

    res: int
    nimg: int
    width: int
    height: int
    src: str


class Grids:
    """The grids of a folder. Each is encoded once; those that are not on the page are not kept."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: dict[tuple, Grid | None] = {}

    def read(self, most_new: float = math.inf) -> list[Grid]:
        """Those to show, oldest first. A picture that cannot be read is left out.

        most_new: how many may be encoded now, the newest first; others wait for a later call.
        """
        known, left = {}, most_new
        for res, nimg, path in reversed(spread(listed(self.folder))):
            key = identity(path)
            if key in self.known:
                known[key] = self.known[key]
            elif key and left > 0:
                known[key] = encoded(res, nimg, path)
                left -= 1
        self.known = known
        return [grid for grid in reversed(known.values()) if grid]


def identity(path: Path) -> tuple | None:
    """What tells a file from the one that was there before; None when it is gone."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return path.name, stat.st_mtime_ns, stat.st_size


def listed(folder: Path) -> list[tuple[int, int, Path]]:
    """(res, nimg, path) of all sample grids, oldest first."""
    paths = folder.iterdir() if folder.is_dir() else []
    named = [(match, path) for path in paths if (match := NAME.fullmatch(path.name))]
    return sorted(((int(match[1]), int(match[2]), path) for match, path in named), key=lambda item: (item[1], item[0]))


def spread(grids: list, most: int = MOST) -> list:
    """Every 1st, 2nd, 4th ... of `grids`, at most `most`; and the newest, and the last of each resolution.

    What is left out once is never asked for again as the run goes on, except for the newest of the moment.
    """
    stride = 1
    while -(-len(grids) // stride) > most:
        stride *= 2
    following = [res for res, *_ in grids[1:]] + [None]
    return [grid for number, grid in enumerate(grids) if number % stride == 0 or grid[0] != following[number]]


def encoded(res: int, nimg: int, path: Path) -> Grid | None:
    """The grid as WebP, no wider than WIDEST; None when it cannot be read."""
    try:
        with PngImageFile(path) as file:  # not Image.open: large grids are its own, and no attack on the reader
            image = file.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None
    out = io.BytesIO()
    fitted(image).save(out, format="WEBP", quality=QUALITY, method=2)
    src = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
    return Grid(res, nimg, *image.size, src)


def fitted(image: Image.Image) -> Image.Image:
    """Scaled down to WIDEST; small ones doubled, so that the coarser colors of WebP do not blur their pixels."""
    width, height = image.size
    if width > WIDEST:
        size = WIDEST, max(1, round(height * WIDEST / width))
        return image.resize(size, Image.Resampling.LANCZOS)
    if 2 * width <= WIDEST:
        return image.resize((2 * width, 2 * height), Image.Resampling.NEAREST)
    return image
