"""Images as the measures read them: 64 x 64 pixels, batch by batch.

Shapes here: N images, float32 [N, 3, 64, 64] in [-1, 1].
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 64  # pixels at which images are read
SOFT_SIDE = 16  # pixels that `softened` keeps
BATCH = 128


def read(pixels: np.ndarray, side: int = SIDE) -> Tensor:
    """uint8 [N, H, W, 3] of any size -> float32 [N, 3, side, side] in [-1, 1], squashed if not square."""
    images = torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1  # a copy: maps are read-only
    if images.shape[2:] == (side, side):
        return images.contiguous()
    return F.interpolate(images, (side, side), mode="bilinear", antialias=True).clamp(-1, 1)


def read_one(image: np.ndarray, side: int = SIDE) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [side, side, 3]: `read` for one image, as uint8 to save memory."""
    return to_uint8(read(image[None], side))[0].numpy()


def to_uint8(images: Tensor) -> Tensor:
    """[N, 3, H, W] in [-1, 1] -> uint8 [N, H, W, 3] on the CPU; values outside are clamped."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).cpu()


def softened(images: Tensor) -> Tensor:
    """The same images without detail finer than a sixteenth of the side: sharp and blurred ones then look the same."""
    return F.interpolate(F.avg_pool2d(images, SIDE // SOFT_SIDE), (SIDE, SIDE), mode="bilinear")


def features(pixels: np.ndarray, space: Callable[[Tensor], Tensor], side: int = SIDE) -> np.ndarray:
    """float64 [N, D] of images uint8 [N, H, W, 3], which may be a memory map: they are read batch by batch."""
    return np.concatenate([space(images).double().numpy() for images in batches(pixels, side)])


def spread(h: Tensor) -> Tensor:
    """[N, C]: the standard deviation of each channel of [N, C, H, W] over its pixels."""
    mean = h.mean((2, 3))
    return (h.square().mean((2, 3)) - mean.square()).clamp(min=0).sqrt()


def contrast(images: Tensor) -> Tensor:
    """[N]: the standard deviation of brightness within each image."""
    return images.mean(dim=1).flatten(1).std(dim=1)


def with_contrast(images: Tensor, factor: float) -> Tensor:
    """The same images with their contrast multiplied by `factor`, each around its own mean."""
    mean = images.mean((1, 2, 3), keepdim=True)
    return (mean + factor * (images - mean)).clamp(-1, 1)


def contrast_factor(pixels: np.ndarray, wanted: float) -> float:
    """The factor, from 0.5 to 2, that brings the mean contrast of images uint8 [N, H, W, 3] to `wanted`."""
    own = np.concatenate([contrast(images).numpy() for images in batches(pixels)]).mean()
    return float(np.clip(wanted / max(own, 1e-6), 0.5, 2))


def joined(parts: Iterable[dict[str, Tensor | np.ndarray]]) -> dict[str, np.ndarray]:
    """What was measured of each batch, joined to one array for each name. Some batches may lack a name."""
    lists: dict[str, list[np.ndarray]] = {}
    for name, value in (item for part in parts for item in part.items()):
        lists.setdefault(name, []).append(np.asarray(value))
    return {name: np.concatenate(values) for name, values in lists.items()}


def batches(pixels: np.ndarray, side: int = SIDE) -> Iterator[Tensor]:
    """The images uint8 [N, H, W, 3] in batches, as `read` returns them."""
    for start in range(0, len(pixels), BATCH):
        yield read(pixels[start : start + BATCH], side)
