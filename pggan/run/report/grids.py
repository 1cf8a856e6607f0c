"""The sample grids of a run as images inside the page."""

import base64
import io
import math
from pathlib import Path

from pggan.errors import UserError
from pggan.evaluation.grids import GridFile, fit_grid, grid_files, split_grid

MAX_GRIDS = 60  # on the page, spread over the run, plus the newest and the last of each resolution
MIN_WIDTH, MAX_WIDTH = 512, 1024  # pixels; in between, a grid is enlarged 4 times, which keeps its pixels sharp
QUALITY = 80  # of WebP


class Grids:
    """The grids in a run's folder `samples`, each encoded once."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.known: dict[tuple, dict | None] = {}

    def read(self, max_new: float = math.inf) -> list[dict]:
        """The grids to show as `encoded` returns them, oldest first, without unreadable ones.

        max_new: encode at most so many now, the newest first; the others wait for the next call.
        """
        known, left = {}, max_new
        for grid in reversed(spread(grid_files(self.folder))):
            key = identity(grid.path)
            if key in self.known:
                known[key] = self.known[key]
            elif key and left > 0:
                known[key] = encoded(grid)
                left -= 1
        self.known = known  # grids that are no longer shown are forgotten
        return [grid for grid in reversed(known.values()) if grid]


def identity(path: Path) -> tuple | None:
    """A value that changes when the file does; None if there is no file."""
    try:
        stat = path.stat()
    except OSError:
        return None
    return path.name, stat.st_mtime_ns, stat.st_size


def spread(grids: list[GridFile], most: int = MAX_GRIDS) -> list[GridFile]:
    """Every 1st, 2nd, 4th ... grid, at most `most`, and the newest one and the last of each resolution.

    As the run goes on, no grid that was left out comes back, so none is encoded twice.
    """
    stride = 1
    while -(-len(grids) // stride) > most:
        stride *= 2
    next_res = [grid.res for grid in grids[1:]] + [None]
    return [grid for number, grid in enumerate(grids) if number % stride == 0 or grid.res != next_res[number]]


def encoded(grid: GridFile) -> dict | None:
    """{res, nimg, width, height, src: a data URI of the grid as WebP}; None if it cannot be read."""
    try:
        images, columns = split_grid(grid.path)
        width = min(max(4 * columns * images.shape[2], MIN_WIDTH), MAX_WIDTH)
        image = fit_grid(images, columns, (width, math.inf))
    except UserError:
        return None
    out = io.BytesIO()
    image.save(out, format="WEBP", quality=QUALITY, method=2)
    src = "data:image/webp;base64," + base64.b64encode(out.getvalue()).decode()
    return {"res": grid.res, "nimg": grid.nimg, "width": image.width, "height": image.height, "src": src}
