"""Samples that are copies of training images, perhaps mirrored, shifted or cropped a little.

Diversity does not show copies: exact copies of the training images are as varied as the training images. Each sample
is compared with the most similar training images and their mirror images, at every small shift. The similarity is the
normalized cross-correlation (NCC) of the brightness without its slow changes; it is low between different images. How
similar different real images are is measured on the reals, each against all others.
Otherwise every sample of a data set of very similar images would be a copy.

Shapes here: thumbnails are uint8 [N, 32, 32, 3]; z are points [N, d], by whose distance candidates are chosen.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pggan.metrics.neighbors import nearest
from pggan.metrics.small_images import to_uint8

SIDE = 32
WINDOW = 24  # pixels of the sample's middle that are searched for: shifts of up to 4 of 32 pixels are found
SHIFTS = SIDE - WINDOW + 1
CANDIDATES = 16  # training images that each sample is compared with
SIGMA = 2.5  # pixels of 32: the blur that is subtracted
CERTAIN = 0.8  # the threshold, unless different reals are as similar as that
REAL_QUANTILE = 0.98  # then the threshold is this quantile of the reals' similarities
TWINS = 0.97  # reals this similar are copies of each other, and are left out of that quantile
ZOOMS = (1.0, 1.2)  # of a training image
CHUNK = 64  # samples compared at once


@dataclass(frozen=True)
class Copies:
    """For each of n samples: its similarity to the most similar training image, in [-1, 1], and that image's number.

    The similarity of a flat image, which has nothing to compare, is -1.
    """

    similarity: np.ndarray
    original: np.ndarray


def thumbnails(images: Tensor) -> np.ndarray:
    """uint8 [N, 32, 32, 3] of images [N, 3, 64, 64] in [-1, 1]."""
    return to_uint8(F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)).numpy()


@torch.no_grad()
def find_copies(
    samples: np.ndarray, z: list[np.ndarray], training: np.ndarray, z_real: np.ndarray, same: np.ndarray | None = None
) -> Copies:
    """The most similar of the thumbnails `training` [N, 32, 32, 3] for each of `samples` [n, 32, 32, 3].

    z: the points of the samples and of their mirror images; z_real: of `training`. same [n]: where samples are training
    images themselves, their numbers among these; an image is not compared with itself.
    """
    count = min(CANDIDATES + (same is not None), len(z_real))
    candidates = np.stack([nearest(points, z_real, count)[1] for points in z], axis=1)  # [n, 2, c]
    views = np.stack([samples, samples[:, :, ::-1]], axis=1)  # [n, 2, 32, 32, 3]
    used, places = np.unique(candidates, return_inverse=True)
    index, places = NccIndex.of(training[used]), places.reshape(candidates.shape)
    parts = [slice(start, start + CHUNK) for start in range(0, len(samples), CHUNK)]
    found = np.concatenate([index.similarity(views[part], places[part]) for part in parts])
    if same is not None:
        found[candidates == same[:, None, None]] = -1
    found, candidates = (each.reshape(len(samples), -1) for each in (found, candidates))
    best = found.argmax(axis=1)[:, None]
    similarity, original = (np.take_along_axis(each, best, 1)[:, 0] for each in (found, candidates))
    return Copies(similarity.astype(np.float64), original)


@dataclass(frozen=True)
class NccIndex:
    """Images prepared for normalized cross-correlation at all shifts at once. Shapes: k zooms, u images."""

    spectra: Tensor  # complex64 [k, u, 32, 17]: Fourier transforms of the sharpened images
    spreads: Tensor  # float32 [k, u, 9, 9]: the norm of each 24 x 24 window after its mean is subtracted

    @classmethod
    def of(cls, thumbs: np.ndarray) -> "NccIndex":
        """The index of thumbnails uint8 [u, 32, 32, 3]."""
        brightness = _brightness(thumbs)
        images = torch.stack([sharpened(_zoomed(brightness, zoom)) for zoom in ZOOMS])
        mean, square = (F.avg_pool2d(each, WINDOW, stride=1) for each in (images, images.square()))
        return cls(torch.fft.rfft2(images), (square - mean.square()).clamp(min=0).sqrt() * WINDOW)

    def similarity(self, views: np.ndarray, places: np.ndarray) -> np.ndarray:
        """float32 [n, 2, c] of views uint8 [n, 2, 32, 32, 3], each with its c images of the index: places [n, 2, c].

        The highest correlation of the view's middle with any window of the image, at any zoom.
        """
        chosen, edge = torch.from_numpy(places), (SIDE - WINDOW) // 2
        windows = sharpened(_brightness(views))[..., edge : edge + WINDOW, edge : edge + WINDOW]
        windows = windows - windows.mean((2, 3), keepdim=True)
        norms = windows.square().sum((2, 3)).sqrt()[:, :, None, None, None]
        wanted = torch.fft.rfft2(windows, s=(SIDE, SIDE)).conj()[:, :, None]  # (n, 2, 1, 32, 17)
        best = torch.full(places.shape, -1.0)
        for spectra, spreads in zip(self.spectra, self.spreads, strict=True):
            products = torch.fft.irfft2(wanted * spectra[chosen], s=(SIDE, SIDE))
            products = products[..., :SHIFTS, :SHIFTS]  # larger shifts would wrap around
            scale = norms * spreads[chosen]
            correlations = torch.where(scale < 1e-3, -1.0, products / scale.clamp(min=1e-3))  # -1: a flat image
            best = torch.maximum(best, correlations.amax((3, 4)))
        return best.clamp(-1, 1).numpy()


def sharpened(brightness: Tensor) -> Tensor:
    """[..., 32, 32] minus its gaussian blur, with mirrored edges: only quick changes remain."""
    blur = _blur()
    return brightness - blur @ brightness @ blur.T


@lru_cache(maxsize=1)
def _blur() -> Tensor:
    """[32, 32]: the blur of a column of pixels, as a matrix."""
    reach = round(3 * SIGMA)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / SIGMA) ** 2)
    padded = F.pad(torch.eye(SIDE)[:, None], (reach, reach), mode="reflect")
    return F.conv1d(padded, (kernel / kernel.sum())[None, None])[:, 0].T.contiguous()


def _zoomed(brightness: Tensor, zoom: float) -> Tensor:
    """[N, 32, 32]: the middle of each image, enlarged."""
    inner = round(SIDE / zoom)
    cut = (SIDE - inner) // 2
    part = brightness[:, None, cut : cut + inner, cut : cut + inner]
    return brightness if zoom == 1 else F.interpolate(part, (SIDE, SIDE), mode="bilinear")[:, 0]


def _brightness(thumbs: np.ndarray) -> Tensor:
    """[..., 32, 32] in [-1, 1], of thumbnails [..., 32, 32, 3]."""
    return torch.from_numpy(thumbs.astype(np.float32)).mean(dim=-1) / 127.5 - 1


def threshold(real_similarity: np.ndarray) -> float:
    """The similarity from which a sample counts as a copy.

    real_similarity [n]: of reals to the most similar other real. Where different reals are very similar (plain shapes
    on one background, digits), the threshold is above their similarity.
    """
    different = real_similarity[real_similarity < TWINS]
    usual = float(np.quantile(different, REAL_QUANTILE)) if len(different) else 1.0
    return min(max(CERTAIN, usual), TWINS)
