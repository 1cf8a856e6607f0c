"""Pictures to look at: samples of a state, and the sheet they are shown on."""

import numpy as np
import torch
from PIL import Image

from pggan.randomness import Stream
from pggan.state import TrainState


@torch.no_grad()
def sample(state: TrainState, count: int, alpha: float) -> np.ndarray:
    """uint8 [count, H, W, 3] from the moving average and the run's fixed grid latents, a batch at a time."""
    fixed = Stream(state.config.training.seed)  # the same pictures after a rollback, too
    latents = torch.from_numpy(fixed.normal("grid", 0, count, state.config.network.latent)).to(state.device)
    return torch.cat([to_uint8(state.average(z, alpha)) for z in latents.split(state.batch())]).numpy()


def to_uint8(images: torch.Tensor) -> torch.Tensor:
    """[N, 3, H, W] in [-1, 1] -> uint8 [N, H, W, 3] on the CPU; values outside are clamped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()


def tile(images: np.ndarray, columns: int) -> Image.Image:
    """uint8 [N, H, W, 3] as one picture, row by row; places left over are black."""
    n, h, w, c = images.shape
    rows = -(-n // columns)
    sheet = np.zeros((rows * columns, h, w, c), np.uint8)
    sheet[:n] = images
    return Image.fromarray(sheet.reshape(rows, columns, h, w, c).swapaxes(1, 2).reshape(rows * h, columns * w, c))
