"""Opens image sets by what the user wrote: a folder, a zip, builtin[:SEED] or a checkpoint."""

import os
import zipfile
from pathlib import Path

import torch

from pggan.data.reading import plain
from pggan.data.sources import Files, open_source
from pggan.errors import UserError
from pggan.evaluation.image_sets import ImageSet, SampleSet, Size, SourceSet, Trained
from pggan.training import checkpoint
from pggan.training.state import state_from

Device = str | torch.device
BUILTIN_SIZE = (256, 256)  # of built-in images, if no size is given
CHECKPOINT_ENDINGS = (".pt", ".pth", ".ckpt")
MIN_SAMPLES, MAX_SAMPLES = 1000, 50_000  # drawn from a checkpoint, if no number is given
MAX_RES = 4096  # px, that may be asked for


def open_set(
    spec: str,
    *,
    num: int = MIN_SAMPLES,
    seed: int = 0,
    size: Size | None = None,
    fit: str = "crop",
    device: Device = "cpu",
    builtin_images: int = 2000,
    cache: str | Path | None = None,
) -> ImageSet:
    """The set that `spec` names: a folder, a zip, builtin[:SEED] or a checkpoint.

    num, seed: of the samples of a checkpoint, drawn on `device`. size: see ImageSet; without it samples have the
    checkpoint's own size and built-in images 256x256. cache: see `open_source`.
    Raises UserError when there is no such place, it holds no images, or it is damaged.
    """
    if is_checkpoint(spec):
        return SampleSet(spec, size, fit, open_trained(spec, device), num, seed)
    return _open_source_set(spec, size, fit, builtin_images, cache)


def open_pair(
    real: str,
    fake: str,
    *,
    num: int | None = None,
    seed: int = 0,
    res: int | None = None,
    fit: str | None = None,
    device: Device = "cpu",
    **how,
) -> tuple[ImageSet, ImageSet]:
    """Two sets whose images are prepared in the same way. See `open_set`.

    If one of them is a checkpoint (of two, the fake's decides), both have its size and the fit it was trained with:
    the real images are as training saw them, without random crops. Otherwise images keep their sizes.
    num: samples of a checkpoint; by default as many as the other set has, from 1,000 to 50,000. res: another size, in
    pixels of the shorter side; at the checkpoint's aspect, or else square. fit: another fit than the checkpoint's.
    how: builtin_images and cache.
    """
    trained = {spec: open_trained(spec, device) for spec in dict.fromkeys((fake, real)) if is_checkpoint(spec)}
    size, fit = _common(next(iter(trained.values()), None), res, fit)
    others = [spec for spec in (real, fake) if spec not in trained]
    sets = {spec: _open_source_set(spec, size, fit, **how) for spec in others}
    num = num or samples_for(max((len(images) for images in sets.values()), default=0))
    sets |= {spec: SampleSet(spec, size, fit, trained[spec], num, seed) for spec in trained}
    return sets[real], sets[fake]


def samples_for(reals: int) -> int:
    """The default number of samples: as many as there are real images, from 1,000 to 50,000."""
    return min(max(reals, MIN_SAMPLES), MAX_SAMPLES)


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


def open_trained(spec: str, device: Device) -> Trained:
    """The moving average of a checkpoint's generator, on `device`. Raises UserError."""
    values = checkpoint.load(Path(os.path.expanduser(spec)))
    state = state_from(values, torch.device(device))
    return Trained(state.G_ema.eval(), state.alpha, state.config, values["sha256"])


def _open_source_set(
    spec: str, size: Size | None, fit: str, builtin_images: int = 2000, cache: str | Path | None = None
) -> SourceSet:
    path = Path(os.path.expanduser(spec))
    builtin = spec.partition(":")[0] == "builtin"
    if not builtin and (not spec or not os.path.exists(path)):
        raise UserError(f"{plain(spec) or 'an empty name'}: no such folder, zip file or checkpoint")
    if os.path.isdir(path / "checkpoints") and os.path.isdir(path / "samples"):
        latest = path / "checkpoints" / "latest.pt"
        raise UserError(f"{plain(spec)} is the folder of a run: name a checkpoint in it, such as {plain(latest)}")
    source = open_source(spec, builtin_images, cache)
    return SourceSet(spec, size or (None if isinstance(source, Files) else BUILTIN_SIZE), fit, source)


def _common(trained: Trained | None, res: int | None, fit: str | None) -> tuple[Size | None, str]:
    """(size, fit) of both sets."""
    if res is not None and not 1 <= res <= MAX_RES:
        raise UserError(f"--res must be from 1 to {MAX_RES}, not {res}")
    if trained is None:
        return (res, res) if res else None, fit or "crop"
    width, height = trained.size
    if res:
        width, height = (round(side * res / min(trained.size)) for side in trained.size)
    return (width, height), fit or trained.config.data.fit
