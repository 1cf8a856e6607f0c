"""Samples that are copies of training pictures, flipped, moved or cut a little as they may be.

Variety does not show them: exact copies of the training pictures are as varied as the training pictures. Each sample
is laid over the training pictures that look most like it, at every small shift, and over their mirror images; what
counts is the correlation of the brightness without its slow changes, in which two different pictures hardly agree. How
alike different real pictures are is measured on the reals themselves, each against all others, so that a set of
pictures that all look alike does not turn every sample into a copy.

Shapes here: thumbnails are uint8 [N, 32, 32, 3]; z are points [N, d] in which likely originals are looked for.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pggan.metrics.neighbors import nearest

SIDE = 32
WINDOW = 24  # pixels of the middle of a sample that are looked for: shifts of up to 4 of 32 pixels are found
SHIFTS = SIDE - WINDOW + 1
CANDIDATES = 16  # training pictures that each sample is laid over
SIGMA = 2.5  # pixels of 32: what is slower than that is taken out
CERTAIN = 0.8  # correlation from which a sample is a copy, where different reals stay below it
REAL_QUANTILE = 0.98  # or else from where this part of the reals lie below
TWINS = 0.97  # reals this much alike are copies of each other, and say nothing of how alike different ones are
ZOOMS = (1.0, 1.2)  # by which a training picture may have been enlarged
CHUNK = 64  # samples laid over their candidates at once


@dataclass(frozen=True)
class Copies:
    """For each of n samples: its correlation with the training picture most like it, in [-1, 1], and which that is.

    -1 where there is nothing to compare: flat pictures.
    """

    likeness: np.ndarray
    original: np.ndarray


def thumbnails(images: Tensor) -> np.ndarray:
    """uint8 [N, 32, 32, 3] of images [N, 3, 64, 64] in [-1, 1]."""
    small = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
    return ((small + 1) * 127.5).round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy()


@torch.no_grad()
def find_copies(
    samples: np.ndarray,
    z: list[np.ndarray],
    training: np.ndarray,
    z_training: np.ndarray,
    same: np.ndarray | None = None,
) -> Copies:
    """Looks for samples [n, 32, 32, 3] among training [N, 32, 32, 3].

    z: points of the samples as they are, and of their mirror images. same: for samples that are training pictures
    themselves, which one each is: [n]; it does not count.
    """
    count = min(CANDIDATES + (same is not None), len(z_training))
    candidates = np.stack([nearest(points, z_training, count)[1] for points in z], axis=1)  # [n, 2, c]
    views = np.stack([samples, samples[:, :, ::-1]], axis=1)  # [n, 2, 32, 32, 3]
    used, places = np.unique(candidates, return_inverse=True)
    among, places = Laid.down(training[used]), places.reshape(candidates.shape)
    parts = [slice(start, start + CHUNK) for start in range(0, len(samples), CHUNK)]
    found = np.concatenate([among.likeness(views[part], places[part]) for part in parts])
    if same is not None:
        found[candidates == same[:, None, None]] = -1
    found, candidates = (each.reshape(len(samples), -1) for each in (found, candidates))
    best = found.argmax(axis=1)[:, None]
    likeness, original = (np.take_along_axis(each, best, 1)[:, 0] for each in (found, candidates))
    return Copies(likeness.astype(np.float64), original)


@dataclass(frozen=True)
class Laid:
    """Pictures that windows can be laid over at all shifts at once. Shapes: k zooms, u pictures."""

    spectra: Tensor
    """complex64 [k, u, 32, 17]: of the sharpened pictures."""
    spreads: Tensor
    """float32 [k, u, 9, 9]: the length of each 24x24 part, less its mean."""

    @classmethod
    def down(cls, thumbs: np.ndarray) -> "Laid":
        """Of thumbnails uint8 [u, 32, 32, 3]."""
        light = _light(thumbs)
        pictures = torch.stack([sharpened(_zoomed(light, zoom)) for zoom in ZOOMS])
        mean, square = _window_means(pictures), _window_means(pictures.square())
        return cls(torch.fft.rfft2(pictures), (square - mean.square()).clamp(min=0).sqrt() * WINDOW)

    def likeness(self, views: np.ndarray, places: np.ndarray) -> np.ndarray:
        """float32 [n, 2, c]: of views [n, 2, 32, 32, 3] with each of their own pictures, whose numbers are [n, 2, c].

        The best correlation of the middle of the view with any part of the picture of that size, at any zoom.
        """
        where, edge = torch.from_numpy(places), (SIDE - WINDOW) // 2
        light = sharpened(_light(views.reshape(-1, SIDE, SIDE, 3)))
        windows = light[:, edge : edge + WINDOW, edge : edge + WINDOW].unflatten(0, views.shape[:2])
        windows = windows - windows.mean((2, 3), keepdim=True)
        lengths = windows.square().sum((2, 3)).sqrt()[:, :, None, None, None]
        wanted = torch.fft.rfft2(windows, s=(SIDE, SIDE)).conj()[:, :, None]  # (n, 2, 1, 32, 17)
        best = torch.full(places.shape, -1.0)
        for spectra, spreads in zip(self.spectra, self.spreads, strict=True):
            products = torch.fft.irfft2(wanted * spectra[where], s=(SIDE, SIDE))
            products = products[..., :SHIFTS, :SHIFTS]  # further ones would wrap round
            scale = lengths * spreads[where]
            correlations = torch.where(scale < 1e-3, -1.0, products / scale.clamp(min=1e-3))  # nothing to compare
            best = torch.maximum(best, correlations.amax((3, 4)))
        return best.clamp(-1, 1).numpy()


def sharpened(light: Tensor) -> Tensor:
    """[N, 32, 32] without its slow changes: less its own gaussian blur, mirrored at the edges."""
    blur = _blur()
    return light - blur @ light @ blur.T


@lru_cache(maxsize=1)
def _blur() -> Tensor:
    """[32, 32]: the blur of a column of pixels, as a matrix."""
    reach = round(3 * SIGMA)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / SIGMA) ** 2)
    padded = F.pad(torch.eye(SIDE)[:, None], (reach, reach), mode="reflect")
    return F.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].T.contiguous()


def _zoomed(pictures: Tensor, zoom: float) -> Tensor:
    """[N, 32, 32]: the middle of each, enlarged."""
    inner = round(SIDE / zoom)
    cut = (SIDE - inner) // 2
    part = pictures[:, None, cut : cut + inner, cut : cut + inner]
    return pictures if zoom == 1 else F.interpolate(part, (SIDE, SIDE), mode="bilinear")[:, 0]


def _window_means(pictures: Tensor) -> Tensor:
    """[k, N, 9, 9]: the mean of each 24x24 part of [k, N, 32, 32]."""
    windows = torch.zeros(SHIFTS, SIDE)
    for shift in range(SHIFTS):
        windows[shift, shift : shift + WINDOW] = 1 / WINDOW
    return windows @ pictures @ windows.T


def _light(thumbs: np.ndarray) -> Tensor:
    """Brightness in [-1, 1], [N, 32, 32], of thumbnails."""
    return torch.from_numpy(thumbs.astype(np.float32)).mean(dim=3) / 127.5 - 1


def threshold(real_likeness: np.ndarray) -> float:
    """The likeness from which a sample is a copy, from that of reals [n] with the real picture most like each.

    Where different reals are as alike as that (plain shapes on one ground, digits), it must be more than they are.
    """
    different = real_likeness[real_likeness < TWINS]
    usual = float(np.quantile(different, REAL_QUANTILE)) if len(different) else 1.0
    return min(max(CERTAIN, usual), TWINS)
