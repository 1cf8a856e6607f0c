"""Small image sets for the tests of the measuring tools: folders of noise, and checkpoints with new networks."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from pggan.config.schema import Config, DataConfig, NetworkConfig
from pggan.training import checkpoint
from pggan.training.state import new_state


def noise(number: int, width: int = 24, height: int = 20) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 256, (height, width, 3), np.uint8)


def fill(folder: Path, count: int, seed: int = 0, size: tuple[int, int] = (9, 7)) -> Path:
    """A folder of `count` images of noise, 000.png and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(noise(1000 * seed + number, *size)).save(folder / f"{number:03d}.png")
    return folder


def make_checkpoint(
    path: Path, res: int = 8, base: str = "4x4", fit: str = "crop", data: str = "builtin", seed: int = 0
) -> Path:
    """A checkpoint with new networks at `res`, with the aspect of `base`."""
    network = NetworkConfig(base=base, start_res=res, max_res=res, fmap_base=32, fmap_max=8, latent=8)
    config = Config(network=network, data=DataConfig(data=data, fit=fit))
    checkpoint.save(new_state(config, torch.device("cpu"), attempt=seed).to_dict(), path)
    return path
