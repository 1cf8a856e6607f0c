#!/usr/bin/env python3
"""The training as a film, from a run's sample grids: `python tools/film.py RUN [--out FILE.webp|FILE.mp4]`."""

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated

import _root  # noqa: F401  (the project on the path)
import tyro
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from pggan.config import cli
from pggan.data.reading import Unreadable, decode_errors
from pggan.errors import UserError

LAST_SECONDS = 2  # that the last frame stands still
WIDTHS = (192, 4096)  # the caption fits, and players take it
HIGHEST = 16_000  # pixels; a WebP ends at 16,383
DARK, DIM, BRIGHT, BAR = (16, 16, 20), (96, 96, 104), (240, 240, 240), (70, 150, 240)


@dataclass(frozen=True)
class Args:
    """Make a film of how a run's samples came to be: the same latents, from its first grid to its last."""

    run: Annotated[str, tyro.conf.Positional]
    """A run's folder, such as runs/NAME; it may still be training."""
    out: str | None = None
    """FILE.webp, an animated picture that browsers play, or FILE.mp4, H.264. Left out: RUN/film.webp."""
    fps: int = 8
    """Grids a second, from 1 to 60."""
    width: int = 768
    """Pixels across, from 192 to 4096, made even."""
    frames: int = 200
    """The most grids to show; of more, evenly chosen ones."""


@dataclass(frozen=True)
class Grid:
    """A sample grid of a run: its file, and the resolution and images shown that its name says."""

    path: Path
    res: int
    nimg: int

    def read(self) -> Image.Image:
        """The whole picture, in RGB. Raises UserError."""
        try:
            with decode_errors(str(self.path)), Image.open(self.path) as picture:
                return picture.convert("RGB")
        except Unreadable as error:
            raise UserError(f"{self.path} cannot be read ({error}): delete it and start this again") from None


def main(argv: list[str]) -> None:
    args = cli.parse(Args, argv, prog="film.py")
    out = checked(args)
    shown = thinned(of_this_run(Path(args.run), grids(Path(args.run))), args.frames)
    screen = Screen(shown, args.width)
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(out.name + ".tmp")
    try:
        (write_webp if out.suffix.lower() == ".webp" else write_mp4)(screen, beside, args.fps)
        os.replace(beside, out)
    finally:
        beside.unlink(missing_ok=True)
    (width, height), megabytes = screen.size, out.stat().st_size / 1e6
    print(f"{len(shown)} grids of {args.run}, {width}x{height} px, {megabytes:.1f} MB: {out}")


def checked(args: Args) -> Path:
    """Where the film goes, once all flags make sense. Raises UserError."""
    if args.out == "":
        raise UserError("--out is empty: name a file")
    for name, (low, high) in {"fps": (1, 60), "width": WIDTHS, "frames": (1, 100_000)}.items():
        if not low <= getattr(args, name) <= high:
            raise UserError(f"--{name} must be from {low} to {high}, not {getattr(args, name)}")
    out = Path(os.path.expanduser(args.out)) if args.out else Path(args.run) / "film.webp"
    if out.suffix.lower() not in (".webp", ".mp4"):
        raise UserError(f"--out {out} is no film that can be made: let its name end in .webp or .mp4")
    if out.is_dir():
        raise UserError(f"--out {out} is a folder: name a file")
    if out.suffix.lower() == ".mp4":
        codec()
    return out


def codec():
    """The module of PyAV. Raises UserError where it is missing."""
    try:
        import av
    except ImportError:
        raise UserError("an .mp4 needs PyAV: pip install av, or let --out end in .webp") from None
    return av


# ---- which grids


def grids(run: Path) -> list[Grid]:
    """All sample grids of a run, by images shown. Raises UserError when there are none."""
    if not (run / "config.json").is_file():
        raise UserError(f"{run} holds no run: name the folder that train.py made")
    names = [(path, re.fullmatch(r"(\d+)-(\d+)\.png", path.name)) for path in (run / "samples").glob("*.png")]
    found = [Grid(path, int(name[1]), int(name[2])) for path, name in names if name]
    if not found:
        raise UserError(f"{run} has no sample grids yet: wait for the first, drawn every --sample-kimg")
    return sorted(found, key=lambda grid: (grid.nimg, grid.res))


def of_this_run(run: Path, found: list[Grid]) -> list[Grid]:
    """Without what a rolled back or killed attempt left at a resolution that the run then had at another time."""
    try:
        entries = json.loads((run / "growth.json").read_text())
        steps = [(entry["nimg"], entry["from_res"], entry["to_res"]) for entry in entries if entry["action"] == "grow"]
    except (OSError, ValueError, KeyError, TypeError):
        return found

    def right(grid: Grid) -> bool:
        past = [to_res for nimg, _, to_res in steps if nimg < grid.nimg]  # at nimg itself the old stage drew its last
        return not steps or grid.res == (past[-1] if past else steps[0][1])

    return [grid for grid in found if right(grid)] or found


