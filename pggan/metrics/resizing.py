"""Images of any size resized to the 299 x 299 pixels that the Inception network reads, in two ways.

Distances measured after different ways cannot be compared. Both give gray levels that are neither rounded nor shifted.

- `tf`: TensorFlow 1's bilinear resizing, which starts at the corner and has no filter: pixel x of the result reads
  place x * W / 299 of the image and skips smaller detail. The original FID (Heusel et al. 2017, arXiv 1706.08500) and
  torch-fidelity use it; this is torch-fidelity's function.
- `clean`: bicubic with a filter as wide as the shrinking needs, in float32 (Parmar et al. 2022, arXiv 2104.11222).
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 299  # pixels


def to_inception(image: np.ndarray, how: str) -> np.ndarray:
    """One RGB image (uint8 [H, W, 3], or Pillow's) as float32 [3, 299, 299] within 0..255. how: tf or clean."""
    pixels = torch.tensor(np.asarray(image))  # a copy: Pillow's arrays are read-only
    return HOW[how](pixels.movedim(-1, 0)[None].float())[0].numpy()


def _tf(images: Tensor) -> Tensor:
    from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x

    return interpolate_bilinear_2d_like_tensorflow1x(images, (SIDE, SIDE), align_corners=False)


def _clean(images: Tensor) -> Tensor:
    """Pillow's resizing of the float channels; values beyond 0..255, where bicubic overshoots, are clamped."""
    return F.interpolate(images, (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)


HOW: dict[str, Callable[[Tensor], Tensor]] = {"tf": _tf, "clean": _clean}
