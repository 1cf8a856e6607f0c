"""Draws samples of a generator."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from pggan.data.listing import OUTPUT_MARK
from pggan.errors import UserError
from pggan.evaluation.grids import save_grid
from pggan.metrics.small_images import to_uint8
from pggan.models.networks import Generator
from pggan.models.noise import latents, noise_maps
from pggan.randomness import Stream

MAX_ON_GRID = 256
MEAN_OF = 4096  # latents, for the mean of `project`


def draw(generator: Generator, alpha: float, seed: int, count: int, psi: float = 1.0, batch: int = 16) -> np.ndarray:
    """All images of `draw_batches` at once, uint8 [count, H, W, 3]."""
    return np.concatenate(list(draw_batches(generator, alpha, seed, count, psi, batch)))


@torch.no_grad()
def draw_batches(
    generator: Generator, alpha: float, seed: int, count: int, psi: float = 1.0, batch: int = 16
) -> Iterator[np.ndarray]:
    """Yields uint8 [up to batch, H, W, 3], `count` images in all. Image i depends on (seed, i), its last bit on batch.

    psi below 1 pulls samples towards the mean, at the output of `project`: pulling latents would do nothing, as they
    are normalized afterwards. With styles this is the truncation trick (Karras et al. 2019, appendix B).
    """
    device = next(generator.parameters()).device
    stream, width, maps = Stream(seed), generator.config.latent, generator.noise_size()
    mean = None
    if psi != 1:
        mean = generator.project(latents(stream, "mean", 0, MEAN_OF, width, device)).mean(0)
    for start in range(0, count, batch):  # the last batch is full too: a convolution's last bit depends on its size
        h = generator.project(latents(stream, "samples", start, batch, width, device))
        h = h if mean is None else mean + psi * (h - mean)
        noise = noise_maps(stream, "sample noise", start, batch, maps, torch.device("cpu"))  # the same on all devices
        images = generator.synthesize(h, alpha, None if noise is None else noise.to(device))
        yield to_uint8(images).numpy()[: count - start]


def save_samples(
    generator: Generator, alpha: float, folder: Path, seed: int, count: int, psi: float, columns: int
) -> int:
    """Writes SEED-00000.png and so on, and grid.png; returns how many images are on the grid, 256 at the most.

    folder: made if need be. seed, count, psi: see `draw_batches`. columns: of the grid. Raises UserError.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            (folder / OUTPUT_MARK).touch()
    except (FileExistsError, NotADirectoryError):
        raise UserError(f"--out {folder} is a file: name a folder") from None
    on_grid, batches = [], draw_batches(generator, alpha, seed, count, psi)
    for number, image in enumerate(tqdm(chain.from_iterable(batches), total=count, disable=None, leave=False)):
        Image.fromarray(image).save(folder / f"{seed:04d}-{number:05d}.png")
        if number < MAX_ON_GRID:
            on_grid.append(image)
    save_grid(np.stack(on_grid), columns, folder / "grid.png")
    return len(on_grid)
