"""Makes a film of a run's sample grids: the same latents, from the first grid to the last."""

from collections.abc import Iterator
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from pggan import system
from pggan.errors import UserError
from pggan.evaluation.grids import GridFile, fit_grid, grid_files, split_grid
from pggan.run.report import facts

LAST_SECONDS = 2  # how long the last frame is shown
MAX_HEIGHT = 16_000  # pixels; a WebP file ends at 16,383
DIM, BRIGHT, BLUE = (96, 96, 104), (240, 240, 240), (70, 150, 240)


def make_film(run: Path, out: Path, fps: int, width: int, max_frames: int) -> tuple[int, tuple[int, int]]:
    """Writes the film of the run in the folder `run`; returns its count of grids and its size in pixels.

    out: FILE.webp or FILE.mp4, whose folder is made if need be; replaced when the film is complete. fps: grids per
    second. width: in pixels. Raises UserError.
    """
    write = write_webp if out.suffix.lower() == ".webp" else write_mp4
    if write == write_mp4 and not find_spec("av"):
        raise UserError("an .mp4 needs PyAV: pip install av, or let --out end in .webp")
    grids = evenly_chosen(without_failed(run, grids_of(run)), max_frames)
    frames = Frames(grids, width)
    out.parent.mkdir(parents=True, exist_ok=True)
    with system.replacing(out) as temporary:
        write(frames, temporary, fps)
    return len(grids), frames.size


# ---- which grids


def grids_of(run: Path) -> list[GridFile]:
    """The sample grids of a run, oldest first. Raises UserError when there are none."""
    if not (run / "config.json").is_file():
        raise UserError(f"{run} holds no run: name the folder that train.py made")
    if not (found := grid_files(run / "samples")):
        raise UserError(f"{run} has no sample grids yet: wait for the first, drawn every --sample-kimg")
    return found


def without_failed(run: Path, grids: list[GridFile]) -> list[GridFile]:
    """Drops grids of failed or killed attempts: those whose resolution is not the one in growth.json at their nimg."""
    growths = [entry for entry in facts.read(run).growth if entry["action"] == "grow" and "from_res" in entry]

    def res_at(nimg: int) -> int:
        earlier = (entry["to_res"] for entry in reversed(growths) if entry["nimg"] < nimg)
        return next(earlier, growths[0]["from_res"])

    return [grid for grid in grids if growths and grid.res == res_at(grid.nimg)] or grids


def evenly_chosen(grids: list[GridFile], count: int) -> list[GridFile]:
    """At most `count` of the grids: always the last one, and the first one if count is above 1."""
    if len(grids) <= count:
        return grids
    return [grids[round(place)] for place in reversed(np.linspace(len(grids) - 1, 0, count))]


# ---- frames


class Frames:
    """Draws the grids as frames of one size. Below the grid: its resolution and kimg, and a bar of the time passed."""

    def __init__(self, grids: list[GridFile], width: int):
        self.grids = grids
        images, columns = split_grid(grids[-1].path)
        count, height_of_one, width_of_one, _ = images.shape
        across, down = width_of_one * columns, height_of_one * -(-count // columns)
        self.strip = max(20, width // 20) // 2 * 2  # height of the caption; sizes are even, as yuv420p wants
        self.room = (width // 2 * 2, max(2, round(width * down / across / 2) * 2))
        self.size = (self.room[0], self.room[1] + self.strip)
        if self.size[1] > MAX_HEIGHT:
            raise UserError(f"--width {width} makes frames {self.size[1]} px high, too high for a film: lower it")
        self.font = ImageFont.load_default(size=self.strip * 0.5)
        self.resolutions = sorted({grid.res for grid in grids})

    def __iter__(self) -> Iterator[Image.Image]:
        """RGB frames of `size`, drawn one at a time, so that a long film needs little memory."""
        for grid in tqdm(self.grids, unit="frame", disable=None, leave=False):
            yield self.frame(grid)

    def frame(self, grid: GridFile) -> Image.Image:
        frame = Image.new("RGB", self.size)
        sheet = fit_grid(*split_grid(grid.path), self.room)
        frame.paste(sheet, ((self.room[0] - sheet.width) // 2, (self.room[1] - sheet.height) // 2))
        self._draw_caption(ImageDraw.Draw(frame), grid)
        return frame

    def _draw_caption(self, pen: ImageDraw.ImageDraw, grid: GridFile) -> None:
        (width, height), line, margin = self.size, max(2, self.strip // 9), self.strip // 4
        middle, text = height - line - (self.strip - line) / 2, caption(grid)
        pen.text((margin, middle), text, BRIGHT, self.font, anchor="lm")
        right, left = width - margin, 2 * margin + pen.textlength(text, self.font)
        for res in reversed(self.resolutions):  # as many as there is room for; those not reached yet are dim
            if right - pen.textlength(str(res), self.font) < left:
                break
            pen.text((right, middle), str(res), BRIGHT if res <= grid.res else DIM, self.font, anchor="rm")
            right -= pen.textlength(f"{res}  ", self.font)
        reached = round(width * grid.nimg / max(self.grids[-1].nimg, 1))
        pen.rectangle((0, height - line, width, height), DIM)
        pen.rectangle((0, height - line, max(reached - 1, 0), height), BLUE)


def caption(grid: GridFile) -> str:
    """`64 px  250.0 kimg`"""
    return f"{grid.res} px  {grid.nimg / 1000:.1f} kimg"


# ---- files


class LazyPages:
    """An image file of `count` pages, for Pillow, that takes each page from `frames` only when it is needed."""

    def __init__(self, frames: Iterator[Image.Image], count: int):
        self.frames, self.n_frames, self.page = frames, count, None

    def seek(self, _number: int) -> None:
        self.page = next(self.frames)

    def __getattr__(self, name: str):
        return getattr(self.page, name)


def write_webp(frames: Frames, path: Path, fps: int) -> None:
    """An animated WebP file that repeats forever."""
    each, later = iter(frames), len(frames.grids) - 1
    durations = [1000 / fps] * later + [1000 * LAST_SECONDS]
    pages = [LazyPages(each, later)] if later else []
    next(each).save(path, "WEBP", save_all=True, append_images=pages, duration=durations, loop=0, quality=80, method=2)


def write_mp4(frames: Frames, path: Path, fps: int) -> None:
    """An MP4 file, H.264 in yuv420p, which all players know."""
    import av

    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=Fraction(fps), options={"crf": "20", "preset": "medium"})
        stream.width, stream.height = frames.size
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_image(frame)))
        for _ in range(LAST_SECONDS * fps - 1):
            file.mux(stream.encode(av.VideoFrame.from_image(frame)))
        file.mux(stream.encode())
