"""Measures of what leaks from augmentation into samples. Images: [N, 3, H, W] in [-1, 1]."""

import torch
from torch import Tensor


def color_cast(samples: Tensor, reals: Tensor) -> float:
    """The largest difference of the mean red, green or blue; 2 is black against white."""
    return (samples.mean(dim=(0, 2, 3)) - reals.mean(dim=(0, 2, 3))).abs().max().item()


def cut_places(samples: Tensor, reals: Tensor) -> float:
    """The share of samples with a corner (a quarter of each side) or an edge (an eighth) that is blank, mid-gray.

    Blank: in the mean square under a tenth of what the 2 % of reals that have least there have.
    """
    blank = []
    for here, there in zip(_windows(samples), _windows(reals), strict=True):
        least = there.square().mean(dim=(1, 2, 3)).quantile(0.02)
        blank.append(here.square().mean(dim=(1, 2, 3)) < least / 10)
    return torch.stack(blank).any(dim=0).float().mean().item()


def wrongly_turned(samples: Tensor, reals: Tensor) -> float:
    """The share of samples that resemble the mean real image more when that is turned or flipped. Squares only."""
    mean = reals.mean(dim=0)
    ways = [turned for k in range(4) for turned in (mean.rot90(k, (1, 2)), mean.rot90(k, (1, 2)).flip(2))]
    distances = torch.stack([(samples - way).square().mean(dim=(1, 2, 3)) for way in ways])  # [8, N]
    return (distances.argmin(dim=0) != 0).float().mean().item()


def _windows(images: Tensor) -> list[Tensor]:
    """The four corners, the four edges."""
    height, width = images.shape[2:]
    down, across = max(1, height // 4), max(1, width // 4)
    corners = [images[:, :, rows, columns] for rows in _ends(down) for columns in _ends(across)]
    edges = [images[:, :, rows] for rows in _ends(max(1, height // 8))]
    return corners + edges + [images[:, :, :, columns] for columns in _ends(max(1, width // 8))]


def _ends(length: int) -> tuple[slice, slice]:
    return slice(None, length), slice(-length, None)
