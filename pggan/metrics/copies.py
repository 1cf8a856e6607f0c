"""Samples that are copies of training pictures, flipped, moved or cut a little as they may be.

Variety does not show them: exact copies of the training pictures are as varied as the training pictures. Each sample
is laid over the training pictures that look most like it, at every small shift, and over their mirror images; what
counts is the correlation of the brightness without its slow changes, in which two different pictures hardly agree. How
alike different real pictures are is measured on the reals themselves, each against all others, so that a set of
pictures that all look alike does not turn every sample into a copy.

Shapes here: thumbnails are uint8 [N, 32, 32, 3]; z are points [N, d] in which likely originals are looked for.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pggan.metrics.neighbours import nearest

SIDE = 32
WINDOW = 24  # pixels of the middle of a sample that are looked for: shifts of up to 4 of 32 pixels are found
CANDIDATES = 16  # training pictures that each sample is laid over
SIGMA = 2.5  # pixels of 32: what is slower than that is taken out
CERTAIN = 0.8  # correlation from which a sample is a copy, where different reals stay below it
REAL_QUANTILE = 0.98  # or else from where this part of the reals lie below
TWINS = 0.97  # reals this much alike are copies of each other, and say nothing of how alike different ones are
ZOOMS = (1.0, 1.2)  # by which a training picture may have been enlarged
CHUNK = 64  # samples laid over their candidates at once


@dataclass(frozen=True)
class Copies:
    """For each of n samples: its correlation with the training picture most like it, in [-1, 1], and which that is."""

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
    out = Copies(np.full(len(samples), -1.0), np.full(len(samples), -1))
    spare = 0 if same is None else 1
    for points, mirrored in zip(z, (False, True), strict=True):
        candidates = nearest(points, z_training, min(CANDIDATES + spare, len(z_training)))[1]
        views = samples[:, :, ::-1] if mirrored else samples
        for start in range(0, len(samples), CHUNK):
            some, places = slice(start, start + CHUNK), candidates[start : start + CHUNK]
            found = likeness(views[some], training, places)
            if same is not None:
                found[places == same[some, None]] = -1
            best = found.argmax(axis=1)
            value = np.take_along_axis(found, best[:, None], 1)[:, 0]
            better = value > out.likeness[some]
            out.likeness[some] = np.where(better, value, out.likeness[some])
            out.original[some] = np.where(better, places[np.arange(len(best)), best], out.original[some])
    return out


def likeness(samples: np.ndarray, training: np.ndarray, places: np.ndarray) -> np.ndarray:
    """float32 [n, c]: of samples [n, 32, 32, 3] with each of their own c candidates among `training`, at [n, c].

    The best correlation of the sample's middle with any part of the candidate of that size, at the zooms looked at.
    """
    edge = (SIDE - WINDOW) // 2
    windows = sharpened(_light(samples))[:, :, edge : edge + WINDOW, edge : edge + WINDOW]
    windows = windows - windows.mean((1, 2, 3), keepdim=True)
    wanted = torch.fft.rfft2(windows, s=(SIDE, SIDE)).conj()  # (n, 1, 32, 17)
    lengths = windows.square().sum((1, 2, 3)).sqrt()[:, None, None, None]
    used, where = np.unique(places, return_inverse=True)
    where, found = torch.from_numpy(where.reshape(places.shape)), _light(training[used])  # (u, 1, 32, 32)
    best = torch.full(places.shape, -1.0)
    for zoom in ZOOMS:
        pictures = sharpened(_zoomed(found, zoom))
        spectra, spreads = torch.fft.rfft2(pictures)[:, 0], _spreads(pictures)
        products = torch.fft.irfft2(wanted * spectra[where], s=(SIDE, SIDE))
        scale = lengths * spreads[where]
        products = products[:, :, : scale.shape[2], : scale.shape[3]]  # further shifts would wrap round
        correlations = torch.where(scale < 1e-3, -1.0, products / scale.clamp(min=1e-3))  # nothing to compare there
        best = torch.maximum(best, correlations.amax((2, 3)))
    return best.clamp(-1, 1).numpy()


def sharpened(light: Tensor) -> Tensor:
    """[N, 1, H, W] without its slow changes: less its own gaussian blur."""
    reach = round(3 * SIGMA)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / SIGMA) ** 2)
    kernel = (kernel / kernel.sum()).view(1, 1, 1, -1)
    padded = F.pad(light, (reach,) * 4, mode="reflect")
    return light - F.conv2d(F.conv2d(padded, kernel), kernel.transpose(2, 3))


def _zoomed(pictures: Tensor, zoom: float) -> Tensor:
    inner = round(SIDE / zoom)
    cut = (SIDE - inner) // 2
    part = pictures[:, :, cut : cut + inner, cut : cut + inner]
    return part if zoom == 1 else F.interpolate(part, (SIDE, SIDE), mode="bilinear")


def _spreads(pictures: Tensor) -> Tensor:
    """[N, 9, 9]: the length of each 24x24 part of pictures [N, 1, 32, 32], less its mean."""
    mean, square = F.avg_pool2d(pictures, WINDOW, 1), F.avg_pool2d(pictures.square(), WINDOW, 1)
    return (square - mean.square()).clamp(min=0).sqrt()[:, 0] * WINDOW


def _light(thumbs: np.ndarray) -> Tensor:
    """Brightness in [-1, 1], [N, 1, 32, 32], of thumbnails."""
    return torch.from_numpy(thumbs.astype(np.float32)).mean(dim=3)[:, None] / 127.5 - 1


def threshold(real_likeness: np.ndarray) -> float:
    """The likeness from which a sample is a copy, from that of reals [n] with the real picture most like each.

    Where different reals are as alike as that (plain shapes on one ground, digits), it must be more than they are.
    """
    different = real_likeness[real_likeness < TWINS]
    usual = float(np.quantile(different, REAL_QUANTILE)) if len(different) else 1.0
    return min(max(CERTAIN, usual), TWINS)