def thinned(found: list[Grid], most: int) -> list[Grid]:
    """At most `most` of them, evenly chosen; the last is always there, and the first if there is room."""
    if len(found) <= most:
        return found
    return [found[round(len(found) - 1 - index * (len(found) - 1) / max(most - 1, 1))] for index in range(most)][::-1]


# ---- what a frame shows


class Screen:
    """Draws any of the grids as a frame of one size: the picture, and below it a strip that says where the run is."""

    def __init__(self, shown: list[Grid], width: int):
        self.grids = shown
        across, down = shown[-1].read().size
        self.strip = max(20, width // 20) // 2 * 2
        self.picture = (width // 2 * 2, max(2, round(width * down / across / 2) * 2))  # even: yuv420p halves both sides
        self.size = (self.picture[0], self.picture[1] + self.strip)
        if self.size[1] > HIGHEST:
            raise UserError(f"--width {width} makes frames {self.size[1]} px high, more than films can be: lower it")
        self.font = ImageFont.load_default(size=self.strip * 0.5)
        self.ladder = sorted({grid.res for grid in shown})

    def frames(self) -> Iterator[Image.Image]:
        """Each grid's frame, RGB of `size`, one at a time: a film of any length needs little memory."""
        for grid in tqdm(self.grids, unit="frame", disable=None, leave=False):
            yield self.frame(grid)

    def frame(self, grid: Grid) -> Image.Image:
        frame = Image.new("RGB", self.size, DARK)
        picture = fitted(grid.read(), self.picture)
        frame.paste(picture, ((self.picture[0] - picture.width) // 2, (self.picture[1] - picture.height) // 2))
        self._caption(ImageDraw.Draw(frame), grid)
        return frame

    def _caption(self, pen: ImageDraw.ImageDraw, grid: Grid) -> None:
        (width, height), line, pad = self.size, max(2, self.strip // 9), self.strip // 4
        middle = height - line - (self.strip - line) / 2
        pen.text((pad, middle), caption(grid), BRIGHT, self.font, anchor="lm")
        right, left = width - pad, 2 * pad + pen.textlength(caption(grid), self.font)
        for res in reversed(self.ladder):  # the growth: what is reached, and what is to come, as far as there is room
            if right - pen.textlength(str(res), self.font) < left:
                break
            pen.text((right, middle), str(res), BRIGHT if res <= grid.res else DIM, self.font, anchor="rm")
            right -= pen.textlength(f"{res}  ", self.font)
        reached = round(width * grid.nimg / max(self.grids[-1].nimg, 1))
        pen.rectangle((0, height - line, width, height), DIM)
        pen.rectangle((0, height - line, max(reached - 1, 0), height), BAR)


def caption(grid: Grid) -> str:
    """As in `64 px  250.0 kimg`."""
    return f"{grid.res} px  {grid.nimg / 1000:.1f} kimg"


def fitted(picture: Image.Image, room: tuple[int, int]) -> Image.Image:
    """As large as `room` allows: a small picture keeps its pixels as squares, a large one goes through a filter."""
    scale = min(room[0] / picture.width, room[1] / picture.height)
    size = (round(picture.width * scale), round(picture.height * scale))
    if max(room[0] - size[0], room[1] - size[1]) <= 2:  # the same shape but for rounding, unless --grid was changed
        size = room
    if scale <= 1:
        return picture.resize(size, Image.Resampling.LANCZOS)
    times = math.ceil(scale)
    squares = picture.resize((picture.width * times, picture.height * times), Image.Resampling.NEAREST)
    return squares.resize(size, Image.Resampling.BOX)  # by no whole number: squares with soft edges, all of one size


# ---- the file


class Reel:
    """Frames as Pillow sees the pages of a file: each is drawn when it comes to it, so that one is held at a time."""

    def __init__(self, frames: Iterator[Image.Image], count: int):
        self.frames, self.n_frames, self.page = frames, count, None

    def seek(self, _number: int) -> None:
        self.page = next(self.frames)

    def __getattr__(self, name: str):
        return getattr(self.page, name)


def write_webp(screen: Screen, path: Path, fps: int) -> None:
    """An animated WebP that plays for ever."""
    frames, later = screen.frames(), len(screen.grids) - 1
    durations = [1000 / fps] * later + [1000 * LAST_SECONDS]
    rest = [Reel(frames, later)] if later else []
    next(frames).save(path, "WEBP", save_all=True, append_images=rest, duration=durations, loop=0, quality=80, method=2)


def write_mp4(screen: Screen, path: Path, fps: int) -> None:
    """H.264 in yuv420p, which plays everywhere."""
    av = codec()
    with av.open(str(path), "w", format="mp4", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=Fraction(fps), options={"crf": "20", "preset": "medium"})
        stream.width, stream.height = screen.size
        stream.pix_fmt = "yuv420p"
        for frame in screen.frames():
            file.mux(stream.encode(av.VideoFrame.from_image(frame)))
        for _ in range(LAST_SECONDS * fps - 1):
            file.mux(stream.encode(av.VideoFrame.from_image(frame)))
        file.mux(stream.encode())


if __name__ == "__main__":
    cli.run(main)
