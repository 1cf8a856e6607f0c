"""Opens image sets by what the user wrote: a folder, a zip, builtin[:SEED] or a checkpoint."""

import os
import zipfile
from dataclasses import replace
from pathlib import Path

import torch

from pggan.config.schema import from_dict
from pggan.data.sources import Files, open_source
from pggan.errors import UserError, plain
from pggan.evaluation.image_sets import ImageSet, SampleSet, Size, SourceSet, Trained
from pggan.training.checkpoint import GENERATOR_ENDING
from pggan.training.exported import load_values
from pggan.training.loading import generator_from

BUILTIN_SIZE = (256, 256)  # of built-in images, if no size is given
CHECKPOINT_ENDINGS = (".pt", ".pth", ".ckpt", GENERATOR_ENDING)
MIN_SAMPLES, MAX_SAMPLES = 1000, 50_000  # drawn from a checkpoint, if no number is given
MAX_RES = 4096  # px, that may be asked for


def open_set(
    spec: str,
    *,
    num: int = MIN_SAMPLES,
    seed: int = 0,
    size: Size | None = None,
    fit: str = "crop",
    device: str | torch.device = "cpu",
    builtin_images: int = 2000,
    cache: str | Path | None = None,
) -> ImageSet:
    """The set that `spec` names: a folder, a zip, builtin[:SEED] or a checkpoint.

    num, seed: of the samples of a checkpoint, drawn on `device`. size: see ImageSet; without it samples have the
    checkpoint's own size and built-in images 256x256. cache: see `open_source`.
    Raises UserError when there is no such place, it holds no images, or it is damaged.
    """
    path = Path(os.path.expanduser(spec))
    if is_checkpoint(spec):
        values = load_values(path)
        G, alpha = generator_from(values, torch.device(device))
        trained = Trained(G, alpha, from_dict(values["config"]), values["sha256"])
        return SampleSet(spec, size, fit, trained, num, seed)
    if spec.partition(":")[0] != "builtin" and (not spec or not os.path.exists(path)):
        raise UserError(f"{plain(spec) or 'an empty name'}: no such folder, zip file or checkpoint")
    if os.path.isdir(path / "checkpoints") and os.path.isdir(path / "samples"):
        latest = path / "checkpoints" / "latest.pt"
        raise UserError(f"{plain(spec)} is the folder of a run: name a checkpoint in it, such as {plain(latest)}")
    source = open_source(spec, builtin_images, cache)
    return SourceSet(spec, size or (None if isinstance(source, Files) else BUILTIN_SIZE), fit, source)


def open_pair(
    real: str, fake: str, *, num: int | None = None, res: int | None = None, fit: str | None = None, **how
) -> tuple[ImageSet, ImageSet]:
    """Two sets whose images are prepared in the same way.

    If one of them is a checkpoint (of two, the fake's decides), both have its size and the fit it was trained with:
    the real images are as training saw them, without random crops. Otherwise images keep their sizes.
    num: samples of a checkpoint; by default as many as the other set has, from 1,000 to 50,000. res: another size, in
    pixels of the shorter side; at the checkpoint's aspect, or else square. fit: another fit than the checkpoint's.
    how: seed, device, builtin_images and cache; see `open_set`.
    """
    if res is not None and not 1 <= res <= MAX_RES:
        raise UserError(f"--res must be from 1 to {MAX_RES}, not {res}")
    sets = {spec: open_set(spec, **how) for spec in dict.fromkeys((fake, real))}
    trained = [images.trained for images in sets.values() if isinstance(images, SampleSet)]
    size, usual_fit = (trained[0].size, trained[0].config.data.fit) if trained else (None, "crop")
    if res:
        size = tuple(round(side * res / min(size)) for side in size) if size else (res, res)
    count = max((len(images) for images in sets.values() if isinstance(images, SourceSet)), default=0)
    num = num or min(max(count, MIN_SAMPLES), MAX_SAMPLES)
    for spec, images in sets.items():
        more = {"num": num} if isinstance(images, SampleSet) else {}
        sets[spec] = replace(images, size=size or images.size, fit=fit or usual_fit, **more)
    return sets[real], sets[fake]


def is_checkpoint(spec: str) -> bool:
    """Whether to open `spec` as a checkpoint. torch's files are zips, too, but end in another name than .zip."""
    path = os.path.expanduser(spec)
    if not os.path.isfile(path) or path.lower().endswith(".zip"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith("/data.pkl") for name in archive.namelist())
    except Exception:  # not a zip, or a damaged one, or one without permission
        return path.lower().endswith(CHECKPOINT_ENDINGS)
