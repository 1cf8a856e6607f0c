"""The images that every side trains on, made once: 64 x 64 pixels, as the project packs them."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pggan.evaluation.opening import open_set

RES = 64


def make_data(pictures: str, folder: Path) -> None:
    """Writes each picture of `pictures` as 00000.png ... into `folder`: its center square, at 64 x 64 pixels."""
    if folder.exists():
        return
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    save(np.stack(list(open_set(pictures, size=(RES, RES)))), partial)
    partial.rename(folder)


def read(folder: Path) -> np.ndarray:
    """uint8 [N, H, W, 3]: the PNG files of a folder, in their order."""
    images = []
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            images.append(np.asarray(image.convert("RGB")))
    return np.stack(images)


def save(images: np.ndarray, folder: Path) -> None:
    """Writes images uint8 [N, H, W, 3] as 00000.png ..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{number:05d}.png")


def batches(images: np.ndarray, batch: int, seed: int) -> Iterator[Tensor]:
    """Yields float32 [batch, 3, H, W] in [-1, 1] without end: shuffled in each pass, and half of them mirrored."""
    rng = np.random.default_rng(seed)
    order: list[int] = []
    while True:
        while len(order) < batch:
            order += rng.permutation(len(images)).tolist()
        chosen, order = order[:batch], order[batch:]
        reals = torch.from_numpy(images[chosen]).permute(0, 3, 1, 2).contiguous() / 127.5 - 1
        mirrored = torch.from_numpy(rng.random(batch) < 0.5)[:, None, None, None]
        yield torch.where(mirrored, reals.flip(3), reals)
