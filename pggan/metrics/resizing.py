"""Pictures of any size brought to the 299 x 299 pixels that the Inception network reads, in the two ways others do it.

Which way is part of a figure: distances measured after different ways cannot be compared. Both give gray levels that
are neither rounded nor shifted; the network takes them to its own range.

- `tf`: bilinear as TensorFlow 1 had it, from the corner and without a filter: pixel x of the result looks at place
  x * W / 299 of the picture, whatever is smaller than that being skipped. Of the original FID (Heusel et al. 2017,
  arXiv 1706.08500) and of torch-fidelity.
- `clean`: bicubic with a filter as wide as the shrinking asks for, computed in float32 (clean-fid: Parmar et al. 2022,
  arXiv 2104.11222).

Shapes here: N pictures of one size, H and W pixels.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SIDE = 299  # pixels


def to_inception(picture: np.ndarray, how: str) -> np.ndarray:
    """One RGB picture (uint8 [H, W, 3], or of Pillow) as float32 [3, 299, 299] within 0..255; `how`: tf or clean."""
    pixels = torch.tensor(np.asarray(picture))  # a copy: Pillow's arrays are read-only
    return batch_to_inception(pixels.movedim(-1, 0)[None], how)[0].numpy()


def batch_to_inception(pictures: Tensor, how: str) -> Tensor:
    """Pictures of one size, uint8 [N, 3, H, W], as float32 [N, 3, 299, 299] within 0..255, on their own device.

    Each comes out as it would alone. Raises ValueError for another type or shape, and for an unknown `how`.
    """
    if pictures.dtype != torch.uint8 or pictures.ndim != 4 or pictures.shape[1] != 3 or not all(pictures.shape[2:]):
        raise ValueError(f"pictures are uint8 [N, 3, H, W], not {pictures.dtype} {list(pictures.shape)}")
    if how not in HOW:
        raise ValueError(f"pictures are resized by one of {', '.join(HOW)}, not {how}")
    return HOW[how](pictures)


def _tf(pictures: Tensor) -> Tensor:
    return _between(_between(pictures, 3), 2)


def _between(pictures: Tensor, axis: int) -> Tensor:
    """Bilinear along one axis: [.., L, ..] -> float32 [.., 299, ..]; the last pixel stands for what lies beyond it.

    Along W and then along H it is torch-fidelity's `interpolate_bilinear_2d_like_tensorflow1x`, rounding included.
    """
    length = pictures.shape[axis]
    place = torch.arange(SIDE, dtype=torch.float32) * torch.tensor(length / SIDE, dtype=torch.float32)  # (299,)
    lower = place.long()
    share = (place - lower).view([SIDE if number == axis else 1 for number in range(4)]).to(pictures.device)
    below = pictures.index_select(axis, lower.to(pictures.device)).float()
    above = pictures.index_select(axis, (lower + 1).clamp(max=length - 1).to(pictures.device)).float()
    return below + (above - below) * share


def _clean(pictures: Tensor) -> Tensor:
    """As Pillow does it on the floats of each channel; bicubic overshoots, which is cut off."""
    return F.interpolate(pictures.float(), (SIDE, SIDE), mode="bicubic", antialias=True).clamp(0, 255)


HOW: dict[str, Callable[[Tensor], Tensor]] = {"tf": _tf, "clean": _clean}
