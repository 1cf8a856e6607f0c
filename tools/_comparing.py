"""The flags that fid.py and diversity.py share, the checks of flags, and the file of figures."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from pggan.config import cli
from pggan.errors import UserError


def flag(metavar: str, default: str = "none") -> Any:
    """How --help shows a flag whose default is None. default: what None means, in words."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint=f"(default: {default})")


FIT = Annotated[Literal["crop", "pad", "stretch"] | None, flag("{crop,pad,stretch}", "the checkpoint's, or crop")]
JSON = Annotated[str | None, flag("FILE")]


@dataclass(frozen=True)
class Sets:
    """The two sets of images, and how they are opened."""

    real: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="REAL")]
    """The real images: a folder, a zip, builtin[:SEED], or a checkpoint to draw samples from."""
    fake: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FAKE")]
    """The images to measure: the same choices. If one of the two is a checkpoint, both sets get its image size."""
    num: Annotated[int | None, flag("INT", "as many as there are real images, from 1,000 to 50,000")] = None
    """Number of samples to draw from a checkpoint."""
    seed: int = 0
    """Seed of the samples, and of the choice of images where not all are used."""
    fit: FIT = None
    """How images of another shape are fitted to the size."""
    builtin_images: int = 2000
    """Number of images in builtin[:SEED]."""
    json: JSON = None
    """Write the figures to this file."""
    cache: Annotated[str | None, flag("FOLDER", "your cache folder")] = None
    """Where to keep the measurements of the real images for the next time."""
    device: Literal["auto", "cuda", "mps", "cpu"] = "auto"
    """Where networks run."""

    def opening(self) -> dict[str, Any]:
        """The arguments for `open_pair` and `open_set`. Raises UserError for a device that is not there."""
        from pggan.run.devices import pick_device

        return {"device": pick_device(self.device), "builtin_images": self.builtin_images, "cache": self.cache}


def check(args: Any, least: dict[str, int], paths: tuple[str, ...], written: tuple[str, ...] = ("json",)) -> None:
    """Raises UserError for bad values of flags, by field name.

    least: the smallest allowed numbers. paths: of files and folders; they may be left out, but not be empty.
    written: those of paths that will be written.
    """
    for name, smallest in least.items():
        value = getattr(args, name)
        if value is not None and value < smallest:
            raise UserError(f"--{name.replace('_', '-')} must be at least {smallest}, not {value}")
    for name in (*paths, *written):
        if getattr(args, name) == "":
            raise UserError(f"--{name.replace('_', '-')} is empty: give it a path, or leave it out")
    for name in written:
        cli.check_writable(f"--{name}", getattr(args, name))


def write_json(path: str | None, values: dict) -> None:
    """Writes values to a file; nothing if path is None."""
    if path:
        Path(os.path.expanduser(path)).write_text(json.dumps(values, indent=2) + "\n")
