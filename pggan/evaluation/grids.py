"""Sample grids: many images in one, with gaps between them. Makes them, and splits them into images again.

Importing this loads no torch: `make_grid` does.
"""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo

from pggan.data.reading import Unreadable, decode_errors
from pggan.errors import UserError

GAP = 2  # pixels between images and around the grid
LAYOUT = "pggan grid"  # the PNG text in which a grid's layout is stored
NAME = re.compile(r"(\d{4,9})-(\d{8,15})\.png")  # tools/sample.py writes fewer digits


@dataclass(frozen=True)
class GridFile:
    """A sample grid of a run. nimg: real images shown when it was drawn."""

    path: Path
    res: int
    nimg: int


def grid_files(folder: Path) -> list[GridFile]:
    """The sample grids in a run's folder `samples`, oldest first: the files named RES-NIMG.png."""
    paths = folder.iterdir() if folder.is_dir() else []
    matches = ((path, NAME.fullmatch(path.name)) for path in paths)
    found = [GridFile(path, int(match[1]), int(match[2])) for path, match in matches if match and path.is_file()]
    return sorted(found, key=lambda grid: (grid.nimg, grid.res))


def make_grid(images: np.ndarray, columns: int, gap: int = GAP) -> Image.Image:
    """uint8 [N, H, W, 3] -> one image, row by row. Gaps and unused places are black; one image alone has no gap."""
    import torch
    from torchvision import utils

    grid = utils.make_grid(torch.tensor(images).permute(0, 3, 1, 2), nrow=columns, padding=gap)
    return Image.fromarray(grid.permute(1, 2, 0).numpy())


def save_grid(images: np.ndarray, columns: int, path: Path) -> None:
    """Writes `make_grid(images, columns)` as a PNG file that `split_grid` can read. images: uint8 [N, H, W, 3]."""
    count, height, width, _ = images.shape
    layout = {"count": count, "columns": min(columns, count), "size": [width, height], "gap": GAP if count > 1 else 0}
    text = PngInfo()
    text.add_text(LAYOUT, json.dumps(layout))
    make_grid(images, columns).save(path, "PNG", pnginfo=text)


def split_grid(path: Path) -> tuple[np.ndarray, int]:
    """Reads a grid: (its images, uint8 [N, H, W, 3]; how many are in a row).

    A PNG file without a layout, from before grids had gaps, is one image. Raises UserError if the file is damaged.
    """
    try:
        with decode_errors(str(path)), PngImageFile(path) as file:  # Image.open would refuse the largest grids
            layout = json.loads(file.info.get(LAYOUT, "null"))
            whole = np.asarray(file.convert("RGB"))
            if layout is None:
                return whole[None], 1
            columns, gap, (width, height) = layout["columns"], layout["gap"], layout["size"]
            cells = whole[gap:, gap:].reshape(-1, height + gap, columns, width + gap, 3).swapaxes(1, 2)
            images = cells.reshape(-1, height + gap, width + gap, 3)[: layout["count"], :height, :width]
            return images, columns
    except Unreadable as error:
        raise UserError(f"{path} cannot be read ({error}): delete it and start this again") from None


def fit_grid(images: np.ndarray, columns: int, room: tuple[float, float]) -> Image.Image:
    """A grid of the images, uint8 [N, H, W, 3], as large as fits into `room` (width, height in pixels).

    The gap does not scale: grids of all resolutions get the same layout.
    """
    count, height, width, _ = images.shape
    columns, gap = min(columns, count), GAP if count > 1 else 0
    across, down = (room[0] - gap) / columns - gap, (room[1] - gap) / -(-count // columns) - gap
    scale = min(across / width, down / height)
    size = max(1, math.floor(width * scale + 1e-6)), max(1, math.floor(height * scale + 1e-6))
    return make_grid(np.stack([np.asarray(scaled(Image.fromarray(image), size)) for image in images]), columns)


def scaled(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """`image` at `size` (width, height). Enlarged, its pixels become squares of one size; reduced, it is filtered."""
    if size[0] <= image.width:
        return image.resize(size, Image.Resampling.LANCZOS)
    times = math.ceil(size[0] / image.width)
    squares = image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    return squares.resize(size, Image.Resampling.BOX)
